// EngineCheck: the same question to a second engine, in bounded time.
#pragma once

#include <cmath>
#include <string>

#include "base/json.h"
#include "sim/simulate.h"

namespace fathom {

inline constexpr double kEnginesAgree = 1e-4;
inline constexpr double kCheckSeconds = 20;  // that a check takes at most

struct EngineCheck {
  FlowEngine engine = FlowEngine::kMaxMin;  // the second one
  std::string skipped;                      // why it could not answer; empty: it has
  double difference = 0;                    // the largest of a job's time with bytes on links, as a share
  double seconds = 0;                       // that it took

  bool agrees() const { return skipped.empty() && std::abs(difference) <= kEnginesAgree; }
};
Json to_json(const EngineCheck& check);

/// SimGrid beside max-min, max-min beside any other. Latency and software, which no engine computes, do not count.
/// Skipped where the second engine is given too many flows, or has not answered within `most_seconds`. Errors: SimGrid
/// is not installed or has failed.
Result<EngineCheck> check_engine(const Scenario& scenario, const Simulation& answer,
                                 double most_seconds = kCheckSeconds);

/// One line: that both agree, by how much they do not, or why the check was skipped.
std::string text_of(const EngineCheck& check, const Simulation& answer);

}  // namespace fathom
