"""Tests of tools/doc_names.py on small trees."""

import pathlib
import subprocess
import sys
import tempfile
import unittest

ROOT = pathlib.Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "tools"))
import doc_names  # noqa: E402


class DocNames(unittest.TestCase):
    def check(self, page):
        with tempfile.TemporaryDirectory() as folder:
            root = pathlib.Path(folder)
            for name, text in {"src/model/mla.h": "struct Mla { void forward(); };", "docs/page.md": page,
                               "tools/layering.py": 'MAY_INCLUDE = {\n    "serve": [],\n}\n'}.items():
                (root / name).parent.mkdir(parents=True, exist_ok=True)
                (root / name).write_text(text)
            subprocess.run(["git", "-C", folder, "init", "-q"], check=True)
            return list(doc_names.violations(root))

    def test_names_of_the_tree_pass(self):
        self.assertEqual(self.check("`src/model/mla.h` `model/mla.h` `Mla::forward` `forward()` `model/` `serve/`\n"), [])

    def test_an_absent_file_is_named_with_its_line(self):
        self.assertEqual(self.check("\n`model/mlp.h`\n"), ["docs/page.md:2: `model/mlp.h` is no file or folder of the tree"])

    def test_an_absent_function_is_named(self):
        self.assertEqual(self.check("`Mla::backward`\n"),
                         ["docs/page.md:1: `Mla::backward`: backward does not occur in the sources"])

    def test_commands_and_fenced_blocks_are_not_names(self):
        self.assertEqual(self.check("`fathom chat` `[T, D]`\n```\n`absent_function`\n```\n"), [])


if __name__ == "__main__":
    unittest.main()
