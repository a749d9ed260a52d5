#include "serve/metrics_compat.h"

#include "engine/latent_cache.h"

namespace fathom::serve {
namespace {

/// Prometheus text whose lines all have the same prefix and labels.
class Dialect {
 public:
  Dialect(std::string prefix, std::string labels) : prefix_(std::move(prefix)), labels_(std::move(labels)) {}

  void gauge(std::string_view name, std::string_view help, double value) { add(name, "gauge", help, value); }
  void counter(std::string_view name, std::string_view help, int64_t value) {
    add(name, "counter", help, static_cast<double>(value));
  }
  void counters(std::string_view name, std::string_view label, std::string_view help,
                const std::map<std::string, int64_t>& counts) {
    const std::string full = prefix_ + std::string(name);
    text_ += metric_head(full, "counter", help);
    for (const auto& [value, count] : counts) {
      text_ += full + "{" + labels_ + "," + std::string(label) + "=\"" + label_value(value) + "\"} " +
               std::to_string(count) + "\n";
    }
  }
  void histogram(std::string_view name, std::string_view help, const Histogram& histogram) {
    text_ += histogram.text(prefix_ + std::string(name), help, labels_);
  }
  std::string text() && { return std::move(text_); }

 private:
  void add(std::string_view name, std::string_view type, std::string_view help, double value) {
    const std::string full = prefix_ + std::string(name);
    text_ += metric_head(full, type, help) + full + "{" + labels_ + "} " + metric_number(value) + "\n";
  }

