#include "serve/metrics.h"

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <numeric>

namespace fathom::serve {
namespace {

std::string single(std::string_view name, std::string_view type, std::string_view help, int64_t value) {
  return metric_head(name, type, help) + std::string(name) + " " + std::to_string(value) + "\n";
}

std::string by_label(std::string_view name, std::string_view label, std::string_view help,
                     const std::map<std::string, int64_t>& counts) {
  std::string text = metric_head(name, "counter", help);
  for (const auto& [value, count] : counts) {
    text += std::string(name) + "{" + std::string(label) + "=\"" + label_value(value) + "\"} " + std::to_string(count) +
            "\n";
  }
  return text;
}

int64_t second_now() {
  return std::chrono::duration_cast<std::chrono::seconds>(std::chrono::steady_clock::now().time_since_epoch()).count();
}

/// vLLM's bounds of its request times.
std::vector<double> time_bounds() {
  return {0.001, 0.01, 0.05, 0.1, 0.3, 0.5, 0.8, 1, 1.5, 2, 2.5, 5, 10, 15, 20, 30, 40, 50, 60, 120, 240, 480, 960};
}
std::vector<double> length_bounds() {
  return {1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 2000, 5000, 10000, 20000, 50000, 100000};
}

}  // namespace

Histogram::Histogram(std::vector<double> bounds, std::vector<int64_t> counts, double sum)
    : bounds_(std::move(bounds)),
      counts_(std::move(counts)),
      count_(std::accumulate(counts_.begin(), counts_.end(), int64_t{0})),
      sum_(sum) {}

void Histogram::observe(double value) {
  const auto bucket = std::lower_bound(bounds_.begin(), bounds_.end(), value) - bounds_.begin();
  ++counts_[static_cast<size_t>(bucket)];
  ++count_;
  sum_ += value;
}

std::string Histogram::text(std::string_view name, std::string_view help, const std::string& labels) const {
  const std::string key(name), inner = labels.empty() ? "" : labels + ",";
  const std::string own = labels.empty() ? " " : "{" + labels + "} ";
  std::string text = metric_head(name, "histogram", help);
  int64_t below = 0;
  for (size_t i = 0; i < bounds_.size(); ++i) {
    below += counts_[i];
    text += key + "_bucket{" + inner + "le=\"" + metric_number(bounds_[i]) + "\"} " + std::to_string(below) + "\n";
  }
  text += key + "_bucket{" + inner + "le=\"+Inf\"} " + std::to_string(count_) + "\n";
  text += key + "_sum" + own + metric_number(sum_) + "\n";
  return text + key + "_count" + own + std::to_string(count_) + "\n";
}

Metrics::Metrics()
    : counts_{
          .finishes = {},
          .first_token = Histogram({0.001, 0.005, 0.01, 0.02, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300}),
          .next_token =
              Histogram({0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.15, 0.2, 0.3, 0.5, 1, 2.5, 5}),
          .request = Histogram({0.01, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 20, 30, 60, 120, 300, 600, 1800}),
          .queue = Histogram(time_bounds()),
          .prefill = Histogram(time_bounds()),
          .decode = Histogram(time_bounds()),
          .inference = Histogram(time_bounds()),
          .prompt_lengths = Histogram(length_bounds()),
          .answer_lengths = Histogram(length_bounds()),
          .requests = {}} {}

MetricsSnapshot Metrics::snapshot() const {
  const std::lock_guard lock(mutex_);
  MetricsSnapshot snapshot = counts_;
  const int64_t now = second_now();
  int64_t tokens = 0;
  for (const Second& second : seconds_) {
    if (second.number < now && second.number >= now - kRateSeconds) tokens += second.tokens;
  }
  snapshot.tokens_per_second = static_cast<double>(tokens) / kRateSeconds;
  return snapshot;
}

void Metrics::count_response(std::string_view route, int status, std::string_view method) {
  const std::lock_guard lock(mutex_);
  ++counts_.requests[{std::string(route), std::string(method), std::to_string(status / 100) + "xx"}];
  ++responses_[{std::string(route), status}];
}
void Metrics::count_error(std::string_view code) {
  const std::lock_guard lock(mutex_);
  ++errors_[std::string(code)];
}
void Metrics::count_prompt(int64_t tokens) {
  const std::lock_guard lock(mutex_);
  counts_.prompt_tokens += tokens;
}
void Metrics::count_finish(std::string_view reason) {
  const std::lock_guard lock(mutex_);
  ++counts_.finishes[std::string(reason)];
}
void Metrics::count_dropped_client(std::string_view why) {
  const std::lock_guard lock(mutex_);
  ++dropped_[std::string(why)];
}
void Metrics::count_token() {
  const std::lock_guard lock(mutex_);
  ++counts_.generated_tokens;
  const int64_t now = second_now();
  Second& second = seconds_[static_cast<size_t>(now) % seconds_.size()];
  if (second.number != now) second = {.number = now, .tokens = 0};
  ++second.tokens;
}
void Metrics::observe_sequence(int64_t prompt_tokens, int64_t generated_tokens, double begun, double first,
                               double last) {
  const std::lock_guard lock(mutex_);
  counts_.queue.observe(begun);
  counts_.prefill.observe(first - begun);
  counts_.decode.observe(last - first);
  counts_.inference.observe(last - begun);
  counts_.prompt_lengths.observe(static_cast<double>(prompt_tokens));
  counts_.answer_lengths.observe(static_cast<double>(generated_tokens));
}
void Metrics::observe_first_token(double seconds) {
  const std::lock_guard lock(mutex_);
  counts_.first_token.observe(seconds);
}
void Metrics::observe_next_token(double seconds) {
  const std::lock_guard lock(mutex_);
  counts_.next_token.observe(seconds);
}
void Metrics::observe_request(double seconds) {
  const std::lock_guard lock(mutex_);
  counts_.request.observe(seconds);
}

std::string Metrics::text(const Gauges& gauges, std::string_view model, std::string_view version) const {
  const std::lock_guard lock(mutex_);
  std::string text = metric_head("fathom_info", "gauge", "The model that is served and the version of the program.");
  text += "fathom_info{model=\"" + label_value(model) + "\",version=\"" + label_value(version) + "\"} 1\n";
  text += single("fathom_ready", "gauge", "1 when the model is loaded and requests are taken.", gauges.ready ? 1 : 0);
  text += single("fathom_connections", "gauge", "Open connections.", gauges.connections);
  text += single("fathom_sequences_running", "gauge", "Sequences in the engine.", gauges.engine.running);
  text += single("fathom_sequences_waiting", "gauge", "Sequences in the queue.", gauges.engine.waiting);
  text += single("fathom_cache_pages", "gauge", "Pages of the KV cache, 64 tokens each.", gauges.engine.max_pages);
  text += single("fathom_cache_pages_in_use", "gauge", "Pages of the KV cache that sequences hold.",
                 gauges.engine.pages_in_use);
  text += single("fathom_prefix_cache_pages", "gauge", "Pages that the prefix cache knows, in use or not.",
                 gauges.engine.prefix_pages);
  const PrefixStoreStats& store = gauges.engine.store;
  text += single("fathom_prefix_store_pages", "gauge", "Pages of the prefix cache in its directory.", store.pages);
  text += single("fathom_prefix_store_bytes", "gauge", "Bytes of that directory's pages.", store.bytes);
  text += single("fathom_prefix_store_read_total", "counter", "Pages read from that directory.", store.read);
  text += single("fathom_prefix_store_written_total", "counter", "Pages written to it.", store.written);
  text += single("fathom_prefix_store_dropped_total", "counter", "Pages that could not be written.", store.dropped);
  text +=
      single("fathom_prefix_store_damaged_total", "counter", "Files removed because they were damaged.", store.damaged);
  text += single("fathom_steps_total", "counter", "Steps of the model.", gauges.engine.steps);
  text += single("fathom_prefix_hit_tokens_total", "counter", "Prompt tokens found in the prefix cache.",
                 gauges.engine.prefix_hit_tokens);
  text += single("fathom_prefix_miss_tokens_total", "counter", "Prompt tokens that were computed.",
                 gauges.engine.prefix_miss_tokens);
  text += single("fathom_preemptions_total", "counter", "Sequences that gave up their pages for others.",
                 gauges.engine.preemptions);
  text += single("fathom_promotions_total", "counter",
                 "Sequences that went first because priorities had overtaken them.", gauges.engine.promotions);
  text += single("fathom_preempted_tokens_total", "counter", "Tokens whose pages were given up so.",
                 gauges.engine.preempted_tokens);
  text += single("fathom_deadlines_missed_total", "counter", "Sequences in the engine that ended at their deadline.",
                 gauges.engine.deadlines_missed);
  text += single("fathom_healthy", "gauge", "0 when a replay differed or weights have changed in memory.",
                 gauges.engine.healthy() ? 1 : 0);
  text += single("fathom_verified_total", "counter", "Sequences that were computed again with the same bits.",
                 gauges.engine.verified);
  text += single("fathom_verify_mismatches_total", "counter", "Sequences that were computed again with other bits.",
                 gauges.engine.verify_mismatches);
  text += single("fathom_verify_skipped_total", "counter",
                 "Sequences that were to be computed again, but too many waited.", gauges.engine.verify_skipped);
  text +=
      single("fathom_weight_passes_total", "counter", "Checks of all weights in memory.", gauges.engine.weight_passes);
  text += single("fathom_weight_damages_total", "counter", "Pieces of weights that had changed when they were checked.",
                 gauges.engine.weight_damages);
  text += single("fathom_draft_steps_total", "counter", "Steps of sequences with guesses.",
                 gauges.engine.speculation.steps);
  text += single("fathom_draft_tokens_total", "counter", "Tokens guessed.", gauges.engine.speculation.proposed);
  text += single("fathom_draft_accepted_tokens_total", "counter", "Guesses that were right.",
                 gauges.engine.speculation.accepted);
  text += single("fathom_numeric_errors_total", "counter", "Sequences that ended because a logit was not a number.",
                 gauges.engine.numeric_errors);
  text += single("fathom_prompt_tokens_total", "counter", "Tokens of prompts taken in.", counts_.prompt_tokens);
  text += single("fathom_generated_tokens_total", "counter", "Tokens generated.", counts_.generated_tokens);
  text += metric_head("fathom_http_responses_total", "counter", "Responses by route and status.");
  for (const auto& [key, count] : responses_) {
    text += "fathom_http_responses_total{route=\"" + label_value(key.first) + "\",status=\"" +
            std::to_string(key.second) + "\"} " + std::to_string(count) + "\n";
  }
  text += by_label("fathom_errors_total", "code", "Errors that clients were told, by code.", errors_);
  text += by_label("fathom_finished_total", "reason", "Sequences that ended, by reason.", counts_.finishes);
  text += by_label("fathom_dropped_clients_total", "why", "Connections that the server ended early.", dropped_);
  text += counts_.first_token.text("fathom_time_to_first_token_seconds", "From the request to its first token.");
  text += counts_.next_token.text("fathom_inter_token_latency_seconds", "From one token of a sequence to the next.");
  text += counts_.request.text("fathom_request_seconds", "From the request to its end.");
  return text;
}

std::string metric_number(double value) {
  char text[32];
  std::snprintf(text, sizeof(text), "%.9g", value);
  return text;
}

std::string metric_head(std::string_view name, std::string_view type, std::string_view help) {
  return "# HELP " + std::string(name) + " " + std::string(help) + "\n# TYPE " + std::string(name) + " " +
         std::string(type) + "\n";
}

std::string label_value(std::string_view text) {
  std::string out;
  for (const char c : text) {
    if (c == '\\' || c == '"') out += '\\';
    if (c == '\n') {
      out += "\\n";
    } else {
      out += c;
    }
  }
  return out;
}

}  // namespace fathom::serve
