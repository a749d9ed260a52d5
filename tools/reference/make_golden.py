"""Writes tests/golden: for each case config.json, model.safetensors and golden.safetensors, and adamw.safetensors.

  python3 tools/reference/make_golden.py            write the files
  python3 tools/reference/make_golden.py --check    compare with the committed files instead, exit 1 on a difference

On one machine the bytes are the same in every run. Another BLAS or libm may change the last bits of a float64, so where
bytes differ --check still accepts floats of golden.safetensors within TOLERANCES; all else must be equal.
"""

import argparse
import json
import os
import sys

import numpy as np

import adamw
import backward
import cases
import safetensors_io

GOLDEN = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "..", "tests", "golden")
# Half the bytes of float64, and still finer than a model with float32 weights and activations can resolve.
GRADIENT_DTYPE = np.float32
TOLERANCES = {"float64": 1e-11, "float32": 2e-7}  # of golden.safetensors, relative to the tensor's largest element


def model_tensors(config, weights):
    """What model.safetensors holds: the weights as F32, and the MTP layers' copies of embedding and head."""
    tensors = {name: w.astype(np.float32) for name, w in weights.items()}
    for k in range(config.num_nextn_predict_layers):
        prefix = f"model.layers.{config.num_hidden_layers + k}."
        tensors[prefix + "embed_tokens.weight"] = tensors["model.embed_tokens.weight"]
        tensors[prefix + "shared_head.head.weight"] = tensors["lm_head.weight"]
    return tensors


def golden_tensors(run, tokens, offsets, grads):
    """What golden.safetensors holds; README.md says what each tensor means."""
    out = {"tokens": tokens, "document_offsets": offsets, "targets": run["targets"]}
    for s in run["blocks"] + [s["block"] for s in run["mtp"]]:
        prefix = f"layer.{s['layer']}."
        out[prefix + "attn_out"] = s["attn_out"]
        out[prefix + "hidden"] = s["hidden"]
        if "moe" in s:
            route = s["moe"]["route"]
            out[prefix + "router_scores"] = route["scores"]
            out[prefix + "expert_ids"] = route["ids"].astype(np.int32)
            out[prefix + "expert_weights"] = route["gates"]
    out["final_norm"], out["logits"] = run["final_norm"], run["logits"]
    for k, s in enumerate(run["mtp"]):
        out[f"mtp.{k}.tokens"], out[f"mtp.{k}.targets"] = s["tokens"], s["targets"]
        out[f"mtp.{k}.logits"] = s["logits"]
    for name in ["loss.main", "loss.mtp", "loss.balance", "loss.total"]:
        out[name] = np.array([run[name]], np.float64)
    out["mtp_lambda"] = np.array([run["mtp_lambda"]], np.float64)
    out["balance_alpha"] = np.array([run["alpha"]], np.float64)
    return out | {"grad." + name: grad.astype(GRADIENT_DTYPE) for name, grad in grads.items()}


def all_files():
    """Relative path -> bytes of every golden file."""
    files = {"adamw.safetensors": safetensors_io.encode(adamw.golden())}
    for name in cases.CASES:
        values, config, weights, tokens, offsets, run, _ = cases.build(name)
        grads = backward.backward(config, weights, run)
        files[f"{name}/config.json"] = (json.dumps(values, indent=2) + "\n").encode()
        files[f"{name}/model.safetensors"] = safetensors_io.encode(model_tensors(config, weights))
        files[f"{name}/golden.safetensors"] = safetensors_io.encode(golden_tensors(run, tokens, offsets, grads))
    return files


def difference(path, expected):
    """Why the file at `path` does not hold `expected`, or None."""
    if not os.path.exists(path):
        return "is missing"
    with open(path, "rb") as file:
        if file.read() == expected:
            return None
    if not path.endswith(".safetensors"):
        return "differs"
    old, new = safetensors_io.load(path), safetensors_io.decode(expected, path)
    if old.keys() != new.keys():
        return f"holds other tensors: {sorted(old.keys() ^ new.keys())[:3]}"
    for name, a in old.items():
        b = new[name]
        if a.dtype != b.dtype or a.shape != b.shape:
            return f"{name}: {a.dtype}{a.shape} instead of {b.dtype}{b.shape}"
        relative = TOLERANCES.get(a.dtype.name, 0) if path.endswith("golden.safetensors") else 0
        tolerance = relative * np.max(np.abs(b), initial=0)
        if np.max(np.abs(a - b), initial=0) > tolerance:
            return f"{name} differs by {np.max(np.abs(a - b))}"
    return None


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--check", action="store_true", help="compare with the committed files, write nothing")
    check = parser.parse_args().check
    failures = 0
    files = all_files()
    for name, data in files.items():
        path = os.path.join(GOLDEN, name)
        if check:
            reason = difference(path, data)
            failures += reason is not None
            print(f"{name}: {reason or 'ok'}")
            continue
        os.makedirs(os.path.dirname(path), exist_ok=True)
        with open(path, "wb") as file:
            file.write(data)
        print(f"{name}: {len(data)} bytes")
    if not check:
        print(f"total: {sum(map(len, files.values()))} bytes")
    sys.exit(1 if failures else 0)


if __name__ == "__main__":
    main()
