"""Scores a text as `fathom eval --text` does, in float64 and without any of its code but the tokenizer.

  python3 tools/reference/score_text.py MODEL IDS WINDOW

MODEL is a directory with config.json and one model.safetensors (BF16, F32, or FP8 E4M3 with 128x128 block scales), IDS a
JSON file with a list of token ids, BOS first (`fathom tokenizer encode MODEL TEXT --json` has the others). Windows as in
src/model/divergence.h: the first is scored whole, later ones start half a window back and score what is new. Prints JSON:
"nats", the sum of -log p of ids[1..], "tokens", how many these are, and "nats_of_windows".
"""

import json
import os
import sys

import numpy as np

import model
import safetensors_io


def e4m3_values():
    """The 256 values of E4M3 (no infinities; S.1111.111 is not a number), by the definition of the format."""
    codes = np.arange(256)
    sign, exponent, mantissa = np.where(codes & 128, -1.0, 1.0), codes >> 3 & 15, codes & 7
    values = np.where(exponent == 0, mantissa / 8 * 2.0**-6, (1 + mantissa / 8) * 2.0 ** (exponent - 7.0))
    return sign * np.where(codes & 127 == 127, np.nan, values)


def load_weights(path, block):
    """Hugging Face names -> float64 matrices; FP8 codes times the scale of their block."""
    tensors, table, weights = safetensors_io.load(path), e4m3_values(), {}
    for name, array in tensors.items():
        if name.endswith("_scale_inv"):
            continue
        if name + "_scale_inv" not in tensors:
            weights[name] = array.astype(np.float64)
            continue
        scale = tensors[name + "_scale_inv"].astype(np.float64)
        rows, columns = array.shape
        weights[name] = table[array] * scale.repeat(block[0], 0)[:rows].repeat(block[1], 1)[:, :columns]
    return weights


def windows(length, window):
    """(begin, end, first scored) of every window."""
    scored, begin = 1, 0
    while scored < length:
        end = min(length, begin + window)
        yield begin, end, scored
        scored, begin = end, end - window // 2


def main():
    if len(sys.argv) != 4:
        sys.exit("usage: score_text.py MODEL IDS WINDOW")
    with open(os.path.join(sys.argv[1], "config.json"), encoding="utf-8") as file:
        values = json.load(file)
    with open(sys.argv[2], encoding="utf-8") as file:
        ids = np.array(json.load(file))
    config = model.Config.from_json(dict(values, num_nextn_predict_layers=0))
    block = values.get("quantization_config", {}).get("weight_block_size", [128, 128])
    weights = load_weights(os.path.join(sys.argv[1], "model.safetensors"), block)
    nats = []
    for begin, end, first in windows(len(ids), int(sys.argv[3])):
        logits = model.forward(config, weights, ids[begin:end], [0, end - begin])["logits"][first - 1 - begin : -1]
        top = logits.max(-1)
        log_sum = top + np.log(np.exp(logits - top[:, None]).sum(-1))
        nats.append(float((log_sum - np.take_along_axis(logits, ids[first:end, None], 1)[:, 0]).sum()))
    print(json.dumps({"nats": sum(nats), "tokens": len(ids) - 1, "nats_of_windows": nats}))


if __name__ == "__main__":
    main()
