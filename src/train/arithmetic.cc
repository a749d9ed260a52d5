// Worked sums and differences, and their questions.
#include "train/arithmetic.h"

#include <algorithm>
#include <array>
#include <set>
#include <utility>

#include "base/check.h"
#include "train/phrases.h"

namespace fathom {
namespace {

using Digits = std::array<int, 3>;  // ones, tens, hundreds

Digits digits_of(int n) { return {n % 10, n / 10 % 10, n / 100}; }

std::string spelled(const Digits& d) {
  return std::to_string(d[2]) + " " + std::to_string(d[1]) + " " + std::to_string(d[0]);
}

// Both workings: `sign` is '+' or '-', and a column's value is rewritten as (transfer out) * 10 + digit, or
// digit - (transfer out) * 10 when subtracting.
std::string working(int a, int b, char sign) {
  check(a >= 0 && a <= kMaxOperand && b >= 0 && b <= kMaxOperand, "operands have one to three digits");
  check(sign == '+' || a >= b, "differences are not negative");
  const Digits da = digits_of(a), db = digits_of(b);
  const std::string op(1, sign);
  std::string text = spelled(da) + " " + op + " " + spelled(db) + ":";
  Digits result{};
  int transfer = 0;
  for (size_t column = 0; column < 3; ++column) {
    const int value = sign == '+' ? da[column] + db[column] + transfer : da[column] - db[column] - transfer;
    const int transfer_out = sign == '+' ? value / 10 : (value < 0 ? 1 : 0);
    result[column] = sign == '+' ? value % 10 : value + 10 * transfer_out;
    const std::string x = std::to_string(da[column]), y = std::to_string(db[column]);
    text.append(" ").append(x + op + y + op + std::to_string(transfer)).append("=");
    text.append(std::to_string(transfer_out)).append(" ").append(std::to_string(result[column]));
    text.append(column < 2 ? "," : ".");
    transfer = transfer_out;
  }
  const int answer = sign == '+' ? a + b : a - b;
  return text + " " + std::to_string(transfer) + " " + spelled(result) + " = " + std::to_string(answer);
}

int operand(SequentialRng& rng) {
  const uint64_t kind = rng.below(20);
  if (kind < 4) return static_cast<int>(rng.below(10));
  if (kind < 11) return static_cast<int>(rng.between(10, 99));
  return static_cast<int>(rng.between(100, kMaxOperand));
}

struct Problem {
  int a;
  int b;
  bool is_sum;
};

Problem training_problem(SequentialRng& rng) {
  while (true) {  // one draw in twenty is held out and drawn again
    int a = operand(rng), b = operand(rng);
    if (rng.below(4) != 0) {
      if (!is_held_out_sum(a, b)) return {a, b, true};
    } else {
      if (a < b) std::swap(a, b);
      if (!is_held_out_sum(b, a - b)) return {a, b, false};
    }
  }
}

std::string solution(const Problem& p) { return p.is_sum ? sum_working(p.a, p.b) : difference_working(p.a, p.b); }

std::string question(SequentialRng& rng, const Problem& p) {
  // Half of all questions have the plain form; the rest teaches that the others mean the same.
  std::string_view form = p.is_sum ? "What is {a} + {b}?" : "What is {a} - {b}?";
  if (rng.below(2) == 0) {
    form =
        p.is_sum
            ? one_of(rng,
                     {"{a} + {b} = ?", "{a} + {b}", "What is {a}+{b}?", "{a}+{b}", "{a}+{b}=", "what is {a} + {b}",
                      "How much is {a} plus {b}?", "What is {a} plus {b}?", "Add {a} and {b}.", "Calculate {a} + {b}.",
                      "Compute {a} + {b}.", "What is the sum of {a} and {b}?", "Can you add {a} and {b}?"})
            : one_of(rng, {"{a} - {b} = ?", "{a} - {b}", "What is {a}-{b}?", "{a}-{b}", "{a}-{b}=", "what is {a} - {b}",
                           "How much is {a} minus {b}?", "What is {a} minus {b}?", "Subtract {b} from {a}.",
                           "Calculate {a} - {b}.", "Compute {a} - {b}.", "Can you take {b} away from {a}?"});
  }
  return fill(form, {{"a", std::to_string(p.a)}, {"b", std::to_string(p.b)}});
}

}  // namespace

bool is_held_out_sum(int a, int b) {
  const auto [low, high] = std::minmax(a, b);
  if (high < 10) return false;
  // The key is part of the data format: changing it would let old training data meet new test questions.
  constexpr std::array<uint32_t, 2> kKey{0x68656C64u, 0x2D6F7574u};
  return philox({static_cast<uint32_t>(low), static_cast<uint32_t>(high), 0, 0}, kKey)[0] % 20 == 0;
}

std::string sum_working(int a, int b) { return working(a, b, '+'); }

std::string difference_working(int a, int b) { return working(a, b, '-'); }

std::vector<SumQuestion> held_out_questions(uint64_t seed, int count) {
  check(count >= 0 && count <= 10000, "at most 10000 held-out questions");
  SequentialRng rng(seed, stream_of("arithmetic.held_out_questions"));
  std::set<std::pair<int, int>> seen;
  std::vector<SumQuestion> questions;
  while (static_cast<int>(questions.size()) < count) {  // ends: some 25000 pairs are held out
    const int a = operand(rng), b = operand(rng);
    if (!is_held_out_sum(a, b) || !seen.insert(std::minmax(a, b)).second) continue;
    questions.push_back(
        {a, b, "What is " + std::to_string(a) + " + " + std::to_string(b) + "?", std::to_string(a + b)});
  }
  return questions;
}

void add_arithmetic_turn(SequentialRng& rng, std::vector<Message>& messages) {
  const Problem problem = training_problem(rng);
  messages.push_back({"user", question(rng, problem)});
  messages.push_back({"assistant", solution(problem)});
}

Document arithmetic_document(SequentialRng& rng) {
  Document document;
  if (rng.below(4) != 0) {
    const int64_t turns = rng.below(4) != 0 ? 1 : rng.between(2, 3);
    for (int64_t i = 0; i < turns; ++i) add_arithmetic_turn(rng, document.messages);
    return document;
  }
  const int64_t lines = rng.between(2, 4);
  for (int64_t i = 0; i < lines; ++i) {
    const Problem problem = training_problem(rng);
    if (i > 0) document.text += "\n";
    document.text += fill(problem.is_sum ? "The sum of {a} and {b}: " : "The difference of {a} and {b}: ",
                          {{"a", std::to_string(problem.a)}, {"b", std::to_string(problem.b)}});
    document.text += solution(problem);
  }
  return document;
}

}  // namespace fathom
