"""Scores a text as `fathom eval --text` does, in float64 and without any of its code but the tokenizer.

  python3 tools/reference/score_text.py MODEL IDS WINDOW [--chunks N] [--against OTHER]

MODEL is a directory with config.json and one model.safetensors (BF16, F32, or FP8 E4M3 with 128x128 block scales), IDS a
JSON file with a list of token ids, BOS first (`fathom tokenizer encode MODEL TEXT --json` has the others). Windows as in
src/model/divergence.h: the first is scored whole, later ones start half a window back and score what is new. With
--chunks as llama-perplexity has them: the first N runs of WINDOW tokens, BOS put in place of their first, the
predictions at WINDOW // 2 to WINDOW - 2 scored. Prints JSON: "nats", the sum of -log p of the scored tokens, "tokens",
how many these are, and "nats_of_windows"; with --against also "kl_per_token", the mean of sum p (log p - log q) with p
OTHER's and q MODEL's, and "top1_agreement".
"""

import argparse
import json
import os

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


def chunks(length, window, most):
    """(begin, end, first scored) of every chunk."""
    for begin in range(0, min(length // window, most) * window, window):
        yield begin, begin + window, begin + window // 2 + 1


def log_softmax(logits):
    top = logits.max(-1, keepdims=True)
    return logits - top - np.log(np.exp(logits - top).sum(-1, keepdims=True))


class Scorer:
    def __init__(self, directory):
        with open(os.path.join(directory, "config.json"), encoding="utf-8") as file:
            self.values = json.load(file)
        self.config = model.Config.from_json(dict(self.values, num_nextn_predict_layers=0))
        block = self.values.get("quantization_config", {}).get("weight_block_size", [128, 128])
        self.weights = load_weights(os.path.join(directory, "model.safetensors"), block)

    def log_probabilities(self, ids, first):
        """[tokens from `first` on, vocabulary]: what each was expected to be."""
        return log_softmax(model.forward(self.config, self.weights, ids, [0, len(ids)])["logits"][first - 1 : -1])


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("model")
    parser.add_argument("ids")
    parser.add_argument("window", type=int)
    parser.add_argument("--chunks", type=int)
    parser.add_argument("--against")
    options = parser.parse_args()
    scorer = Scorer(options.model)
    other = Scorer(options.against) if options.against else None
    with open(options.ids, encoding="utf-8") as file:
        ids = np.array(json.load(file))
    if options.chunks is None:
        parts = list(windows(len(ids), options.window))
    else:
        parts = list(chunks(len(ids), options.window, options.chunks))
        ids[[begin for begin, _, _ in parts]] = scorer.values["bos_token_id"]
    nats, kl, same, tokens = [], 0.0, 0, 0
    for begin, end, first in parts:
        log_q = scorer.log_probabilities(ids[begin:end], first - begin)
        nats.append(float(-np.take_along_axis(log_q, ids[first:end, None], 1).sum()))
        tokens += end - first
        if other:
            log_p = other.log_probabilities(ids[begin:end], first - begin)
            kl += float((np.exp(log_p) * (log_p - log_q)).sum())
            same += int((log_p.argmax(-1) == log_q.argmax(-1)).sum())
    found = {"nats": sum(nats), "tokens": tokens, "nats_of_windows": nats}
    if other:
        found.update(kl_per_token=kl / tokens, top1_agreement=same / tokens)
    print(json.dumps(found))


if __name__ == "__main__":
    main()
