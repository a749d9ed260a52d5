#include "parallel/dualpipe.h"

#include <algorithm>
#include <deque>

#include "base/check.h"

namespace fathom {
namespace {

/// Writes the list of one rank. Both schedules are the same eight steps over two phases: phase 0 is the direction whose
/// micro-batches reach this rank first, phase 1 the other one.
class EightSteps {
 public:
  /// `depth`: ranks from an end of the pipeline to its middle, this one's place is `place` (0: at the end). `stream`
  /// and `stage` are per phase.
  EightSteps(int depth, int place, const int (&stream)[2], const int (&stage)[2])
      : depth_(depth), place_(place), stream_{stream[0], stream[1]}, stage_{stage[0], stage[1]} {}

  /// `overlapped`: how often step 4 runs; it takes the micro-batches that the other steps leave.
  std::vector<Instruction> list(int overlapped) {
    fill();
    fill_both_ways();
    first_backwards();
    overlap_both_ways(overlapped);
    drain_one_way();
    drain_both_ways();
    last_backwards();
    weights();
    check(waiting_.empty(), "every weight gradient has run");
    return std::move(list_);
  }

 private:
  /// Step 1: forwards of phase 0 while the pipeline fills.
  void fill() {
    for (int i = 0; i < 2 * to_middle(); ++i) forward(0);
  }
  /// Step 2: forwards of both phases.
  void fill_both_ways() {
    for (int i = 0; i <= place_; ++i) {
      forward(0);
      forward(1);
    }
  }
  /// Step 3: the first backwards arrive; input gradients go on at once, their weight gradients fill the wait.
  void first_backwards() {
    for (int i = 0; i < to_middle(); ++i) {
      backward(1, true);
      weight();
      forward(1);
    }
  }
  /// Step 4: pairs, the steady state. The middle rank has nothing to overlap its first pair with in time.
  void overlap_both_ways(int count) {
    for (int i = 0; i < count; ++i) {
      if (i == 0 && to_middle() == 0) {
        forward(0);
        backward(1, false);
      } else {
        pair(0, 1);
      }
      pair(1, 0);
    }
  }
  /// Step 5: phase 0 has no forwards left.
  void drain_one_way() {
    for (int i = 0; i < to_middle(); ++i) {
      backward(1, false);
      pair(1, 0);
    }
  }
  /// Step 6: backwards of both phases; from the middle on they leave their weight gradients behind.
  void drain_both_ways() {
    const int middle = (place_ + 1) / 2;
    bool split = false;
    for (int i = 0; i <= place_; ++i) {
      if (i == middle && place_ % 2 == 1) split = true;
      backward(1, split);
      if (i == middle && place_ % 2 == 0) split = true;
      backward(0, split);
    }
  }
  /// Step 7: the last backwards, each wait filled with a weight gradient.
  void last_backwards() {
    for (int i = 0; i < to_middle(); ++i) {
      weight();
      backward(0, true);
    }
  }
  /// Step 8: the weight gradients that are left.
  void weights() {
    for (int i = 0; i <= place_; ++i) weight();
  }

  int to_middle() const { return depth_ - place_ - 1; }

  Chunk next(Op op, int phase) {
    int& count = (op == Op::kForward ? forwards_ : backwards_)[phase];
    return {op, stream_[phase], stage_[phase], count++};
  }
  void forward(int phase) { list_.push_back({{next(Op::kForward, phase)}}); }
  void backward(int phase, bool split) {
    const Chunk chunk = next(split ? Op::kBackwardInput : Op::kBackward, phase);
    if (split) waiting_.push_back(chunk);
    list_.push_back({{chunk}});
  }
  void pair(int forward_phase, int backward_phase) {
    const Chunk f = next(Op::kForward, forward_phase);
    list_.push_back({{f, next(Op::kBackward, backward_phase)}});
  }
  void weight() {
    check(!waiting_.empty(), "a weight gradient waits");
    Chunk chunk = waiting_.front();
    waiting_.pop_front();
    chunk.op = Op::kBackwardWeight;
    list_.push_back({{chunk}});
  }

  int depth_, place_;
  int stream_[2], stage_[2];
  int forwards_[2] = {0, 0};
  int backwards_[2] = {0, 0};
  std::deque<Chunk> waiting_;  // input gradients whose weight gradient is due, oldest first
  std::vector<Instruction> list_;
};

Error too_few(std::string_view name, int num_ranks, int num_micro_batches) {
  return invalid(std::string(name) + ": " + std::to_string(num_micro_batches) + " micro-batches on " +
                 std::to_string(num_ranks) + " ranks; it needs at least " + std::to_string(2 * num_ranks));
}

}  // namespace

Result<Schedule> make_dualpipe(int num_ranks, int num_micro_batches) {
  if (auto s = check_pipeline_size("dualpipe", num_ranks, num_micro_batches); !s) return s.error();
  if (num_ranks % 2 != 0) {
    return invalid("dualpipe: " + std::to_string(num_ranks) +
                   " ranks; the number must be even, as each holds a stage of "
                   "both directions: " +
                   std::to_string(num_ranks + 1) + ", or dualpipev");
  }
  if (num_micro_batches % 2 != 0) {
    return invalid("dualpipe: " + std::to_string(num_micro_batches) +
                   " micro-batches; the number must be even, half of them enter at each end");
  }
  if (num_micro_batches < 2 * num_ranks) return too_few("dualpipe", num_ranks, num_micro_batches);
  Schedule s;
  s.name = "dualpipe";
  s.num_stages = num_ranks;
  s.micro_batches = {num_micro_batches / 2, num_micro_batches / 2};
  s.rank_of.resize(2);
  for (int stage = 0; stage < num_ranks; ++stage) {
    s.rank_of[0].push_back(stage);
    s.rank_of[1].push_back(num_ranks - 1 - stage);
  }
  for (int rank = 0; rank < num_ranks; ++rank) {
    const int place = std::min(rank, num_ranks - 1 - rank);
    const int near = rank < num_ranks / 2 ? 0 : 1;  // the stream that enters at the nearer end
    const int stage[2] = {place, num_ranks - 1 - place};
    EightSteps steps(num_ranks / 2, place, {near, 1 - near}, stage);
    s.ranks.push_back(steps.list(num_micro_batches / 2 - num_ranks + place + 1));
    s.live_bound.push_back(num_ranks + 1);
  }
  return s;
}

Result<Schedule> make_dualpipev(int num_ranks, int num_micro_batches) {
  if (auto s = check_pipeline_size("dualpipev", num_ranks, num_micro_batches); !s) return s.error();
  if (num_micro_batches < 2 * num_ranks) return too_few("dualpipev", num_ranks, num_micro_batches);
  Schedule s;
  s.name = "dualpipev";
  s.num_stages = 2 * num_ranks;
  s.micro_batches = {num_micro_batches};
  s.rank_of.resize(1);
  for (int stage = 0; stage < s.num_stages; ++stage) {
    s.rank_of[0].push_back(std::min(stage, s.num_stages - 1 - stage));
  }
  for (int rank = 0; rank < num_ranks; ++rank) {
    const int stage[2] = {rank, s.num_stages - 1 - rank};
    EightSteps steps(num_ranks, rank, {0, 0}, stage);
    s.ranks.push_back(steps.list(num_micro_batches - 2 * num_ranks + rank + 1));
    s.live_bound.push_back(2 * num_ranks + 1);
  }
  return s;
}

}  // namespace fathom
