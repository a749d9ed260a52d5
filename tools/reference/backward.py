"""The gradient of model.forward's loss.total by hand, in the order in which the forward pass is undone.

`d_x` is the derivative of the loss by x. Functions take the derivative of their output and what the forward saved, add
to the gradients of the weights they use, and return the derivative of their input. Shapes as in model.py.
"""

import numpy as np

from model import rotate, sigmoid, softmax


def linear(grads, weights, name, x, d_y):
    """y [T, out] = x [T, in] W^T."""
    grads[name] += d_y.T @ x
    return d_y @ weights[name]


def rms_norm(grads, weights, name, x, inverse, d_y):
    """y = w x r with r = (mean x^2 + eps)^-1/2: dx = r w dy - x r^3 / n * sum_j w_j dy_j x_j."""
    grads[name] += np.sum(d_y * x * inverse, 0)
    d_scaled = d_y * weights[name]
    return inverse * d_scaled - x * inverse**3 * np.mean(d_scaled * x, -1, keepdims=True)


def swiglu(grads, weights, prefix, s, d_y):
    d_h = linear(grads, weights, prefix + "down_proj.weight", s["h"], d_y)  # [T, F]
    sigma = sigmoid(s["gate"])
    d_gate = d_h * s["up"] * sigma * (1 + s["gate"] * (1 - sigma))
    d_up = d_h * s["gate"] * sigma
    return (linear(grads, weights, prefix + "gate_proj.weight", s["x"], d_gate)
            + linear(grads, weights, prefix + "up_proj.weight", s["x"], d_up))


def attention(config, grads, weights, prefix, s, documents, rope, d_y):
    T, H = len(d_y), config.num_attention_heads
    N = config.qk_nope_head_dim
    d_o = linear(grads, weights, prefix + "o_proj.weight", s["o"].reshape(T, -1), d_y).reshape(s["o"].shape)
    d_q, d_k, d_v = np.zeros_like(s["q"]), np.zeros_like(s["k"]), np.zeros_like(s["v"])
    for rows, probs in zip(documents, s["probs"]):
        d_v[rows] = np.einsum("hij,ihd->jhd", probs, d_o[rows])
        d_probs = np.einsum("ihd,jhd->hij", d_o[rows], s["v"][rows])
        delta = np.sum(d_o[rows] * s["o"][rows], -1).T[:, :, None]  # [H, T', 1], equals sum_j probs * d_probs
        d_scores = probs * (d_probs - delta) * rope.softmax_scale
        d_q[rows] = np.einsum("hij,jhd->ihd", d_scores, s["k"][rows])
        d_k[rows] = np.einsum("hij,ihd->jhd", d_scores, s["q"][rows])

    # The rope key is shared by the heads, so its derivative is their sum, turned back.
    d_k_rope = rotate(d_k[..., N:].sum(1), -s["angles"], rope.magnitude)  # [T, R]
    d_kv = np.concatenate([d_k[..., :N], d_v], -1).reshape(T, -1)
    d_c_kv = linear(grads, weights, prefix + "kv_b_proj.weight", s["c_kv_normed"], d_kv)
    d_c_kv = rms_norm(grads, weights, prefix + "kv_a_layernorm.weight", s["c_kv"], s["c_kv_inverse"], d_c_kv)
    d_compressed = np.concatenate([d_c_kv, d_k_rope], -1)  # [T, C+R]
    d_x = linear(grads, weights, prefix + "kv_a_proj_with_mqa.weight", s["x"], d_compressed)

    d_q[..., N:] = rotate(d_q[..., N:], -s["angles"], rope.magnitude)
    d_q = d_q.reshape(T, -1)
    if not config.q_lora_rank:
        return d_x + linear(grads, weights, prefix + "q_proj.weight", s["x"], d_q)
    d_c_q = linear(grads, weights, prefix + "q_b_proj.weight", s["c_q_normed"], d_q)
    d_c_q = rms_norm(grads, weights, prefix + "q_a_layernorm.weight", s["c_q"], s["c_q_inverse"], d_c_q)
    return d_x + linear(grads, weights, prefix + "q_a_proj.weight", s["x"], d_c_q)


def balance_loss(scores, fs, documents):
    """d (mean over documents of sum_e f_e P_e) / d scores: (f_e - sum_j f_j p_j) / (documents T' sum_j s_j)."""
    total = scores.sum(-1, keepdims=True)
    p = scores / total
    d_scores = np.empty_like(scores)
    for rows, f in zip(documents, fs):
        length = rows.stop - rows.start
        d_scores[rows] = (f - (p[rows] @ f)[:, None]) / (total[rows] * length * len(documents))
    return d_scores


