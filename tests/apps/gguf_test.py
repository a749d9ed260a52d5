"""GGUF files and tiktoken.model at the command line: the same answers as from the Hugging Face directory."""

import base64
import json
import shutil
import struct
import unittest

import support
from support import CommandLineCase

U32, F32, BOOL, STRING, ARRAY, I32 = 4, 6, 7, 8, 9, 5


def text(value):
    data = value.encode()
    return struct.pack("<Q", len(data)) + data


def pair(key, kind, value):
    head = text(key) + struct.pack("<I", kind)
    if kind == ARRAY:
        item, items = value
        body = b"".join(text(i) for i in items) if item == STRING else struct.pack(f"<{len(items)}i", *items)
        return head + struct.pack("<IQ", item, len(items)) + body
    return head + (text(value) if kind == STRING else struct.pack({U32: "<I", F32: "<f", BOOL: "<?"}[kind], value))


def token_pairs(model):
    tokenizer = json.loads((model / "tokenizer.json").read_text())
    special = {token["id"]: token for token in tokenizer["added_tokens"]}
    by_id = {number: token for token, number in tokenizer["model"]["vocab"].items()}
    by_id.update({number: token["content"] for number, token in special.items()})
    ids = range(max(by_id) + 1)
    merges = [merge if isinstance(merge, str) else " ".join(merge) for merge in tokenizer["model"]["merges"]]
    config = json.loads((model / "config.json").read_text())
    out = [pair("tokenizer.ggml.model", STRING, "gpt2"), pair("tokenizer.ggml.pre", STRING, "deepseek-v3"),
           pair("tokenizer.ggml.tokens", ARRAY, (STRING, [by_id.get(i, f"[PAD{i}]") for i in ids])),
           pair("tokenizer.ggml.token_type", ARRAY,
                (I32, [(3 if special[i]["special"] else 4) if i in special else 1 if i in by_id else 5 for i in ids])),
           pair("tokenizer.ggml.merges", ARRAY, (STRING, merges)),
           pair("tokenizer.ggml.bos_token_id", U32, config["bos_token_id"]),
           pair("tokenizer.ggml.eos_token_id", U32, config["eos_token_id"]),
           pair("tokenizer.ggml.add_bos_token", BOOL, True)]
    source = json.loads((model / "tokenizer_config.json").read_text()).get("chat_template")
    if (model / "chat_template.jinja").exists():
        source = (model / "chat_template.jinja").read_text()
    return out + ([pair("tokenizer.chat_template", STRING, source)] if source else [])


def config_pairs(c):
    p = "deepseek2."
    rows = [("block_count", U32, c["num_hidden_layers"] + c["num_nextn_predict_layers"]),
            ("context_length", U32, c["max_position_embeddings"]), ("embedding_length", U32, c["hidden_size"]),
            ("feed_forward_length", U32, c["intermediate_size"]), ("attention.head_count", U32, c["num_attention_heads"]),
            ("attention.layer_norm_rms_epsilon", F32, c["rms_norm_eps"]), ("attention.kv_lora_rank", U32, c["kv_lora_rank"]),
            ("attention.key_length", U32, c["qk_nope_head_dim"] + c["qk_rope_head_dim"]),
            ("attention.value_length", U32, c["v_head_dim"]), ("rope.dimension_count", U32, c["qk_rope_head_dim"]),
            ("rope.freq_base", F32, c["rope_theta"]), ("nextn_predict_layers", U32, c["num_nextn_predict_layers"]),
            ("expert_count", U32, c["n_routed_experts"]), ("expert_used_count", U32, c["num_experts_per_tok"]),
            ("expert_shared_count", U32, c["n_shared_experts"]),
            ("expert_feed_forward_length", U32, c["moe_intermediate_size"]),
            ("leading_dense_block_count", U32, c["first_k_dense_replace"]),
            ("expert_weights_scale", F32, c["routed_scaling_factor"]), ("expert_weights_norm", BOOL, c["norm_topk_prob"]),
            ("expert_gating_func", U32, 2 if c["scoring_func"] == "sigmoid" else 1),
            ("expert_group_count", U32, c["n_group"]), ("expert_group_used_count", U32, c["topk_group"])]
    if c["q_lora_rank"]:
        rows.append(("attention.q_lora_rank", U32, c["q_lora_rank"]))
    assert c["rope_scaling"] is None
    return [pair("general.architecture", STRING, "deepseek2")] + [pair(p + key, kind, value) for key, kind, value in rows]


