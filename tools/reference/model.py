"""The DeepSeek-V2/V3 forward pass and training loss in NumPy float64, written to be read next to the papers.

Every function returns its result and what backward.py needs. Weights are a dict of Hugging Face names -> [out, in].

Shapes: T tokens (packed, no padding), D hidden, H heads, C kv_lora_rank, Q q_lora_rank, N qk_nope, R qk_rope,
V v_head_dim, E routed experts, K experts per token, G groups, F feed-forward width.

Documents. `offsets` [number of documents + 1] cuts the T packed rows into documents. Positions restart at 0 in each,
and attention is causal inside one.

Loss, exactly:
  total   = main + mtp_lambda * mtp + alpha * balance
  main    = mean of the cross-entropy of t_{i+1} over the rows i whose t_{i+1} is in the same document (natural log).
  mtp     = (1/M) sum over the M MTP modules k = 0..M-1 of the mean cross-entropy of t_{i+2+k} over the rows whose
            t_{i+2+k} is in the same document; each module divides by its own count of such rows (0 rows: loss 0).
  balance = sum over all MoE layers, MTP blocks included, of the mean over documents (every document counts the same,
            whatever its length) of sum_e f_e P_e, where for a document of T' rows and unbiased scores s [T', E]
            P_e = (1/T') sum_t s_te / sum_j s_tj,
            f_e = E / (K T') * #{t : e is one of the K largest s_t}, over all experts (no groups, no bias; ties to the
            lowest index), constant under differentiation.

MTP module k (checkpoint layer num_hidden_layers + k) works on all T rows with the positions of the main model:
  u_i = eh_proj [enorm(Emb(t_{i+1+k})) ; hnorm(h_i)],  h' = Block(u),  g = shared_head.norm(h'),  logits = lm_head g
where h is the hidden state after the main final norm for k = 0, else module k-1's g. A row whose t_{i+1+k} is not in
the document has no input token: its embedding is the zero vector, it has no target, and (attention being causal) no
row with a target sees it; it does count in the block's balance loss. Embedding and lm_head are the main model's.
"""

import math
from dataclasses import dataclass, fields

import numpy as np


@dataclass(frozen=True)
class Config:
    """The config.json keys that the arithmetic reads; the names are Hugging Face's."""

    hidden_size: int
    num_hidden_layers: int
    first_k_dense_replace: int
    num_attention_heads: int
    kv_lora_rank: int
    qk_nope_head_dim: int
    qk_rope_head_dim: int
    v_head_dim: int
    n_routed_experts: int
    num_experts_per_tok: int
    topk_method: str
    scoring_func: str
    norm_topk_prob: bool
    routed_scaling_factor: float
    rms_norm_eps: float
    rope_theta: float
    q_lora_rank: int = None
    n_shared_experts: int = 0
    n_group: int = 1
    topk_group: int = 1
    moe_layer_freq: int = 1
    rope_scaling: dict = None
    num_nextn_predict_layers: int = 0
    aux_loss_alpha: float = 0.0

    @staticmethod
    def from_json(values):
        known = {field.name for field in fields(Config)}
        config = Config(**{key: value for key, value in values.items() if key in known})
        scoring = {"greedy": "softmax", "group_limited_greedy": "softmax", "noaux_tc": "sigmoid"}
        if scoring.get(config.topk_method) != config.scoring_func:
            raise ValueError(f"topk_method {config.topk_method} with scoring_func {config.scoring_func}: "
                             "accepted are greedy and group_limited_greedy with softmax, noaux_tc with sigmoid")
        if config.rope_scaling is not None and config.rope_scaling["type"] != "yarn":
            raise ValueError(f"rope_scaling.type {config.rope_scaling['type']}: accepted is yarn")
        return config

    def is_moe_layer(self, layer):
        return (self.n_routed_experts > 0 and layer >= self.first_k_dense_replace
                and layer % self.moe_layer_freq == 0)


# ---------------------------------------------------------------------------------------------------------------------
# Rotary positions


@dataclass(frozen=True)
class Rotary:
    frequencies: np.ndarray  # [R/2] radians per position
    magnitude: float  # factor on cos and sin
    softmax_scale: float


def yarn_mscale(factor, mscale):
    return 1.0 if factor <= 1 else 0.1 * mscale * math.log(factor) + 1.0


