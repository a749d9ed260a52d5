#!/usr/bin/env python3
"""Writes a small trained model (models/demo) as a GGUF file in BF16 that llama.cpp and ik_llama.cpp load too.

  /usr/bin/python3 bench/demo_gguf.py models/demo demo-bf16.gguf

They load heads of the released models' sizes only, so that heads are filled up with zeros: latents to 512, queries and keys
to 128 and 64, values to 128. That changes nothing: the norm of a latent, a mean of four times as many squares, has half its
weights; queries carry the ratio of the scales 1 / sqrt(d); a pair of rotated numbers takes the place that has its frequency.
The module for the token after next is left out.
"""

import argparse
import json
import pathlib
import struct
import sys

import numpy as np

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent / "tools" / "reference"))
from safetensors_io import Bf16  # noqa: E402
from score_text import load_weights  # noqa: E402

U32, F32, STRING, ARRAY, I32, BOOL = 4, 6, 8, 9, 5, 7  # types of metadata
TENSOR_F32, TENSOR_BF16 = 0, 30
LATENT, NOPE, ROPE, VALUE = 512, 128, 64, 128
ALIGNMENT = 32


def string(text):
    data = text.encode()
    return struct.pack("<Q", len(data)) + data


def entry(key, kind, value):
    if kind == STRING:
        data = string(value)
    elif kind == ARRAY:
        of, items = value
        data = struct.pack("<IQ", of, len(items))
        data += b"".join(map(string, items)) if of == STRING else np.asarray(items, "<i4").tobytes()
    else:
        data = struct.pack({U32: "<I", F32: "<f", BOOL: "<B"}[kind], value)
    return string(key) + struct.pack("<I", kind) + data


