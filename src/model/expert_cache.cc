#include "model/expert_cache.h"

#include "base/check.h"

namespace fathom {
namespace {

/// Of one visit. A token's choice counts half as much 22 tokens later.
constexpr float kRenewal = 1.0f / 32;

}  // namespace

ExpertCache::ExpertCache(int64_t num_layers, int64_t experts_per_layer, int64_t num_slots)
    : num_layers_(num_layers),
      experts_per_layer_(experts_per_layer),
      slots_(static_cast<size_t>(num_slots)),
      slot_of_(static_cast<size_t>(num_layers * experts_per_layer), kNone),
      worth_(slot_of_.size(), 0.0f) {
  for (int64_t slot = num_slots; slot-- > 0;) free_.push_back(static_cast<int32_t>(slot));
}

void ExpertCache::visit(int64_t layer, std::span<const ExpertUse> uses) {
  layer_ = layer;
  const auto begin = worth_.begin() + layer * experts_per_layer_;
  for (auto worth = begin; worth != begin + experts_per_layer_; ++worth) *worth *= 1 - kRenewal;
  for (const ExpertUse& use : uses) begin[use.expert] += kRenewal * use.share;
}

/// Visits of other layers until the expert's layer is visited again; the layer at hand has just been.
int64_t ExpertCache::distance(int32_t key) const {
  return (layer_of(key) - layer_ - 1 + 2 * num_layers_) % num_layers_;
}

int32_t ExpertCache::take_slot(int32_t key) {
  check(slot_of(key) == kNone, "an expert has one slot");
  int32_t chosen = kNone;
  if (!free_.empty()) {
    chosen = free_.back();
    free_.pop_back();
  } else {
    for (int32_t slot = 0; slot < static_cast<int32_t>(slots_.size()); ++slot) {
      if (is_pinned(slot)) continue;
      if (chosen != kNone) {
        const int32_t best = key_of(chosen), other = key_of(slot);
        if (worth(other) > worth(best)) continue;
        if (worth(other) == worth(best) && distance(other) <= distance(best)) continue;
      }
      chosen = slot;
    }
    if (chosen == kNone) return kNone;
    slot_of_[static_cast<size_t>(key_of(chosen))] = kNone;
  }
  slots_[static_cast<size_t>(chosen)].key = key;
  slot_of_[static_cast<size_t>(key)] = chosen;
  return chosen;
}

void ExpertCache::drop(int32_t key) {
  const int32_t slot = slot_of(key);
  check(slot != kNone && !is_pinned(slot), "a dropped expert has a slot that nobody uses");
  slots_[static_cast<size_t>(slot)].key = kNone;
  slot_of_[static_cast<size_t>(key)] = kNone;
  free_.push_back(slot);
}

void ExpertCache::unpin(int32_t slot) {
  check(is_pinned(slot), "a pin is taken back once");
  --slots_[static_cast<size_t>(slot)].pins;
}

}  // namespace fathom
