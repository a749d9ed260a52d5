#!/usr/bin/env python3
"""Time and peak memory of `fathom simulate` on its largest cases, beside the bars that it is meant to stay below.

    python3 bench/simulate_bars.py [--fathom build/src/apps/fathom] [--repeat 5]

Each run is a process of its own; its time includes starting it and reading the scenario. Of a run with SimGrid the memory is
that of the larger of the program and the child that SimGrid runs in. Prints medians; exit code 1 where one is above its bar.
"""

import argparse
import os
import pathlib
import statistics
import subprocess
import sys
import time

ROOT = pathlib.Path(__file__).resolve().parent.parent
ALL_TO_ALL = "all-to-all-16384.toml"
LOST_UPLINKS = ("leaf-uplinks-lost.toml", "--set", "network.gpus=16384")
CASES = (  # name, arguments, seconds, MB at most
    ("all-to-all, maxmin", (ALL_TO_ALL, "--engine", "maxmin"), 0.2, 200),
    ("all-to-all, simgrid", (ALL_TO_ALL, "--engine", "simgrid"), 2, 200),
    ("16 of 32 uplinks lost, maxmin", (*LOST_UPLINKS, "--engine", "maxmin"), 0.2, 200),
    ("16 of 32 uplinks lost, simgrid", (*LOST_UPLINKS, "--engine", "simgrid"), 2, 200),
)


def run(fathom, arguments):
    """Seconds and MB of one run."""
    start = time.monotonic()
    process = subprocess.Popen((fathom, "simulate", ROOT / "examples" / "scenarios" / arguments[0], *arguments[1:]),
                               stdout=subprocess.DEVNULL)
    _, status, usage = os.wait4(process.pid, 0)  # its own and that of the child that it waited for
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode != 0:
        sys.exit(f"{' '.join(map(str, process.args))}: exit code {process.returncode}")
    return time.monotonic() - start, usage.ru_maxrss * 1024 / 1e6


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--fathom", type=pathlib.Path, default=ROOT / "build" / "src" / "apps" / "fathom")
    parser.add_argument("--repeat", type=int, default=5)
    arguments = parser.parse_args()
    print(f"{'16,384 GPUs':32} {'seconds':>8} {'bar':>6} {'MB':>8} {'bar':>6}")
    is_above = False
    for name, words, most_seconds, most_mb in CASES:
        runs = [run(arguments.fathom, words) for _ in range(arguments.repeat)]
        seconds, mb = (statistics.median(values) for values in zip(*runs))
        is_above = is_above or seconds > most_seconds or mb > most_mb
        print(f"{name:32} {seconds:8.3f} {most_seconds:6} {mb:8.1f} {most_mb:6}")
    sys.exit(1 if is_above else 0)


if __name__ == "__main__":
    main()
