"""tools/coverage.py: lines are counted once however many objects have them, and told by folder."""

import pathlib
import sys
import unittest

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[2] / "tools"))
import coverage


class Coverage(unittest.TestCase):
    def test_the_table_has_a_row_for_each_folder_and_their_sum(self):
        lines = {"text/bpe.cc": {1: True, 2: False}, "text/bpe.h": {7: True}, "base/json.cc": {3: False}}
        self.assertEqual(coverage.table(lines), ["| folder | lines | run | |", "|---|---|---|---|", "| base | 1 | 0 | 0.0 % |",
                                                 "| text | 3 | 2 | 66.7 % |", "| all | 4 | 2 | 50.0 % |"])

    def test_lines_are_told_as_ranges(self):
        self.assertEqual(coverage.ranges([9, 3, 5, 4, 11]), "3-5 9 11")
        self.assertEqual(coverage.ranges([]), "")


if __name__ == "__main__":
    unittest.main()
