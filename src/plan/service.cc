#include "plan/service.h"

#include <cmath>

#include "plan/limits.h"

namespace fathom {

bool has_service(const PlanSettings& settings) {
  return settings.service.node_input_tokens_per_s > 0 || settings.service.node_output_tokens_per_s > 0;
}

Result<FigureGroup> plan_service(const PlanSettings& settings) {
  const auto& s = settings.service;
  constexpr double kLeast = 1e-6, kDay = 86400;
  const struct {
    const char* kind;    // of nodes
    const char* tokens;  // theirs
    double per_day, per_s;
  } loads[] = {{"prefill", "input", s.input_tokens_per_day, s.node_input_tokens_per_s},
               {"decode", "output", s.output_tokens_per_day, s.node_output_tokens_per_s}};
  const auto refuse = [](const std::string& key, double value) {
    return invalid("service." + key + " is " + figure_text(value) + "; accepted: 1e-6 or more, or 0: not known");
  };
  if (s.gpu_hour_dollars > 0 && s.gpu_hour_dollars < kLeast) return refuse("gpu_hour_dollars", s.gpu_hour_dollars);
  const double node_hour = static_cast<double>(s.gpus_per_node) * s.gpu_hour_dollars;
  FigureGroup g{"service", {}};
  const auto add = [&](std::string name, double value, std::string unit, std::string formula) {
    g.figures.push_back({std::move(name), value, std::move(unit), std::move(formula), "settings"});
  };
  double nodes = 0;
  for (const auto& load : loads) {
    const std::string rate = "node_" + std::string(load.tokens) + "_tokens_per_s";
    if (load.per_s > 0 && load.per_s < kLeast) return refuse(rate, load.per_s);
    if (load.per_day == 0) continue;
    if (load.per_s == 0) {
      return invalid("service." + rate + " is missing: what a " + load.kind + " node does in a second");
    }
    const double busy = load.per_day / kDay / load.per_s;
    nodes += busy;
    add(std::string(load.kind) + " nodes", busy, "", "tokens of a day / 86400 / tokens of a node in a second");
  }
  if (nodes > 0) {
    add("nodes", nodes, "", "their sum: all of them busy all day");
    add("whole nodes", std::ceil(nodes), "", "rounded up");
    add("GPUs of whole nodes", std::ceil(nodes) * static_cast<double>(s.gpus_per_node), "", "nodes * gpus_per_node");
    if (node_hour > 0) {
      add("price of a day", nodes * 24 * node_hour, "$", "nodes * gpus_per_node * 24 h * dollars, as busy ones alone");
    }
  }
  for (const auto& load : loads) {
    if (load.per_s == 0 || node_hour == 0) continue;
    add("price per million " + std::string(load.tokens) + " tokens", dollars_per_million(node_hour, load.per_s), "$",
        "gpus_per_node * dollars / (tokens of a node in a second * 3600)");
  }
  if (g.figures.empty()) {
    return invalid(
        "service: a node's rate alone answers nothing; give service.gpu_hour_dollars for the price of a million "
        "tokens, or service.output_tokens_per_day for nodes");
  }
  return g;
}

}  // namespace fathom
