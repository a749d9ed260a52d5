// Arithmetic as text: column sums and differences, worked right to left in a form that a tiny transformer learns, and
// the rule that keeps some sums out of all training data. Used by the generators and by the evaluation of the demo
// model.
//
//   47 + 85   ->  0 4 7 + 0 8 5: 7+5+0=1 2, 4+8+1=1 3, 0+0+1=0 1. 0 1 3 2 = 132
//   52 - 38   ->  0 5 2 - 0 3 8: 2-8-0=1 4, 5-3-1=0 1, 0-0-0=0 0. 0 0 1 4 = 14
//
// Three columns always, ones first. A column is "a+b+carry_in=carry_out digit" or "a-b-borrow_in=borrow_out digit";
// then the last carry and the digits from left to right; then the answer after the only "= " with a space behind it.
// Every column has the same length, so each digit is needed at a fixed distance from where it stands, and no two digits
// touch before the answer, so the working survives tokenizers that merge runs of digits.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "base/rng.h"
#include "train/document.h"

namespace fathom {

/// Operands of worked sums and differences are 0 to this.
inline constexpr int kMaxOperand = 999;

/// True for the sums (a + b and b + a alike) that training data never contains, also not as the difference
/// (a + b) - a: one pair in twenty, by a fixed hash. Pairs of single digits are never held out: every working has them.
bool is_held_out_sum(int a, int b);

/// The working shown above; 0 <= a, b <= kMaxOperand.
std::string sum_working(int a, int b);

/// The same for a - b with a >= b.
std::string difference_working(int a, int b);

/// A question with its exact answer, for evaluation.
struct SumQuestion {
  int a = 0;
  int b = 0;
  std::string question;  // "What is 47 + 85?"
  std::string answer;    // "132": what must stand behind the last "= " of the reply
};

/// `count` different held-out sums (at most 10000), operands of 1 to 3 digits as in the training data.
std::vector<SumQuestion> held_out_questions(uint64_t seed, int count);

/// One question and its worked reply, appended to a chat. Three of four are sums.
void add_arithmetic_turn(SequentialRng& rng, std::vector<Message>& messages);

/// A chat of one to three such turns, or a plain text of worked lines.
Document arithmetic_document(SequentialRng& rng);

}  // namespace fathom
