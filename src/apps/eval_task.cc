// fathom eval --task: the questions of a benchmark put to a model. Choices are scored by the windowed forward pass of
// eval --text, texts generated greedily by the engine.
#include "engine/eval_task.h"

#include <algorithm>
#include <cstdio>

#include "apps/console.h"
#include "apps/eval.h"
#include "base/file.h"
#include "model/divergence.h"
#include "model/transformer.h"

namespace fathom::apps {
namespace {

class SessionAnswerer final : public Answerer {
 public:
  SessionAnswerer(Session& session, Kernels& kernels)
      : session_(session),
        transformer_(session.model().config, session.model().weights),
        run_{.k = kernels, .arena = arena_, .precision = session.engine().options().precision},
        cache_(session, session.context_length()),
        scored_{run_, transformer_, cache_.pages.layers()} {}

  Result<std::optional<double>> log_likelihood(std::string_view prompt, std::string_view continuation) override {
    const auto before = session_.encode_prompt(prompt);
    if (!before) return before.error();
    const auto whole = session_.encode_prompt(std::string(prompt) + std::string(continuation));
    if (!whole) return whole.error();
    if (static_cast<int64_t>(whole->size()) > session_.context_length()) return std::optional<double>();
    // Where the continuation changes how the end of the prompt is cut into tokens, those count as well.
    const auto first = std::mismatch(whole->begin(), whole->end(), before->begin(), before->end()).first;
    const int64_t length = static_cast<int64_t>(whole->size());
    const int64_t begin = std::clamp<int64_t>(first - whole->begin(), 1, length);
    const std::vector<int32_t> targets = targets_of({.begin = 0, .end = length, .first_scored = begin}, *whole);
    const ArenaScope scope(arena_);
    const double nats = transformer_.head().loss(run_, scored_.forward(*whole), targets, 1.0, Tensor{});
    if (auto s = experts_status(); !s) return s.error();
    return std::optional(-nats);
  }

  Result<std::optional<std::string>> complete(std::string_view prompt, const std::vector<std::string>& stops,
                                              int64_t max_tokens) override {
    const auto ids = session_.encode_prompt(prompt);
    if (!ids) return ids.error();
    if (static_cast<int64_t>(ids->size()) >= session_.context_length()) return std::optional<std::string>();
    const auto id = session_.engine().submit(*ids, {.temperature = 0}, max_tokens);
    if (!id) return id.error();
    auto answer = session_.run(*id, stops, [](std::string_view) {});
    session_.engine().remove(*id);
    if (!answer) return answer.error();
    return std::optional(std::move(answer->text));
  }

 private:
  /// An expert that could not be read leaves numbers that mean nothing.
  Status experts_status() {
    return session_.model().experts == nullptr ? Status() : session_.model().experts->take_status();
  }

  Session& session_;
  const Transformer transformer_;
  Arena arena_;
  const Run run_;
  const WindowCache cache_;
  const ScoredModel scored_;
};

Result<std::string> read_records(const std::string& path) {
  if (path.empty()) return invalid("--task needs --file FILE: the benchmark's records, a JSON object a line");
  if (path == "-") return read_standard_input();
  for (const auto& [suffix, program] : {std::pair(".xz", "xz"), std::pair(".gz", "gzip")}) {
    if (path.ends_with(suffix)) {
      return invalid("--file " + path + " is compressed; give its text: " + program + " -dc " + path +
                     " | fathom eval ... --file -");
    }
  }
  return read_file(path);
}

}  // namespace

Status eval_task(Session& session, const EvalOptions& options) {
  const auto records = read_records(options.task_file);
  if (!records) return records.error();
  const std::string where = options.task_file == "-" ? "standard input" : options.task_file;
  const auto task = EvalTask::create(options.task, *records, where, options.shots, options.limit);
  if (!task) return task.error();
  const auto compute = make_compute(options.compute);
  if (!compute) return compute.error();
  std::optional<AtomicFile> output;
  if (!options.output.empty()) {
    auto created = AtomicFile::create(options.output);
    if (!created) return created.error();
    output.emplace(std::move(*created));
  }
  SessionAnswerer answerer(session, *compute->kernels);
  ConsoleProgress progress(options.json || options.compute.is_quiet());
  const auto count = static_cast<int64_t>(task->questions().size());
  int64_t asked = 0, right = 0, right_loosely = 0, too_long = 0;
  for (const EvalQuestion& question : task->questions()) {
    const auto answer = task->ask(question, answerer, options.max_tokens);
    if (interrupted()) return interrupted_error("asking " + options.task);
    if (!answer) return Error{answer.error().code, where + ", question " + question.id + ": " + answer.error().text};
    right += answer->right;
    right_loosely += answer->right_loosely;
    too_long += answer->too_long;
    if (output) {
      if (auto s = output->write(task->record_of(question, *answer).dump() + "\n"); !s) return s;
    }
    progress.update("asking", ++asked, count, "");
  }
  if (output) {
    if (auto s = output->commit(); !s) return s;
  }
  progress.finish();
  const char* measure = task->kind() == EvalKind::kChoice   ? "accuracy"
                        : task->kind() == EvalKind::kNumber ? "exact_match"
                                                            : "equal_to_reference";
  const auto share = [&](int64_t n) { return static_cast<double>(n) / static_cast<double>(count); };
  if (options.json) {
    Json json = Json::object();
    json.set("task", options.task).set("questions", count).set("shots", options.shots).set("too_long", too_long);
    json.set(measure, share(right));
    if (task->kind() == EvalKind::kNumber) json.set("exact_match_of_last_number", share(right_loosely));
    std::printf("%s\n", json.dump(2).c_str());
    return {};
  }
  std::printf("%s: %lld questions, %lld shots", options.task.c_str(), static_cast<long long>(count),
              static_cast<long long>(options.shots));
  if (too_long > 0) std::printf(", %lld longer than the context and not answered", static_cast<long long>(too_long));
  std::printf("\n");
  if (task->kind() == EvalKind::kCode) {
    std::printf("%lld letter by letter the reference; no code was executed%s%s\n", static_cast<long long>(right),
                output ? ": its harness reads " : ", and none written (--output)",
                output ? options.output.c_str() : "");
    return {};
  }
  std::printf("%s %.2f %% (%lld)", task->kind() == EvalKind::kChoice ? "accuracy" : "exact match", 100 * share(right),
              static_cast<long long>(right));
  if (task->kind() == EvalKind::kNumber) {
    std::printf("; by the last number %.2f %% (%lld)", 100 * share(right_loosely),
                static_cast<long long>(right_loosely));
  }
  std::printf("\n");
  return {};
}

}  // namespace fathom::apps
