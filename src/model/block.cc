#include "model/block.h"

#include <cstring>
#include <optional>

namespace fathom {
namespace {

void count_tokens(const Tensor& expert_ids, std::vector<int64_t>& tokens_per_expert) {
  const auto* ids = expert_ids.ptr<const int32_t>();
  for (int64_t i = 0; i < expert_ids.numel(); ++i) ++tokens_per_expert[static_cast<size_t>(ids[i])];
}

}  // namespace

Tensor Block::forward(const Run& run, Tensor h, const AttentionContext& context, BlockSaved* saved,
                      const std::vector<int32_t>* rows) const {
  check(rows == nullptr || saved == nullptr, "what is saved has all rows");
  const int64_t T = h.extent(0), D = h.extent(1);
  const int64_t num_rows = rows != nullptr ? std::ssize(*rows) : T;
  const Tensor out = run.make({num_rows, D});
  std::optional<ArenaScope> scope;
  if (saved == nullptr) scope.emplace(run.arena);

  const Tensor x = run.make({T, D}), h_mid = run.make({num_rows, D});
  run.k.rms_norm(h, w_.input_norm.value.codes, config_.rms_norm_eps, x);
  Mla(config_, w_.attention).forward(run, x, context, h_mid, saved != nullptr ? &saved->attention : nullptr, rows);
  if (num_rows == 0) return out;
  if (rows == nullptr) {
    run.k.add(h, h_mid);
  } else {
    const Tensor read = run.make({num_rows, D});
    run.k.gather_rows(h, *rows, read);
    run.k.add(read, h_mid);
  }

  const Tensor z = run.make({num_rows, D});
  run.k.rms_norm(h_mid, w_.post_attention_norm.value.codes, config_.rms_norm_eps, z);
  if (w_.is_moe) {
    MoeSaved step_only;
    MoeSaved& moe = saved != nullptr ? saved->moe : step_only;
    Moe(config_, w_.moe).forward(run, z, out, moe, {.next = next_, .h_mid = h_mid});
    if (run.expert_load != nullptr)
      count_tokens(moe.expert_ids, (*run.expert_load)[static_cast<size_t>(context.layer)]);
  } else {
    prefetch_experts(run, config_, {.next = next_, .h_mid = h_mid});
    DenseFfn(w_.dense).forward(run, z, out, saved != nullptr ? &saved->dense : nullptr);
  }
  run.k.add(h_mid, out);
  if (saved != nullptr) {
    saved->h_in = h;
    saved->h_mid = h_mid;
  }
  return out;
}

void Block::backward_input(const Run& run, const AttentionContext& context, Tensor dh, BlockSaved& s) const {
  const int64_t T = dh.extent(0), D = dh.extent(1);
  // dh goes on being summed into while the weight gradients still need the layer's output gradient: keep a copy of it.
  const auto snapshot = [&run, T, D](Tensor t) {
    const Tensor copy = run.make({T, D});
    std::memcpy(copy.data, t.data, static_cast<size_t>(t.num_bytes()));
    return copy;
  };
  const Tensor dz = run.make({T, D});
  if (w_.is_moe) {
    Moe(config_, w_.moe).backward_input(run, snapshot(dh), s.moe, dz);
  } else {
    DenseFfn(w_.dense).backward_input(run, snapshot(dh), s.dense, dz, Into::kAssign);
  }
  run.k.rms_norm_backward(s.h_mid, w_.post_attention_norm.value.codes, config_.rms_norm_eps, dz, dh, Into::kAccumulate,
                          w_.post_attention_norm.grad);
  const Tensor dx = run.make({T, D});
  Mla(config_, w_.attention).backward_input(run, context, snapshot(dh), s.attention, dx);
  run.k.rms_norm_backward(s.h_in, w_.input_norm.value.codes, config_.rms_norm_eps, dx, dh, Into::kAccumulate,
                          w_.input_norm.grad);
}

void Block::backward_weight(const Run& run, const BlockSaved& s) const {
  Mla(config_, w_.attention).backward_weight(run, s.attention);
  if (w_.is_moe) {
    Moe(config_, w_.moe).backward_weight(run, s.moe);
  } else {
    DenseFfn(w_.dense).backward_weight(run, s.dense);
  }
}

}  // namespace fathom
