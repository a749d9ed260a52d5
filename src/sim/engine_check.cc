#include "sim/engine_check.h"

#include <chrono>

namespace fathom {

Json to_json(const EngineCheck& check) {
  Json json = Json::object().set("engine", engine_name(check.engine));
  if (!check.skipped.empty()) return json.set("skipped", check.skipped);
  return json.set("difference", check.difference).set("seconds", check.seconds);
}

Result<EngineCheck> check_engine(const Scenario& scenario, const Simulation& answer, double most_seconds) {
  using Clock = std::chrono::steady_clock;
  EngineCheck check;
  if (answer.engine == FlowEngine::kMaxMin) check.engine = FlowEngine::kSimGrid;
  const Clock::time_point start = Clock::now();
  const auto second =
      simulate(scenario, check.engine,
               start + std::chrono::duration_cast<Clock::duration>(std::chrono::duration<double>(most_seconds)));
  check.seconds = std::chrono::duration<double>(Clock::now() - start).count();
  if (!second) {
    const Error& error = second.error();
    // The first engine has answered, so nothing is wrong with the scenario.
    const bool is_late = error.code == ErrorCode::kCancelled && check.seconds >= most_seconds * 0.99;
    if (!is_late && error.code != ErrorCode::kInvalidArgument) return error;
    check.skipped = is_late ? error.text + "; a check is given " + figure_text(most_seconds) + " s" : error.text;
    return check;
  }
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
