// Tasks put by somebody who knows all the answers score 100 %, by somebody who knows none 0 %; prompts are written out.
#include "engine/eval_task.h"

#include <gtest/gtest.h>

#include <cstdio>
#include <filesystem>
#include <map>

#include "../effort.h"

namespace fathom {
namespace {

constexpr const char* kGsm8k = R"({"question": "2 ducks and 3 ducks?", "answer": "2+3=<<2+3=5>>5\n#### 5"}
{"question": "How many?", "answer": "Many.\n#### 1,234"}

{"question": "What is left?", "answer": "4 less 6.\n#### -2"}
)";
constexpr const char* kMmlu =
    R"({"question": "Q one?", "options": ["a", "b", "c", "d"], "answer": "B", "topic": "abstract_algebra", "id": 0}
{"question": "Q two?", "options": ["e", "f", "g", "h"], "answer": "D", "topic": "abstract_algebra", "id": 1}
{"question": "Q three?", "options": ["i", "j", "k", "l"], "answer": "A", "topic": "anatomy", "id": 2}
{"question": "Q four?", "options": ["m", "n", "o", "p"], "answer": "C", "topic": "anatomy", "id": 3}
)";
constexpr const char* kHumanEval =
    R"({"task_id": "HumanEval/0", "prompt": "def one():\n", "canonical_solution": "    return 1\n", "entry_point": "one", "test": "x"}
{"task_id": "HumanEval/1", "prompt": "def two():\n", "canonical_solution": "    if True:\n        return 2\n", "entry_point": "two", "test": "x"}
)";
constexpr const char* kMbpp =
    R"_({"text": "Write a sum.", "code": "def s(a):\r\n  return sum(a)", "task_id": 11, "test_list": ["assert s([1]) == 1"]}
{"text": "Write a max.", "code": "def m(a):\n  return max(a)", "task_id": 12, "test_list": ["assert m([1]) == 1", "assert m([2]) == 2"]}
)_";

/// Reads the records itself and finds the one that a prompt ends with.
class Oracle : public Answerer {
 public:
  Oracle(std::string task, std::string_view records, bool knows) : task_(std::move(task)), knows_(knows) {
    while (!records.empty()) {
      const size_t end = records.find('\n');
      if (std::string line(records.substr(0, end)); !line.empty()) {
        if (const size_t nan = line.find("[NaN,"); nan != std::string::npos) line.replace(nan, 5, "[\"None\",");
        if (const size_t nan = line.find(", NaN]"); nan != std::string::npos) line.replace(nan, 6, ", \"None\"]");
        records_.push_back(*Json::parse(line, "oracle"));
      }
      records = end == std::string_view::npos ? std::string_view() : records.substr(end + 1);
    }
  }
  Result<std::optional<double>> log_likelihood(std::string_view prompt, std::string_view continuation) override {
    const bool right = continuation == " " + asked(prompt).find("answer")->as_string();
    return std::optional(right == knows_ ? -0.5 : -3.0);
  }
  Result<std::optional<std::string>> complete(std::string_view prompt, const std::vector<std::string>& stops,
                                              int64_t) override {
    EXPECT_FALSE(stops.empty());
    if (task_ == "gsm8k") {
      const std::string& answer = asked(prompt).find("answer")->as_string();
      return std::optional(" " + (knows_ ? answer : "7 or so.\n#### 77777") + "\n\nQuestion: and 99?\nAnswer: #### 99");
    }
    const std::string& code = asked(prompt).find(task_ == "mbpp" ? "code" : "canonical_solution")->as_string();
    const std::string end = task_ == "mbpp" ? "\n[DONE]\nmore" : "\ndef another():\n    pass\n";
    return std::optional((knows_ ? code : "    return None") + end);
  }

