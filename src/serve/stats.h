// Stats: what the page's dashboard draws, as the JSON of GET /api/stats. Counters since the start of the server: the
// page takes differences, so that any number of pages may watch.
#pragma once

#include <cstdint>
#include <string>

#include "base/json.h"
#include "serve/metrics.h"

namespace fathom::serve {

struct StatsInput {
  Gauges gauges;
  MetricsSnapshot counts;
  std::string model;  // empty before it is loaded
  std::string version;
  int64_t max_model_len = 0;
  ExpertLoad expert_load;  // [layer][expert] tokens; of the last layer those that are read
};

/// {"model", "version", "ready", "max_model_len", "connections", "sequences": {"running", "waiting", "preemptions",
/// "finished": {reason: n}, "numeric_errors"}, "tokens": {"prompt", "generated", "steps"}, "cache": {"page_tokens",
/// "pages", "pages_in_use", "prefix_pages", "prefix_hit_tokens", "prefix_miss_tokens"}, "drafts": {"proposed",
/// "accepted"}, "latency": {"first_token" | "next_token" | "request": {"bounds" (seconds), "counts" (one more: above
/// all), "sum"}}, "experts": [{"layer", "tokens": [per expert]}]}; layers without experts are left out.
Json stats_json(const StatsInput& input);

}  // namespace fathom::serve
