// Synthetic data: determinism, correct arithmetic (checked by a parser that shares nothing with the generator), and
// that held-out sums never occur.
#include "train/synth.h"

#include <gtest/gtest.h>

#include <cctype>
#include <cstdio>
#include <filesystem>
#include <set>
#include <string>
#include <vector>

#include "train/arithmetic.h"

namespace fathom {
namespace {

std::vector<std::string> texts_of(const Document& document) {
  if (!document.is_chat()) return {document.text};
  std::vector<std::string> texts;
  for (const Message& message : document.messages) texts.push_back(message.content);
  return texts;
}

SynthOptions only(SynthKind kind, uint64_t seed) {
  SynthOptions options;
  options.seed = seed;
  options.num_documents = 1;
  options.mixture = {0, 0, 0, 0};
  (kind == SynthKind::kStory        ? options.mixture.story
   : kind == SynthKind::kArithmetic ? options.mixture.arithmetic
   : kind == SynthKind::kRecall     ? options.mixture.recall
                                    : options.mixture.chat) = 1;
  return options;
}

struct Worked {
  int a = 0, b = 0, answer = 0;
  char op = 0;
  bool right = false;
};

// Reads "0 4 7 + 0 8 5: 7+5+0=1 2, ... = 132" and checks every digit of it.
Worked parse_working(const std::string& line) {
  int a[3], b[3], col[3][5], digits[4], answer = 0;
  char op = 0, ops[6];
  const int read = std::sscanf(
      line.c_str(), "%d %d %d %c %d %d %d: %d%c%d%c%d=%d %d, %d%c%d%c%d=%d %d, %d%c%d%c%d=%d %d. %d %d %d %d = %d",
      &a[2], &a[1], &a[0], &op, &b[2], &b[1], &b[0],                                 //
      &col[0][0], &ops[0], &col[0][1], &ops[1], &col[0][2], &col[0][3], &col[0][4],  //
      &col[1][0], &ops[2], &col[1][1], &ops[3], &col[1][2], &col[1][3], &col[1][4],  //
      &col[2][0], &ops[4], &col[2][1], &ops[5], &col[2][2], &col[2][3], &col[2][4],  //
      &digits[3], &digits[2], &digits[1], &digits[0], &answer);
  Worked worked;
  if (read != 33) return worked;
  worked.op = op;
  worked.a = a[2] * 100 + a[1] * 10 + a[0];
  worked.b = b[2] * 100 + b[1] * 10 + b[0];
  worked.answer = answer;
  const int sign = op == '+' ? 1 : -1;
  bool right = op == '+' || op == '-';
  for (char c : ops) right = right && c == op;
  int transfer = 0;
  for (int i = 0; i < 3; ++i) {
    right = right && col[i][0] == a[i] && col[i][1] == b[i] && col[i][2] == transfer;
    transfer = col[i][3];
    right = right && (transfer == 0 || transfer == 1) && col[i][4] >= 0 && col[i][4] <= 9;
    right = right && a[i] + sign * b[i] + sign * col[i][2] == sign * 10 * transfer + col[i][4];
    right = right && digits[i] == col[i][4];
  }
  right = right && digits[3] == transfer && answer == worked.a + sign * worked.b;
  right = right && answer == digits[3] * 1000 + digits[2] * 100 + digits[1] * 10 + digits[0];
  // The layout itself is part of the promise: no digits touch before the answer.
  const size_t equals = line.rfind("= ");
  right = right && equals != std::string::npos && line.substr(equals + 2) == std::to_string(answer);
  for (size_t i = 0; right && i + 1 < equals; ++i) right = !(std::isdigit(line[i]) && std::isdigit(line[i + 1]));
  worked.right = right;
  return worked;
}

struct Pair {
  int a, b;
};

// Every pair of neighbouring numbers that a text presents as a sum, or as the sum behind a difference.
std::vector<Pair> sums_in(const std::string& text) {
  struct Number {
    int value;
    size_t begin, end;
  };
  std::vector<Number> numbers;
  for (size_t i = 0; i < text.size();) {
    if (!std::isdigit(static_cast<unsigned char>(text[i]))) {
      ++i;
      continue;
    }
    size_t end = i;
    int value = 0;
    while (end < text.size() && std::isdigit(static_cast<unsigned char>(text[end])) && end - i < 9) {
      value = value * 10 + (text[end++] - '0');
    }
    numbers.push_back({value, i, end});
    i = end;
  }
  std::vector<Pair> sums;
  for (size_t i = 0; i + 1 < numbers.size(); ++i) {
    const auto& [x, x_begin, x_end] = numbers[i];
    const auto& [y, y_begin, y_end] = numbers[i + 1];
    const std::string between = text.substr(x_end, y_begin - x_end);
    const bool difference_words = text.substr(0, x_begin).ends_with("difference of ");
    if (between == "+" || between == " + " || between == " plus " || (between == " and " && !difference_words)) {
      sums.push_back({x, y});
    } else if (between == "-" || between == " - " || between == " minus " || (between == " and " && difference_words)) {
      if (x >= y) sums.push_back({y, x - y});
    } else if (between == " from " || between == " away from ") {
      if (y >= x) sums.push_back({x, y - x});
    }
  }
  return sums;
}

TEST(Synth, DocumentsAreAFunctionOfSeedAndIndex) {
  SynthOptions options;
  options.seed = 5;
  options.num_documents = 1;
  std::vector<SynthDocument> forward;
  for (uint64_t i = 0; i < 200; ++i) forward.push_back(synth_document(options, i));
  for (uint64_t i = 200; i-- > 0;) EXPECT_EQ(synth_document(options, i).document, forward[i].document);
  SynthOptions other = options;
  other.seed = 6;
  int equal = 0;
  for (uint64_t i = 0; i < 200; ++i) equal += synth_document(other, i).document == forward[i].document;
  EXPECT_LT(equal, 20);
}

TEST(Synth, TheFirstSumIsWorkedAsDocumented) {
  EXPECT_EQ(sum_working(47, 85), "0 4 7 + 0 8 5: 7+5+0=1 2, 4+8+1=1 3, 0+0+1=0 1. 0 1 3 2 = 132");
  EXPECT_EQ(difference_working(52, 38), "0 5 2 - 0 3 8: 2-8-0=1 4, 5-3-1=0 1, 0-0-0=0 0. 0 0 1 4 = 14");
  EXPECT_EQ(sum_working(999, 999), "9 9 9 + 9 9 9: 9+9+0=1 8, 9+9+1=1 9, 9+9+1=1 9. 1 9 9 8 = 1998");
  EXPECT_EQ(sum_working(0, 0), "0 0 0 + 0 0 0: 0+0+0=0 0, 0+0+0=0 0, 0+0+0=0 0. 0 0 0 0 = 0");
}

TEST(Synth, EveryWorkedLineIsRightAndAnswersItsQuestion) {
  const SynthOptions options = only(SynthKind::kArithmetic, 1);
  int sums = 0, differences = 0;
  const auto verify = [&](const std::string& line) {
    const Worked worked = parse_working(line);
    EXPECT_TRUE(worked.right) << line;
    const bool is_sum = worked.op == '+';
    EXPECT_FALSE(is_sum ? is_held_out_sum(worked.a, worked.b) : is_held_out_sum(worked.b, worked.answer)) << line;
    ++(is_sum ? sums : differences);
    return worked;
  };
  for (uint64_t i = 0; i < 10000; ++i) {
    const Document document = synth_document(options, i).document;
    if (!document.is_chat()) {
      std::string rest = document.text;
      while (!rest.empty()) {
        const size_t end = rest.find('\n');
        const std::string line = rest.substr(0, end);
        rest = end == std::string::npos ? "" : rest.substr(end + 1);
        const size_t colon = line.find(": ");
        ASSERT_NE(colon, std::string::npos) << line;
        verify(line.substr(colon + 2));
      }
      continue;
    }
    ASSERT_EQ(document.messages.size() % 2, 0u);
    for (size_t m = 0; m < document.messages.size(); m += 2) {
      const std::string& question = document.messages[m].content;
      const Worked worked = verify(document.messages[m + 1].content);
      const auto asked = sums_in(question);
      ASSERT_EQ(asked.size(), 1u) << question;
      if (worked.op == '+') {
        EXPECT_EQ(asked[0].a, worked.a) << question;
        EXPECT_EQ(asked[0].b, worked.b) << question;
      } else {
        EXPECT_EQ(asked[0].a, worked.b) << question;
        EXPECT_EQ(asked[0].b, worked.answer) << question;
      }
    }
  }
  EXPECT_GT(sums, 8000);
  EXPECT_GT(differences, 2000);
}

TEST(Synth, HeldOutSumsNeverOccurInAnyDocument) {
  const auto held_out = held_out_questions(1, 1);
  ASSERT_EQ(sums_in(held_out[0].question).size(), 1u);  // the scanner does see sums
  for (SynthKind kind : {SynthKind::kStory, SynthKind::kArithmetic, SynthKind::kRecall, SynthKind::kChat}) {
    const SynthOptions options = only(kind, 2);
    int64_t seen = 0;
    for (uint64_t i = 0; i < 10000; ++i) {
      for (const std::string& text : texts_of(synth_document(options, i).document)) {
        for (const auto& [a, b] : sums_in(text)) {
          ++seen;
          EXPECT_FALSE(is_held_out_sum(a, b)) << text;
        }
      }
    }
    if (kind == SynthKind::kArithmetic || kind == SynthKind::kChat) {
      EXPECT_GT(seen, 1000) << to_string(kind);
    }
  }
}

TEST(Synth, OneSumInTwentyIsHeldOutWhateverTheOrder) {
  int held_out = 0, all = 0;
  for (int a = 0; a <= kMaxOperand; ++a) {
    for (int b = a; b <= kMaxOperand; ++b) {
      held_out += is_held_out_sum(a, b);
      ++all;
      ASSERT_EQ(is_held_out_sum(a, b), is_held_out_sum(b, a));
      ASSERT_FALSE(b < 10 && is_held_out_sum(a, b));
    }
  }
  EXPECT_NEAR(static_cast<double>(held_out) / all, 0.05, 0.001);
  // The rule is frozen: these change only if old data and new questions no longer fit together.
  EXPECT_EQ(held_out, 25135);
}

TEST(Synth, HeldOutQuestionsAreDistinctHeldOutAndAnswered) {
  const auto questions = held_out_questions(3, 500);
  ASSERT_EQ(questions.size(), 500u);
  std::set<std::pair<int, int>> pairs;
  for (const SumQuestion& q : questions) {
    EXPECT_TRUE(is_held_out_sum(q.a, q.b));
    EXPECT_EQ(q.answer, std::to_string(q.a + q.b));
    EXPECT_EQ(sums_in(q.question).size(), 1u);
    pairs.insert(std::minmax(q.a, q.b));
  }
  EXPECT_EQ(pairs.size(), 500u);
}

TEST(Synth, ChatsUseTheNameThatTheUserGave) {
  const SynthOptions options = only(SynthKind::kChat, 4);
  int known = 0, not_known = 0;
  for (uint64_t i = 0; i < 3000; ++i) {
    std::string name;
    for (const Message& m : synth_document(options, i).document.messages) {
      for (const std::string lead : {"y name is ", "I am ", "Call me "}) {
        const size_t at = m.content.find(lead);
        if (m.role != "user" || at == std::string::npos) continue;
        name = m.content.substr(at + lead.size());
        while (!std::isalpha(static_cast<unsigned char>(name.back()))) name.pop_back();
      }
      if (m.role == "assistant" && m.content.starts_with("Your name is ")) {
        ++known;
        EXPECT_EQ(m.content, "Your name is " + name + ".");
      }
      if (m.role == "assistant" && m.content.starts_with("I do not know your name")) {
        ++not_known;
        EXPECT_TRUE(name.empty());
      }
    }
  }
  EXPECT_GT(known, 300);
  EXPECT_GT(not_known, 50);
}

TEST(Synth, RecallAnswersOccurInTheFacts) {
  const SynthOptions options = only(SynthKind::kRecall, 7);
  int answers = 0;
  for (uint64_t i = 0; i < 2000; ++i) {
    const Document document = synth_document(options, i).document;
    if (document.is_chat()) continue;
    const std::string facts = document.text.substr(0, document.text.find('\n'));
    for (size_t at = 0; (at = document.text.find("Answer: ", at)) != std::string::npos; ++at) {
      const size_t end = std::min(document.text.find('\n', at), document.text.size());
      std::string answer = document.text.substr(at + 8, end - at - 9);
      if (answer.starts_with("the ")) answer[0] = 'T';
      EXPECT_NE(facts.find(answer), std::string::npos) << document.text;
      ++answers;
    }
  }
  EXPECT_GT(answers, 1000);
}

TEST(Synth, ChatsAlternateAndRender) {
  const SynthOptions options = only(SynthKind::kChat, 8);
  for (uint64_t i = 0; i < 500; ++i) {
    const Document document = synth_document(options, i).document;
    const size_t first = document.messages[0].role == "system" ? 1 : 0;
    for (size_t m = first; m < document.messages.size(); ++m) {
      EXPECT_EQ(document.messages[m].role, (m - first) % 2 == 0 ? "user" : "assistant");
      EXPECT_FALSE(document.messages[m].content.empty());
    }
    EXPECT_TRUE(render_deepseek_v3(document.messages));
  }
}

TEST(Synth, WritesTheDocumentsAsLinesThatReadBack) {
  const Path path = Path(::testing::TempDir()) / "fathom_synth_test.jsonl";
  SynthOptions options;
  options.seed = 11;
  options.num_bytes = 200000;
  auto file = AtomicFile::create(path);
  ASSERT_TRUE(file);
  SilentProgress silent;
  const auto report = write_synth(options, *file, silent);
  ASSERT_TRUE(report);
  ASSERT_TRUE(file->commit());
  const auto text = read_file(path);
  ASSERT_TRUE(text);
  int64_t bytes = 0;
  for (int64_t b : report->bytes) bytes += b;
  EXPECT_EQ(bytes, static_cast<int64_t>(text->size()));
  EXPECT_GE(bytes, options.num_bytes);
  uint64_t index = 0;
  for (size_t begin = 0; begin < text->size(); ++index) {
    const size_t end = text->find('\n', begin);
    const auto document = document_from_json_line(std::string_view(*text).substr(begin, end - begin), "line");
    ASSERT_TRUE(document);
    EXPECT_EQ(*document, synth_document(options, index).document);
    begin = end + 1;
  }
  std::filesystem::remove(path);
}

TEST(Synth, RefusesContradictingOptions) {
  SynthOptions options;
  EXPECT_FALSE(validate(options));
  options.num_documents = options.num_bytes = 1;
  EXPECT_FALSE(validate(options));
  options.num_bytes = 0;
  EXPECT_TRUE(validate(options));
  options.mixture.chat = -1;
  EXPECT_FALSE(validate(options));
  options.mixture = {0, 0, 0, 0};
  EXPECT_FALSE(validate(options));
}

}  // namespace
}  // namespace fathom