  std::string prefix_, labels_, text_;
};

double ratio(int64_t part, int64_t whole) {
  return whole > 0 ? static_cast<double>(part) / static_cast<double>(whole) : 0;
}

Histogram step_sizes(const StepSizes& sizes) {
  std::vector<double> bounds;
  for (size_t i = 0; i < StepSizes::kNumBounds; ++i) bounds.push_back(static_cast<double>(int64_t{1} << i));
  return Histogram(std::move(bounds), {sizes.counts.begin(), sizes.counts.end()}, static_cast<double>(sizes.sum));
}

std::string vllm(const MetricsSnapshot& counts, const EngineLoopStats& engine, std::string_view model) {
  Dialect out("vllm:", "engine=\"0\",model_name=\"" + label_value(model) + "\"");
  const double cache_use = ratio(engine.pages_in_use, engine.max_pages);
  out.gauge("num_requests_running", "Sequences in the engine.", static_cast<double>(engine.running));
  out.gauge("num_requests_waiting", "Sequences that wait.", static_cast<double>(engine.waiting));
  out.gauge("kv_cache_usage_perc", "Share of the KV cache in use; 1 is all of it.", cache_use);
  out.gauge("gpu_cache_usage_perc", "The older name of kv_cache_usage_perc.", cache_use);
  out.counter("prefix_cache_queries_total", "Prompt tokens looked up in the prefix cache.", engine.prompt_tokens);
  out.counter("prefix_cache_hits_total", "Prompt tokens found in the prefix cache.", engine.prefix_hit_tokens);
  out.counter("num_preemptions_total", "Sequences that gave up their pages.", engine.preemptions);
  out.counter("prompt_tokens_total", "Tokens of prompts.", counts.prompt_tokens);
  out.counter("generation_tokens_total", "Tokens generated.", counts.generated_tokens);
  out.counters("request_success_total", "finished_reason", "Sequences that ended, by reason.", counts.finishes);
  out.counter("spec_decode_num_drafts_total", "Steps with guesses.", engine.speculation.steps);
  out.counter("spec_decode_num_draft_tokens_total", "Tokens guessed.", engine.speculation.proposed);
  out.counter("spec_decode_num_accepted_tokens_total", "Guesses that were right.", engine.speculation.accepted);
  out.histogram("time_to_first_token_seconds", "From the request to its first token.", counts.first_token);
  out.histogram("inter_token_latency_seconds", "From one token to the next.", counts.next_token);
  out.histogram("time_per_output_token_seconds", "The older name of inter_token_latency_seconds.", counts.next_token);
  out.histogram("e2e_request_latency_seconds", "From the request to its end.", counts.request);
  out.histogram("request_queue_time_seconds", "From the request to its first step.", counts.queue);
  out.histogram("request_prefill_time_seconds", "From the first step to the first token.", counts.prefill);
  out.histogram("request_decode_time_seconds", "From the first token to the last.", counts.decode);
  out.histogram("request_inference_time_seconds", "From the first step to the last token.", counts.inference);
  out.histogram("request_prompt_tokens", "Tokens of a prompt.", counts.prompt_lengths);
  out.histogram("request_generation_tokens", "Tokens of an answer.", counts.answer_lengths);
  out.histogram("iteration_tokens_total", "Tokens that a step computed.", step_sizes(engine.step_sizes));
  std::string text = std::move(out).text();
  Dialect info("vllm:", "block_size=\"" + std::to_string(LatentPages::kPageTokens) +
                            "\",enable_prefix_caching=\"True\",engine=\"0\",num_gpu_blocks=\"" +
                            std::to_string(engine.max_pages) + "\"");
  info.gauge("cache_config_info", "The KV cache: pages and their tokens.", 1);
  text += std::move(info).text();
  text += metric_head("http_requests_total", "counter", "Responses by route, method and class of status.");
  for (const auto& [key, count] : counts.requests) {
    text += "http_requests_total{handler=\"" + label_value(key[0]) + "\",method=\"" + label_value(key[1]) +
            "\",status=\"" + key[2] + "\"} " + std::to_string(count) + "\n";
  }
  return text;
}

std::string sglang(const MetricsSnapshot& counts, const EngineLoopStats& engine, std::string_view model) {
  Dialect out("sglang:", "model_name=\"" + label_value(model) + "\"");
  out.gauge("num_running_reqs", "Sequences in the engine.", static_cast<double>(engine.running));
  out.gauge("num_queue_reqs", "Sequences that wait.", static_cast<double>(engine.waiting));
  out.gauge("num_used_tokens", "Tokens of KV cache in use, in whole pages.",
            static_cast<double>(engine.pages_in_use * LatentPages::kPageTokens));
  out.gauge("token_usage", "Share of the KV cache in use.", ratio(engine.pages_in_use, engine.max_pages));
  out.gauge("cache_hit_rate", "Share of all prompt tokens that the prefix cache had.",
            ratio(engine.prefix_hit_tokens, engine.prompt_tokens));
  out.gauge("spec_accept_length", "Tokens of a step with guesses.", engine.speculation.tokens_per_step());
  out.gauge("gen_throughput", "Tokens generated per second, in the last ten.", counts.tokens_per_second);
  out.counter("prompt_tokens_total", "Tokens of prompts.", counts.prompt_tokens);
  out.counter("generation_tokens_total", "Tokens generated.", counts.generated_tokens);
  out.histogram("time_to_first_token_seconds", "From the request to its first token.", counts.first_token);
  out.histogram("inter_token_latency_seconds", "From one token to the next.", counts.next_token);
  out.histogram("e2e_request_latency_seconds", "From the request to its end.", counts.request);
  return std::move(out).text();
}

}  // namespace

Result<MetricsDialect> parse_metrics_dialect(std::string_view name) {
  if (name == "vllm") return MetricsDialect::kVllm;
  if (name == "sglang") return MetricsDialect::kSglang;
  return invalid("metrics dialect \"" + std::string(name) + "\" is unknown; accepted: vllm, sglang");
}

std::string metrics_in_dialect(MetricsDialect dialect, const MetricsSnapshot& counts, const Gauges& gauges,
                               std::string_view model) {
  return dialect == MetricsDialect::kVllm ? vllm(counts, gauges.engine, model) : sglang(counts, gauges.engine, model);
}

}  // namespace fathom::serve
