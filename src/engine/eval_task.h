// Evaluation tasks: questions of public benchmarks as prompts, and what counts as a right answer. Whoever answers is
// behind an interface, so that a test can put somebody there who knows the answers.
//
//   gsm8k      {question, answer "... #### 18"}        a number is generated (Cobbe et al. 2021, arXiv:2110.14168)
//   mmlu_stem  {question, options [4], answer "B", topic}  the likeliest of " A" .. " D" (Hendrycks et al. 2020,
//   2009.03300) humaneval  {task_id, prompt, canonical_solution}   a function's body is generated (Chen et al. 2021,
//   2107.03374) mbpp       {task_id, text, code, test_list}        a function is generated (Austin et al. 2021,
//   2108.07732)
//
// Generated code is never executed here. It is cut out and handed back; whether it passes its tests is for the harness
// of the benchmark in a sandbox of the user's. What is counted is how often it is the reference solution, letter by
// letter.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/json.h"
#include "base/result.h"

namespace fathom {

/// Somebody who answers. An empty optional: the prompt does not fit the model's context.
class Answerer {
 public:
  virtual ~Answerer() = default;
  /// log p(continuation | prompt) in nats.
  virtual Result<std::optional<double>> log_likelihood(std::string_view prompt, std::string_view continuation) = 0;
  /// The most probable text behind `prompt`, up to one of `stops` (which may be part of it) or `max_tokens`.
  virtual Result<std::optional<std::string>> complete(std::string_view prompt, const std::vector<std::string>& stops,
                                                      int64_t max_tokens) = 0;
};

enum class EvalKind { kChoice, kNumber, kCode };

struct EvalQuestion {
  std::string id;
  std::string prompt;  // the shots, then the question
  std::string right;   // a letter, a number, or the reference solution
};

struct EvalAnswer {
  std::string text;                       // as generated; of a choice empty
  std::string answer;                     // cut out of it: a letter, a number (empty: none), code
  bool right = false;                     // `answer` is what was asked for; gsm8k: what follows "####"
  bool right_loosely = false;             // gsm8k: the last number of the text, wherever it stands
  bool too_long = false;                  // the prompt did not fit: nothing was answered
  std::vector<double> log_likelihoods{};  // of the choices
};

class EvalTask {
 public:
  /// `records` is the benchmark's file, a JSON object a line (empty lines are skipped); `where` names it in errors.
  /// The first `num_shots` records are shown with their answers in front of every prompt (mmlu_stem: the first of the
  /// question's topic) and are not asked. At most `limit` questions; 0: all. Errors: an unknown name, a record that
  /// lacks a member or has another kind there, shots for humaneval, fewer records than shots.
  static Result<EvalTask> create(std::string_view name, std::string_view records, std::string_view where,
                                 int64_t num_shots, int64_t limit);
  static const std::vector<std::string>& names();

  EvalKind kind() const { return kind_; }
  const std::vector<EvalQuestion>& questions() const { return questions_; }

  /// Puts one question. Errors are the answerer's.
  Result<EvalAnswer> ask(const EvalQuestion& question, Answerer& answerer, int64_t max_tokens) const;

  /// A line for a file of answers: {"task_id", "completion"} for code, as the harnesses of both benchmarks read it;
  /// {"id", "answer", "expected", "right", ...} else.
  Json record_of(const EvalQuestion& question, const EvalAnswer& answer) const;

 private:
  EvalKind kind_ = EvalKind::kChoice;
  std::string name_;
  std::vector<std::string> stops_;
  std::vector<EvalQuestion> questions_;
};

/// The number behind the last "####" of a worked answer, without "$", thousands' commas and a final full stop; empty:
/// there is none.
std::string marked_number(std::string_view text);
/// The last number of a text in the same form.
std::string last_number(std::string_view text);

}  // namespace fathom
