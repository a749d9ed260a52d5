#include "sim/pipeline_picture.h"

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <iterator>

#include "base/check.h"

namespace fathom {
namespace {

// In the order of kKinds.
size_t kind_of(const Instruction& instruction) {
  if (instruction.is_pair()) return 4;
  switch (instruction.chunks[0].op) {
    case Op::kForward: return 0;
    case Op::kBackward: return 1;
    case Op::kBackwardInput: return 2;
    case Op::kBackwardWeight: return 3;
  }
  return 0;
}
constexpr const char* kKinds[] = {"F forward", "B backward", "I input gradient", "W weight gradient", "F&B overlapped"};

// Whether it belongs to the second stream, or where there is one stream to the second leg, as the letter of its label
// tells.
bool is_second(const Schedule& s, const Instruction& instruction) {
  const Chunk& c = instruction.chunks[0];
  return !instruction.is_pair() && (s.num_streams() > 1 ? c.stream == 1 : c.stage >= s.num_ranks());
}

}  // namespace

std::string to_text(const Schedule& s, const PipelineRun& run, double unit, int max_columns) {
  check(unit > 0 && run.spans.size() == s.ranks.size(), "a run of the schedule, and a unit of time");
  size_t longest = 0;  // characters of a label per unit of time that must hold it
  for (size_t rank = 0; rank < s.ranks.size(); ++rank) {
    for (size_t i = 0; i < s.ranks[rank].size(); ++i) {
      const double units = (run.spans[rank][i].end - run.spans[rank][i].start) / unit;
      const double width = static_cast<double>(label(s, s.ranks[rank][i]).size() + 1);
      if (units > 0) longest = std::max(longest, static_cast<size_t>(std::ceil(width / units - 1e-9)));
    }
  }
  const double columns = static_cast<double>(std::clamp<size_t>(longest, 4, 16)) / unit;
  const auto column = [&](double t) {
    return static_cast<size_t>(std::min(std::llround(t * columns), static_cast<long long>(max_columns)));
  };
  std::string text;
  for (size_t rank = 0; rank < s.ranks.size(); ++rank) {
    std::string line(column(run.makespan), '.');
    for (size_t i = 0; i < s.ranks[rank].size(); ++i) {
      const size_t begin = column(run.spans[rank][i].start), end = column(run.spans[rank][i].end);
      const std::string name = label(s, s.ranks[rank][i]);
      for (size_t k = begin; k < end; ++k)
        line[k] = k - begin < name.size() ? name[k - begin] : k + 1 < end ? '-' : ' ';
    }
    if (line.size() == static_cast<size_t>(max_columns)) line.back() = '>';
    char head[32];
    std::snprintf(head, sizeof head, "rank %-3d ", static_cast<int>(rank));
    text += head + line + "\n";
  }
  return text;
}

Gantt to_gantt(const Schedule& s, const PipelineRun& run, const std::string& time_label) {
  check(run.spans.size() == s.ranks.size(), "a run of the schedule");
  Gantt out{.title = s.name + ": " + std::to_string(s.num_ranks()) + " ranks, " +
                     std::to_string(s.num_micro_batches()) + " micro-batches",
            .time_label = time_label,
            .rows = {},
            .kinds = {std::begin(kKinds), std::end(kKinds)},
            .bars = {}};
  for (size_t rank = 0; rank < s.ranks.size(); ++rank) {
    out.rows.push_back("rank " + std::to_string(rank));
    for (size_t i = 0; i < s.ranks[rank].size(); ++i) {
      const Instruction& instruction = s.ranks[rank][i];
      const Span span = run.spans[rank][i];
      out.bars.push_back(
          {rank, kind_of(instruction), span.start, span.end, label(s, instruction), is_second(s, instruction)});
    }
  }
  return out;
}

}  // namespace fathom