def router(config, grads, weights, prefix, route, d_gates, d_scores):
    """d_gates [T, K] from the combine and d_scores [T, E] from the balance loss; the bias has no gradient."""
    if config.norm_topk_prob:  # gate_e = scaling s_e / S with S = sum of the chosen s
        d_total = np.sum(d_gates * route["gates"], -1, keepdims=True)  # -S dL/dS
        d_chosen = (route["scaling"] * d_gates - d_total) / route["total"]
    else:
        d_chosen = route["scaling"] * d_gates
    d_scores = d_scores.copy()
    np.put_along_axis(d_scores, route["ids"], np.take_along_axis(d_scores, route["ids"], 1) + d_chosen, 1)
    s = route["scores"]
    if config.scoring_func == "sigmoid":
        d_logits = d_scores * s * (1 - s)
    else:
        d_logits = s * (d_scores - np.sum(d_scores * s, -1, keepdims=True))
    return linear(grads, weights, prefix + "gate.weight", route["x"], d_logits)


def moe(config, grads, weights, prefix, s, d_y, d_scores):
    d_x = np.zeros_like(d_y)
    if config.n_shared_experts:
        d_x += swiglu(grads, weights, prefix + "shared_experts.", s["shared"], d_y)
    gates = s["route"]["gates"]
    d_gates = np.zeros_like(gates)
    for e, expert in s["experts"].items():
        rows, slots = expert["rows"], expert["slots"]
        d_gates[rows, slots] = np.sum(d_y[rows] * expert["out"], -1)
        d_out = gates[rows, slots][:, None] * d_y[rows]
        d_x[rows] += swiglu(grads, weights, f"{prefix}experts.{e}.", expert["saved"], d_out)
    return d_x + router(config, grads, weights, prefix, s["route"], d_gates, d_scores)


def block(config, grads, weights, s, run, d_hidden):
    prefix = f"model.layers.{s['layer']}."
    if "moe" in s:
        d_scores = run["alpha"] * balance_loss(s["moe"]["route"]["scores"], s["f"], run["documents"])
        d_normed = moe(config, grads, weights, prefix + "mlp.", s["moe"], d_hidden, d_scores)
    else:
        d_normed = swiglu(grads, weights, prefix + "mlp.", s["dense"], d_hidden)
    d_middle = d_hidden + rms_norm(grads, weights, prefix + "post_attention_layernorm.weight", s["middle"],
                                   s["norm2_inverse"], d_normed)
    d_normed = attention(config, grads, weights, prefix + "self_attn.", s["attention"], run["documents"], run["rope"],
                         d_middle)
    return d_middle + rms_norm(grads, weights, prefix + "input_layernorm.weight", s["x"], s["norm1_inverse"], d_normed)


def cross_entropy(logits, targets, count, factor):
    """factor * d (mean cross-entropy) / d logits."""
    d_logits = np.zeros_like(logits)
    rows = np.nonzero(targets >= 0)[0]
    if count:
        d_logits[rows] = softmax(logits[rows])
        d_logits[rows, targets[rows]] -= 1
    return d_logits * (factor / max(count, 1))


def mtp_module(config, grads, weights, s, run, d_normed):
    """d_normed [T, D]: what the next module sends back. Returns the derivative of the incoming hidden state."""
    layer, D = s["block"]["layer"], config.hidden_size
    prefix = f"model.layers.{layer}."
    d_logits = cross_entropy(s["logits"], s["targets"], s["count"], run["mtp_lambda"] / len(run["mtp"]))
    d_normed = d_normed + linear(grads, weights, "lm_head.weight", s["normed"], d_logits)
    d_out = rms_norm(grads, weights, prefix + "shared_head.norm.weight", s["block"]["hidden"], s["norm_inverse"],
                     d_normed)
    d_u = block(config, grads, weights, s["block"], run, d_out)
    d_pair = linear(grads, weights, prefix + "eh_proj.weight", s["pair"], d_u)
    d_embedded = rms_norm(grads, weights, prefix + "enorm.weight", s["embedded"], s["enorm_inverse"], d_pair[:, :D])
    has_token = s["tokens"] >= 0
    np.add.at(grads["model.embed_tokens.weight"], s["tokens"][has_token], d_embedded[has_token])
    return rms_norm(grads, weights, prefix + "hnorm.weight", s["hidden"], s["hnorm_inverse"], d_pair[:, D:])


def backward(config, weights, run):
    """d loss.total / d weight for every weight except e_score_correction_bias, name -> array of the weight's shape."""
    grads = {name: np.zeros_like(w) for name, w in weights.items() if not name.endswith("e_score_correction_bias")}
    d_hidden = np.zeros_like(run["final_norm"])
    for s in reversed(run["mtp"]):
        d_hidden = mtp_module(config, grads, weights, s, run, d_hidden)
    d_logits = cross_entropy(run["logits"], run["targets"], run["count"], 1.0)
    d_hidden = d_hidden + linear(grads, weights, "lm_head.weight", run["final_norm"], d_logits)
    d_x = rms_norm(grads, weights, "model.norm.weight", run["blocks"][-1]["hidden"], run["final_inverse"], d_hidden)
    for s in reversed(run["blocks"]):
        d_x = block(config, grads, weights, s, run, d_x)
    np.add.at(grads["model.embed_tokens.weight"], run["tokens"], d_x)
    return grads
