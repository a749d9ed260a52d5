#!/usr/bin/env python3
"""Runs the unittest files (*_test.py) of a folder and writes what happened as JSON, for the summary of run_tests.py.

    tools/unittest_report.py FOLDER REPORT [JOBS]

Files run in JOBS processes (default 1), the largest first but for FIRST, a file's tests one after the other. The report has "passed"
(a number), "failures" and "skips" (lines that name the test). A test with failing sub-tests is one failure; a skipped
sub-test is named beside the test's own verdict.
"""

import concurrent.futures
import json
import pathlib
import subprocess
import sys
import tempfile
import time
import unittest

NUM_SLOWEST = 10  # tests whose seconds are printed
FIRST = "pico_test.py"  # trains for minutes: the other processes have the rest of the files meanwhile


def short_name(test):
    """File, class and method: generate_test.Output.test_max_tokens."""
    return getattr(test, "test_case", test).id()


def sub_test_text(test):
    return test._subDescription() if hasattr(test, "test_case") else ""


class Report(unittest.TextTestResult):
    """Verdicts by test."""

    def __init__(self, *arguments, **options):
        super().__init__(*arguments, **options)
        self.ran, self.failed, self.skipped_whole, self.skip_lines = [], {}, set(), []
        self.started, self.seconds = 0.0, {}

    def startTest(self, test):
        super().startTest(test)
        self.ran.append(short_name(test))
        self.started = time.monotonic()

    def stopTest(self, test):
        self.seconds[short_name(test)] = time.monotonic() - self.started
        super().stopTest(test)

    def fail_once(self, test, error):
        words = " ".join(f"{error[0].__name__}: {error[1]}".split())
        where = sub_test_text(test)
        self.failed.setdefault(short_name(test), f"{where} {words}".strip()[:300])

    def addFailure(self, test, error):
        super().addFailure(test, error)
        self.fail_once(test, error)

    def addError(self, test, error):
        super().addError(test, error)
        self.fail_once(test, error)

    def addSubTest(self, test, subtest, error):
        super().addSubTest(test, subtest, error)
        if error:
            self.fail_once(subtest, error)

    def addSkip(self, test, reason):
        super().addSkip(test, reason)
        is_whole = not hasattr(test, "test_case")
        if is_whole:
            self.skipped_whole.add(short_name(test))
        line = f"{short_name(test)}: {reason}"
        if line not in self.skip_lines:
            self.skip_lines.append(line)

    def addUnexpectedSuccess(self, test):
        super().addUnexpectedSuccess(test)
        self.failed[short_name(test)] = "succeeded, but a failure was expected"

    def summary(self):
        passed = [name for name in self.ran if name not in self.failed and name not in self.skipped_whole]
        return {"passed": len(passed), "failures": [f"{name}: {text}" for name, text in self.failed.items()],
                "skips": self.skip_lines, "seconds": self.seconds}


def run_file(path, report):
    """The tests of one file in this process. Raises nothing: a file that cannot be imported is a failed test of unittest's own."""
    sys.path.insert(0, str(path.parent))
    suite = unittest.defaultTestLoader.loadTestsFromName(path.stem)
    found = unittest.TextTestRunner(stream=sys.stdout, verbosity=2, resultclass=Report).run(suite).summary()
    report.write_text(json.dumps(found))


def run_apart(path):
    """run_file in a process of its own: its summary, and all that it printed."""
    with tempfile.NamedTemporaryFile(suffix=".json") as report:
        process = subprocess.run([sys.executable, __file__, "--file", path, report.name], stdin=subprocess.DEVNULL,
                                 stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, errors="replace")
        try:
            return json.loads(pathlib.Path(report.name).read_text()), process.stdout
        except ValueError:
            return {"failures": [f"{path.stem}: its process ended with status {process.returncode}"]}, process.stdout


def run(folder, jobs):
    total = {"passed": 0, "failures": [], "skips": [], "seconds": {}}
    with concurrent.futures.ThreadPoolExecutor(jobs) as pool:
        files = sorted(folder.glob("*_test.py"), key=lambda path: (path.name != FIRST, -path.stat().st_size))
        for done in concurrent.futures.as_completed([pool.submit(run_apart, path) for path in files]):
            found, output = done.result()
            print(output, end="", flush=True)
            total["passed"] += found.get("passed", 0)
            total["failures"] += found["failures"]
            total["skips"] += found.get("skips", [])
            total["seconds"].update(found.get("seconds", {}))
    return {**total, "failures": sorted(total["failures"]), "skips": sorted(total["skips"])}


def main():
    if sys.argv[1] == "--file":
        return run_file(*map(pathlib.Path, sys.argv[2:]))
    folder, report = map(pathlib.Path, sys.argv[1:3])
    found = run(folder.resolve(), int(sys.argv[3]) if len(sys.argv) > 3 else 1)
    if not found["passed"] and not found["failures"]:
        found["failures"].append(f"{folder} has no tests")
    for name in sorted(found["seconds"], key=found["seconds"].get, reverse=True)[:NUM_SLOWEST]:
        print(f"{found['seconds'][name]:8.1f} s  {name}")
    report.write_text(json.dumps(found, indent=1) + "\n")
    return 1 if found["failures"] else 0


if __name__ == "__main__":
    sys.exit(main())
