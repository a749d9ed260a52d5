#include "sim/pipeline_sim.h"

#include <algorithm>
#include <cmath>
#include <tuple>
#include <unordered_map>

namespace fathom {
namespace {

Status check_costs(const Schedule& s, const PipelineCosts& costs) {
  const std::pair<const char*, double> named[] = {{"forward", costs.times.forward},
                                                  {"backward_input", costs.times.backward_input},
                                                  {"backward_weight", costs.times.backward_weight},
                                                  {"pair", costs.times.pair},
                                                  {"hop", costs.hop}};
  constexpr double kMost = 1e12;
  for (const auto& [name, value] : named) {
    if (!(value >= 0) || value > kMost) {
      return invalid(s.name + ": time " + name + " is " + std::to_string(value) + "; accepted: 0 to 1e12");
    }
  }
  if (!costs.stage_scale.empty() && static_cast<int>(costs.stage_scale.size()) != s.num_stages) {
    return invalid(s.name + ": " + std::to_string(costs.stage_scale.size()) + " stage scales for " +
                   std::to_string(s.num_stages) + " stages");
  }
  for (double scale : costs.stage_scale) {
    if (!(scale > 0) || scale > 1e6) {
      return invalid(s.name + ": stage scale " + std::to_string(scale) + "; accepted: more than 0, at most 1e6");
    }
  }
  return {};
}

double time_of(Op op, const ChunkTimes& t) {
  switch (op) {
    case Op::kForward: return t.forward;
    case Op::kBackward: return t.backward();
    case Op::kBackwardInput: return t.backward_input;
    case Op::kBackwardWeight: return t.backward_weight;
  }
  return 0;
}

double duration(const Instruction& instruction, const PipelineCosts& costs) {
  const auto scale = [&](const Chunk& c) {
    return costs.stage_scale.empty() ? 1.0 : costs.stage_scale[static_cast<size_t>(c.stage)];
  };
  const Chunk& first = instruction.chunks[0];
  if (!instruction.is_pair()) return time_of(first.op, costs.times) * scale(first);
  const Chunk& second = instruction.chunks[1];
  const double f = costs.times.forward, b = costs.times.backward();
  const double mean = f + b > 0 ? (f * scale(first) + b * scale(second)) / (f + b) : scale(first);
  return costs.times.pair * mean;
}

// What a chunk leaves for others: an activation (forward) or a gradient (B or I).
using Output = std::tuple<int, int, int, bool>;
Output output_of(const Chunk& c) { return {c.stream, c.stage, c.micro_batch, c.op == Op::kForward}; }

// A place in the lists.
struct Place {
  size_t rank = 0;
  size_t index = 0;
};

struct OutputHash {
  size_t operator()(const Output& o) const {
    const auto [stream, stage, micro_batch, is_forward] = o;
    return (static_cast<size_t>(micro_batch) * 4096 + static_cast<size_t>(stage)) * 4 +
           static_cast<size_t>(stream) * 2 + static_cast<size_t>(is_forward);
  }
};

}  // namespace

Result<PipelineRun> simulate_pipeline(const Schedule& s, const PipelineCosts& costs) {
  if (auto status = check_schedule(s); !status) return status.error();
  if (auto status = check_costs(s, costs); !status) return status.error();
  std::unordered_map<Output, Place, OutputHash> made_at;
  for (size_t rank = 0; rank < s.ranks.size(); ++rank) {
    for (size_t i = 0; i < s.ranks[rank].size(); ++i) {
      for (const Chunk& c : s.ranks[rank][i].chunks) {
        if (c.op != Op::kBackwardWeight) made_at[output_of(c)] = {rank, i};
      }
    }
  }
  PipelineRun run;
  run.spans.resize(s.ranks.size());
  run.busy.assign(s.ranks.size(), 0);
  // The earliest start of the next instruction of `rank`; negative: it waits for one that has not been timed.
  const auto earliest = [&](size_t rank) -> double {
    const size_t i = run.spans[rank].size();
    double start = i == 0 ? 0 : run.spans[rank][i - 1].end;
    for (const Chunk& c : s.ranks[rank][i].chunks) {
      const Dependency d = dependency_of(s, c);
      if (!d.exists) continue;
      const Place from = made_at.at(output_of(d.chunk));
      if (from.index >= run.spans[from.rank].size()) return -1;
      start = std::max(start, run.spans[from.rank][from.index].end + (from.rank == rank ? 0 : costs.hop));
    }
    return start;
  };
  for (bool moved = true; moved;) {
    moved = false;
    for (size_t rank = 0; rank < s.ranks.size(); ++rank) {
      while (run.spans[rank].size() < s.ranks[rank].size()) {
        const double start = earliest(rank);
        if (start < 0) break;
        const double time = duration(s.ranks[rank][run.spans[rank].size()], costs);
        run.spans[rank].push_back({start, start + time});
        run.busy[rank] += time;
        run.makespan = std::max(run.makespan, start + time);
        moved = true;
      }
    }
  }
  return run;  // check_schedule has proved that every list ends
}

double published_bubble(const Schedule& s, const ChunkTimes& t) {
  const double stages = s.num_stages;
  if (s.name == "1f1b") return (stages - 1) * (t.forward + t.backward());
  if (s.name == "zb1p") return (stages - 1) * (t.forward + t.backward() - 2 * t.backward_weight);
  return (stages / 2 - 1) * (t.pair + t.backward() - 3 * t.backward_weight);
}

}  // namespace fathom
