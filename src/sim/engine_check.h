// EngineCheck: the same question to a second engine, with a bounded amount of work.
#pragma once

#include <cmath>
#include <string>

#include "base/json.h"
#include "sim/simulate.h"

namespace fathom {

inline constexpr double kEnginesAgree = 1e-4;
/// Rates (FlowRun::num_rates) that a check may cost: about 20 s of an idle core with either engine. A count, so that
/// the same checks are made however busy the machine is.
inline constexpr int64_t kMostMaxMinRates = 100'000'000, kMostSimGridRates = 20'000'000;

struct EngineCheck {
  FlowEngine engine = FlowEngine::kMaxMin;  // the second one
  std::string skipped;                      // why it could not answer; empty: it has
  double difference = 0;                    // the largest of a job's time with bytes on links, as a share
  double cost = 0;                          // share of what a check may cost that it did

  bool agrees() const { return skipped.empty() && std::abs(difference) <= kEnginesAgree; }
};
Json to_json(const EngineCheck& check);

/// SimGrid beside max-min, max-min beside any other. Latency and software, which no engine computes, do not count.
/// Skipped where the second engine is given too many flows, or would compute more rates than `share` of those that a
/// check may cost; of SimGrid it is known from max-min how many. Errors: SimGrid is not installed or has failed.
Result<EngineCheck> check_engine(const Scenario& scenario, const Simulation& answer, double share = 1);

/// One line: that both agree, by how much they do not, or why the check was skipped.
std::string text_of(const EngineCheck& check, const Simulation& answer);

}  // namespace fathom