 private:
  const Json& asked(std::string_view prompt) const {
    const char* key = task_ == "mbpp" ? "text" : task_ == "humaneval" ? "prompt" : "question";
    const Json* found = nullptr;
    size_t latest = 0;
    for (const Json& record : records_) {
      // A prompt ends with its question: the one that ends last, the longest of those.
      const std::string& text = record.find(key)->as_string();
      const size_t at = prompt.rfind(text);
      if (at == std::string_view::npos || at + text.size() < latest) continue;
      if (at + text.size() == latest && found != nullptr && found->find(key)->as_string().size() > text.size())
        continue;
      if (task_ == "mmlu_stem") {  // questions may be the same, with other options
        if (prompt.rfind("A. " + record.find("options")->items()[0].as_string() + "\n") < at) continue;
        if (!prompt.ends_with("D. " + record.find("options")->items()[3].as_string() + "\nAnswer:")) continue;
      }
      latest = at + text.size();
      found = &record;
    }
    EXPECT_NE(found, nullptr) << prompt;
    return *found;
  }
  std::string task_;
  bool knows_;
  std::vector<Json> records_;
};

/// Questions asked and answered rightly.
std::pair<int64_t, int64_t> score(const std::string& name, std::string_view records, int64_t shots, bool knows) {
  const auto task = EvalTask::create(name, records, "records", shots, 0);
  EXPECT_TRUE(task) << task.error().text;
  Oracle oracle(name, records, knows);
  int64_t asked = 0, right = 0;
  for (const EvalQuestion& question : task->questions()) {
    const auto answer = task->ask(question, oracle, 100);
    EXPECT_TRUE(answer);
    ++asked;
    right += answer->right;
    EXPECT_EQ(answer->right_loosely, answer->right);
  }
  return {asked, right};
}

using Score = std::pair<int64_t, int64_t>;

TEST(EvalTask, WhoKnowsTheAnswersScoresAllAndWhoDoesNotNone) {
  const std::map<std::string, const char*> files = {
      {"gsm8k", kGsm8k}, {"mmlu_stem", kMmlu}, {"humaneval", kHumanEval}, {"mbpp", kMbpp}};
  const std::map<std::string, int64_t> counts = {{"gsm8k", 3}, {"mmlu_stem", 4}, {"humaneval", 2}, {"mbpp", 2}};
  ASSERT_EQ(EvalTask::names().size(), files.size());
  for (const auto& [name, records] : files) {
    SCOPED_TRACE(name);
    EXPECT_EQ(score(name, records, 0, true), Score(counts.at(name), counts.at(name)));
    EXPECT_EQ(score(name, records, 0, false), Score(counts.at(name), 0));
  }
  EXPECT_EQ(score("gsm8k", kGsm8k, 1, true), Score(2, 2));
  EXPECT_EQ(score("mmlu_stem", kMmlu, 1, true), Score(2, 2));  // one shot of each topic
  EXPECT_EQ(score("mbpp", kMbpp, 1, true), Score(1, 1));
}

TEST(EvalTask, WholeBenchmarksScoreAllAndNone) {
  const std::filesystem::path evals = std::filesystem::path(FATHOM_SHARED_DIR) / "data/evals";
  if (!std::filesystem::exists(evals)) GTEST_SKIP() << "shared data evals/ is absent";
  const std::tuple<const char*, const char*, int64_t> files[] = {{"gsm8k", "xz -dc gsm8k-test.jsonl.xz", 1319},
                                                                 {"mmlu_stem", "xz -dc mmlu_stem-test.jsonl.xz", 3018},
                                                                 {"humaneval", "gzip -dc HumanEval.jsonl.gz", 164},
                                                                 {"mbpp", "xz -dc mbpp.jsonl.xz", 974}};
  for (const auto& [name, command, count] : files) {
    SCOPED_TRACE(name);
    std::string text;
    FILE* pipe = ::popen(("cd '" + evals.string() + "' && " + command).c_str(), "r");
    ASSERT_NE(pipe, nullptr);
    char buffer[1 << 16];
    while (const size_t got = std::fread(buffer, 1, sizeof(buffer), pipe)) text.append(buffer, got);
    ASSERT_EQ(::pclose(pipe), 0);
    const auto task = EvalTask::create(name, text, name, 0, 0);
    ASSERT_TRUE(task) << task.error().text;
    EXPECT_EQ(static_cast<int64_t>(task->questions().size()), count);
    // The oracle's search is quadratic: some of the questions.
    const size_t step = testing::effort() == testing::Effort::kLittle ? 485 : 97;
    for (const bool knows : {true, false}) {
      Oracle oracle(name, text, knows);
      for (size_t i = 0; i < task->questions().size(); i += step) {
        const EvalQuestion& question = task->questions()[i];
        const auto answer = task->ask(question, oracle, 100);
        ASSERT_TRUE(answer);
        EXPECT_EQ(answer->right, knows) << question.prompt << "\n" << answer->answer << "\n" << question.right;
      }
    }
  }
}

