"""tools/layering.py: every kind of violation is found and named."""

import pathlib
import sys
import tempfile
import unittest
from unittest import mock

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[2] / "tools"))
import layering  # noqa: E402  (its folder is only now on the path)


class Layering(unittest.TestCase):
    def found(self, files, untested=None):
        with tempfile.TemporaryDirectory() as folder, mock.patch.object(layering, "UNTESTED", untested or {}):
            root = pathlib.Path(folder)
            (root / "src").mkdir()
            for name, text in files.items():
                (root / name).parent.mkdir(parents=True, exist_ok=True)
                (root / name).write_text(text)
            return list(layering.violations(root))

    def test_a_clean_tree_has_none(self):
        self.assertEqual(self.found({
            "tools/packages-run.txt": "# list\nnlohmann-json3-dev\n",
            "src/base/json.h": "#include <string>\n#include <sys/stat.h>\n",
            "src/base/json.cc": '#include "base/json.h"\n#include <nlohmann/json.hpp>\n',
            "src/numerics/fp8.h": '#include "base/json.h"\n',  # through tensor
            "tests/base/json_test.cc": "",
        }), [])

    def test_an_include_against_the_table(self):
        found = self.found({"src/base/a.h": '\n#include "tensor/b.h"\n', "src/tensor/b.h": ""})
        self.assertEqual(found, ['src/base/a.h:2: base may not include tensor ("tensor/b.h"); it may include: nothing'])

    def test_a_cycle_of_folders(self):
        found = self.found({"src/base/a.h": '#include "tensor/b.h"\n', "src/tensor/b.h": '#include "base/a.h"\n'})
        self.assertIn("folders include each other: base -> tensor -> base", found)

    def test_a_missing_file_and_an_unknown_folder(self):
        found = self.found({"src/base/a.h": '#include "b.h"\n#include "base/c.h"\n', "src/misc/x.h": ""})
        self.assertEqual(len(found), 3)
        self.assertIn('src/base/a.h:1: "b.h" is no file below src/; includes are written from there', found)
        self.assertIn("src/misc/x.h: folder misc is not in the include table of tools/layering.py", found)

    def test_long_files(self):
        self.assertEqual(self.found({"src/base/a.h": "\n" * 600}), [])
        self.assertIn("601 lines, more than 600", self.found({"src/base/a.h": "\n" * 601})[0])

    def test_sources_without_a_test(self):
        files = {"src/kernels/cpu/norm.cc": ""}
        self.assertIn("no tests/kernels/norm_test.cc", self.found(files)[0])
        self.assertEqual(self.found(files, {"kernels/*/*.cc": "one case table for all back ends"}), [])
        self.assertEqual(self.found({**files, "tests/kernels/norm_test.cc": ""}), [])

    def test_exemptions_that_exempt_nothing(self):
        self.assertIn("exempts nothing", self.found({}, {"base/gone.cc": "a reason"})[0])

    def test_third_party_headers(self):
        found = self.found({
            "tools/packages-run.txt": "",
            "src/base/a.h": "#include <nlohmann/json.hpp>\n",
            "src/base/b.h": "#include <strange/lib.h>\n",
        })
        self.assertEqual(len(found), 3)
        self.assertIn("third-party headers stay in .cc files", found[0])
        self.assertIn("name the package of this library", found[1])
        self.assertIn("needs nlohmann-json3-dev", found[2])

    def test_the_table_itself_has_no_cycle(self):
        reach = layering.closure(layering.MAY_INCLUDE)
        self.assertIn("base", reach["apps"])
        self.assertNotIn("serve", reach["train"])
        with self.assertRaisesRegex(ValueError, "a -> b -> a"):
            layering.closure({"a": ["b"], "b": ["a"]})


if __name__ == "__main__":
    unittest.main()
