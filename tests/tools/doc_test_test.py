"""tools/doc_test.py: finds the blocks, matches with wildcards, and reports differences with their place."""

import pathlib
import subprocess
import sys
import tempfile
import unittest

TOOLS = pathlib.Path(__file__).resolve().parents[2] / "tools"
sys.path.insert(0, str(TOOLS))
import doc_test  # noqa: E402  (its folder is only now on the path)

PAGE = """# Title

<!-- not run: it fails -->
```sh
exit 7
```

<!-- run -->
```sh
echo one; echo two >&2
echo kept > file
```
<!-- output -->
```text
one
two
```

<!-- run -->
```sh
cat file; seq 5; echo "took 12 ms"
```

<!-- output -->
```text
kept
1
...
5
took ... ms
```

<!-- run -->
```sh
true
```
"""


class DocTest(unittest.TestCase):
    def check(self, text):
        """Exit status and output of the tool on a page with this text."""
        with tempfile.TemporaryDirectory() as folder:
            page = pathlib.Path(folder) / "guide.md"
            page.write_text(text)
            done = subprocess.run([sys.executable, str(TOOLS / "doc_test.py"), str(page)], capture_output=True, text=True)
            return done.returncode, done.stdout

    def test_passes_when_the_output_is_as_written(self):
        self.assertEqual(self.check(PAGE), (0, "3 blocks of 1 pages run\n"))

    def test_progress_is_no_output(self):
        line = "measuring 79 %, 2.7 s left, decode, 2 threads"
        self.assertEqual(self.check(PAGE.replace("echo two >&2", f"echo '{line}' >&2; echo two >&2"))[0], 0)
        self.assertEqual(self.check(PAGE.replace("echo two >&2", "echo '79 % left' >&2; echo two >&2"))[0], 1)

    def test_a_block_waits_for_the_path_it_needs(self):
        page = "<!-- run if {} -->\n```sh\nfalse\n```\n"
        self.assertEqual(self.check(page.format("no/such")), (0, "0 blocks of 1 pages run, 1 wait for no/such\n"))
        self.assertEqual(self.check(page.format("tools"))[0], 1)

    def test_shows_a_diff_with_its_place(self):
        status, output = self.check(PAGE.replace("two\n```", "three\n```"))
        self.assertEqual(status, 1)
        self.assertIn("guide.md:10 says", output)
        self.assertIn("-three", output)
        self.assertIn("+two", output)

    def test_a_failing_command_is_a_failure_even_without_output(self):
        status, output = self.check(PAGE.replace("true", "echo sorry; false; true"))
        self.assertEqual(status, 1)
        self.assertIn("exit status 1\n  sorry", output)

    def test_malformed_pages_are_failures(self):
        for text, part in (("<!-- run -->\ntext\n", "guide.md:2: expected ```sh"),
                           ("<!-- run -->\n```sh\nls\n", "has no end"),
                           ("```sh\nls\n```\n", "guide.md:1: commands without"),
                           ("<!-- not run: -->\n```sh\nls\n```\n", "guide.md:2: commands without"),
                           ("<!-- output -->\n```text\n```\n", "without a <!-- run --> block")):
            status, output = self.check(text)
            self.assertEqual(status, 1)
            self.assertIn(part, output)

    def test_wildcard_lines(self):
        match = doc_test.matches
        self.assertTrue(match(["..."], []))
        self.assertTrue(match(["a", "...", "b"], ["a", "b"]))
        self.assertTrue(match(["a", "...", "b"], ["a", "b", "x", "b"]))
        self.assertTrue(match(["...", "b", "..."], ["a", "b", "c"]))
        self.assertFalse(match(["a", "...", "b"], ["a", "x"]))
        self.assertFalse(match(["a"], ["a", "b"]))
        self.assertFalse(match([], ["a"]))
        self.assertTrue(match(["took ... ms (...)"], ["took 5.1 ms (warm)"]))
        self.assertFalse(match(["a.c"], ["abc"]))


if __name__ == "__main__":
    unittest.main()
