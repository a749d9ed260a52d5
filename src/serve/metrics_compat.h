// Metrics under the names of other servers, so that dashboards and autoscalers made for those work with this one.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"
#include "serve/metrics.h"

namespace fathom::serve {

enum class MetricsDialect { kVllm, kSglang };

/// Parses "vllm", "sglang".
Result<MetricsDialect> parse_metrics_dialect(std::string_view name);

/// The lines of a dialect: vLLM's `vllm:` and SGLang's `sglang:` names for what this server counts as well.
std::string metrics_in_dialect(MetricsDialect dialect, const MetricsSnapshot& counts, const Gauges& gauges,
                               std::string_view model);

}  // namespace fathom::serve
