// fathom quantize: a model directory written anew with smaller weights.
#include <charconv>
#include <cmath>
#include <cstdio>

#include "apps/console.h"
#include "apps/verbs.h"
#include "checkpoint/hf_hub.h"
#include "model/quantize_checkpoint.h"

namespace fathom::apps {
namespace {

/// "4.5GB", "800 MiB", "1000000": a number of bytes.
Result<int64_t> parse_bytes(const std::string& flag, const std::string& text) {
  constexpr std::pair<std::string_view, double> kUnits[] = {
      {"", 1},      {"B", 1},         {"KB", 1e3},      {"MB", 1e6},      {"GB", 1e9},
      {"TB", 1e12}, {"KiB", 1 << 10}, {"MiB", 1 << 20}, {"GiB", 1 << 30}, {"TiB", 1099511627776.0}};
  double number = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), number);
  std::string_view unit(end, static_cast<size_t>(text.data() + text.size() - end));
  if (unit.starts_with(' ')) unit.remove_prefix(1);
  for (const auto& [name, factor] : kUnits) {
    if (error != std::errc{} || unit != name) continue;
    const double bytes = std::floor(number * factor);
    if (bytes >= 1 && bytes <= 1e18) return static_cast<int64_t>(bytes);
  }
  return invalid(flag + " \"" + text.substr(0, 100) + "\" is not a size; accepted: 4.5GB, 800MiB, 1000000");
}

}  // namespace

Status quantize(const QuantizeVerbOptions& options) {
  const auto source = resolve_model_dir(options.model, HubEnvironment::of_process());
  if (!source) return source.error();
  const auto policy = parse_quant_policy(options.quant);
  if (!policy) return Error{policy.error().code, "--quant: " + policy.error().text};
  const auto shard_bytes = parse_bytes("--max-shard-bytes", options.max_shard_bytes);
  if (!shard_bytes) return shard_bytes.error();
  const auto compute = make_compute(options.compute);
  if (!compute) return compute.error();
  ConsoleProgress progress(false);
  const auto report = quantize_checkpoint(*source, options.output, {.policy = *policy, .max_shard_bytes = *shard_bytes},
                                          *compute->pool, progress);
  if (!report) {
    if (report.error().code != ErrorCode::kCancelled) return report.error();
    return Error{ErrorCode::kCancelled, "interrupted: " + report.error().text};
  }
  progress.finish();
  if (options.json) {
    Json json = Json::object();
    json.set("output", options.output).set("quant", policy->text());
    json.set("source_bytes", report->source_bytes).set("bytes", report->written_bytes);
    json.set("tensors", report->num_tensors).set("resumed_tensors", report->num_resumed);
    std::printf("%s\n", json.dump(2).c_str());
    return {};
  }
  if (report->num_resumed > 0) {
    std::printf("%lld of %lld tensors were there from an interrupted run\n",
                static_cast<long long>(report->num_resumed), static_cast<long long>(report->num_tensors));
  }
  std::printf("%s: %s, was %s (%s)\n", options.output.c_str(), bytes_text(report->written_bytes).c_str(),
              bytes_text(report->source_bytes).c_str(), policy->text().c_str());
  return {};
}

}  // namespace fathom::apps
