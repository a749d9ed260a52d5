#include "parallel/schedule.h"

#include <algorithm>
#include <numeric>

#include "base/check.h"
#include "parallel/dualpipe.h"

namespace fathom {
namespace {

constexpr int kNone = -1;

char letter(Op op) {
  switch (op) {
    case Op::kForward: return 'F';
    case Op::kBackward: return 'B';
    case Op::kBackwardInput: return 'I';
    case Op::kBackwardWeight: return 'W';
  }
  return '?';
}

bool is_backward(Op op) { return op == Op::kBackward || op == Op::kBackwardInput; }

Schedule one_stream(std::string_view name, int num_ranks, int num_micro_batches) {
  Schedule s;
  s.name = name;
  s.num_stages = num_ranks;
  s.micro_batches = {num_micro_batches};
  s.rank_of.assign(1, std::vector<int>(static_cast<size_t>(num_ranks)));
  std::iota(s.rank_of[0].begin(), s.rank_of[0].end(), 0);
  s.ranks.resize(static_cast<size_t>(num_ranks));
  s.live_bound.resize(static_cast<size_t>(num_ranks));
  return s;
}

/// Numbers every (stream, stage, micro-batch) of a schedule.
class Cells {
 public:
  explicit Cells(const Schedule& s) : num_stages_(s.num_stages) {
    for (int count : s.micro_batches) {
      offsets_.push_back(size_);
      counts_.push_back(count);
      size_ += static_cast<size_t>(count) * static_cast<size_t>(num_stages_);
    }
  }
  size_t size() const { return size_; }
  bool contains(const Chunk& c) const {
    return c.stream >= 0 && c.stream < static_cast<int>(counts_.size()) && c.stage >= 0 && c.stage < num_stages_ &&
           c.micro_batch >= 0 && c.micro_batch < counts_[static_cast<size_t>(c.stream)];
  }
  size_t index(const Chunk& c) const {
    const auto stream = static_cast<size_t>(c.stream);
    return offsets_[stream] + static_cast<size_t>(c.stage) * static_cast<size_t>(counts_[stream]) +
           static_cast<size_t>(c.micro_batch);
  }

