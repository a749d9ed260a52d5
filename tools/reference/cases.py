"""The tiny models of the golden files: their config.json, documents and seeded random weights.

Sizes are small, mostly no multiples of a vector length, and different from each other, so that a mixed-up extent
cannot pass. A seed is taken only if the routing of the case is worth testing (`worth_testing`): no near-ties, no idle
expert, and the bias, the group limit and the -inf mask each change the choice of some token.
"""

import numpy as np

import model

VOCAB = 64
MIN_MARGIN = 1e-3
MTP_LAMBDA = 0.3

COMMON = {
    "vocab_size": VOCAB,
    "hidden_size": 32,
    "intermediate_size": 13,
    "moe_intermediate_size": 3,
    "num_hidden_layers": 3,
    "first_k_dense_replace": 1,
    "moe_layer_freq": 1,
    "num_attention_heads": 2,
    "num_key_value_heads": 2,
    "n_routed_experts": 8,
    "n_shared_experts": 1,
    "num_experts_per_tok": 3,
    "kv_lora_rank": 10,
    "qk_nope_head_dim": 8,
    "qk_rope_head_dim": 4,
    "v_head_dim": 12,
    "rms_norm_eps": 1e-6,
    "hidden_act": "silu",
    "rope_theta": 10000,
    "max_position_embeddings": 320,
    "initializer_range": 0.02,
    "tie_word_embeddings": False,
    "attention_bias": False,
    "attention_dropout": 0.0,
    "aux_loss_alpha": 0.01,
    "seq_aux": True,
    "ep_size": 1,
    "pretraining_tp": 1,
    "bos_token_id": 0,
    "eos_token_id": 1,
    "torch_dtype": "float32",
}

V2 = {
    "architectures": ["DeepseekV2ForCausalLM"],
    "model_type": "deepseek_v2",
    "scoring_func": "softmax",
    "norm_topk_prob": False,
}

V3 = {
    "architectures": ["DeepseekV3ForCausalLM"],
    "model_type": "deepseek_v3",
    "topk_method": "noaux_tc",
    "scoring_func": "sigmoid",
    "norm_topk_prob": True,
    "routed_scaling_factor": 2.5,
}


def yarn(factor, original, beta_fast, beta_slow, mscale, mscale_all_dim):
    return {
        "type": "yarn",
        "factor": factor,
        "original_max_position_embeddings": original,
        "beta_fast": beta_fast,
        "beta_slow": beta_slow,
        "mscale": mscale,
        "mscale_all_dim": mscale_all_dim,
    }


# name -> (config.json, lengths of the documents, first seed to try)
CASES = {
    "v2lite": (
        COMMON | V2 | {
            "topk_method": "greedy", "n_group": 1, "topk_group": 1, "routed_scaling_factor": 1.0, "q_lora_rank": None,
            "n_shared_experts": 2, "rope_scaling": yarn(40, 8, 32, 1, 0.707, 0.707),
        },
        [6, 11],
        100,
    ),
    "v2": (
        # mscale differs from mscale_all_dim on purpose: cos and sin get a magnitude that is not 1.
        COMMON | V2 | {
            "topk_method": "group_limited_greedy", "n_group": 4, "topk_group": 2, "routed_scaling_factor": 2.0,
            "q_lora_rank": 14, "rope_scaling": yarn(40, 8, 32, 1, 1.0, 0.707),
        },
        [5, 1, 11],
        200,
    ),
    "v3": (
        # Three frequencies: one kept, one half interpolated, one fully interpolated; and documents shorter than the
        # original context, where YaRN applies all the same.
        COMMON | V3 | {
            "n_group": 4, "topk_group": 2, "q_lora_rank": 14, "qk_rope_head_dim": 6, "rope_theta": 100,
            "rope_scaling": yarn(40, 64, 32, 1, 1.0, 1.0), "max_position_embeddings": 2560,
            "num_nextn_predict_layers": 1,
        },
        [7, 2, 9],
        300,
    ),
    "v3-plain": (
        COMMON | V3 | {
            "n_group": 2, "topk_group": 1, "q_lora_rank": None, "num_attention_heads": 3, "num_key_value_heads": 3,
            "rms_norm_eps": 1e-5, "rope_theta": 50000, "routed_scaling_factor": 2.446, "rope_scaling": None,
            "num_nextn_predict_layers": 0,
        },
        [10, 7],
        400,
    ),
}


