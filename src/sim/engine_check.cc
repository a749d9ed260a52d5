#include "sim/engine_check.h"

#include <algorithm>

namespace fathom {

Json to_json(const EngineCheck& check) {
  Json json = Json::object().set("engine", engine_name(check.engine));
  if (!check.skipped.empty()) return json.set("skipped", check.skipped);
  return json.set("difference", check.difference);
}

Result<EngineCheck> check_engine(const Scenario& scenario, const Simulation& answer, double share) {
  EngineCheck check;
  if (answer.engine == FlowEngine::kMaxMin) check.engine = FlowEngine::kSimGrid;
  const bool is_simgrid = check.engine == FlowEngine::kSimGrid;
  const auto most = static_cast<double>(is_simgrid ? kMostSimGridRates : kMostMaxMinRates);
  const auto budget = static_cast<int64_t>(share * most);
  const std::string given =
      "; a check is given " + figure_text(static_cast<double>(budget), 9) + " rates" + (share < 1 ? " here" : "");
  if (is_simgrid && answer.num_rates > budget) {
    check.skipped =
        "engine simgrid would compute " + figure_text(static_cast<double>(answer.num_rates), 9) + " rates" + given;
    return check;
  }
  const auto second = simulate(scenario, check.engine, budget);
  if (!second) {
    const Error& error = second.error();
    // The first engine has answered, so nothing is wrong with the scenario. An interrupt ends the program.
    const bool is_over = error.code == ErrorCode::kCancelled && !is_simgrid;
    if (!is_over && error.code != ErrorCode::kInvalidArgument) return error;
    check.skipped = is_over ? error.text + given : error.text;
    if (is_over) check.cost = share;
    return check;
  }
  check.cost = static_cast<double>(is_simgrid ? answer.num_rates : second->num_rates) / most;
  for (size_t j = 0; j < answer.jobs.size(); ++j) {
    const double difference = answer.jobs[j].link_seconds / second->jobs[j].link_seconds - 1;
    if (std::abs(difference) > std::abs(check.difference)) check.difference = difference;
  }
  return check;
}

std::string text_of(const EngineCheck& check, const Simulation& answer) {
  const std::string name = engine_name(check.engine);
  if (!check.skipped.empty()) return "check skipped: " + check.skipped;
  if (check.agrees()) return "engine " + name + " agrees within 0.01 %";
  return "engines " + engine_name(answer.engine) + " and " + name + " differ by " +
         figure_text(100 * check.difference) + " %; accepted: 0.01 %" +
         (answer.engine == FlowEngine::kBound ? " (a bound need not be reached)" : "");
}

}  // namespace fathom
