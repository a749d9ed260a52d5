"""Three AdamW steps with float32 master weights and BF16 moments, precision by precision.

One step t = 1, 2, ... of one element; every line is one IEEE float32 operation (no fused multiply-add), constants are
computed in float64 and rounded to float32 once:
  m  = beta1 * m_stored + (1 - beta1) * g          m_stored, v_stored: BF16 read as float32
  v  = beta2 * v_stored + ((1 - beta2) * g) * g
  update = (m / (1 - beta1^t)) / (sqrt(v / (1 - beta2^t)) + eps)
  w  = w - lr * (update + weight_decay * w)        decoupled weight decay
  m_stored, v_stored = m, v rounded to BF16, to nearest, ties to even
The update uses m and v before they are rounded. A kernel with fused multiply-adds may differ by a few float32 ulp in w;
the inputs are chosen so that its stored moments do not differ (`check_margin`).
"""

import numpy as np

from safetensors_io import Bf16

BETA1, BETA2, EPS, WEIGHT_DECAY = 0.9, 0.95, 1e-8, 0.1
LEARNING_RATES = [1e-2, 5e-3, 2e-3]
F = np.float32


def step(w, m_stored, v_stored, g, lr, t):
    m = F(BETA1) * m_stored.to_float32() + F(1 - BETA1) * g
    v = F(BETA2) * v_stored.to_float32() + (F(1 - BETA2) * g) * g
    update = (m / F(1 - BETA1**t)) / (np.sqrt(v / F(1 - BETA2**t)) + F(EPS))
    w = w - F(lr) * (update + F(WEIGHT_DECAY) * w)
    check_margin(m)
    check_margin(v)
    return w, Bf16.round(m), Bf16.round(v)


def check_margin(x):
    """No element is within 8 float32 ulp of the boundary between two BF16 numbers, so rounding noise is invisible."""
    low = np.ascontiguousarray(x).view(np.uint32) & np.uint32(0xFFFF)
    if np.any((low > 0x8000 - 8) & (low < 0x8000 + 8)):
        raise RuntimeError("adamw: an element is too close to a BF16 rounding boundary; choose other inputs")


def golden():
    """Tensors of adamw.safetensors."""
    random = np.random.RandomState(7)
    n = 19
    w = random.standard_normal(n).astype(F)
    gradients = random.standard_normal((len(LEARNING_RATES), n)).astype(F)
    gradients[:, 3] *= F(1e-6)
    gradients[:, 5] *= F(1e3)
    gradients[:, 7] = 0  # only weight decay moves this element
    gradients[1, 8] = 0
    w[9] = 0
    m, v = Bf16(np.zeros(n, np.uint16)), Bf16(np.zeros(n, np.uint16))
    tensors = {"param.0": w}
    for t, (lr, g) in enumerate(zip(LEARNING_RATES, gradients), 1):
        w, m, v = step(w, m, v, g, lr, t)
        tensors |= {f"grad.{t}": g, f"param.{t}": w, f"exp_avg.{t}": m, f"exp_avg_sq.{t}": v}
    tensors["lr"] = np.array(LEARNING_RATES, F)
    for name, value in [("beta1", BETA1), ("beta2", BETA2), ("eps", EPS), ("weight_decay", WEIGHT_DECAY)]:
        tensors[name] = np.array([value], np.float64)
    return tensors
