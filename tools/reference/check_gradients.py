"""Finite differences against backward.py: random entries of every weight of every golden case and of a few variants.

  python3 tools/reference/check_gradients.py [--entries 3]

Fourth-order central differences of loss.total in float64. The error of an entry is |difference - gradient| relative to
the larger of the entry's gradient and the root mean square gradient of its tensor; the limit is 1e-6. Exit 1 above it.
Steps stay far below the routing margin of the cases, so no perturbation changes a choice of experts (also checked).
"""

import argparse
import sys

import numpy as np

import backward
import cases
import model

LIMIT = 1e-6
STEP = 1e-4

# Paths that no golden case takes: two chained MTP modules, softmax gates that normalise, no shared expert.
VARIANTS = {
    "v3 with two MTP modules": ("v3", {"num_nextn_predict_layers": 2}),
    "v2 with norm_topk_prob": ("v2", {"norm_topk_prob": True}),
    "v3-plain without shared experts and norm_topk_prob": (
        "v3-plain",
        {"n_shared_experts": 0, "norm_topk_prob": False},
    ),
}


def chosen_experts(run):
    return np.concatenate([s["moe"]["route"]["ids"].ravel() for s in run["moe_blocks"]])


def largest_error(values, lengths, seed, entries):
    """(largest relative error, its tensor, number of entries compared) of one model."""
    config = model.Config.from_json(values)
    offsets = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int32)
    random = np.random.RandomState(seed)
    for attempt in range(seed, seed + 1000):
        weights = cases.random_weights(values, attempt)
        tokens = random.randint(2, cases.VOCAB, offsets[-1]).astype(np.int32)
        run = model.forward(config, weights, tokens, offsets, cases.MTP_LAMBDA, alpha=0.3)
        if model.routing_margin(run) > cases.MIN_MARGIN:
            break
    else:
        raise RuntimeError("no seed without near-ties")
    grads = backward.backward(config, weights, run)
    experts = chosen_experts(run)
    worst, worst_name, compared = 0.0, "", 0
    for name, grad in grads.items():
        flat, flat_grad = weights[name].reshape(-1), grad.reshape(-1)
        scale = np.sqrt(np.mean(flat_grad**2))
        used = np.nonzero(flat_grad)[0]  # rows of the embedding that occur; nothing of an expert without tokens
        candidates = used if len(used) else np.arange(flat.size)
        for i in random.choice(candidates, min(entries, len(candidates)), replace=False):
            kept, losses = flat[i], []
            for offset in (-2, -1, 1, 2):
                flat[i] = kept + offset * STEP
                moved = model.forward(config, weights, tokens, offsets, cases.MTP_LAMBDA, alpha=0.3)
                if not np.array_equal(chosen_experts(moved), experts):
                    raise RuntimeError(f"{name}[{i}]: a step of {offset * STEP} changes the routing")
                losses.append(moved["loss.total"])
            flat[i] = kept
            slope = (8 * (losses[2] - losses[1]) - (losses[3] - losses[0])) / (12 * STEP)
            error = abs(slope - flat_grad[i]) / max(abs(flat_grad[i]), scale, 1e-12)
            compared += 1
            if error > worst:
                worst, worst_name = error, name
    return worst, worst_name, compared


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--entries", type=int, default=2, help="entries per tensor (default 2)")
    entries = parser.parse_args().entries
    models = {name: (values, lengths) for name, (values, lengths, _) in cases.CASES.items()}
    for name, (base, changes) in VARIANTS.items():
        models[name] = (cases.CASES[base][0] | changes, cases.CASES[base][1])
    failed = False
    for name, (values, lengths) in models.items():
        worst, tensor, compared = largest_error(values, lengths, 900, entries)
        failed |= not worst <= LIMIT
        print(f"{name}: {compared} entries, largest relative error {worst:.1e} ({tensor})")
    sys.exit(1 if failed else 0)


if __name__ == "__main__":
    main()
