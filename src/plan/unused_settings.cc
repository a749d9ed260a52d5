#include "plan/unused_settings.h"

#include <algorithm>
#include <initializer_list>
#include <string_view>

namespace fathom {
namespace {

bool is_default(const PlanSettings::ThisMachine& m) {
  const PlanSettings::ThisMachine none;
  return m.quant == none.quant && m.context == none.context && m.prompt == none.prompt && m.threads == none.threads;
}

bool is_one_of(std::string_view key, std::initializer_list<std::string_view> keys) {
  return std::find(keys.begin(), keys.end(), key) != keys.end();
}

/// "training.mfu and training.tokens" of those that are not there.
std::string absent(std::initializer_list<std::pair<bool, const char*>> needs) {
  std::string out;
  for (const auto& [is_there, name] : needs) {
    if (!is_there) out += (out.empty() ? "" : " and ") + std::string(name);
  }
  return out;
}

constexpr const char* kNoTrainingSearch = "no --search training, which tries every layout itself (or a --what-if)";
constexpr const char* kNoServingSearch =
    "no --search serving, which tries every group and batch itself (or a --what-if)";

std::string missing_of_training(const PlanSettings& s, std::string_view key, const Asked& asked) {
  const auto& t = s.training;
  const bool searches = s.search.kind == "training";
  if (t.pipeline == 0 && !searches) return "training.pipeline or --search training";
  if (is_one_of(key, {"training.pipeline", "training.schedule", "training.micro_batches", "training.chunk_times",
                      "training.hop", "training.stage_scale"})) {
    if (searches && !asked.has_what_if) return kNoTrainingSearch;
    return t.pipeline > 0 ? "" : "training.pipeline";
  }
  if (!asked.has_model) return "a MODEL: of a pipeline alone its schedule is timed";
  if (is_one_of(key, {"training.expert", "training.data", "training.sequences", "training.mfu"})) {
    if (searches && !asked.has_what_if) {
      return key == "training.mfu" ? "no --search training, whose search.utilisation is of products alone"
                                   : kNoTrainingSearch;
    }
    return t.pipeline > 0 ? "" : "training.pipeline";
  }
  if (key == "training.tokens") {
    if (searches) return absent({{s.energy.pue > 0, "energy.pue, for the energy of the run"}});
    return absent({{t.mfu > 0, "training.mfu"}});
  }
  if (key == "training.gpu_hour_dollars" && !searches) {
    return absent({{t.mfu > 0, "training.mfu"}, {t.tokens > 0, "training.tokens"}});
  }
  return "";
}

std::string missing_of_serving(const PlanSettings& s, std::string_view key, const Asked& asked) {
  const bool searches = s.search.kind == "serving";
  if (s.serving.gpus == 0 && !searches) return "serving.gpus or --search serving";
  if (is_one_of(key, {"serving.host_gb", "serving.host_shares_nic"})) {
    return absent({{s.serving.host_gbps > 0, "serving.host_gbps"}});
  }
  if (key == "serving.codec_overhead" && !s.serving.dispatch.starts_with("logfmt") &&
      !s.serving.combine.starts_with("logfmt")) {
    return "serving.combine or serving.dispatch in logfmt8 or logfmt10";
  }
  if (searches && !asked.has_what_if) {
    if (is_one_of(key, {"serving.gpus", "serving.batch", "serving.redundant_experts"})) return kNoServingSearch;
    if (key == "serving.context" && s.search.isl + s.search.osl >= 1) {
      return "no search.isl and search.osl, whose sum is the context";
    }
  }
  return "";
}

std::string missing_of_search(const PlanSettings& s, std::string_view key) {
  if (s.search.kind == "none") return "--search training or --search serving";
  const bool trains = s.search.kind == "training";
  if (!trains && is_one_of(key, {"search.batch", "search.sequences", "search.overlap"})) return "--search training";
  if (trains && is_one_of(key, {"search.qps", "search.isl", "search.osl", "search.max_tpot_ms", "search.max_ttft_ms",
                                "search.cache_hits"})) {
    return "--search serving";
  }
  if (!trains && is_one_of(key, {"search.utilisation", "search.max_ttft_ms", "search.cache_hits"})) {
    return absent({{s.search.isl >= 1, "search.isl"}, {s.search.utilisation > 0, "search.utilisation"}});
  }
  return "";
}

std::string missing_of_energy(const PlanSettings& s, std::string_view key) {
  const bool has_pue = s.energy.pue > 0, is_carbon = key == "energy.kg_per_kwh";
  if (s.search.kind == "serving") {
    return absent({{s.search.qps > 0, "search.qps"}, {has_pue, "energy.pue"}});
  }
  if (s.search.kind == "training") {
    return absent({{has_pue, "energy.pue"}, {!is_carbon || s.training.tokens > 0, "training.tokens"}});
  }
  if (s.training.pipeline == 0) return "training.pipeline, --search training or --search serving";
  return absent(
      {{s.training.mfu > 0, "training.mfu"}, {s.training.tokens > 0, "training.tokens"}, {has_pue, "energy.pue"}});
}

std::string missing_of_service(const PlanSettings& s, std::string_view key) {
  const auto& v = s.service;
  if (key == "service.input_tokens_per_day") {
    return absent({{v.node_input_tokens_per_s > 0, "service.node_input_tokens_per_s"}});
  }
  if (key == "service.output_tokens_per_day") {
    return absent({{v.node_output_tokens_per_s > 0, "service.node_output_tokens_per_s"}});
  }
  if (v.node_input_tokens_per_s > 0 || v.node_output_tokens_per_s > 0) return "";
  return "service.node_input_tokens_per_s or service.node_output_tokens_per_s";
}

/// What a network has no use for; `settings` may be a file's.
std::string missing_of_fabric(const PlanSettings::FabricSettings& f, std::string_view key, const Asked& asked) {
  if (key == "fabric.q" && f.kind != "slimfly") return "fabric.kind slimfly; it is " + f.kind;
  if (key == "fabric.groups" && f.kind != "dragonfly") return "fabric.kind dragonfly; it is " + f.kind;
  // A report draws the price of all kinds.
  if (key == "fabric.planes" && f.kind != "mpft" && f.kind != "mrft" && !asked.has_report) {
    return "fabric.kind mpft or mrft; it is " + f.kind;
  }
  return "";
}

/// What makes a setting count; empty: it does.
std::string what_is_missing(const PlanSettings& s, std::string_view section, std::string_view key, const Asked& asked) {
  const bool is_context_of_search = key == "serving.context" && s.search.kind == "serving";
  if (asked.has_model && !is_context_of_search &&
      is_one_of(key, {"training.sequence_tokens", "serving.context", "serving.full_attention_every"})) {
    return "";
  }
  if (section == "hardware") return asked.has_model ? "" : "a MODEL";
  if (section == "training") return missing_of_training(s, key, asked);
  if (section == "serving") return missing_of_serving(s, key, asked);
  if (section == "search") return missing_of_search(s, key);
  if (section == "energy") return missing_of_energy(s, key);
  if (section == "fabric") {
    return s.fabric.kind != "none" ? missing_of_fabric(s.fabric, key, asked) : "fabric.kind, as mpft";
  }
  if (section == "service") return missing_of_service(s, key);
  if (section == "failures") return s.failures.gpu_mtbf_h > 0 ? "" : "failures.gpu_mtbf_h";
  return "";
}

Error unused(const std::string& key, const std::string& missing) {
  return invalid(key + " changes nothing that was asked: it needs " + missing);
}

}  // namespace

Status check_used(const PlanSettings& settings, const std::vector<std::string>& given, const Asked& asked) {
  if (!asked.is_this_machine && !is_default(settings.machine)) {
    return invalid(
        "the settings of machine are about the machine at hand: give --hardware this; on a preset serving.weights and "
        "serving.kv are the formats, serving.context the tokens of a sequence");
  }
  for (const std::string& setting : given) {
    const std::string key = setting.substr(0, setting.find('='));
    const std::string section = key.substr(0, key.find('.'));
    if (asked.is_this_machine) {
      if (section == "machine") continue;
      return invalid(key +
                     ": --hardware this answers of the section machine alone, as machine.quant=int4; for the rest "
                     "give a preset, as h800");
    }
    const std::string missing = what_is_missing(settings, section, key, asked);
    if (!missing.empty()) return unused(key, missing);
  }
  const auto& f = settings.fabric;
  if (asked.is_this_machine || f.kind == "none") return {};
  const PlanSettings::FabricSettings none;
  for (const auto& [key, is_given] : {std::pair{"fabric.q", f.q != none.q},
                                      {"fabric.groups", f.groups != none.groups},
                                      {"fabric.planes", f.planes != none.planes}}) {
    const std::string missing = is_given ? missing_of_fabric(f, key, asked) : "";
    if (!missing.empty()) return unused(key, missing);
  }
  return {};
}

}  // namespace fathom