NAMES = {"model.embed_tokens": "token_embd", "model.norm": "output_norm", "lm_head": "output",
         "self_attn.q_proj": "attn_q", "self_attn.q_a_proj": "attn_q_a", "self_attn.q_a_layernorm": "attn_q_a_norm",
         "self_attn.q_b_proj": "attn_q_b", "self_attn.kv_a_proj_with_mqa": "attn_kv_a_mqa",
         "self_attn.kv_a_layernorm": "attn_kv_a_norm", "self_attn.kv_b_proj": "attn_kv_b", "self_attn.o_proj": "attn_output",
         "input_layernorm": "attn_norm", "post_attention_layernorm": "ffn_norm", "mlp.gate_proj": "ffn_gate",
         "mlp.up_proj": "ffn_up", "mlp.down_proj": "ffn_down", "mlp.gate": "ffn_gate_inp",
         "mlp.shared_experts.gate_proj": "ffn_gate_shexp", "mlp.shared_experts.up_proj": "ffn_up_shexp",
         "mlp.shared_experts.down_proj": "ffn_down_shexp", "enorm": "nextn.enorm", "hnorm": "nextn.hnorm",
         "eh_proj": "nextn.eh_proj", "shared_head.norm": "nextn.shared_head_norm"}


def tensors(model, experts):
    """(GGUF name, type, shape, bytes) of every tensor; the experts of a layer become one stack."""
    header, data = support.read_safetensors(model / "model.safetensors")
    header.pop("__metadata__", None)
    types = {"F32": 0, "F16": 1, "BF16": 30}
    stacks = {}
    for name, entry in header.items():
        begin, end = entry["data_offsets"]
        raw, kind, shape = data[begin:end], types[entry["dtype"]], entry["shape"]
        if len(shape) == 1 and kind == 30:  # vectors are F32 in GGUF files
            raw, kind = b"".join(b"\0\0" + raw[i : i + 2] for i in range(0, len(raw), 2)), 0
        prefix, stem = "", name.removesuffix(".weight")
        if name.startswith("model.layers."):
            layer, stem = stem.removeprefix("model.layers.").split(".", 1)
            prefix = f"blk.{layer}."
        if stem.startswith("mlp.experts."):
            expert, which = stem.removeprefix("mlp.experts.").split(".")
            stacked = f"{prefix}ffn_{which.removesuffix('_proj')}_exps.weight"
            stacks.setdefault(stacked, (kind, [experts, *shape], {}))[2][int(expert)] = raw
        elif stem == "mlp.gate.e_score_correction_bias":
            yield prefix + "exp_probs_b.bias", kind, shape, raw
        elif prefix + stem not in ("blk.2.embed_tokens", "blk.2.shared_head.head"):  # copies inside an MTP module
            yield f"{prefix}{NAMES[stem]}.weight", kind, shape, raw
    for name, (kind, shape, parts) in stacks.items():
        yield name, kind, shape, b"".join(parts[e] for e in range(experts))


def write_gguf(path, pairs, entries):
    infos, body = [], b""
    for name, kind, shape, raw in entries:
        infos.append(text(name) + struct.pack("<I", len(shape)) + b"".join(struct.pack("<Q", d) for d in reversed(shape)) +
                     struct.pack("<IQ", kind, len(body)))
        body += raw + b"\0" * (-len(raw) % 32)
    head = b"GGUF" + struct.pack("<IQQ", 3, len(infos), len(pairs)) + b"".join(pairs) + b"".join(infos)
    path.write_bytes(head + b"\0" * (-len(head) % 32) + body)


def gguf_of(model):
    """The model directory as one GGUF file."""
    config = json.loads((model / "config.json").read_text())
    path = support.fresh_directory("gguf") / "model.gguf"
    write_gguf(path, config_pairs(config) + token_pairs(model), tensors(model, config["n_routed_experts"]))
    return path


