"""tools/tidy.py: a header that differs brings the sources that read it, directly or through other headers."""

import contextlib
import io
import json
import pathlib
import subprocess
import sys
import tempfile
import unittest
from unittest import mock

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[2] / "tools"))
import tidy


class Tidy(unittest.TestCase):
    def test_sources_that_read_a_header(self):
        with tempfile.TemporaryDirectory() as folder:
            root = pathlib.Path(folder)
            (root / "src" / "base").mkdir(parents=True)
            files = {"a.h": "", "b.h": '#include "base/a.h"\n', "b.cc": '#include "base/b.h"\n', "c.cc": "#include <map>\n"}
            for name, text in files.items():
                (root / "src" / "base" / name).write_text(text)
            sources = [root / "src" / "base" / name for name in ("b.cc", "c.cc")]
            with mock.patch.object(tidy, "ROOT", root):
                self.assertEqual(tidy.reading(["src/base/a.h"], sources), sources[:1])
                self.assertEqual(tidy.reading([], sources), [])

    def test_a_part_says_what_it_leaves_out_and_a_find_fails_it(self):
        with tempfile.TemporaryDirectory() as folder:
            root = pathlib.Path(folder)
            (root / "src").mkdir()
            (root / "build-plain").mkdir()
            names = ("a.cc", "b.cc", "c.cc")
            entries = [{"directory": folder, "file": str(root / "src" / name), "command": f"c++ -c {name}"} for name in names]
            (root / "build-plain" / "compile_commands.json").write_text(json.dumps(entries))
            for find, status in (("", 0), (f"{root}/src/a.cc:3:1: warning: bad [check]", 1)):
                done = subprocess.CompletedProcess([], 0, find, "")
                with (mock.patch.object(tidy, "ROOT", root), mock.patch.object(tidy.shutil, "which", lambda name: name),
                      mock.patch.object(tidy.subprocess, "run", return_value=done) as run,
                      mock.patch.object(sys, "argv", ["tidy.py", "--quick", "--most", "2"]),
                      contextlib.redirect_stderr(io.StringIO()), contextlib.redirect_stdout(io.StringIO()) as said):
                    self.assertEqual(tidy.main(), status)
                self.assertEqual(run.call_count, 2)
                self.assertIn("--checks=-clang-analyzer-*", run.call_args.args[0])
                self.assertTrue(said.getvalue().endswith(f"2 files, {status} finds; 1 files left out by --most\n"), said.getvalue())

    def test_a_file_of_several_levels_is_read_once_without_the_flags_of_another_compiler(self):
        with tempfile.TemporaryDirectory() as folder:
            entries = [{"directory": "/b", "file": "/s/gemm.cc", "command": f"c++ -DLEVEL={level} -Wno-restrict -c /s/gemm.cc"}
                       for level in ("generic", "amx")]
            (pathlib.Path(folder) / "compile_commands.json").write_text(json.dumps(entries))
            found = tidy.how_compiled(pathlib.Path(folder))
            self.assertEqual([e["command"] for e in found.values()], ["c++ -DLEVEL=amx -c /s/gemm.cc"])


if __name__ == "__main__":
    unittest.main()
