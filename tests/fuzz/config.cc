// Fuzzes the model config: whatever the text, it is an error or a config that survives a round trip and whose tensors
// can be counted.
#include "model/config.h"

#include <cstdint>
#include <string_view>

#include "base/check.h"
#include "model/tensor_plan.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const auto json = fathom::Json::parse({reinterpret_cast<const char*>(data), size}, "fuzz");
  if (!json) return 0;
  const auto config = fathom::ModelConfig::parse(*json, "fuzz");
  if (!config) {
    fathom::check(config.error().text.starts_with("fuzz: "), "an error names its source");
    return 0;
  }
  const auto again = fathom::ModelConfig::parse(config->to_json(), "again");
  fathom::check(again && *again == *config, "a config survives a round trip");
  // The plan of a large model takes long; its arithmetic does not depend on how many experts there are.
  constexpr int64_t kMaxExperts = 2000;
  const int64_t layers = config->num_hidden_layers + config->num_nextn_predict_layers;
  if (layers * (config->n_routed_experts + 1) > kMaxExperts) return 0;
  const fathom::ParameterCount count = fathom::count_parameters(*config);
  fathom::check(count.active > 0 && count.active <= count.total, "active parameters are some of all");
  fathom::check(count.active_with_head_and_embedding <= count.total, "active parameters are some of all");
  return 0;
}
