"""tools/unittest_report.py: counts each test once, names failures, skips and files that do not load."""

import json
import pathlib
import subprocess
import sys
import tempfile
import textwrap
import unittest

TOOL = pathlib.Path(__file__).resolve().parents[2] / "tools" / "unittest_report.py"


class UnittestReport(unittest.TestCase):
    def report(self, jobs=1, **files):
        with tempfile.TemporaryDirectory() as folder:
            for name, text in files.items():
                (pathlib.Path(folder) / f"{name}.py").write_text(textwrap.dedent(text))
            out = pathlib.Path(folder) / "report.json"
            status = subprocess.run([sys.executable, TOOL, folder, out, str(jobs)], capture_output=True).returncode
            return status, json.loads(out.read_text())

    def test_verdicts(self):
        status, found = self.report(a_test="""
            import unittest
            class A(unittest.TestCase):
                def test_good(self): pass
                def test_bad(self): self.assertEqual(1, 2)
                def test_error(self): raise OSError("gone")
                @unittest.skip("no disk")
                def test_left(self): pass
                def test_parts(self):
                    for i in range(3):
                        with self.subTest(i=i): self.assertLess(i, 1)
                def test_part_left(self):
                    for i in range(3):
                        with self.subTest(i=i):
                            if i == 2: self.skipTest("no two")
        """)
        self.assertEqual(status, 1)
        self.assertEqual(found["passed"], 2)
        self.assertEqual([line.split(":")[0] for line in found["failures"]],
                         ["a_test.A.test_bad", "a_test.A.test_error", "a_test.A.test_parts"])
        self.assertIn("OSError: gone", found["failures"][1])
        self.assertIn("(i=1)", found["failures"][2])
        self.assertEqual(found["skips"], ["a_test.A.test_left: no disk", "a_test.A.test_part_left: no two"])

    def test_a_file_that_does_not_load_is_a_failure(self):
        status, found = self.report(a_test="import no_such_module", b_test="")
        self.assertEqual((status, found["passed"], len(found["failures"])), (1, 0, 1))
        self.assertIn("a_test", found["failures"][0])

    def test_a_broken_class_fixture_is_a_failure(self):
        _, found = self.report(a_test="""
            import unittest
            class A(unittest.TestCase):
                @classmethod
                def setUpClass(cls): raise ValueError("no model")
                def test_good(self): pass
        """)
        self.assertEqual(found["passed"], 0)
        self.assertIn("ValueError: no model", found["failures"][0])

    def test_success(self):
        status, found = self.report(a_test="""
            import unittest
            class A(unittest.TestCase):
                def test_good(self): pass
        """)
        self.assertEqual(list(found.pop("seconds")), ["a_test.A.test_good"])
        self.assertEqual((status, found), (0, {"passed": 1, "failures": [], "skips": []}))

    def test_files_run_beside_each_other_and_all_count(self):
        meet = """
            import pathlib, time, unittest
            class A(unittest.TestCase):
                def test_meets_the_other(self):
                    here = pathlib.Path(__file__)
                    here.with_suffix(".here").touch()
                    other = here.with_name("b_test.here" if here.stem == "a_test" else "a_test.here")
                    end = time.monotonic() + 60
                    while not other.exists() and time.monotonic() < end: time.sleep(0.01)
                    self.assertTrue(other.exists())
        """
        status, found = self.report(jobs=2, a_test=meet, b_test=meet)
        self.assertEqual((status, found["passed"], found["failures"]), (0, 2, []))

    def test_a_process_that_dies_is_a_failure_and_the_others_still_count(self):
        good = """
            import unittest
            class A(unittest.TestCase):
                def test_good(self): pass
        """
        status, found = self.report(a_test="import os; os._exit(3)", b_test=good, c_test=good)
        self.assertEqual((status, found["passed"], found["failures"]), (1, 2, ["a_test: its process ended with status 3"]))

    def test_no_tests_are_a_failure(self):
        status, found = self.report()
        self.assertEqual((status, found["passed"], len(found["failures"])), (1, 0, 1))


if __name__ == "__main__":
    unittest.main()
