#!/usr/bin/env python3
"""Which lines of src/ the tests run, by folder: builds the preset `coverage`, runs the tests, reads the counts with gcov.

  python3 tools/coverage.py                     build, unit tests, tests of the command line, table
  python3 tools/coverage.py --no-command-line   the unit tests alone (nothing of apps is in them)
  python3 tools/coverage.py --report            the table of the last run, without running anything
  python3 tools/coverage.py --report --lines text   and the lines of src/text that nothing ran

A line of code is one that the compiler (g++ at -O1) made code of; it is covered if any test, in any object that has it,
came by. What every level of the cpu kernels compiles counts once. A process that ends by SIGKILL leaves no counts. gcov
comes with g++; the round repeats little of what is drawn at random (FATHOM_EFFORT=little) and runs none of the long tests.
"""

import argparse
import collections
import json
import os
import pathlib
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

ROOT = pathlib.Path(__file__).resolve().parent.parent
BUILD = ROOT / "build-coverage"


def run_tests(jobs, command_line):
    """Builds and runs; true if every test passed."""
    configure = ["cmake", "--preset", "coverage"]
    if shared := os.environ.get("FATHOM_SHARED_DIR"):
        configure.append(f"-DFATHOM_SHARED_DIR={pathlib.Path(shared).resolve()}")
    subprocess.run(configure, cwd=ROOT, check=True, stdout=subprocess.DEVNULL)
    subprocess.run(["ninja", "-C", BUILD, f"-j{jobs}"], check=True)
    for old in BUILD.rglob("*.gcda"):
        old.unlink()
    env = {**os.environ, "FATHOM_EFFORT": "little", "FATHOM_BINARY": str(BUILD / "src" / "apps" / "fathom")}
    env.pop("FATHOM_ALL", None)
    good = subprocess.run(["ctest", "--test-dir", BUILD, "--output-on-failure", "--timeout", "900", f"-j{jobs}"],
                          env=env).returncode == 0
    if command_line:
        good &= subprocess.run([sys.executable, "tools/unittest_report.py", "tests/apps", BUILD / "command-line.json",
                                str(jobs)], cwd=ROOT, env=env).returncode == 0
    return good


def counts_of(notes):
    """[(path below src, line, was run)] of one object; without a .gcda beside it nothing of it was run."""
    done = subprocess.run(["gcov", "--json-format", "--stdout", notes], cwd=BUILD, capture_output=True, text=True)
    found = []
    for document in filter(None, done.stdout.splitlines()):
        for file in json.loads(document)["files"]:
            path = pathlib.Path(os.path.normpath(BUILD / file["file"]))
            if path.is_relative_to(ROOT / "src"):
                name = str(path.relative_to(ROOT / "src"))
                found += [(name, line["line_number"], line["count"] > 0) for line in file["lines"]]
    return found


def read_counts(jobs):
    """File -> {line: was run}."""
    objects = sorted(BUILD.rglob("*.gcno"))
    if not objects:
        sys.exit("tools/coverage.py: build-coverage has no counts; run it without --report")
    lines = collections.defaultdict(lambda: collections.defaultdict(bool))
    with ThreadPoolExecutor(jobs) as pool:
        for found in pool.map(counts_of, objects):
            for name, line, was_run in found:
                lines[name][line] |= was_run
    return lines


def ranges(numbers):
    """[3, 4, 5, 9] -> "3-5 9"."""
    parts = []
    for n in sorted(numbers):
        if parts and parts[-1][1] == n - 1:
            parts[-1][1] = n
        else:
            parts.append([n, n])
    return " ".join(str(a) if a == b else f"{a}-{b}" for a, b in parts)


def table(lines):
    """The lines of the table, the sum of all folders last."""
    folders = collections.defaultdict(lambda: [0, 0])
    for name, of_file in lines.items():
        for folder in (name.split("/")[0], "all"):
            folders[folder][0] += len(of_file)
            folders[folder][1] += sum(of_file.values())
    rows = sorted(folders.items(), key=lambda f: (f[0] == "all", f[0]))
    return ["| folder | lines | run | |", "|---|---|---|---|",
            *(f"| {name} | {count} | {run} | {100 * run / count:.1f} % |" for name, (count, run) in rows)]


def main():
    parser = argparse.ArgumentParser(prog="tools/coverage.py", description="Which lines of src/ the tests run, by folder.")
    parser.add_argument("--report", action="store_true", help="only read what the last run left")
    parser.add_argument("--no-command-line", action="store_true", help="without the tests of the command line")
    parser.add_argument("--lines", metavar="FOLDER", help="also the lines of this folder, or file, that nothing ran")
    parser.add_argument("--jobs", type=int, default=len(os.sched_getaffinity(0)), help="parallel jobs (default: CPUs)")
    options = parser.parse_args()
    good = options.report or run_tests(options.jobs, not options.no_command_line)
    lines = read_counts(options.jobs)
    print("\n".join(table(lines)))
    if options.lines:
        for name in sorted(n for n in lines if n == options.lines or n.startswith(options.lines.rstrip("/") + "/")):
            if missed := [line for line, was_run in lines[name].items() if not was_run]:
                print(f"{name}: {len(missed)} of {len(lines[name])}: {ranges(missed)}")
    if not good:
        print("some tests failed: the table is of what ran")
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
