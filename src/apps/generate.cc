// fathom generate: one prompt, one completion, streamed.
#include <algorithm>
#include <cstdio>

#include "apps/console.h"
#include "apps/verbs.h"
#include "base/file.h"
#include "model/traffic.h"

namespace fathom::apps {
namespace {

Json counts(const std::vector<int64_t>& values) {
  Json list = Json::array();
  for (int64_t v : values) list.push(v);
  return list;
}

/// What a drafted step of these statistics should cost by the bytes it reads.
GuessCost cost_by_bytes(const Model& model, SpeculationKind kind, const SpeculationStats& stats) {
  const double guesses = static_cast<double>(stats.proposed) / static_cast<double>(std::max<int64_t>(1, stats.steps));
  return guess_cost(traffic_of(model), guesses, kind == SpeculationKind::kMtp);
}

Json json_of(const Model& model, SpeculationKind kind, const SpeculationStats& stats) {
  Json json = Json::object();
  json.set("kind", name_of(kind)).set("steps", stats.steps);
  json.set("proposed", stats.proposed).set("accepted", stats.accepted);
  json.set("proposed_by_position", counts(stats.position_proposed));
  json.set("accepted_by_position", counts(stats.position_accepted));
  if (stats.steps == 0) return json;
  const GuessCost cost = cost_by_bytes(model, kind, stats);
  json.set("speedup_by_bytes", stats.modelled_speedup(cost.guess, cost.rows));
  json.set("guess_cost_by_bytes", cost.guess).set("rows_cost_by_bytes", cost.rows);
  json.set("timed_steps", stats.timed_steps);
  if (stats.timed_steps > 0) json.set("speedup_measured", stats.measured_speedup());
  return json;
}

void report(const Model& model, const SpeculationParams& params, const SpeculationStats& stats,
            const Session::Answer& answer) {
  const SpeculationKind kind = params.kind;
  if (stats.steps == 0) {
    const double waits = DraftLedger::first_cost(kind) / DraftLedger::kLossRate;
    std::fprintf(stderr, "speculation %s: no guesses", std::string(name_of(kind)).c_str());
    if (params.adaptive && static_cast<double>(answer.tokens.size()) <= waits) {
      std::fprintf(
          stderr,
          "; the first is tried after %.0f tokens, so that it costs less than 2 %% of the time; --always-draft "
          "guesses at once",
          waits);
    }
    std::fprintf(stderr, "\n");
    return;
  }
  std::fprintf(stderr,
               "speculation %s: %lld of %lld guesses right (%.1f %%), %.2f tokens in each of %lld drafted steps\n",
               std::string(name_of(kind)).c_str(), static_cast<long long>(stats.accepted),
               static_cast<long long>(stats.proposed), 100 * stats.acceptance(), stats.tokens_per_step(),
               static_cast<long long>(stats.steps));
  const double generating = answer.seconds - answer.first_token_seconds;
  if (answer.tokens.size() < 2 || generating <= 0) return;
  std::fprintf(stderr, "%.1f tokens/s; a drafted step beside a plain one: ",
               static_cast<double>(answer.tokens.size() - 1) / generating);
  if (stats.timed_steps > 0) std::fprintf(stderr, "%.2f times as fast as timed, ", stats.measured_speedup());
  const GuessCost cost = cost_by_bytes(model, kind, stats);
  std::fprintf(stderr, "%.2f by bytes: %.2f tokens / (1 + %.2f to guess + %.2f for experts)\n",
               stats.modelled_speedup(cost.guess, cost.rows), stats.tokens_per_step(), cost.guess, cost.rows);
}

}  // namespace

Status generate(const GenerateOptions& options) {
  std::string prompt = options.prompt;
  if (options.prompt_file == "-") {
    auto text = read_standard_input();
    if (!text) return text.error();
    prompt = std::move(*text);
  } else if (!options.prompt_file.empty()) {
    auto text = read_file(options.prompt_file, int64_t{64} << 20);
    if (!text) return text.error();
    prompt = std::move(*text);
  }
  if (prompt.empty()) return invalid("the prompt is empty: give -p TEXT or --file FILE");
  for (const std::string& stop : options.stop) {
    if (stop.empty()) return invalid("--stop \"\" would end every answer at once; give a text");
  }
  auto session = Session::load(options.model, options.compute);
  if (!session) return session.error();
  Session& s = **session;
  const auto ids = s.encode_prompt(prompt);
  if (!ids) {
    const std::string where = options.prompt_file.empty() ? "the prompt" : options.prompt_file;
    return Error{ids.error().code, where + ": " + ids.error().text};
  }
  const SpeculationParams& speculation = s.speculation();
  const auto sequence = s.engine().submit({.prompt = *ids,
                                           .sampling = s.sampling(options.sampling),
                                           .max_new_tokens = options.max_tokens,
                                           .speculation = speculation});
  if (!sequence) return sequence.error();
  const bool stream = !options.json;
  const auto answer = s.run(*sequence, options.stop, [stream](std::string_view text) {
    if (!stream) return;
    std::fwrite(text.data(), 1, text.size(), stdout);
    std::fflush(stdout);
  });
  if (!answer) return answer.error();
  if (answer->interrupted) {
    if (stream) std::fputc('\n', stdout);
    return interrupted_error("generating");
  }
  const SpeculationStats stats = s.engine().speculation_stats(*sequence);
  const bool speculates = speculation.kind != SpeculationKind::kNone;
  if (stream) {
    std::fputc('\n', stdout);
    std::fflush(stdout);
    if (speculates && !options.compute.is_quiet()) report(s.model(), speculation, stats, *answer);
    if (s.model().experts && !options.compute.is_quiet())
      std::fprintf(stderr, "%s\n", expert_report(*s.model().experts).c_str());
    return {};
  }
  Json json = Json::object();
  json.set("text", answer->text).set("finish_reason", finish_name(*answer));
  json.set("prompt_tokens", static_cast<int64_t>(ids->size()));
  json.set("completion_tokens", static_cast<int64_t>(answer->tokens.size()));
  Json tokens = Json::array();
  for (int32_t id : answer->tokens) tokens.push(int64_t{id});
  json.set("tokens", std::move(tokens));
  json.set("seconds_to_first_token", answer->first_token_seconds).set("seconds", answer->seconds);
  if (speculates) json.set("speculation", json_of(s.model(), speculation.kind, stats));
  if (s.model().experts) json.set("experts", json_of(*s.model().experts));
  std::printf("%s\n", json.dump(2).c_str());
  return {};
}

}  // namespace fathom::apps