class Gguf(CommandLineCase):
    def test_the_answers_are_those_of_the_directory(self):
        for export_format in ("f32", "bf16"):
            model = support.tiny_model(export_format)
            path = gguf_of(model)
            with self.subTest(format=export_format):
                for arguments in (("-p", "Once upon a time", "-n", 12), ("-p", "1 + 1 =", "-n", 8, "--temperature", 0)):
                    ours, theirs = (self.generate_json(m, "-s", 3, *arguments) for m in (path, model))
                    self.assertEqual(ours["text"], theirs["text"])
                found, directory = (json.loads(support.made("inspect", m, "--json").stdout) for m in (path, model))
                self.assertEqual(found["parameters"], directory["parameters"])
                for key in ("missing_tensors", "unexpected_tensors", "wrong_tensors"):
                    self.assertEqual(found[key], [], key)
                self.assertIn(export_format.upper(), found["bytes_by_type"])
                self.assertRegex(support.made("inspect", path).stdout, r"in memory +\S+ \S+ decoded, .* packed into memory too")

    def test_a_directory_with_one_gguf_is_a_model(self):
        path = gguf_of(support.tiny_model())
        self.assertEqual(self.generate_json(path.parent, "-p", "a", "-n", 3)["text"],
                         self.generate_json(path, "-p", "a", "-n", 3)["text"])
        shutil.copyfile(path, path.parent / "second.gguf")
        self.refused("inspect", path.parent, needles=["holds several GGUF models", "give the file"])

    def test_chat_and_tokenizer_read_it(self):
        model = support.tiny_model()
        path = gguf_of(model)
        for verb in (["chat"], ["tokenizer", "encode"]):
            arguments = ["Hello 12345 world"] if verb[0] == "tokenizer" else ["-n", "6", "--temperature", "0"]
            ours, theirs = (support.run(*verb, m, *arguments, stdin="Hello\n") for m in (path, model))
            self.assert_success(theirs)
            self.assertEqual(ours.stdout, theirs.stdout)

    def test_what_is_wrong_is_one_line(self):
        path = gguf_of(support.tiny_model())
        data = path.read_bytes()
        broken = path.parent / "broken.gguf"
        broken.write_bytes(data[: len(data) // 2])
        self.refused("generate", broken, "-p", "a", needles=["broken.gguf", "is the download complete?"])
        broken.write_bytes(data.replace(b"deepseek-v3", b"deepseek-v9"))
        self.refused("generate", broken, "-p", "a", needles=["tokenizer.ggml.pre", "deepseek-v9", "accepted"])
        broken.write_bytes(b"not a model")
        self.refused("inspect", broken, needles=["broken.gguf", "is this a GGUF file?"])


class Tiktoken(CommandLineCase):
    def test_a_model_with_tiktoken_model_only(self):
        model = support.copy_of_model()
        (model / "tokenizer.json").unlink()
        ranks = [bytes([b]) for b in range(256)] + [b"th", b"the", b" the"]
        lines = (f"{base64.b64encode(token).decode()} {rank}\n" for rank, token in enumerate(ranks))
        (model / "tiktoken.model").write_text("".join(lines))
        support.edit_json(model / "tokenizer_config.json",
                          added_tokens_decoder={"300": {"content": "<|im_end|>", "special": True}})
        done = support.run("tokenizer", "encode", model, "a the<|im_end|>", "--json")
        self.assert_success(done)
        self.assertIn("258", done.stdout)
        self.assertIn("300", done.stdout)
        (model / "tiktoken.model").write_text("YQ== 0\n!!! 1\n")
        self.refused("tokenizer", "encode", model, "a", needles=["tiktoken.model: line 2", "base64"])


class SparseAttention(CommandLineCase):
    def test_the_context_ends_at_index_topk(self):
        model = support.copy_of_model()
        support.edit_json(model / "config.json", model_type="deepseek_v32", index_topk=24, index_n_heads=2, index_head_dim=8)
        dense = support.tiny_model()
        arguments = ("-p", "Once upon", "-n", 4, "--temperature", 0)
        self.assertEqual(self.generate_json(model, *arguments)["text"], self.generate_json(dense, *arguments)["text"])
        self.refused("generate", model, "-p", "a", "-c", 25, needles=["--context 25", "the 24 tokens of index_topk"])
        self.refused("generate", model, "-p", "one two three four five six " * 8, needles=["index_topk"])
        self.assertIn("index_topk", support.made("inspect", model).stdout)


if __name__ == "__main__":
    unittest.main()
