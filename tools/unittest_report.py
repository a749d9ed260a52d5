#!/usr/bin/env python3
"""Runs the unittest files (*_test.py) of a folder and writes what happened as JSON, for the summary of run_tests.py.

    tools/unittest_report.py FOLDER REPORT

The report has "passed" (a number), "failures" and "skips" (lines that name the test). A test with failing sub-tests is one
failure; a skipped sub-test is named beside the test's own verdict.
"""

import json
import pathlib
import sys
import unittest


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

    def startTest(self, test):
        super().startTest(test)
        self.ran.append(short_name(test))

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
                "skips": self.skip_lines}


def run(folder):
    sys.path.insert(0, str(folder))
    suite = unittest.defaultTestLoader.discover(str(folder), pattern="*_test.py", top_level_dir=str(folder))
    runner = unittest.TextTestRunner(stream=sys.stdout, verbosity=2, resultclass=Report)
    return runner.run(suite).summary()


def main():
    folder, report = map(pathlib.Path, sys.argv[1:])
    found = run(folder.resolve())
    if not found["passed"] and not found["failures"]:
        found["failures"].append(f"{folder} has no tests")
    report.write_text(json.dumps(found, indent=1) + "\n")
    return 1 if found["failures"] else 0


if __name__ == "__main__":
    sys.exit(main())
