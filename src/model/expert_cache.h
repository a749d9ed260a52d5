// ExpertCache: which experts are in memory and which make room: the bookkeeping of model/expert_store, without bytes,
// files or threads.
//
// Worth. Routers have favourites and change them slowly, so what counts is how often an expert is used, not when it was
// last: worth is the exponential average, over the visits of its own layer, of the share of tokens that chose it. It
// lies between the least recently used (one visit decides) and the least frequently used (all visits do); Lee et al.,
// LRFU, IEEE Trans. Computers 2001. Layers are visited in a circle, where the least recently used expert is the next
// one wanted: experts of one worth make room by the distance of their layer's next visit instead, farthest first.
// A prompt, which uses nearly all experts once, lends each little worth and so pushes out no favourite for long.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

namespace fathom {

/// An expert of a step, and the share of the step's tokens that chose it.
struct ExpertUse {
  int32_t expert = 0;
  float share = 1;
};

class ExpertCache {
 public:
  static constexpr int32_t kNone = -1;

  ExpertCache(int64_t num_layers, int64_t experts_per_layer, int64_t num_slots);

  int64_t num_slots() const { return static_cast<int64_t>(slots_.size()); }
  /// Experts are counted through all layers.
  int32_t key(int64_t layer, int64_t expert) const { return static_cast<int32_t>(layer * experts_per_layer_ + expert); }
  int64_t layer_of(int32_t key) const { return key / experts_per_layer_; }
  /// The slot of an expert, or kNone.
  int32_t slot_of(int32_t key) const { return slot_of_[static_cast<size_t>(key)]; }
  /// The expert of a slot, or kNone.
  int32_t key_of(int32_t slot) const { return slots_[static_cast<size_t>(slot)].key; }
  double worth(int32_t key) const { return worth_[static_cast<size_t>(key)]; }

  /// A layer's experts are used: the worth of all of them is renewed, and the layer is where the circle is now.
  void visit(int64_t layer, std::span<const ExpertUse> uses);
  /// Gives an expert that has none a slot: a free one, else the unpinned one of the least worthy expert, which loses
  /// it. kNone when all are pinned.
  int32_t take_slot(int32_t key);
  /// Takes the slot of an expert back.
  void drop(int32_t key);

  /// A slot with a pin keeps its expert; pins count.
  void pin(int32_t slot) { ++slots_[static_cast<size_t>(slot)].pins; }
  void unpin(int32_t slot);
  bool is_pinned(int32_t slot) const { return slots_[static_cast<size_t>(slot)].pins > 0; }

 private:
  struct Slot {
    int32_t key = kNone;
    int32_t pins = 0;
  };
  int64_t distance(int32_t key) const;

  int64_t num_layers_;
  int64_t experts_per_layer_;
  int64_t layer_ = 0;  // of the last visit
  std::vector<Slot> slots_;
  std::vector<int32_t> slot_of_;
  std::vector<float> worth_;
  std::vector<int32_t> free_;
};

}  // namespace fathom
