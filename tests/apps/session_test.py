"""Loading a model: ORG/NAME in the Hugging Face cache, and every kind of damaged checkpoint, configuration or tokenizer.

Each is refused in one line that names the file or the tensor; the model's directory stays as it was.
"""

import json
import math
import pathlib
import re
import shutil
import struct
import subprocess
import unittest

import support
from support import CommandLineCase

PROMPT = ("-p", "Once upon a time", "-n", "8", "--temperature", "0", "-t", 1)


class HubCache(CommandLineCase):
    """A cache as huggingface_hub lays it out: blobs, and snapshots of links to them."""

    def setUp(self):
        self.cache = support.fresh_directory("hub")
        entry = self.cache / "models--org--tiny-model"
        (entry / "blobs").mkdir(parents=True)
        self.snapshot = entry / "snapshots" / "0123abc"
        self.snapshot.mkdir(parents=True)
        for i, path in enumerate(sorted(support.tiny_model().iterdir())):
            shutil.copy(path, entry / "blobs" / f"blob{i}")
            (self.snapshot / path.name).symlink_to(f"../../blobs/blob{i}")
        (entry / "refs").mkdir()
        (entry / "refs" / "main").write_text("0123abc")
        self.env = support.environment(HF_HUB_CACHE=self.cache)

    def test_org_name_is_the_snapshot_of_main(self):
        expected = self.generate_json(support.tiny_model(), *PROMPT)
        found = self.generate_json("org/tiny-model", *PROMPT, env=self.env)
        self.assertEqual(found["tokens"], expected["tokens"])
        inspected = support.run("inspect", "org/tiny-model", env=self.env)
        self.assert_success(inspected)
        self.assertIn("0123abc", inspected.stdout)

    def test_hf_home_has_the_cache_in_hub(self):
        (self.cache / "home").mkdir()
        (self.cache / "home" / "hub").symlink_to(self.cache)
        env = support.environment(HF_HOME=self.cache / "home")
        self.assert_success(support.run("generate", "org/tiny-model", *PROMPT, env=env))

    def test_what_is_not_there_is_refused_with_the_command_that_gets_it(self):
        self.refused("inspect", "org/other", env=self.env, needles=['"org/other"', self.cache, "hf download org/other"])
        shutil.rmtree(self.snapshot)
        self.refused("inspect", "org/tiny-model", env=self.env, needles=["0123abc", "hf download org/tiny-model"])

    def test_a_reference_cannot_leave_the_cache(self):
        (self.cache / "models--org--tiny-model" / "refs" / "main").write_text("../../../../etc")
        self.refused("inspect", "org/tiny-model", env=self.env, needles=["refs/main"])


class DamagedCase(CommandLineCase):
    def setUp(self):
        self.model = support.copy_of_model()

    def assert_unusable(self, *needles, verbs=("generate", "chat", "eval"), model=None):
        model = model or self.model
        arguments = {"generate": PROMPT, "chat": (), "eval": ("--text", support.ROOT / "LICENSE"), "inspect": ()}
        with self.unchanged(model):
            for verb in verbs:
                with self.subTest(verb=verb, needles=needles):
                    done = support.run(verb, model, *arguments[verb], stdin="Hello\n")
                    self.assert_refused(done, *needles)
                    self.assertEqual(done.stdout, "")


