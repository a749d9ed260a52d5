#include "plan/unused_settings.h"

#include <string_view>

namespace fathom {
namespace {

bool is_default(const PlanSettings::ThisMachine& m) {
  const PlanSettings::ThisMachine none;
  return m.quant == none.quant && m.context == none.context && m.prompt == none.prompt && m.threads == none.threads;
}

/// What makes a section count; empty: it does.
std::string what_is_missing(const PlanSettings& s, std::string_view section, std::string_view key, bool has_model) {
  const bool trains = s.training.pipeline > 0 || s.search.kind == "training";
  const bool serves = s.serving.gpus > 0 || s.search.kind == "serving";
  const bool of_every_model =
      key == "training.sequence_tokens" || key == "serving.context" || key == "serving.full_attention_every";
  if (has_model && of_every_model) return "";
  if (section == "hardware") return has_model ? "" : "a MODEL";
  if (section == "training") return trains ? "" : "training.pipeline or --search training";
  if (section == "serving") return serves ? "" : "serving.gpus or --search serving";
  if (section == "search") return s.search.kind != "none" ? "" : "--search training or --search serving";
  if (section == "energy") {
    return trains || s.search.kind != "none" ? "" : "training.pipeline, --search training or --search serving";
  }
  if (section == "fabric") return s.fabric.kind != "none" ? "" : "fabric.kind, as mpft";
  if (section == "failures") return s.failures.gpu_mtbf_h > 0 ? "" : "failures.gpu_mtbf_h";
  return "";
}

}  // namespace

Status check_used(const PlanSettings& settings, const std::vector<std::string>& given, bool has_model,
                  bool is_this_machine) {
  if (!is_this_machine && !is_default(settings.machine)) {
    return invalid(
        "the settings of machine are about the machine at hand: give --hardware this; on a preset serving.weights and "
        "serving.kv are the formats, serving.context the tokens of a sequence");
  }
  for (const std::string& setting : given) {
    const std::string key = setting.substr(0, setting.find('='));
    const std::string section = key.substr(0, key.find('.'));
    if (is_this_machine) {
      if (section == "machine") continue;
      return invalid(key +
                     ": --hardware this answers of the section machine alone, as machine.quant=int4; for the rest "
                     "give a preset, as h800");
    }
    const std::string missing = what_is_missing(settings, section, key, has_model);
    if (!missing.empty()) return invalid(key + " changes nothing that was asked: it needs " + missing);
  }
  return {};
}

}  // namespace fathom
