// fathom quantize: a model directory written anew with smaller weights.
#include <algorithm>
#include <cstdio>
#include <map>
#include <optional>

#include "apps/console.h"
#include "apps/verbs.h"
#include "base/file.h"
#include "base/machine.h"
#include "checkpoint/hf_hub.h"
#include "model/choose_formats.h"
#include "model/divergence.h"
#include "model/prepare_weights.h"
#include "model/quantize_checkpoint.h"
#include "train/pack.h"

namespace fathom::apps {
namespace {

Result<int64_t> parse_bytes(const std::string& flag, const std::string& text) {
  const auto bytes = parse_memory(text, {});
  if (!bytes) return Error{bytes.error().code, flag + ": " + bytes.error().text};
  return *bytes;
}

/// The calibration text as documents of tokens, and the model that read it: what chosen formats are compared with.
struct Calibration {
  std::unique_ptr<Session> session;
  std::vector<std::vector<int32_t>> documents;
  int64_t window = 0;
  bool quiet = false;

  Result<std::map<std::string, InputStatistics>> collect(Kernels& kernels) const;
  /// KL of the model in the formats of a policy to the session's.
  Result<double> measure(const Path& source, const QuantPolicy& policy, const Compute& compute);
  int num_measurements = 0;
};

Result<Calibration> load_calibration(const QuantizeVerbOptions& options) {
  const auto text = read_file(options.calibration);
  if (!text) return text.error();
  ComputeOptions compute = options.compute;
  compute.precision = "bf16";
  compute.context = 64;  // nothing is generated
  auto session = Session::load(options.model, compute);
  if (!session) return session.error();
  Calibration out;
  out.session = std::move(*session);
  out.quiet = options.compute.is_quiet();
  out.window = std::min<int64_t>(2048, out.session->model().config.max_context());
  for (std::string_view document : split_documents(*text)) {
    auto ids = out.session->encode_prompt(document);
    if (!ids) return Error{ids.error().code, options.calibration + ": " + ids.error().text};
    if (ids->size() > 1) out.documents.push_back(std::move(*ids));
  }
  if (out.documents.empty() || out.window < 2) return invalid(options.calibration + " holds no text to calibrate with");
  return out;
}

Result<std::map<std::string, InputStatistics>> Calibration::collect(Kernels& kernels) const {
  const Model& model = session->model();
  const Transformer transformer(model.config, model.weights);
  Arena arena;
  InputCollector collector;
  const Run run{.k = kernels, .arena = arena, .precision = Precision::kBF16, .observer = &collector};
  ConsoleProgress progress(quiet);
  int64_t done = 0;
  for (const std::vector<int32_t>& ids : documents) {
    for (const ScoredWindow& w : score_windows(static_cast<int64_t>(ids.size()), window)) {
      if (interrupted()) return interrupted_error("calibrating");
      const ArenaScope scope(arena);
      const auto tokens = std::span(ids).subspan(static_cast<size_t>(w.begin), static_cast<size_t>(w.end - w.begin));
      const Tensor hidden = ScoredModel{run, transformer}.forward(tokens);
      transformer.head().loss(run, hidden, targets_of(w, ids), 1.0, Tensor{});
    }
    progress.update("calibrating", ++done, static_cast<int64_t>(documents.size()), "");
  }
  return collector.by_name(model);
}

Result<double> Calibration::measure(const Path& source, const QuantPolicy& policy, const Compute& compute) {
  const std::string which = "choice " + std::to_string(++num_measurements);
  const auto model = load_model(source);
  if (!model) return model.error();
  ConsoleProgress progress(quiet);
  if (auto s = prepare_weights(**model, policy, Precision::kBF16, *compute.kernels, progress); !s) return s.error();
  const Model& exact = session->model();
  const Transformer reference(exact.config, exact.weights), quantised((*model)->config, (*model)->weights);
  Arena arena, reference_arena;
  const Run run{.k = *compute.kernels, .arena = arena, .precision = Precision::kBF16};
  const Run reference_run{.k = *compute.kernels, .arena = reference_arena, .precision = Precision::kBF16};
  Divergence sum;
  const auto total = static_cast<int64_t>(documents.size());
  for (size_t d = 0; d < documents.size(); ++d) {
    progress.update("measuring KL", static_cast<int64_t>(d), total, which);
    const auto windows = score_windows(static_cast<int64_t>(documents[d].size()), window);
    const bool finished = measure_divergence({reference_run, reference}, {run, quantised}, documents[d], windows,
                                             *compute.pool, sum, [](double) { return !interrupted(); });
    if (!finished) return interrupted_error("measuring KL");
  }
  return sum.kl_per_token();
}

/// Formats that were chosen, with what was measured.
struct Chosen {
  FormatChoice choice;
  std::optional<double> kl;  // of the calibration text
};

Result<Chosen> choose(const QuantizeVerbOptions& options, const Path& source, const Compute& compute) {
  int64_t target = 0;
  if (!options.target_bytes.empty()) {
    const auto bytes = parse_bytes("--target-bytes", options.target_bytes);
    if (!bytes) return bytes.error();
    target = *bytes;
  }
  std::optional<Calibration> calibration;
  std::map<std::string, InputStatistics> statistics;
  if (!options.calibration.empty()) {
    auto loaded = load_calibration(options);
    if (!loaded) return loaded.error();
    calibration.emplace(std::move(*loaded));
    auto collected = calibration->collect(*compute.kernels);
    if (!collected) return collected.error();
    statistics = std::move(*collected);
  }
  const auto model = load_model(source);
  if (!model) return model.error();
  if (auto s = check_quantizable(**model, source); !s) return s.error();
  ConsoleProgress progress(options.compute.is_quiet());
  auto choice = measure_formats(**model, statistics, *compute.pool, progress);
  if (!choice) {
    return choice.error().code == ErrorCode::kCancelled ? interrupted_error("measuring formats") : choice.error();
  }
  progress.finish();
  Chosen out{.choice = std::move(*choice), .kl = {}};
  const auto measure = [&](const QuantPolicy& policy) { return calibration->measure(source, policy, compute); };
  const auto fit = [&]() -> Status {
    if (auto s = choose_within(target, out.choice); !s)
      return Error{s.error().code, "--target-bytes: " + s.error().text};
    return {};
  };
  if (target > 0) {  // a target that cannot be is told before KL is measured for it
    if (auto s = fit(); !s) return s.error();
  }
  if (calibration) {
    if (auto s = weigh_by_divergence(out.choice, measure); !s) return s.error();
  }
  if (!options.max_kl) {
    if (!calibration) return out;
    if (auto s = fit(); !s) return s.error();
    const auto kl = measure(out.choice.policy());
    if (!kl) return kl.error();
    out.kl = *kl;
    return out;
  }
  constexpr int kRounds = 8;
  const auto kl = choose_below(*options.max_kl, target, kRounds, out.choice, measure);
  if (!kl) return kl.error();
  out.kl = *kl;
  return out;
}

/// The chosen formats, neighbouring layers of one format in a line.
void print_choice(const Chosen& chosen) {
  std::printf("%-10s %-8s %-9s %-7s %12s  %s\n", "class", "matrix", "layers", "format", "size",
              chosen.choice.predicts_kl ? "predicted KL" : "relative squared error");
  const std::vector<FormatGroup>& groups = chosen.choice.groups;
  std::vector<bool> is_printed(groups.size());
  for (size_t i = 0; i < groups.size(); ++i) {
    if (is_printed[i]) continue;
    const QuantPart& part = groups[i].part;
    int64_t last = part.layer, bytes = 0;
    double error = 0;
    for (size_t j = i; j < groups.size(); ++j) {
      const QuantPart& other = groups[j].part;
      if (other.tensor_class != part.tensor_class || other.matrix != part.matrix || other.layer > last + 1) continue;
      if (groups[j].cost().format != groups[i].cost().format) break;
      is_printed[j] = true;
      last = other.layer;
      bytes += groups[j].cost().bytes;
      error += groups[j].cost().error;
    }
    const std::string layers =
        last < 0 ? "" : std::to_string(part.layer) + (last > part.layer ? "-" + std::to_string(last) : "");
    std::printf("%-10s %-8s %-9s %-7s %12s  %.3g\n", std::string(quant_class_name(part.tensor_class)).c_str(),
                part.matrix.c_str(), layers.c_str(), std::string(name_of(groups[i].cost().format)).c_str(),
                bytes_text(bytes).c_str(), error);
  }
  std::printf("%-10s %-8s %-9s %-7s %12s  %.3g\n", "all", "", "", "", bytes_text(chosen.choice.bytes()).c_str(),
              chosen.choice.error());
  const bool has_module = std::any_of(groups.begin(), groups.end(),
                                      [&](const FormatGroup& group) { return chosen.choice.only_guesses(group); });
  if (chosen.choice.predicts_kl && has_module) {
    std::printf(
        "(MTP modules count as the others when formats are chosen, and not to what is predicted: they only guess)\n");
  }
  if (chosen.kl) std::printf("KL to the model in BF16 on the calibration text: %.6f nats per token\n", *chosen.kl);
}

Json choice_json(const Chosen& chosen) {
  Json groups = Json::array();
  for (const FormatGroup& group : chosen.choice.groups) {
    Json row = Json::object();
    row.set("class", quant_class_name(group.part.tensor_class));
    row.set("matrix", group.part.matrix.empty() ? Json() : Json(group.part.matrix));
    row.set("layer", group.part.layer < 0 ? Json() : Json(group.part.layer)).set("tensors", group.num_tensors);
    row.set("format", name_of(group.cost().format)).set("bytes", group.cost().bytes).set("error", group.cost().error);
    groups.push(std::move(row));
  }
  return Json::object()
      .set("groups", std::move(groups))
      .set("bytes", chosen.choice.bytes())
      .set("predicted_kl_per_token", chosen.choice.predicts_kl ? Json(chosen.choice.error()) : Json())
      .set("kl_per_token", chosen.kl ? Json(*chosen.kl) : Json());
}

Status check_flags(const QuantizeVerbOptions& options) {
  const bool chooses = !options.target_bytes.empty() || options.max_kl;
  if (options.quant.empty() == !chooses) {
    return invalid("give either --quant, or --target-bytes or --max-kl; see fathom quantize --help");
  }
  if (!chooses && !options.calibration.empty()) return invalid("--calibration needs --target-bytes or --max-kl");
  if (options.max_kl && options.calibration.empty()) {
    return invalid("--max-kl needs --calibration FILE, the text that it is measured on");
  }
  return {};
}

}  // namespace

Status quantize(const QuantizeVerbOptions& options) {
  if (auto s = check_flags(options); !s) return s;
  const auto source = resolve_model_dir(options.model, HubEnvironment::of_process());
  if (!source) return source.error();
  auto policy = parse_quant_policy(options.quant);
  if (!policy) return Error{policy.error().code, "--quant: " + policy.error().text};
  const auto shard_bytes = parse_bytes("--max-shard-bytes", options.max_shard_bytes);
  if (!shard_bytes) return shard_bytes.error();
  if (auto s = check_quantize_places(*source, options.output); !s) return s;
  const auto compute = make_compute(options.compute);
  if (!compute) return compute.error();
  std::optional<Chosen> chosen;
  if (options.quant.empty()) {
    auto made = choose(options, *source, *compute);
    if (!made) return made.error();
    chosen.emplace(std::move(*made));
    policy = chosen->choice.policy();
    if (!options.json) print_choice(*chosen);
  }
  ConsoleProgress progress(options.compute.is_quiet());
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
    if (chosen) json.set("choice", choice_json(*chosen));
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
