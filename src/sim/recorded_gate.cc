#include "sim/recorded_gate.h"

#include <algorithm>
#include <numeric>
#include <optional>

#include "base/file.h"
#include "base/json.h"

namespace fathom {
namespace {

constexpr size_t kMostExperts = 65536;
constexpr int64_t kMostTokens = int64_t{1} << 53;

/// The counts of one entry of "experts". The errors are what is wrong with it.
Result<RecordedGate> read_layer(const Json& entry) {
  const Json *layer = entry.find("layer"), *tokens = entry.find("tokens");
  if (layer == nullptr || !layer->is_int() || layer->as_int() < 0 || tokens == nullptr || !tokens->is_array()) {
    return corrupt(R"(an entry of "experts" is not {"layer": 0 or more, "tokens": [...]})");
  }
  const std::string name = "layer " + std::to_string(layer->as_int());
  if (tokens->items().empty() || tokens->items().size() > kMostExperts) {
    return corrupt(name + " has " + std::to_string(tokens->items().size()) + " experts; accepted: 1 to " +
                   std::to_string(kMostExperts));
  }
  RecordedGate gate{layer->as_int(), {}};
  for (const Json& count : tokens->items()) {
    if (!count.is_int() || count.as_int() < 0 || count.as_int() > kMostTokens) {
      return corrupt(name + ", expert " + std::to_string(gate.tokens.size()) + ": its tokens are " +
                     count.dump().substr(0, 40) + "; accepted: whole numbers from 0 to 2^53");
    }
    gate.tokens.push_back(static_cast<double>(count.as_int()));
  }
  return gate;
}

}  // namespace

Result<RecordedGate> parse_gate(std::string_view text, const std::string& where, int64_t layer) {
  const auto json = Json::parse(text, where);
  if (!json) return json.error();
  const Json* experts = json->find("experts");
  if (experts == nullptr || !experts->is_array()) {
    return corrupt(where + R"(: no "experts"; accepted: what GET /api/stats of fathom serve answers)");
  }
  std::optional<RecordedGate> found;
  double largest = -1;
  std::string layers;
  for (const Json& entry : experts->items()) {
    auto gate = read_layer(entry);
    if (!gate) return corrupt(where + ": " + gate.error().text);
    if (layers.size() < 200) layers += (layers.empty() ? "" : ", ") + std::to_string(gate->layer);
    if (layer >= 0 && gate->layer != layer) continue;
    const double sum = std::accumulate(gate->tokens.begin(), gate->tokens.end(), 0.0);
    const double share = sum > 0 ? *std::max_element(gate->tokens.begin(), gate->tokens.end()) / sum : 0;
    if (layer >= 0 && found) return corrupt(where + ": layer " + std::to_string(layer) + " is there twice");
    if (share <= largest) continue;
    largest = share;
    found = *std::move(gate);
  }
  if (!found) {
    if (layers.empty()) return corrupt(where + R"(: "experts" is empty: the model had none, or served nothing yet)");
    return invalid(where + ": no layer " + std::to_string(layer) + "; accepted: " + layers);
  }
  if (largest == 0) {
    return corrupt(where + ": no expert of layer " + std::to_string(found->layer) + " has a token: nothing was served");
  }
  return *std::move(found);
}

Result<RecordedGate> read_gate(const std::string& path, int64_t layer) {
  const auto text = read_file(path, kMostGateFileBytes);
  if (!text) return text.error();
  return parse_gate(*text, path, layer);
}

}  // namespace fathom
