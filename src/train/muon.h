// Muon (Jordan et al. 2024) with Moonlight's scaling (Liu et al., arXiv 2502.16982): the momentum of a matrix is
// replaced by its nearest (semi-)orthogonal matrix, found by five Newton-Schulz steps, so that every direction of the
// update has one size. Matrices of one shape are orthogonalised together: a model has hundreds of small experts.
#pragma once

#include <span>

#include "base/arena.h"
#include "base/threads.h"
#include "kernels/kernels.h"

namespace fathom {

struct MuonSettings {
  double momentum = 0.95;
  double weight_decay = 0.1;
};

/// One matrix [N, K] to update.
struct MuonMatrix {
  Tensor master;    // FP32, updated in place
  Tensor grad;      // FP32
  Tensor momentum;  // BF16
};

/// M = mu M + G;  O = orthogonalised (G + mu M);  W -= lr (0.2 sqrt(max(N, K)) O + wd W). The factor gives the update
/// AdamW's usual root mean square, so both optimizers share one learning rate. `gradient_scale` (clipping) multiplies
/// G. Newton-Schulz runs in BF16 products. Scratch comes from the arena and is given back.
void muon_step(Kernels& kernels, ThreadPool& pool, Arena& arena, const MuonSettings& settings,
               std::span<const MuonMatrix> matrices, double learning_rate, double gradient_scale);

/// Every one of the `count` matrices [N, K] stacked in x [count N, K] becomes about U V^T of its singular value
/// decomposition (singular values between 0.7 and 1.2): five steps of X <- a X + (b A + c A^2) X with A = X X^T, from
/// X / ||X||. A zero matrix stays zero.
void orthogonalise(Kernels& kernels, ThreadPool& pool, Arena& arena, Tensor x, int64_t count);

}  // namespace fathom