def rotary(config):
    """RoPE frequencies, and under YaRN their interpolation, the cos/sin magnitude and the softmax scale."""
    R, theta = config.qk_rope_head_dim, config.rope_theta
    frequencies = theta ** (-np.arange(0, R, 2) / R)
    scale = (config.qk_nope_head_dim + R) ** -0.5
    yarn = config.rope_scaling
    if yarn is None:
        return Rotary(frequencies, 1.0, scale)

    def dimension_of(rotations):  # the pair that turns this often within the original context
        original = yarn["original_max_position_embeddings"]
        return R * math.log(original / (rotations * 2 * math.pi)) / (2 * math.log(theta))

    low = max(math.floor(dimension_of(yarn["beta_fast"])), 0)
    high = min(math.ceil(dimension_of(yarn["beta_slow"])), R - 1)
    if low == high:
        high += 0.001
    ramp = np.clip((np.arange(R // 2) - low) / (high - low), 0, 1)  # 0: keep the frequency, 1: divide it by the factor
    frequencies = frequencies / yarn["factor"] * ramp + frequencies * (1 - ramp)
    all_dim = yarn_mscale(yarn["factor"], yarn["mscale_all_dim"])
    return Rotary(frequencies, yarn_mscale(yarn["factor"], yarn["mscale"]) / all_dim, scale * all_dim**2)


def rotate(x, angles, magnitude):
    """Turns the pairs (2j, 2j+1) of x [T, ..., R] by angles [T, R/2]; the transpose is the same call with -angles."""
    shape = (len(angles),) + (1,) * (x.ndim - 2) + (-1,)
    cos, sin = magnitude * np.cos(angles).reshape(shape), magnitude * np.sin(angles).reshape(shape)
    even, odd = x[..., 0::2], x[..., 1::2]
    y = np.empty_like(x)
    y[..., 0::2] = even * cos - odd * sin
    y[..., 1::2] = even * sin + odd * cos
    return y


# ---------------------------------------------------------------------------------------------------------------------
# Layers


def rms_norm(x, weight, eps):
    """x [T, n] * weight / sqrt(mean(x^2) + eps); also 1/sqrt(...) [T, 1]."""
    inverse = 1 / np.sqrt(np.mean(x * x, -1, keepdims=True) + eps)
    return x * inverse * weight, inverse


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


def softmax(x):
    e = np.exp(x - x.max(-1, keepdims=True))
    return e / e.sum(-1, keepdims=True)


def swiglu(weights, prefix, x):
    """down(silu(gate x) * up x): [T, D] -> [T, D]."""
    gate = x @ weights[prefix + "gate_proj.weight"].T  # [T, F]
    up = x @ weights[prefix + "up_proj.weight"].T  # [T, F]
    h = gate * sigmoid(gate) * up
    return h @ weights[prefix + "down_proj.weight"].T, dict(x=x, gate=gate, up=up, h=h)


def attention(config, weights, prefix, x, documents, positions, rope):
    """Multi-head latent attention in its naive form (V3 report, eq. 1-11): x [T, D] -> [T, D]."""
    T, H = len(x), config.num_attention_heads
    C, N, V, eps = config.kv_lora_rank, config.qk_nope_head_dim, config.v_head_dim, config.rms_norm_eps

    def weight(name):
        return weights[f"{prefix}{name}.weight"]

    s = dict(x=x, angles=positions[:, None] * rope.frequencies)
    if config.q_lora_rank:
        s["c_q"] = x @ weight("q_a_proj").T  # [T, Q]
        s["c_q_normed"], s["c_q_inverse"] = rms_norm(s["c_q"], weight("q_a_layernorm"), eps)
        q = s["c_q_normed"] @ weight("q_b_proj").T
    else:
        q = x @ weight("q_proj").T
    q = q.reshape(T, H, -1)  # [T, H, N+R]
    s["q"] = np.concatenate([q[..., :N], rotate(q[..., N:], s["angles"], rope.magnitude)], -1)

    compressed = x @ weight("kv_a_proj_with_mqa").T  # [T, C+R]
    s["c_kv"] = compressed[:, :C]
    s["c_kv_normed"], s["c_kv_inverse"] = rms_norm(s["c_kv"], weight("kv_a_layernorm"), eps)
    k_rope = rotate(compressed[:, C:], s["angles"], rope.magnitude)  # [T, R], one for all heads
    kv = (s["c_kv_normed"] @ weight("kv_b_proj").T).reshape(T, H, N + V)
    s["k"] = np.concatenate([kv[..., :N], np.repeat(k_rope[:, None], H, 1)], -1)  # [T, H, N+R]
    s["v"] = kv[..., N:]  # [T, H, V]

    s["probs"], outs = [], []
    for rows in documents:
        scores = np.einsum("ihd,jhd->hij", s["q"][rows], s["k"][rows]) * rope.softmax_scale
        causal = np.tril(np.ones(scores.shape[1:], bool))
        probs = softmax(np.where(causal, scores, -np.inf))  # [H, T', T']
        s["probs"].append(probs)
        outs.append(np.einsum("hij,jhd->ihd", probs, s["v"][rows]))
    s["o"] = np.concatenate(outs)  # [T, H, V]
    return s["o"].reshape(T, -1) @ weight("o_proj").T, s


def top_k(scores, k):
    """Ids [T, k] of the k largest scores of each row, largest first, ties to the lowest index."""
    return np.argsort(-scores, -1, kind="stable")[:, :k]


def top_k_margin(scores, k):
    """The smallest gap between the k-th and the (k+1)-th score of a row: how far the choice is from a tie."""
    if k == scores.shape[1]:
        return math.inf
    ordered = -np.sort(-scores, -1)
    return np.min(ordered[:, k - 1] - ordered[:, k])


def router(config, weights, prefix, x, masked_value=-np.inf):
    """Routed experts of each row: ids [T, K] ascending with weights [T, K], unbiased scores [T, E], smallest margin.

    greedy: softmax, K largest. group_limited_greedy: softmax, only the topk_group groups with the largest best score.
    noaux_tc: sigmoid; groups and experts are chosen by score + bias (a group by the sum of its two best), weights are
    the unbiased scores. Weights: softmax methods multiply by routed_scaling_factor, or, with norm_topk_prob, divide by
    their sum instead; noaux_tc divides by the sum + 1e-20 if norm_topk_prob and always multiplies.
    """
    T, E, K, G = len(x), config.n_routed_experts, config.num_experts_per_tok, config.n_group
    logits = x @ weights[prefix + "gate.weight"].T  # [T, E]
    noaux = config.topk_method == "noaux_tc"
    scores = sigmoid(logits) if noaux else softmax(logits)
    choice = scores + weights[prefix + "gate.e_score_correction_bias"] if noaux else scores
    margin = top_k_margin(scores, K)  # the balance loss picks by the unbiased scores
    if config.topk_method != "greedy":
        ordered = -np.sort(-choice.reshape(T, G, E // G), -1)
        group_scores = ordered[..., :2].sum(-1) if noaux else ordered[..., 0]  # [T, G]
        groups = top_k(group_scores, config.topk_group)
        margin = min(margin, top_k_margin(group_scores, config.topk_group))
        allowed = np.zeros((T, G), bool)
        np.put_along_axis(allowed, groups, True, 1)
        choice = np.where(np.repeat(allowed, E // G, 1), choice, masked_value)
    ids = np.sort(top_k(choice, K), -1)
    margin = min(margin, top_k_margin(choice, K))

    chosen = np.take_along_axis(scores, ids, 1)  # [T, K]
    total = chosen.sum(-1, keepdims=True) + 1e-20
    scaling = config.routed_scaling_factor if noaux or not config.norm_topk_prob else 1.0
    gates = scaling * (chosen / total if config.norm_topk_prob else chosen)
    return dict(x=x, scores=scores, ids=ids, gates=gates, total=total, scaling=scaling, margin=margin)


def moe(config, weights, prefix, x):
    """Shared expert (unscaled) + sum of the K routed experts by gate: x [T, D] -> [T, D]."""
    s = dict(x=x, route=router(config, weights, prefix, x), experts={})
    y = np.zeros_like(x)
    if config.n_shared_experts:
        y, s["shared"] = swiglu(weights, prefix + "shared_experts.", x)
    ids, gates = s["route"]["ids"], s["route"]["gates"]
    for e in range(config.n_routed_experts):
        rows, slots = np.nonzero(ids == e)
        out, saved = swiglu(weights, f"{prefix}experts.{e}.", x[rows])
        s["experts"][e] = dict(rows=rows, slots=slots, out=out, saved=saved)
        y[rows] += gates[rows, slots][:, None] * out
    return y, s


def balance_loss(config, scores, documents):
    """Sequence-wise balance loss of one layer (module docstring), without alpha; also f [documents, E] for backward."""
    E, K = config.n_routed_experts, config.num_experts_per_tok
    p = scores / scores.sum(-1, keepdims=True)
    best = top_k(scores, K)
    loss, fs = 0.0, []
    for rows in documents:
        length = rows.stop - rows.start
        f = np.bincount(best[rows].ravel(), minlength=E) * (E / (K * length))
        loss += f @ p[rows].mean(0) / len(documents)
        fs.append(f)
    return loss, np.array(fs)


def block(config, weights, layer, x, run):
    """One transformer block on the residual stream x [T, D]."""
    prefix, eps = f"model.layers.{layer}.", config.rms_norm_eps
    s = dict(layer=layer, x=x)
    normed, s["norm1_inverse"] = rms_norm(x, weights[prefix + "input_layernorm.weight"], eps)
    s["attn_out"], s["attention"] = attention(config, weights, prefix + "self_attn.", normed, run["documents"],
                                              run["positions"], run["rope"])
    s["middle"] = x + s["attn_out"]
    normed, s["norm2_inverse"] = rms_norm(s["middle"], weights[prefix + "post_attention_layernorm.weight"], eps)
    if config.is_moe_layer(layer):
        y, s["moe"] = moe(config, weights, prefix + "mlp.", normed)
        s["balance"], s["f"] = balance_loss(config, s["moe"]["route"]["scores"], run["documents"])
    else:
        y, s["dense"] = swiglu(weights, prefix + "mlp.", normed)
    s["hidden"] = s["middle"] + y
    return s["hidden"], s


# ---------------------------------------------------------------------------------------------------------------------
# The model


def shifted(tokens, documents, distance):
    """For each row the token `distance` rows later in the same document, or -1."""
    result = np.full(len(tokens), -1, np.int32)
    for rows in documents:
        result[rows.start : max(rows.start, rows.stop - distance)] = tokens[rows.start + distance : rows.stop]
    return result


def cross_entropy(logits, targets):
    """Mean of -log softmax(logits)[target] over the rows with target >= 0 (0 if there are none), and the count."""
    rows = np.nonzero(targets >= 0)[0]
    if len(rows) == 0:
        return 0.0, 0
    z = logits[rows]
    top = z.max(-1, keepdims=True)
    lse = top[:, 0] + np.log(np.exp(z - top).sum(-1))
    return np.mean(lse - z[np.arange(len(rows)), targets[rows]]), len(rows)


def mtp_module(config, weights, k, tokens, hidden, run):
    """MTP module k on hidden [T, D] (module docstring)."""
    layer, eps = config.num_hidden_layers + k, config.rms_norm_eps
    prefix = f"model.layers.{layer}."
    s = dict(hidden=hidden, tokens=shifted(tokens, run["documents"], 1 + k))
    s["embedded"] = np.where(s["tokens"][:, None] >= 0, weights["model.embed_tokens.weight"][s["tokens"]], 0.0)
    e, s["enorm_inverse"] = rms_norm(s["embedded"], weights[prefix + "enorm.weight"], eps)
    h, s["hnorm_inverse"] = rms_norm(hidden, weights[prefix + "hnorm.weight"], eps)
    s["pair"] = np.concatenate([e, h], -1)  # [T, 2D]
    u = s["pair"] @ weights[prefix + "eh_proj.weight"].T
    out, s["block"] = block(config, weights, layer, u, run)
    s["normed"], s["norm_inverse"] = rms_norm(out, weights[prefix + "shared_head.norm.weight"], eps)
    s["logits"] = s["normed"] @ weights["lm_head.weight"].T
    s["targets"] = shifted(tokens, run["documents"], 2 + k)
    s["loss"], s["count"] = cross_entropy(s["logits"], s["targets"])
    return s


def forward(config, weights, tokens, offsets, mtp_lambda=0.0, alpha=None):
    """Runs the model and the loss on packed tokens [T]; returns everything that backward and the golden files need."""
    alpha = config.aux_loss_alpha if alpha is None else alpha
    documents = [slice(int(b), int(e)) for b, e in zip(offsets[:-1], offsets[1:])]
    positions = np.concatenate([np.arange(rows.stop - rows.start) for rows in documents])
    run = dict(tokens=tokens, documents=documents, positions=positions, rope=rotary(config), mtp_lambda=mtp_lambda,
               alpha=alpha)
    x = weights["model.embed_tokens.weight"][tokens]  # [T, D]
    run["blocks"] = []
    for layer in range(config.num_hidden_layers):
        x, saved = block(config, weights, layer, x, run)
        run["blocks"].append(saved)
    run["final_norm"], run["final_inverse"] = rms_norm(x, weights["model.norm.weight"], config.rms_norm_eps)
    run["logits"] = run["final_norm"] @ weights["lm_head.weight"].T  # [T, vocabulary]
    run["targets"] = shifted(tokens, documents, 1)
    run["loss.main"], run["count"] = cross_entropy(run["logits"], run["targets"])

    run["mtp"] = []
    hidden = run["final_norm"]
    for k in range(config.num_nextn_predict_layers):
        run["mtp"].append(mtp_module(config, weights, k, tokens, hidden, run))
        hidden = run["mtp"][-1]["normed"]
    run["loss.mtp"] = sum(s["loss"] for s in run["mtp"]) / max(1, len(run["mtp"]))
    run["moe_blocks"] = [s for s in run["blocks"] + [s["block"] for s in run["mtp"]] if "moe" in s]
    run["loss.balance"] = sum(s["balance"] for s in run["moe_blocks"])
    run["loss.total"] = run["loss.main"] + mtp_lambda * run["loss.mtp"] + alpha * run["loss.balance"]
    return run


def routing_margin(run):
    return min((s["moe"]["route"]["margin"] for s in run["moe_blocks"]), default=math.inf)
