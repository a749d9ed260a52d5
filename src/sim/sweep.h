// Sweep: a scenario at each of some values of one or two of its settings.
#pragma once

#include <string>
#include <vector>

#include "base/config.h"
#include "base/json.h"
#include "report/report.h"
#include "report/table.h"
#include "sim/simulate.h"

namespace fathom {

inline constexpr size_t kMostSweepKeys = 2;
inline constexpr size_t kMostSweepPoints = 256;

struct SweepKey {
  std::string key;                  // "job.bytes"
  std::vector<std::string> values;  // "1e6", "1e9": as given
};

/// The keys of "KEY=a,b,c" texts. Errors: more than kMostSweepKeys; a key twice; no or an empty value; a value twice;
/// more than kMostSweepPoints combinations.
Result<std::vector<SweepKey>> parse_sweep(const std::vector<std::string>& texts);

struct SweepPoint {
  std::vector<std::string> values;  // [key]
  Scenario scenario;
  Simulation answer;  // without `loads`
};

struct Sweep {
  std::vector<SweepKey> keys;
  std::vector<SweepPoint> points;  // the last key's values vary fastest
};

/// "job.bytes=1e6, network.gpus=64".
std::string text_of(const Sweep& sweep, const SweepPoint& point);

/// Every combination of values laid over `base`; all are read before the first is run. Errors: a key that `base`'s
/// overrides set too; what load_config and simulate refuse, with the point that they refuse.
Result<Sweep> run_sweep(const ConfigSources& base, std::vector<SweepKey> keys, FlowEngine engine);

/// A row a point: values, then of each job time, bandwidth and what is broken costs, and what most of the first job's
/// time goes to.
/// `is_exact`: numbers as they are, for a file; otherwise five digits.
Table to_table(const Sweep& sweep, bool is_exact);

/// {"sweep": {KEY: [values]}, "points": [{"set": {KEY: value}, ...as to_json(Simulation)}]}
Json to_json(const Sweep& sweep);

/// Bandwidth and time against each key whose values are numbers, a line per value of the other key and job; as bars
/// where no key has numbers, as a heat map where there are more than 12 lines; and all points as a table.
Report::Section sweep_section(const Sweep& sweep);

}  // namespace fathom