def weight_shapes(values):
    """Hugging Face name -> shape of every weight that is the model's own (not the MTP copies), in layer order."""
    c = model.Config.from_json(values)
    D, H, C, Q = c.hidden_size, c.num_attention_heads, c.kv_lora_rank, c.q_lora_rank
    N, R, V, E = c.qk_nope_head_dim, c.qk_rope_head_dim, c.v_head_dim, c.n_routed_experts
    shapes = {"model.embed_tokens.weight": (values["vocab_size"], D)}

    def swiglu(prefix, width):
        shapes[prefix + "gate_proj.weight"] = (width, D)
        shapes[prefix + "up_proj.weight"] = (width, D)
        shapes[prefix + "down_proj.weight"] = (D, width)

    for layer in range(c.num_hidden_layers + c.num_nextn_predict_layers):
        prefix = f"model.layers.{layer}."
        attention, mlp = prefix + "self_attn.", prefix + "mlp."
        if layer >= c.num_hidden_layers:
            shapes[prefix + "enorm.weight"] = shapes[prefix + "hnorm.weight"] = (D,)
            shapes[prefix + "eh_proj.weight"] = (D, 2 * D)
            shapes[prefix + "shared_head.norm.weight"] = (D,)
        shapes[prefix + "input_layernorm.weight"] = shapes[prefix + "post_attention_layernorm.weight"] = (D,)
        if Q:
            shapes[attention + "q_a_proj.weight"] = (Q, D)
            shapes[attention + "q_a_layernorm.weight"] = (Q,)
            shapes[attention + "q_b_proj.weight"] = (H * (N + R), Q)
        else:
            shapes[attention + "q_proj.weight"] = (H * (N + R), D)
        shapes[attention + "kv_a_proj_with_mqa.weight"] = (C + R, D)
        shapes[attention + "kv_a_layernorm.weight"] = (C,)
        shapes[attention + "kv_b_proj.weight"] = (H * (N + V), C)
        shapes[attention + "o_proj.weight"] = (D, H * V)
        if not c.is_moe_layer(layer):
            swiglu(mlp, values["intermediate_size"])
            continue
        shapes[mlp + "gate.weight"] = (E, D)
        if c.topk_method == "noaux_tc":
            shapes[mlp + "gate.e_score_correction_bias"] = (E,)
        for e in range(E):
            swiglu(f"{mlp}experts.{e}.", values["moe_intermediate_size"])
        if c.n_shared_experts:
            swiglu(mlp + "shared_experts.", c.n_shared_experts * values["moe_intermediate_size"])
    shapes["model.norm.weight"] = (D,)
    shapes["lm_head.weight"] = (values["vocab_size"], D)
    return shapes


def random_weights(values, seed):
    """float64 weights that are exactly float32 numbers; activations stay of order 1."""
    random = np.random.RandomState(seed)  # its streams are frozen by NumPy's compatibility policy
    weights = {}
    for name, shape in weight_shapes(values).items():
        noise = random.standard_normal(shape)
        if name.endswith("bias"):
            w = 0.2 * noise - 0.5  # biased scores of both signs
        elif len(shape) == 1:
            w = 1 + 0.2 * noise
        elif name.endswith("embed_tokens.weight"):
            w = noise
        elif name.endswith("gate.weight"):
            w = 1.5 * noise / np.sqrt(shape[1])
        else:
            w = noise / np.sqrt(shape[1])
        weights[name] = w.astype(np.float32).astype(np.float64)
    return weights


def worth_testing(config, weights, run):
    """The routing is far from ties, uses every expert, and each of its rules changes the choice somewhere."""
    if model.routing_margin(run) < MIN_MARGIN:
        return False
    no_bias = {name: 0 * w if name.endswith("bias") else w for name, w in weights.items()}
    bias_matters = group_matters = mask_matters = 0
    for s in run["moe_blocks"]:
        route, prefix = s["moe"]["route"], f"model.layers.{s['layer']}.mlp."
        if len(np.unique(route["ids"])) < config.n_routed_experts:
            return False
        ungrouped = model.Config(**{**config.__dict__, "n_group": 1, "topk_group": 1})
        bias_matters += np.any(model.router(config, no_bias, prefix, route["x"])["ids"] != route["ids"])
        group_matters += np.any(model.router(ungrouped, weights, prefix, route["x"])["ids"] != route["ids"])
        mask_matters += np.any(model.router(config, weights, prefix, route["x"], 0.0)["ids"] != route["ids"])
    noaux = config.topk_method == "noaux_tc"
    return bool((group_matters or config.n_group == 1) and (not noaux or (bias_matters and mask_matters)))


def build(name):
    """(config.json values, Config, weights, tokens, offsets, forward run, seed) of one case."""
    values, lengths, seed = CASES[name]
    config = model.Config.from_json(values)
    offsets = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int32)
    for attempt in range(seed, seed + 1000):
        weights = random_weights(values, attempt)
        tokens = np.random.RandomState(attempt + 5000).randint(2, VOCAB, offsets[-1]).astype(np.int32)
        run = model.forward(config, weights, tokens, offsets, MTP_LAMBDA)
        if worth_testing(config, weights, run):
            return values, config, weights, tokens, offsets, run, attempt
    raise RuntimeError(f"case {name}: no seed of 1000 gives routing worth testing")