TEST(EvalTask, PromptsAreWrittenAsTheBenchmarksHaveThem) {
  const auto prompt = [](const char* name, const char* records, int64_t shots) {
    const auto task = EvalTask::create(name, records, "records", shots, 1);
    EXPECT_EQ(task->questions().size(), 1u);
    return task->questions().front().prompt;
  };
  EXPECT_EQ(prompt("gsm8k", kGsm8k, 1),
            "Question: 2 ducks and 3 ducks?\nAnswer: 2+3=<<2+3=5>>5\n#### 5\n\nQuestion: How many?\nAnswer:");
  EXPECT_EQ(prompt("mmlu_stem", kMmlu, 1),
            "The following are multiple choice questions (with answers) about abstract algebra.\n\n"
            "Q one?\nA. a\nB. b\nC. c\nD. d\nAnswer: B\n\nQ two?\nA. e\nB. f\nC. g\nD. h\nAnswer:");
  EXPECT_EQ(prompt("humaneval", kHumanEval, 0), "def one():\n");
  EXPECT_EQ(
      prompt("mbpp", kMbpp, 1),
      "You are an expert Python programmer, and here is your task: Write a sum. Your code should pass these tests:\n\n"
      "assert s([1]) == 1\n[BEGIN]\ndef s(a):\r\n  return sum(a)\n[DONE]\n\n"
      "You are an expert Python programmer, and here is your task: Write a max. Your code should pass these tests:\n\n"
      "assert m([1]) == 1\nassert m([2]) == 2\n[BEGIN]\n");
}

TEST(EvalTask, ABareNaNIsTheOptionNone) {
  const auto task = EvalTask::create(
      "mmlu_stem", R"({"question": "A \"NaN\" NaN?", "options": [NaN, "NaN", "x", "y"], "answer": "A", "topic": "t"})",
      "F", 0, 0);
  ASSERT_TRUE(task) << task.error().text;
  EXPECT_TRUE(task->questions()[0].prompt.ends_with("\n\nA \"NaN\" NaN?\nA. None\nB. NaN\nC. x\nD. y\nAnswer:"));
}

TEST(EvalTask, FindsTheNumbersOfWorkedAnswers) {
  EXPECT_EQ(marked_number("so 3\n#### 18"), "18");
  EXPECT_EQ(marked_number("#### 1\n#### $1,234.50."), "1234.50");
  EXPECT_EQ(marked_number("#### -7 ducks"), "-7");
  EXPECT_EQ(marked_number("18"), "");
  EXPECT_EQ(marked_number("####"), "");
  EXPECT_EQ(marked_number("#### none"), "");
  EXPECT_EQ(last_number("He pays $1,234, not 5,678.50."), "5678.50");
  EXPECT_EQ(last_number("it is -2"), "-2");
  EXPECT_EQ(last_number("12 x"), "12");
  EXPECT_EQ(last_number(""), "");
  EXPECT_EQ(last_number(",.-$"), "");
}

