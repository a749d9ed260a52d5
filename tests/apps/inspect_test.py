"""fathom inspect: the published sizes of the supported models, and what a directory lacks."""

import json
import shutil
import unittest

import support
from support import CommandLineCase

CONFIGS = support.ROOT / "tests" / "model" / "configs"
# Parameters as published with the models, in billions, and the digits that were given. MTP modules are not counted.
SIZES = {
    "deepseek-v2-lite": (15.706, 3),
    "deepseek-v2": (235.741, 3),
    "deepseek-v3": (671.026, 3),
    "deepseek-v3.1": (671.026, 3),
    "kimi-k2": (1026.4, 1),
    "moonlight-16b-a3b": (15.960, 3),
    "glm-4.7-flash": (29.943, 3),
}


def config_only(name):
    directory = support.fresh_directory(name)
    shutil.copyfile(CONFIGS / f"{name}.json", directory / "config.json")
    return directory


class Inspect(CommandLineCase):
    def inspect_json(self, model):
        done = support.run("inspect", model, "--json")
        self.assert_success(done)
        return json.loads(done.stdout)

    def test_every_supported_model_has_its_published_size(self):
        self.assertEqual({path.stem for path in CONFIGS.glob("*.json")}, set(SIZES))
        for name, (billions, digits) in SIZES.items():
            with self.subTest(model=name):
                found = self.inspect_json(config_only(name))
                self.assertEqual(round(found["parameters"]["total"] / 1e9, digits), billions)
                self.assertFalse(found["weights_present"])
                self.assertEqual(found["missing_tensors"], [])
                self.assertLess(found["parameters"]["active"], found["parameters"]["total"])

    def test_the_text_says_the_same_size(self):
        done = support.run("inspect", config_only("deepseek-v3"))
        self.assert_success(done)
        self.assertIn("671.026 B", done.stdout)
        self.assertIn("256 routed, 8 per token, 1 shared", done.stdout)
        self.assertIn("no weights in the directory", done.stdout)

    def test_the_bytes_are_those_of_the_files(self):
        for export_format, dtype in (("f32", "F32"), ("bf16", "BF16"), ("fp8", "F8_E4M3")):
            with self.subTest(format=export_format):
                model = support.tiny_model(export_format)
                found = self.inspect_json(model)
                header, data = support.read_safetensors(model / "model.safetensors")
                self.assertEqual(found["weight_bytes"], len(data))
                self.assertEqual(sum(found["bytes_by_class"].values()), len(data))
                self.assertIn(dtype, {entry["dtype"] for name, entry in header.items() if name != "__metadata__"})
                self.assertTrue(found["fits"])
                text = support.made("inspect", model).stdout
                self.assertIn(dtype, text)
                self.assertIn("fits", text)

    def test_quant_tells_the_memory_of_every_class(self):
        model = support.tiny_model("bf16")
        plain = self.inspect_json(model)
        self.assertNotIn("memory_by_class", plain)
        last = None
        for quant in ("bf16", "int8", "int4,head=int4"):
            done = support.run("inspect", model, "--quant", quant, "--json")
            self.assert_success(done)
            found = json.loads(done.stdout)
            self.assertEqual(found["bytes_by_class"], plain["bytes_by_class"])
            self.assertEqual(set(found["memory_by_class"]), set(found["bytes_by_class"]))
            self.assertEqual(sum(found["memory_by_class"].values()), found["memory_bytes"])
            self.assertEqual(found["memory_by_class"]["embedding"], plain["bytes_by_class"]["embedding"])
            if last:
                self.assertLess(found["memory_by_class"]["routed experts"], last["memory_by_class"]["routed experts"])
                self.assertLess(found["needed_bytes"], last["needed_bytes"])
            last = found
        self.assertIn(", in memory ", support.made("inspect", model, "--quant", "int4").stdout)
        self.assertRegex(support.made("inspect", model, "--quant", "int4").stdout, r"(?m)^  on disk +[0-9.]+ KiB more with --keep-prepared$")
        config = config_only("deepseek-v3")  # also of a model that is not there, whose widths fill the panels
        bits = {}
        for quant in ("bf16", "int8", "int8,experts=int4"):
            found = json.loads(support.made("inspect", config, "--quant", quant, "--json").stdout)
            bits[quant] = 16 * found["memory_by_class"]["routed experts"] / bits.setdefault("all", found["memory_by_class"]["routed experts"])
        self.assertAlmostEqual(bits["int8"], 8.5)  # a scale of 16 bits for 32 numbers
        self.assertAlmostEqual(bits["int8,experts=int4"], 4.5)
        self.refused("inspect", model, "--quant", "int9", needles=["--quant", '"int9"'])
        self.refused("inspect", model, "--quant", "experts.99=int8", needles=["experts.99", "layers 0 to 2"])

    def test_parameters_are_the_elements_of_the_tensors(self):
        model = support.tiny_model()
        header, data = support.read_safetensors(model / "model.safetensors")
        found = self.inspect_json(model)["parameters"]
        # The router biases are no parameters of the loss, and embedding and head are stored again in no MTP module.
        biases = sum(entry["shape"][0] for name, entry in header.items() if name.endswith("e_score_correction_bias"))
        self.assertIn(len(data) // 4 - found["total"] - found["mtp"], (0, biases))

    def test_missing_unexpected_and_wrong_tensors_are_listed(self):
        model = support.copy_of_model()
        header, data = support.read_safetensors(model / "model.safetensors")
        header["model.extra.weight"] = header.pop("model.norm.weight")
        support.write_safetensors(model / "model.safetensors", header, data)
        support.edit_json(model / "config.json", intermediate_size=65)
        found = self.inspect_json(model)
        self.assertEqual(found["missing_tensors"], ["model.norm.weight"])
        self.assertEqual(found["unexpected_tensors"], ["model.extra.weight"])
        self.assertEqual(len(found["wrong_tensors"]), 3)
        self.assertIn("model.layers.0.mlp.gate_proj.weight has shape [64, 48], config.json asks for [65, 48]",
                      found["wrong_tensors"])
        text = support.made("inspect", model).stdout
        for name in ("model.norm.weight", "model.extra.weight", "asks for [65, 48]"):
            self.assertIn(name, text)

    def test_a_key_that_fathom_does_not_know_is_refused_by_every_verb(self):
        model = support.copy_of_model()
        support.edit_json(model / "config.json", sliding_window=128)
        for arguments in (("inspect", model), ("generate", model, "-p", "a"), ("eval", model, "--sums", 1)):
            self.refused(*arguments, needles=[f"{model}/config.json", '"sliding_window"', "remove it"])

    def test_what_is_not_a_model_is_refused(self):
        empty = support.fresh_directory("empty")
        self.refused("inspect", empty, needles=[f"{empty}/config.json"])
        self.refused("inspect", "no-such-model", needles=['"no-such-model"'])
        self.refused("inspect", empty / "config.json", needles=["config.json"])


if __name__ == "__main__":
    unittest.main()
