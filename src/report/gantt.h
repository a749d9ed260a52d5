// Gantt: who does what when, one row each, time to the right: a pipeline's ranks, the failures of a job.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "base/json.h"
#include "report/table.h"

namespace fathom {

struct Gantt {
  struct Bar {
    size_t row = 0;   // of rows
    size_t kind = 0;  // of kinds
    double start = 0;
    double end = 0;  // start <= end
    std::string name;
    bool faded = false;  // of a second sort within its kind
  };
  std::string title;
  std::string time_label;  // with its unit
  std::vector<std::string> rows;
  std::vector<std::string> kinds;  // "F forward", at most 8
  std::vector<Bar> bars;
  Origin origin = {};
  std::string idle = "idle";  // what a row is where it has no bar, for the legend; empty: not there
};

/// The bars that end among the first `max_bars`, and rows likewise (1,024 at most): time is cut, so that every row ends
/// at the same moment. The title says what was left out.
Gantt first_bars(const Gantt& gantt, int64_t max_bars);

/// Each bar says its name, start, end and origin on hover and carries data-row, data-start and data-end; where nobody
/// does anything the row is grey. The width grows with the bars, from 720 to 4,100. Draws first_bars(gantt, max_bars).
std::string to_svg(const Gantt& gantt, int64_t max_bars = 20000);

/// {"kind": "gantt", "title", "time_label", "rows": [], "kinds": [], "bars": {"row": [], "kind": [], "start": [],
/// "end": [], "name": []}, ...}: the bars as columns.
Json to_json(const Gantt& gantt);

/// A row a bar: row, kind, name, start, end.
Table to_table(const Gantt& gantt);

/// The bars as Chrome's trace events (JSON that Perfetto and chrome://tracing open): a track per row, a complete event
/// per bar, its kind as category. ts and dur are microseconds: start and length times `us_per_unit`.
std::string to_trace(const Gantt& gantt, double us_per_unit);

}  // namespace fathom
