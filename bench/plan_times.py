#!/usr/bin/env python3
"""How long the searches of `fathom plan` take, as commands: median, fastest and slowest of several runs, and memory.

Usage: python3 bench/plan_times.py [--fathom build/src/apps/fathom] [--repeat 9] [--fail-above SECONDS]
"""

import argparse
import os
import pathlib
import statistics
import subprocess
import sys
import time

ROOT = pathlib.Path(__file__).resolve().parent.parent
V3 = [str(ROOT / "tests/model/configs/deepseek-v3.json"), "--hardware", "h800"]
RUN = ["--set", "search.utilisation=0.52", "--set", "search.batch=15360"]
CASES = {
    "V3, training, 2,048 GPUs": [*V3, "--search", "training", "--gpus", "2048", *RUN],
    "V3, training, 512 to 16,384 GPUs": [*V3, "--search", "training", "--gpus", "512,1024,2048,4096,8192,16384", *RUN],
    "V3, serving, up to 2,048 GPUs": [*V3, "--search", "serving", "--gpus", "2048"],
    "the published figures": ["--paper"],
}


def seconds_and_megabytes(command):
    begin = time.perf_counter()
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    _, status, usage = os.wait4(process.pid, 0)
    seconds = time.perf_counter() - begin
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode != 0:
        sys.exit(f"{' '.join(command)}: exit code {process.returncode}")
    return seconds, usage.ru_maxrss * 1024 / 1e6


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--fathom", default=str(ROOT / "build/src/apps/fathom"))
    parser.add_argument("--repeat", type=int, default=9)
    parser.add_argument("--fail-above", type=float, help="exit code 1 if a median is longer, seconds")
    options = parser.parse_args()
    is_slow = False
    print(f"{'case':<36} {'median s':>9} {'fastest':>9} {'slowest':>9} {'MB':>7}")
    for name, arguments in CASES.items():
        runs = [seconds_and_megabytes([options.fathom, "plan", *arguments]) for _ in range(options.repeat)]
        times = [seconds for seconds, _ in runs]
        median = statistics.median(times)
        is_slow = is_slow or (options.fail_above is not None and median > options.fail_above)
        print(f"{name:<36} {median:>9.3f} {min(times):>9.3f} {max(times):>9.3f} {max(mb for _, mb in runs):>7.1f}")
    return 1 if is_slow else 0


if __name__ == "__main__":
    sys.exit(main())