class Heads:
    """The weights of one layer's attention with heads filled up."""

    def __init__(self, config):
        self.heads, self.latent = config["num_attention_heads"], config["kv_lora_rank"]
        self.nope, self.rope, self.value = (config[k] for k in ("qk_nope_head_dim", "qk_rope_head_dim", "v_head_dim"))
        step = ROPE // self.rope  # pair i of few has the frequency of pair i * step of many
        self.rotated = np.array([2 * step * (i // 2) + i % 2 for i in range(self.rope)])

    def queries(self, w):
        w = w.reshape(self.heads, self.nope + self.rope, -1) * np.sqrt((NOPE + ROPE) / (self.nope + self.rope))
        out = np.zeros((self.heads, NOPE + ROPE, w.shape[2]))
        out[:, : self.nope], out[:, NOPE + self.rotated] = w[:, : self.nope], w[:, self.nope :]
        return out.reshape(-1, w.shape[2])

    def latents(self, w):
        out = np.zeros((LATENT + ROPE, w.shape[1]))
        out[: self.latent], out[LATENT + self.rotated] = w[: self.latent], w[self.latent :]
        return out

    def norm(self, w):
        return np.concatenate([w * np.sqrt(self.latent / LATENT), np.zeros(LATENT - self.latent)])

    def keys_and_values(self, w):
        w = w.reshape(self.heads, self.nope + self.value, self.latent)
        keys, values = np.zeros((self.heads, LATENT, NOPE)), np.zeros((self.heads, VALUE, LATENT))
        keys[:, : self.latent, : self.nope] = w[:, : self.nope].transpose(0, 2, 1)
        values[:, : self.value, : self.latent] = w[:, self.nope :]
        return keys, values

    def output(self, w):
        out = np.zeros((w.shape[0], self.heads, VALUE))
        out[:, :, : self.value] = w.reshape(-1, self.heads, self.value)
        return out.reshape(w.shape[0], -1)


def tensors(config, weights):
    """(name, type, array) in the order of the file."""
    heads = Heads(config)
    yield "token_embd.weight", TENSOR_BF16, weights["model.embed_tokens.weight"]
    for i in range(config["num_hidden_layers"]):
        layer, to = f"model.layers.{i}.", f"blk.{i}."
        attention, mlp = layer + "self_attn.", layer + "mlp."
        keys, values = heads.keys_and_values(weights[attention + "kv_b_proj.weight"])
        yield to + "attn_norm.weight", TENSOR_F32, weights[layer + "input_layernorm.weight"]
        yield to + "attn_q_a.weight", TENSOR_BF16, weights[attention + "q_a_proj.weight"]
        yield to + "attn_q_a_norm.weight", TENSOR_F32, weights[attention + "q_a_layernorm.weight"]
        yield to + "attn_q_b.weight", TENSOR_BF16, heads.queries(weights[attention + "q_b_proj.weight"])
        yield to + "attn_kv_a_mqa.weight", TENSOR_BF16, heads.latents(weights[attention + "kv_a_proj_with_mqa.weight"])
        yield to + "attn_kv_a_norm.weight", TENSOR_F32, heads.norm(weights[attention + "kv_a_layernorm.weight"])
        yield to + "attn_k_b.weight", TENSOR_BF16, keys
        yield to + "attn_v_b.weight", TENSOR_BF16, values
        yield to + "attn_output.weight", TENSOR_BF16, heads.output(weights[attention + "o_proj.weight"])
        yield to + "ffn_norm.weight", TENSOR_F32, weights[layer + "post_attention_layernorm.weight"]
        if i < config["first_k_dense_replace"]:
            for x in ("gate", "up", "down"):
                yield f"{to}ffn_{x}.weight", TENSOR_BF16, weights[f"{mlp}{x}_proj.weight"]
            continue
        yield to + "ffn_gate_inp.weight", TENSOR_F32, weights[mlp + "gate.weight"]
        yield to + "exp_probs_b.bias", TENSOR_F32, weights[mlp + "gate.e_score_correction_bias"]
        for x in ("gate", "up", "down"):
            experts = [weights[f"{mlp}experts.{e}.{x}_proj.weight"] for e in range(config["n_routed_experts"])]
            yield f"{to}ffn_{x}_exps.weight", TENSOR_BF16, np.stack(experts)
            yield f"{to}ffn_{x}_shexp.weight", TENSOR_BF16, weights[f"{mlp}shared_experts.{x}_proj.weight"]
    yield "output_norm.weight", TENSOR_F32, weights["model.norm.weight"]
    yield "output.weight", TENSOR_BF16, weights["lm_head.weight"]


def metadata(c, tokenizer):
    size, special = c["vocab_size"], {t["id"]: t["content"] for t in tokenizer["added_tokens"]}
    tokens = [f"[PAD{i}]" for i in range(size)]
    kinds = [5] * size  # unused
    for token, i in tokenizer["model"]["vocab"].items():
        tokens[i], kinds[i] = token, 1
    for i, token in special.items():
        tokens[i], kinds[i] = token, 3
    merges = [m if isinstance(m, str) else " ".join(m) for m in tokenizer["model"]["merges"]]
    yield "general.architecture", STRING, "deepseek2"
    for key, value in {
        "block_count": c["num_hidden_layers"], "context_length": c["max_position_embeddings"],
        "embedding_length": c["hidden_size"], "feed_forward_length": c["intermediate_size"], "vocab_size": size,
        "leading_dense_block_count": c["first_k_dense_replace"], "attention.head_count": c["num_attention_heads"],
        "attention.head_count_kv": 1, "attention.q_lora_rank": c["q_lora_rank"], "attention.kv_lora_rank": LATENT,
        "attention.key_length": LATENT + ROPE, "attention.value_length": LATENT, "attention.key_length_mla": NOPE + ROPE,
        "attention.value_length_mla": VALUE, "rope.dimension_count": ROPE, "expert_count": c["n_routed_experts"],
        "expert_used_count": c["num_experts_per_tok"], "expert_shared_count": c["n_shared_experts"],
        "expert_feed_forward_length": c["moe_intermediate_size"], "expert_gating_func": 2,
        "expert_group_count": c["n_group"], "expert_group_used_count": c["topk_group"],
    }.items():
        yield "deepseek2." + key, U32, value
    yield "deepseek2.attention.layer_norm_rms_epsilon", F32, c["rms_norm_eps"]
    yield "deepseek2.rope.freq_base", F32, c["rope_theta"]
    yield "deepseek2.expert_weights_scale", F32, c["routed_scaling_factor"]
    yield "deepseek2.expert_weights_norm", BOOL, c["norm_topk_prob"]
    yield "tokenizer.ggml.model", STRING, "gpt2"
    yield "tokenizer.ggml.pre", STRING, "deepseek-v3"
    yield "tokenizer.ggml.tokens", ARRAY, (STRING, tokens)
    yield "tokenizer.ggml.token_type", ARRAY, (I32, kinds)
    yield "tokenizer.ggml.merges", ARRAY, (STRING, merges)
    yield "tokenizer.ggml.bos_token_id", U32, c["bos_token_id"]
    yield "tokenizer.ggml.eos_token_id", U32, c["eos_token_id"]
    yield "tokenizer.ggml.add_bos_token", BOOL, True
    yield "tokenizer.ggml.add_eos_token", BOOL, False


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("model", type=pathlib.Path)
    parser.add_argument("output", type=pathlib.Path)
    options = parser.parse_args()
    config = json.loads((options.model / "config.json").read_text())
    weights = load_weights(options.model / "model.safetensors", config["quantization_config"]["weight_block_size"])
    entries = [entry(*e) for e in metadata(config, json.loads((options.model / "tokenizer.json").read_text()))]
    infos, data = [], b""
    for name, kind, array in tensors(config, weights):
        infos.append(string(name) + struct.pack(f"<I{array.ndim}QIQ", array.ndim, *array.shape[::-1], kind, len(data)))
        numbers = np.ascontiguousarray(array, "<f4")
        data += (Bf16.round(numbers).bits if kind == TENSOR_BF16 else numbers).tobytes()
        data += bytes(-len(data) % ALIGNMENT)
    head = b"GGUF" + struct.pack("<IQQ", 3, len(infos), len(entries)) + b"".join(entries) + b"".join(infos)
    options.output.write_bytes(head + bytes(-len(head) % ALIGNMENT) + data)


if __name__ == "__main__":
    main()
