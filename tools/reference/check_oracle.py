"""Compares model.forward with a recorded run of DeepSeek's published inference code.

  python3 tools/reference/check_oracle.py DIRECTORY

DIRECTORY holds config.json, model-bf16.safetensors, tokens.json {tokens, prefix_lengths} and golden.safetensors with
bf16/logits [prefixes, vocabulary] (last row of each prefix), bf16/hidden.L and bf16/route_{i,w}.L (of the prefix that
has as many rows). The recording is float32, so agreement is limited to a few 1e-6. Exit 1 above 2e-5 or on different
experts.
"""

import json
import os
import sys

import numpy as np

import model
import safetensors_io

LIMIT = 2e-5


def main():
    if len(sys.argv) != 2:
        sys.exit("usage: check_oracle.py DIRECTORY")

    def path(name):
        return os.path.join(sys.argv[1], name)

    with open(path("config.json"), encoding="utf-8") as file:
        config = model.Config.from_json(json.load(file))
    with open(path("tokens.json"), encoding="utf-8") as file:
        text = json.load(file)
    weights = {k: v.astype(np.float64) for k, v in safetensors_io.load(path("model-bf16.safetensors")).items()}
    golden = safetensors_io.load(path("golden.safetensors"))
    worst, same_experts = 0.0, True

    def compare(name, ours, theirs):
        nonlocal worst
        error = np.max(np.abs(ours - theirs))
        worst = max(worst, error)
        print(f"{name}: largest difference {error:.1e} (values up to {np.max(np.abs(theirs)):.2f})")

    for i, length in enumerate(text["prefix_lengths"]):
        run = model.forward(config, weights, np.array(text["tokens"][:length]), [0, length])
        compare(f"logits, prefix {length}", run["logits"][-1], golden["bf16/logits"][i])
        if length != len(golden["bf16/hidden.0"]):
            continue
        for s in run["blocks"]:
            layer = s["layer"]
            compare(f"hidden.{layer}", s["hidden"], golden[f"bf16/hidden.{layer}"])
            if "moe" in s:
                ids, route = golden[f"bf16/route_i.{layer}"], s["moe"]["route"]
                order = np.argsort(ids, -1)
                same_experts &= np.array_equal(np.take_along_axis(ids, order, 1), route["ids"])
                theirs = np.take_along_axis(golden[f"bf16/route_w.{layer}"], order, 1)
                compare(f"gates.{layer}", route["gates"], theirs)
    print("experts are the same" if same_experts else "experts DIFFER")
    sys.exit(0 if same_experts and worst <= LIMIT else 1)


if __name__ == "__main__":
    main()