 private:
  int num_stages_;
  size_t size_ = 0;
  std::vector<size_t> offsets_;
  std::vector<int> counts_;
};

std::string at(const Schedule& s, int rank, const Instruction& instruction) {
  return s.name + ": rank " + std::to_string(rank) + ", " + label(s, instruction) + ": ";
}

Status check_form(const Schedule& s) {
  const auto num_ranks = s.ranks.size();
  bool ok = s.num_stages > 0 && num_ranks > 0 && s.live_bound.size() == num_ranks &&
            s.rank_of.size() == s.micro_batches.size() && !s.micro_batches.empty();
  for (const auto& stages : s.rank_of) {
    ok = ok && static_cast<int>(stages.size()) == s.num_stages;
    for (int rank : stages) ok = ok && rank >= 0 && rank < s.num_ranks();
  }
  for (int count : s.micro_batches) ok = ok && count >= 0 && count <= kMaxMicroBatches;
  if (!ok) return invalid(s.name + ": stages, streams and ranks of the schedule do not fit together");
  return {};
}

/// Every chunk once, where it belongs, in order, and in the order of its neighbours.
Status check_chunks(const Schedule& s, const Cells& cells) {
  enum : uint8_t { kF = 1, kB = 2, kI = 4, kW = 8 };
  std::vector<uint8_t> done(cells.size(), 0);
  for (int rank = 0; rank < s.num_ranks(); ++rank) {
    std::vector<std::vector<int>> next(2, std::vector<int>(static_cast<size_t>(s.num_streams() * s.num_stages), 0));
    for (const Instruction& instruction : s.ranks[static_cast<size_t>(rank)]) {
      const auto where = [&] { return at(s, rank, instruction); };
      const bool is_pair_of_f_and_b =
          instruction.is_pair() && instruction.chunks[0].op == Op::kForward && is_backward(instruction.chunks[1].op);
      if (instruction.chunks.size() != 1 && !is_pair_of_f_and_b) {
        return invalid(where() + "an instruction is one chunk, or a forward with a backward");
      }
      for (const Chunk& c : instruction.chunks) {
        if (!cells.contains(c)) return invalid(where() + "no such stage or micro-batch");
        if (s.rank_of[static_cast<size_t>(c.stream)][static_cast<size_t>(c.stage)] != rank) {
          return invalid(where() + "the stage is on another rank");
        }
        uint8_t& bits = done[cells.index(c)];
        const auto needs = [&](bool holds, const char* why) -> Status {
          if (holds) return {};
          return invalid(where() + why);
        };
        Status status;
        switch (c.op) {
          case Op::kForward:
            status = needs(bits == 0, "a second forward, or a forward after its backward");
            bits |= kF;
            break;
          case Op::kBackward:
            status = needs(bits == kF, "a backward needs its forward, once");
            bits |= kB;
            break;
          case Op::kBackwardInput:
            status = needs(bits == kF, "a backward needs its forward, once");
            bits |= kI;
            break;
          case Op::kBackwardWeight:
            status = needs(bits == (kF | kI), "a weight gradient needs its input gradient, once");
            bits |= kW;
            break;
        }
        if (!status) return status;
        if (c.op == Op::kBackwardWeight) continue;
        // Counting up is the one order that all neighbours can share without being told.
        int& expected =
            next[is_backward(c.op) ? 1 : 0]
                [static_cast<size_t>(c.stream) * static_cast<size_t>(s.num_stages) + static_cast<size_t>(c.stage)];
        if (c.micro_batch != expected) {
          return invalid(where() + "micro-batches must pass a stage in order; expected " + std::to_string(expected));
        }
        ++expected;
      }
    }
  }
  for (int stream = 0; stream < s.num_streams(); ++stream) {
    for (int stage = 0; stage < s.num_stages; ++stage) {
      for (int m = 0; m < s.micro_batches[static_cast<size_t>(stream)]; ++m) {
        const Chunk c{Op::kForward, stream, stage, m};
        const uint8_t bits = done[cells.index(c)];
        if (bits == (kF | kB) || bits == (kF | kI | kW)) continue;
        return invalid(s.name + ": " + label(s, c) + " of stage " + std::to_string(stage) + " lacks its " +
                       (bits == 0           ? "forward"
                        : bits == (kF | kI) ? "weight gradient"
                                            : "backward"));
      }
    }
  }
  return {};
}

/// Runs the lists without time. A rank that ends an instruction goes on when those who need its outputs have posted
/// their receives.
Status check_progress(const Schedule& s, const Cells& cells) {
  // Position in its rank's list of every F (0) and B or I (1).
  std::vector<int> position[2];
  for (auto& p : position) p.assign(cells.size(), kNone);
  for (const auto& list : s.ranks) {
    for (size_t i = 0; i < list.size(); ++i) {
      for (const Chunk& c : list[i].chunks) {
        if (c.op != Op::kBackwardWeight) position[is_backward(c.op)][cells.index(c)] = static_cast<int>(i);
      }
    }
  }
  std::vector<int> ended(s.ranks.size(), 0);            // instructions that the rank has ended
  const auto lacks = [&](size_t rank) -> std::string {  // empty: the next instruction can run
    const auto& list = s.ranks[rank];
    const auto i = static_cast<size_t>(ended[rank]);
    for (const Chunk& c : list[i].chunks) {
      const Dependency d = dependency_of(s, c);
      if (!d.exists) continue;
      const int index = position[is_backward(d.chunk.op)][cells.index(d.chunk)];
      if (index >= ended[static_cast<size_t>(d.rank)]) {
        return "waits for " + label(s, d.chunk) + " of rank " + std::to_string(d.rank);
      }
    }
    return {};
  };
  for (bool moved = true; moved;) {
    moved = false;
    for (size_t rank = 0; rank < s.ranks.size(); ++rank) {
      while (static_cast<size_t>(ended[rank]) < s.ranks[rank].size() && lacks(rank).empty()) {
        ++ended[rank];
        moved = true;
      }
    }
  }
  for (size_t rank = 0; rank < s.ranks.size(); ++rank) {
    const auto i = static_cast<size_t>(ended[rank]);
    if (i == s.ranks[rank].size()) continue;
    return invalid(s.name + ": deadlock: rank " + std::to_string(rank) + ", " + label(s, s.ranks[rank][i]) + ", " +
                   lacks(rank));
  }
  return {};
}

}  // namespace

int Schedule::num_micro_batches() const { return std::accumulate(micro_batches.begin(), micro_batches.end(), 0); }

Status check_pipeline_size(std::string_view name, int num_ranks, int num_micro_batches) {
  if (num_ranks < 1 || num_ranks > kMaxPipelineRanks) {
    return invalid(std::string(name) + ": " + std::to_string(num_ranks) + " pipeline ranks; accepted: 1 to " +
                   std::to_string(kMaxPipelineRanks));
  }
  if (num_micro_batches < 1 || num_micro_batches > kMaxMicroBatches ||
      int64_t{num_ranks} * num_micro_batches > kMaxScheduleChunks) {
    return invalid(std::string(name) + ": " + std::to_string(num_micro_batches) + " micro-batches on " +
                   std::to_string(num_ranks) + " ranks; accepted: 1 to " +
                   std::to_string(std::min<int64_t>(kMaxMicroBatches, kMaxScheduleChunks / num_ranks)));
  }
  return {};
}

Result<Schedule> make_1f1b(int num_ranks, int num_micro_batches) {
  if (auto s = check_pipeline_size("1f1b", num_ranks, num_micro_batches); !s) return s.error();
  Schedule s = one_stream("1f1b", num_ranks, num_micro_batches);
  for (int rank = 0; rank < num_ranks; ++rank) {
    auto& list = s.ranks[static_cast<size_t>(rank)];
    int f = 0, b = 0;
    const auto forward = [&] { list.push_back({{{Op::kForward, 0, rank, f++}}}); };
    const auto backward = [&] { list.push_back({{{Op::kBackward, 0, rank, b++}}}); };
    while (f < std::min(num_ranks - 1 - rank, num_micro_batches)) forward();
    while (f < num_micro_batches) {
      forward();
      backward();
    }
    while (b < num_micro_batches) backward();
    s.live_bound[static_cast<size_t>(rank)] = std::min(num_ranks - rank, num_micro_batches);
  }
  return s;
}

Result<Schedule> make_zb1p(int num_ranks, int num_micro_batches) {
  if (auto s = check_pipeline_size("zb1p", num_ranks, num_micro_batches); !s) return s.error();
  Schedule s = one_stream("zb1p", num_ranks, num_micro_batches);
  for (int rank = 0; rank < num_ranks; ++rank) {
    auto& list = s.ranks[static_cast<size_t>(rank)];
    int f = 0, i = 0, w = 0;
    const auto forward = [&] { list.push_back({{{Op::kForward, 0, rank, f++}}}); };
    const auto input = [&] { list.push_back({{{Op::kBackwardInput, 0, rank, i++}}}); };
    const auto weight = [&] { list.push_back({{{Op::kBackwardWeight, 0, rank, w++}}}); };
    while (f < std::min(num_ranks - 1 - rank, num_micro_batches)) forward();
    while (f < num_micro_batches) {
      forward();
      input();
      if (i - w > rank) weight();
    }
    while (i < num_micro_batches) {
      input();
      weight();
    }
    while (w < num_micro_batches) weight();
    s.live_bound[static_cast<size_t>(rank)] = std::min(num_ranks, num_micro_batches);
  }
  return s;
}

Result<Schedule> make_schedule(std::string_view name, int num_ranks, int num_micro_batches) {
  if (name == "1f1b") return make_1f1b(num_ranks, num_micro_batches);
  if (name == "zb1p") return make_zb1p(num_ranks, num_micro_batches);
  if (name == "dualpipe") return make_dualpipe(num_ranks, num_micro_batches);
  if (name == "dualpipev") return make_dualpipev(num_ranks, num_micro_batches);
  return invalid("unknown schedule \"" + std::string(name.substr(0, 100)) +
                 "\"; accepted: 1f1b, zb1p, dualpipe, dualpipev");
}

std::string label(const Schedule& s, const Chunk& c) {
  std::string text(1, letter(c.op));
  if (s.num_streams() > 1) {
    text += static_cast<char>('a' + c.stream);
  } else if (s.num_stages > s.num_ranks()) {
    text += static_cast<char>('a' + c.stage / s.num_ranks());
  }
  return text + std::to_string(c.micro_batch);
}

std::string label(const Schedule& s, const Instruction& instruction) {
  std::string text;
  for (const Chunk& c : instruction.chunks) text += (text.empty() ? "" : "&") + label(s, c);
  return text;
}

std::string list_text(const Schedule& s) {
  std::string text;
  for (size_t rank = 0; rank < s.ranks.size(); ++rank) {
    text += "rank " + std::to_string(rank) + ":";
    for (const Instruction& instruction : s.ranks[rank]) text += " " + label(s, instruction);
    text += "\n";
  }
  return text;
}

Dependency dependency_of(const Schedule& s, const Chunk& c) {
  const auto rank_of = [&](int stage) { return s.rank_of[static_cast<size_t>(c.stream)][static_cast<size_t>(stage)]; };
  Chunk before = c;
  switch (c.op) {
    case Op::kForward:
      if (c.stage == 0) return {};
      before.stage = c.stage - 1;
      break;
    case Op::kBackward:
    case Op::kBackwardInput:
      if (c.stage + 1 < s.num_stages) {
        before.stage = c.stage + 1;
        before.op = Op::kBackward;
      } else {
        before.op = Op::kForward;
      }
      break;
    case Op::kBackwardWeight: before.op = Op::kBackward; break;
  }
  return {true, before, rank_of(before.stage)};
}

int max_live(const Schedule& s, int rank) {
  check(rank >= 0 && rank < s.num_ranks(), "a rank of the schedule");
  int live = 0, most = 0;
  for (const Instruction& instruction : s.ranks[static_cast<size_t>(rank)]) {
    for (const Chunk& c : instruction.chunks) live += c.op == Op::kForward;
    most = std::max(most, live);  // in a pair both are alive
    for (const Chunk& c : instruction.chunks) live -= c.op == Op::kBackward || c.op == Op::kBackwardWeight;
  }
  return most;
}

Status check_schedule(const Schedule& s) {
  if (auto status = check_form(s); !status) return status;
  const Cells cells(s);
  if (auto status = check_chunks(s, cells); !status) return status;
  for (int rank = 0; rank < s.num_ranks(); ++rank) {
    const int live = max_live(s, rank), bound = s.live_bound[static_cast<size_t>(rank)];
    if (live > bound) {
      return invalid(s.name + ": rank " + std::to_string(rank) + " holds the activations of " + std::to_string(live) +
                     " micro-batches at once, more than its " + std::to_string(bound));
    }
  }
  return check_progress(s, cells);
}

}  // namespace fathom