TEST(EvalTask, ANumberThatIsOnlyTheLastIsRightLooselyAlone) {
  struct Talker final : Answerer {
    Result<std::optional<double>> log_likelihood(std::string_view, std::string_view) override {
      return std::optional(0.0);
    }
    Result<std::optional<std::string>> complete(std::string_view, const std::vector<std::string>&, int64_t) override {
      return std::optional<std::string>(" That makes 5.");
    }
  } talker;
  const auto task = EvalTask::create("gsm8k", kGsm8k, "records", 0, 1);
  const auto answer = task->ask(task->questions().front(), talker, 100);
  EXPECT_FALSE(answer->right);
  EXPECT_TRUE(answer->right_loosely);
}

TEST(EvalTask, CodeIsCutOutOfFencesAndWrittenForTheHarness) {
  struct Coder final : Answerer {
    Result<std::optional<double>> log_likelihood(std::string_view, std::string_view) override {
      return std::optional(0.0);
    }
    Result<std::optional<std::string>> complete(std::string_view, const std::vector<std::string>&, int64_t) override {
      return std::optional<std::string>("Here:\n```python\ndef s(a):\n  return sum(a)\n```\nDone.");
    }
  } coder;
  const auto task = EvalTask::create("mbpp", kMbpp, "records", 0, 1);
  const auto answer = task->ask(task->questions().front(), coder, 100);
  EXPECT_EQ(answer->answer, "def s(a):\n  return sum(a)\n");
  EXPECT_TRUE(answer->right);  // the reference has carriage returns
  EXPECT_EQ(task->record_of(task->questions().front(), *answer).dump(),
            R"J({"task_id":"11","completion":"def s(a):\n  return sum(a)\n"})J");
}

TEST(EvalTask, WhatDoesNotFitIsNotAnswered) {
  struct Small final : Answerer {
    Result<std::optional<double>> log_likelihood(std::string_view, std::string_view) override {
      return std::optional<double>();
    }
    Result<std::optional<std::string>> complete(std::string_view, const std::vector<std::string>&, int64_t) override {
      return std::optional<std::string>();
    }
  } small;
  for (const auto& [name, records] : {std::pair("mmlu_stem", kMmlu), std::pair("gsm8k", kGsm8k)}) {
    const auto task = EvalTask::create(name, records, "records", 0, 0);
    const auto answer = task->ask(task->questions().front(), small, 100);
    EXPECT_TRUE(answer->too_long);
    EXPECT_FALSE(answer->right);
  }
}

TEST(EvalTask, WrongRecordsAreNamedByFileAndLine) {
  const auto error = [](const char* name, const char* records, int64_t shots = 0) {
    const auto task = EvalTask::create(name, records, "F.jsonl", shots, 0);
    EXPECT_FALSE(task);
    return task ? std::string() : task.error().text;
  };
  EXPECT_NE(error("triviaqa", "{}").find("accepted: gsm8k, mmlu_stem, humaneval, mbpp"), std::string::npos);
  EXPECT_EQ(error("gsm8k", "\n{\"question\": \"a\"}"), "F.jsonl:2: \"answer\" must be a string, but is missing");
  EXPECT_EQ(error("gsm8k", "[]"), "F.jsonl:1: a record must be an object, not array");
  EXPECT_NE(error("gsm8k", "{\"question\": \"a\", \"answer\": \"5\"}").find("no number behind"), std::string::npos);
  EXPECT_NE(error("mmlu_stem", R"({"question": "", "answer": "E", "topic": "", "options": ["a", "b", "c", "d"]})")
                .find("A, B, C, D"),
            std::string::npos);
  EXPECT_NE(error("mmlu_stem", R"({"question": "", "answer": "A", "topic": "", "options": ["a"]})").find("4 strings"),
            std::string::npos);
  EXPECT_NE(error("mbpp", R"({"task_id": 1, "text": "", "code": "", "test_list": [1]})").find("\"test_list\""),
            std::string::npos);
  EXPECT_NE(error("humaneval", kHumanEval, 1).find("no shots"), std::string::npos);
  EXPECT_NE(error("gsm8k", kGsm8k, 3).find("none is left"), std::string::npos);
  EXPECT_NE(error("gsm8k", "").find("0 records"), std::string::npos);
}

}  // namespace
}  // namespace fathom
