"""tools/run_tests.py: counts GoogleTest cases, names skips with their reason, and misses no program that crashed."""

import contextlib
import functools
import io
import pathlib
import signal
import sys
import tempfile
import threading
import time
import unittest
from unittest import mock

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[2] / "tools"))
import run_tests  # noqa: E402  (its folder is only now on the path)

GTEST = """<testsuites><testsuite name="A">
<testcase name="Good" classname="A" status="run" result="completed"/>
<testcase name="Bad" classname="A" status="run" result="completed"><failure message="x"/></testcase>
<testcase name="Left" classname="A" status="run" result="skipped"><skipped message="a_test.cc:3&#x0A;needs data"/></testcase>
<testcase name="DISABLED_Off" classname="A" status="notrun" result="suppressed"/>
</testsuite></testsuites>"""


class CountTests(unittest.TestCase):
    def count(self, xml_files, ctest_cases):
        with tempfile.TemporaryDirectory() as folder:
            results = pathlib.Path(folder)
            for name, text in xml_files.items():
                (results / name).write_text(text)
            junit = results / "ctest.junit"
            if ctest_cases is not None:
                junit.write_text(f"<testsuite>{ctest_cases}</testsuite>")
            return run_tests.count_tests(junit, results, {"base": "base_tests"})

    def test_cases_of_a_program(self):
        passed, failures, skips = self.count(
            {"base_tests.xml": GTEST}, '<testcase name="base" status="fail"><failure message=""/></testcase>')
        self.assertEqual(passed, 1)
        self.assertEqual(failures, ["A.Bad"])
        self.assertEqual(skips, ["A.Left: needs data", "A.DISABLED_Off: disabled"])

    def test_a_crashed_program_is_a_failure(self):
        crashed = '<testcase name="base" status="fail"><failure message="SEGFAULT"/></testcase>'
        self.assertEqual(self.count({}, crashed), (0, ["base: the program failed as a whole SEGFAULT"], []))

    def test_a_program_that_fails_after_its_cases_is_a_failure(self):
        good = GTEST.replace('<failure message="x"/>', "")
        passed, failures, _ = self.count(
            {"base_tests.xml": good}, '<testcase name="base" status="fail"><failure message="leak"/></testcase>')
        self.assertEqual((passed, failures), (2, ["base: the program failed as a whole leak"]))

    def test_a_plain_program_is_one_check(self):
        self.assertEqual(self.count({}, '<testcase name="script" status="run"/>'), (1, [], []))

    def test_no_report_is_a_failure(self):
        self.assertEqual(self.count({}, None), (0, ["ctest left no report"], []))

    def test_a_program_that_was_not_built_is_a_failure(self):
        case = '<testcase name="base" status="notrun"><skipped message="Unable to find executable"/></testcase>'
        self.assertEqual(self.count({}, case), (0, ["base: Unable to find executable"], []))

    def levels(self, content):
        with tempfile.TemporaryDirectory() as folder:
            (pathlib.Path(folder) / "kernels_tests.xml").write_text(content)
            return run_tests.kernel_levels(pathlib.Path(folder))

    def test_names_the_kernels_that_ran_and_those_that_could_not(self):
        case = ('<testsuites><testsuite><testcase name="AreNamed" classname="CpuLevels"><properties>'
                '<property name="kernel_levels" value="generic avx2"/>'
                '<property name="absent_kernel_levels" value="amx neon"/></properties></testcase></testsuite></testsuites>')
        self.assertEqual(self.levels(case), "generic, avx2 executed; amx, neon not on this CPU")
        self.assertEqual(self.levels(case.replace("amx neon", "")), "generic, avx2 executed")
        self.assertIsNone(self.levels(case.replace("</testcase>", '<failure message="x"/></testcase>')))
        self.assertIsNone(self.levels(GTEST))
        self.assertIsNone(self.levels(case[:40]))

    def test_the_summary_has_a_line_of_kernels(self):
        run = run_tests.Run(1)
        run.kernels.append("test: generic executed")
        printed = io.StringIO()
        with contextlib.redirect_stdout(printed):
            run.summary(1)
        self.assertIn("\nKernels\n  test: generic executed\n", printed.getvalue())

    def together(self, *commands):
        """The run of these commands side by side, and what it printed."""
        run = run_tests.Run(2)
        printed = io.StringIO()
        with tempfile.TemporaryDirectory() as folder, mock.patch.object(run_tests, "LOGS", pathlib.Path(folder)):
            with contextlib.redirect_stdout(printed):
                run.together(*[functools.partial(run.command, name, command, timeout_s=20) for name, command in commands])
        return run, printed.getvalue()

    def test_stages_run_side_by_side_and_none_is_lost(self):
        with tempfile.TemporaryDirectory() as folder:  # a ends when b has begun, and b when a has
            meet = "touch $0/$1; until [ -e $0/$2 ]; do sleep 0.02; done"
            run, printed = self.together(("a", ["sh", "-c", meet, folder, "a", "b"]), ("b", ["sh", "-c", meet, folder, "b", "a"]),
                                         ("c", ["sh", "-c", "echo why; exit 3"]))
        self.assertEqual({stage.name: (stage.passed, stage.failed) for stage in run.stages}, {"a": (1, 0), "b": (1, 0), "c": (0, 1)})
        self.assertEqual(run.failures, ["c: exit status 3"])
        self.assertIn("why", printed)
        self.assertEqual(run.processes, set())

    def test_an_interruption_ends_what_runs_side_by_side(self):
        # A shell's background jobs are born with SIGINT ignored, which Python then leaves as it is.
        self.addCleanup(signal.signal, signal.SIGINT, signal.signal(signal.SIGINT, signal.default_int_handler))
        threading.Timer(0.5, signal.pthread_kill, (threading.main_thread().ident, signal.SIGINT)).start()
        begun = time.monotonic()
        with self.assertRaises(KeyboardInterrupt):
            self.together(("a", ["sleep", "19"]), ("b", ["sleep", "19"]), ("c", ["sleep", "19"]))
        self.assertLess(time.monotonic() - begun, 15)


if __name__ == "__main__":
    unittest.main()
