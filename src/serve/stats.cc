#include "serve/stats.h"

#include "engine/latent_cache.h"

namespace fathom::serve {
namespace {

Json histogram_json(const Histogram& histogram) {
  Json bounds = Json::array(), counts = Json::array();
  for (const double bound : histogram.bounds()) bounds.push(bound);
  for (const int64_t count : histogram.counts()) counts.push(count);
  Json json = Json::object();
  return json.set("bounds", std::move(bounds)).set("counts", std::move(counts)).set("sum", histogram.sum());
}

Json experts_json(const ExpertLoad& load) {
  Json layers = Json::array();
  for (size_t layer = 0; layer < load.size(); ++layer) {
    if (load[layer].empty()) continue;
    Json tokens = Json::array();
    for (const int64_t count : load[layer]) tokens.push(count);
    Json entry = Json::object();
    entry.set("layer", static_cast<int64_t>(layer)).set("tokens", std::move(tokens));
    layers.push(std::move(entry));
  }
  return layers;
}

}  // namespace

Json stats_json(const StatsInput& input) {
  const EngineLoopStats& engine = input.gauges.engine;
  Json finished = Json::object(), sequences = Json::object(), tokens = Json::object(), cache = Json::object();
  for (const auto& [reason, count] : input.counts.finishes) finished.set(reason, count);
  sequences.set("running", engine.running).set("waiting", engine.waiting).set("preemptions", engine.preemptions);
  sequences.set("finished", std::move(finished)).set("numeric_errors", engine.numeric_errors);
  tokens.set("prompt", input.counts.prompt_tokens).set("generated", input.counts.generated_tokens);
  tokens.set("steps", engine.steps);
  cache.set("page_tokens", LatentPages::kPageTokens).set("pages", engine.max_pages);
  cache.set("pages_in_use", engine.pages_in_use).set("prefix_pages", engine.prefix_pages);
  cache.set("prefix_hit_tokens", engine.prefix_hit_tokens).set("prefix_miss_tokens", engine.prefix_miss_tokens);
  Json drafts = Json::object(), latency = Json::object(), all = Json::object();
  drafts.set("proposed", engine.speculation.proposed).set("accepted", engine.speculation.accepted);
  latency.set("first_token", histogram_json(input.counts.first_token));
  latency.set("next_token", histogram_json(input.counts.next_token));
  latency.set("request", histogram_json(input.counts.request));
  all.set("model", input.model).set("version", input.version).set("ready", input.gauges.ready);
  all.set("max_model_len", input.max_model_len).set("connections", input.gauges.connections);
  all.set("sequences", std::move(sequences)).set("tokens", std::move(tokens)).set("cache", std::move(cache));
  all.set("drafts", std::move(drafts)).set("latency", std::move(latency));
  return all.set("experts", experts_json(input.expert_load));
}

}  // namespace fathom::serve