class DamagedWeights(DamagedCase):
    def setUp(self):
        super().setUp()
        self.file = self.model / "model.safetensors"
        self.header, self.data = support.read_safetensors(self.file)

    def write(self):
        support.write_safetensors(self.file, self.header, self.data)

    def test_truncated_files(self):
        content = self.file.read_bytes()
        for size in (len(content) - 1, len(content) // 2, 20, 7, 0):
            with self.subTest(size=size):
                self.file.write_bytes(content[:size])
                self.assert_unusable("model.safetensors", verbs=("generate", "inspect"))

    def test_a_header_longer_than_the_file(self):
        content = self.file.read_bytes()
        for size in (len(content), 1 << 40, (1 << 64) - 1):
            with self.subTest(size=size):
                self.file.write_bytes(struct.pack("<Q", size) + content[8:])
                self.assert_unusable("model.safetensors", verbs=("generate", "inspect"))

    def test_overlapping_tensors(self):
        first, second = list(self.header)[-2:]
        begin, end = self.header[second]["data_offsets"]
        self.header[second]["data_offsets"] = [begin - 4, end - 4]
        self.write()
        self.assert_unusable("model.safetensors", verbs=("generate", "inspect"))

    def test_offsets_outside_the_file(self):
        name = list(self.header)[-1]
        for offsets in ([len(self.data), 2 * len(self.data)], [8, 4], [-8, 0], [0, 1 << 63]):
            with self.subTest(offsets=offsets):
                self.header[name]["data_offsets"] = offsets
                self.write()
                self.assert_unusable("model.safetensors", verbs=("generate", "inspect"))

    def test_a_wrong_dtype(self):
        name = "model.layers.0.mlp.up_proj.weight"
        self.header[name]["dtype"] = "I32"
        self.write()
        self.assert_unusable(name, "I32", "accepted: F32")
        self.header[name]["dtype"] = "Q7"
        self.write()
        self.assert_unusable("model.safetensors", "Q7")

    def test_a_dtype_that_does_not_fit_the_bytes(self):
        name = "model.layers.0.mlp.up_proj.weight"
        self.header[name]["dtype"] = "BF16"
        self.write()
        self.assert_unusable(name, verbs=("generate", "inspect"))

    def test_a_wrong_shape(self):
        name = "model.layers.0.mlp.up_proj.weight"
        rows, columns = self.header[name]["shape"]
        self.header[name]["shape"] = [columns, rows]
        self.write()
        self.assert_unusable(name, f"[{columns}, {rows}]", f"[{rows}, {columns}]")

    def test_an_absurd_shape(self):
        name = "model.layers.0.mlp.up_proj.weight"
        for shape in ([1 << 62, 1 << 62], [-1, 48], [0.5, 2], "big"):
            with self.subTest(shape=shape):
                self.header[name]["shape"] = shape
                self.write()
                self.assert_unusable("model.safetensors", verbs=("generate", "inspect"))

    def test_a_missing_tensor(self):
        name = "model.layers.1.mlp.experts.3.down_proj.weight"
        self.header["spare"] = self.header.pop(name)
        self.write()
        self.assert_unusable(name, "missing")

    def test_a_missing_file(self):
        self.file.unlink()
        self.assert_unusable("model.safetensors")

    def test_a_missing_scale(self):
        model = support.copy_of_model("fp8")
        header, data = support.read_safetensors(model / "model.safetensors")
        name = next(name for name in header if name.endswith("weight_scale_inv"))
        header["spare"] = header.pop(name)
        support.write_safetensors(model / "model.safetensors", header, data)
        self.assert_unusable(name, "missing", model=model)
        self.assertIn(name, support.made("inspect", model).stdout)

    def split(self):
        """Two shards with an index."""
        names = [name for name in self.header if name != "__metadata__"]
        weight_map = {}
        for i, part in enumerate((names[: len(names) // 2], names[len(names) // 2 :]), 1):
            shard, header, data = f"model-{i:05}-of-00002.safetensors", {}, b""
            for name in part:
                begin, end = self.header[name]["data_offsets"]
                header[name] = {**self.header[name], "data_offsets": [len(data), len(data) + end - begin]}
                data += self.data[begin:end]
                weight_map[name] = shard
            support.write_safetensors(self.model / shard, header, data)
        self.index = self.model / "model.safetensors.index.json"
        self.index.write_text(json.dumps({"metadata": {"total_size": len(self.data)}, "weight_map": weight_map}))
        self.file.unlink()
        return weight_map

    def test_shards(self):
        self.split()
        found = self.generate_json(self.model, *PROMPT)
        self.assertEqual(found["tokens"], self.generate_json(support.tiny_model(), *PROMPT)["tokens"])

    def test_a_missing_shard(self):
        self.split()
        (self.model / "model-00002-of-00002.safetensors").unlink()
        self.assert_unusable("model-00002-of-00002.safetensors", verbs=("generate", "chat", "eval", "inspect"))

    def test_a_shard_outside_the_directory(self):
        weight_map = self.split()
        shutil.copy(self.model / "model-00001-of-00002.safetensors", self.model.parent / "outside.safetensors")
        name = next(iter(weight_map))
        self.index.write_text(json.dumps({"weight_map": {**weight_map, name: "../outside.safetensors"}}))
        self.assert_unusable("../outside.safetensors", verbs=("generate", "inspect"))

    def test_a_tensor_that_its_shard_lacks(self):
        weight_map = self.split()
        name = next(iter(weight_map))
        self.index.write_text(json.dumps({"weight_map": {**weight_map, name: "model-00002-of-00002.safetensors"}}))
        self.assert_unusable(name, verbs=("generate", "inspect"))

    def test_a_broken_index(self):
        self.split()
        for text in ("", "{", "[]", '{"weight_map": 1}', '{"weight_map": {"a": 1}}'):
            with self.subTest(index=text):
                self.index.write_text(text)
                self.assert_unusable("model.safetensors.index.json", verbs=("generate", "inspect"))


class DamagedConfig(DamagedCase):
    def assert_refused_config(self, *needles, **changes):
        original = (self.model / "config.json").read_text()
        support.edit_json(self.model / "config.json", **changes)
        self.assert_unusable("config.json", *needles, verbs=("generate", "inspect"))
        (self.model / "config.json").write_text(original)

    def test_absurd_numbers(self):
        for key, value in (("hidden_size", 10**12), ("hidden_size", -48), ("hidden_size", 0), ("hidden_size", 48.5),
                           ("hidden_size", "48"), ("num_attention_heads", 0), ("num_hidden_layers", -1),
                           ("num_hidden_layers", 10**9), ("vocab_size", 0), ("vocab_size", 10**18), ("kv_lora_rank", 0),
                           ("qk_rope_head_dim", 7), ("n_routed_experts", -4), ("n_routed_experts", 10**9),
                           ("num_experts_per_tok", 5), ("moe_intermediate_size", 0), ("max_position_embeddings", 0),
                           ("rms_norm_eps", -1), ("rope_theta", 0), ("routed_scaling_factor", -1), ("n_group", 3),
                           ("topk_group", 2), ("eos_token_id", 384), ("bos_token_id", -2), ("num_nextn_predict_layers", -1)):
            with self.subTest(key=key, value=value):
                self.assert_refused_config(key, **{key: value})

    def test_a_missing_number(self):
        for key in ("hidden_size", "num_attention_heads", "kv_lora_rank", "vocab_size", "rope_theta"):
            with self.subTest(key=key):
                self.assert_refused_config(key, **{key: None})

    def test_unknown_methods(self):
        self.assert_refused_config('"llama"', "accepted: deepseek_v2", model_type="llama")
        self.assert_refused_config("model_type", model_type=None)
        self.assert_refused_config("topk_method", "random", "noaux_tc", topk_method="random")
        self.assert_refused_config("scoring_func", "tanh", "sigmoid", scoring_func="tanh")
        self.assert_refused_config("rope_scaling", "longrope", "yarn", rope_scaling={"type": "longrope", "factor": 4})
        self.assert_refused_config("quant_method", "awq", "fp8", quantization_config={"quant_method": "awq"})
        self.assert_refused_config("hidden_act", "gelu", hidden_act="gelu")

    def test_files_that_are_no_configuration(self):
        for content in (b"", b"{", b"[1]", b"\xff\xfe", b'{"model_type": "deepseek_v3", "model_type": "deepseek_v2"}', b"[" * 100_000):
            with self.subTest(content=content[:30]):
                (self.model / "config.json").write_bytes(content)
                self.assert_unusable("config.json", verbs=("generate", "inspect"))
        (self.model / "config.json").unlink()
        self.assert_unusable("config.json", verbs=("generate", "chat", "eval", "inspect"))

    def test_generation_config(self):
        path = self.model / "generation_config.json"
        for changes, needle in (({"eos_token_id": 99999}, "eos_token_id"), ({"eos_token_id": "end"}, "eos_token_id"),
                                ({"temperature": -1}, "temperature"), ({"top_k": -3}, "top_k"), ({"top_p": 7}, "top_p"),
                                ({"top_k": 1e300}, "top_k"), ({"temperature": "hot"}, "temperature")):
            with self.subTest(changes=changes):
                original = path.read_text()
                support.edit_json(path, **changes)
                self.assert_refused(support.run("generate", self.model, "-p", "a", "-n", 2, "-t", 1), needle)
                path.write_text(original)
        path.write_text("{")
        self.assert_unusable("generation_config.json")


class DamagedTokenizer(DamagedCase):
    def edit(self, change):
        path = self.model / "tokenizer.json"
        data = json.loads((support.tiny_model() / "tokenizer.json").read_text())
        change(data)
        path.write_text(json.dumps(data))

    def test_no_merges(self):
        self.edit(lambda data: data["model"].pop("merges"))
        self.assert_unusable("tokenizer.json", "merges")

    def test_a_merge_of_unknown_tokens(self):
        self.edit(lambda data: data["model"]["merges"].append("never seen"))
        self.assert_unusable("tokenizer.json")

    def test_other_models_and_steps(self):
        for change, needle in ((lambda data: data["model"].update(type="Unigram"), "Unigram"),
                               (lambda data: data.update(normalizer={"type": "Lowercase"}), "normalizer"),
                               (lambda data: data.update(pre_tokenizer={"type": "Bert"}), "Bert")):
            with self.subTest(needle=needle):
                self.edit(change)
                self.assert_unusable("tokenizer.json", needle)

    def test_files_that_are_no_tokenizer(self):
        for content in (b"", b"{", b"[]", b"\xff", b'{"model": 1}', b"[" * 100_000):
            with self.subTest(content=content[:20]):
                (self.model / "tokenizer.json").write_bytes(content)
                self.assert_unusable("tokenizer.json", verbs=("generate",))
        (self.model / "tokenizer.json").unlink()
        self.assert_unusable("tokenizer.json")

    def test_a_broken_chat_template(self):
        for template, needle in (("{% for %}", "tokenizer_config.json:1"), ("{{ messages | nothing }}", "nothing"), (7, "chat_template")):
            with self.subTest(template=template):
                support.edit_json(self.model / "tokenizer_config.json", chat_template=template)
                self.assert_unusable(needle, verbs=("chat",))

    def test_a_template_without_end_is_stopped(self):
        support.edit_json(self.model / "tokenizer_config.json",
                          chat_template="{% for a in range(99999) %}{% for b in range(99999) %}x{% endfor %}{% endfor %}")
        done = support.run("chat", self.model, "-t", 1, stdin="Hello\n", timeout=60)
        self.assert_refused(done)

    def test_a_vocabulary_larger_than_the_models_rows(self):
        """The tokenizer makes ids for which the model has no row: an error, not a read outside the matrix."""
        file = self.model / "model.safetensors"
        header, data = support.read_safetensors(file)
        rows = 300
        kept, offset = b"", 0
        for name in sorted((n for n in header if n != "__metadata__"), key=lambda n: header[n]["data_offsets"][0]):
            begin, end = header[name]["data_offsets"]
            piece = data[begin:end]
            if header[name]["shape"][0] == support.TINY_VOCAB:
                header[name]["shape"][0] = rows
                piece = piece[: math.prod(header[name]["shape"]) * 4]
            header[name]["data_offsets"] = [offset, offset + len(piece)]
            offset += len(piece)
            kept += piece
        support.write_safetensors(file, header, kept)
        support.edit_json(self.model / "config.json", vocab_size=rows)
        self.assert_unusable("300", verbs=("generate", "eval"))


class Tokens(CommandLineCase):
    """What the program adds to a prompt, and what it never answers."""

    def test_a_prompt_gets_its_bos_once(self):
        model = support.tiny_model()
        ids = json.loads(support.made("tokenizer", "encode", model, "Once upon a time", "--json").stdout)
        bare = self.generate_json(model, *PROMPT)
        spelled = self.generate_json(model, "-p", "<｜begin▁of▁sentence｜>Once upon a time", *PROMPT[2:])
        self.assertEqual(bare["prompt_tokens"], len(ids) + 1)
        self.assertEqual(spelled["prompt_tokens"], len(ids) + 1)
        self.assertEqual(bare["tokens"], spelled["tokens"])

    def test_padding_of_the_vocabulary_is_never_sampled(self):
        """600 rows for the tokenizer's 384: at this temperature every row would be as probable as any other."""
        directory = support.fresh_directory("padded")
        model = directory / "model"
        support.made("train", support.tiny_settings(directory, 1), "-q", "-t", 1, "--set", "model.vocab_size=600", "--set",
                     "learning_rate.warmup_steps=0", "--set", f"export.directory={model}")
        found = []
        for seed in range(8):
            arguments = ("-p", "Hello", "-n", 300, "--temperature", 100, "--seed", seed, "-t", 1)
            found += self.generate_json(model, *arguments)["tokens"]
        self.assertGreater(len(found), 400)  # eos ends an answer after 384 tokens on average
        self.assertLess(max(found), support.TINY_VOCAB)
        self.assertGreater(len(set(found)), 60)


class Memory(CommandLineCase):
    """What loading and answering take at their highest, as the kernel counts it."""

    def peak_bytes(self, model):
        process = support.start("chat", model, "-t", 1, "-n", 4, stdin=subprocess.PIPE)
        process.stdin.write("Hello!\n")
        process.stdin.flush()
        process.stdout.readline()  # the answer: the model is loaded and was used
        status = pathlib.Path(f"/proc/{process.pid}/status").read_text()
        _, stderr = process.communicate(timeout=support.TIMEOUT_S)
        self.assertEqual(process.returncode, 0, stderr)
        return 1024 * int(re.search(r"VmHWM:\s*(\d+) kB", status).group(1))

    def test_loading_takes_the_weights_and_at_most_15_percent(self):
        """The program itself is subtracted: what a model of almost nothing takes."""
        directory = support.fresh_directory("memory")
        model = directory / "model"
        support.made("train", support.tiny_settings(directory, 1), "-q", *(
            word for setting in ("hidden_size=512", "intermediate_size=8192", "num_hidden_layers=6", "vocab_size=4096",
                                 "first_k_dense_replace=5") for word in ("--set", f"model.{setting}")),
            "--set", "train.sequences_per_slot=1", "--set", "train.slots_per_step=1", "--set", "checkpoint.directory=",
            "--set", "learning_rate.warmup_steps=0", "--set", f"export.directory={model}")
        weights = (model / "model.safetensors").stat().st_size
        small = (support.tiny_model("bf16") / "model.safetensors").stat().st_size
        self.assertGreater(weights, 100e6)
        grown = self.peak_bytes(model) - self.peak_bytes(support.tiny_model("bf16"))
        print(f"loading {weights / 1e6:.1f} MB of weights takes {grown / 1e6:.1f} MB more than loading {small / 1e6:.1f} MB")
        self.assertLess(grown, 1.15 * (weights - small))
        self.assertGreater(grown, 0.5 * weights)  # the answer went through them: the figure is not of an unread map


if __name__ == "__main__":
    unittest.main()
