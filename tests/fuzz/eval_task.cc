// Fuzz target: any text as the file of a benchmark, and any text as an answer. Input: a byte that chooses the task, its
// file, a zero byte, what the model writes.
#include "engine/eval_task.h"

#include <optional>

#include "scratch.h"

namespace {

using namespace fathom;

/// Says the same to everything.
class Parrot : public Answerer {
 public:
  explicit Parrot(std::string_view text) : text_(text) {}
  Result<std::optional<double>> log_likelihood(std::string_view, std::string_view continuation) override {
    return std::optional(-static_cast<double>(continuation.back()));
  }
  Result<std::optional<std::string>> complete(std::string_view, const std::vector<std::string>&, int64_t) override {
    return std::optional(text_);
  }

 private:
  std::string text_;
};

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  if (size < 1) return 0;
  const std::string& name = EvalTask::names()[data[0] % EvalTask::names().size()];
  std::string_view rest = fuzz::text_of(data + 1, size - 1);
  const std::string_view records = fuzz::cut(rest);
  const auto task = EvalTask::create(name, records, "fuzz", name == "humaneval" ? 0 : data[0] / 4 % 3, data[0] / 16);
  if (!task) {
    check(task.error().text.starts_with("fuzz"), "an error names its source");
    return 0;
  }
  Parrot parrot(rest);
  int asked = 0;
  for (const EvalQuestion& question : task->questions()) {
    if (++asked > 4) break;
    const auto answer = task->ask(question, parrot, 16);
    check(answer.ok(), "a question has an answer");
    const Json record = task->record_of(question, *answer);
    check(Json::parse(record.dump(), "record").ok(), "a record is JSON");
  }
  return 0;
}
