// DualPipe: the worked example in full, and the counts that the V3 run implies.
#include "parallel/dualpipe.h"

#include <gtest/gtest.h>

#include <array>

namespace fathom {
namespace {

TEST(DualPipe, ListsOfFourRanksAndTenMicroBatches) {
  const auto s = make_dualpipe(4, 10);
  ASSERT_TRUE(s.ok());
  EXPECT_EQ(list_text(*s),
            "rank 0: Fa0 Fa1 Fa2 Fb0 Ib0 Wb0 Fb1 Fa3&Bb1 Fb2&Ba0 Fa4&Bb2 Fb3&Ba1 Bb3 Fb4&Ba2 Bb4 Ia3 Wa3 Ia4 Wa4\n"
            "rank 1: Fa0 Fb0 Fa1 Fb1 Fa2 Bb0 Fb2&Ba0 Fa3&Bb1 Fb3&Ba1 Fa4&Bb2 Fb4&Ba2 Bb3 Ba3 Ib4 Ia4 Wb4 Wa4\n"
            "rank 2: Fb0 Fa0 Fb1 Fa1 Fb2 Ba0 Fa2&Bb0 Fb3&Ba1 Fa3&Bb1 Fb4&Ba2 Fa4&Bb2 Ba3 Bb3 Ia4 Ib4 Wa4 Wb4\n"
            "rank 3: Fb0 Fb1 Fb2 Fa0 Ia0 Wa0 Fa1 Fb3&Ba1 Fa2&Bb0 Fb4&Ba2 Fa3&Bb1 Ba3 Fa4&Bb2 Ba4 Ib3 Wb3 Ib4 Wb4\n");
}

TEST(DualPipe, ARankOfTheVIsTheWorkedOne) {
  const auto s = make_dualpipev(4, 10);
  ASSERT_TRUE(s.ok());
  const std::string text = list_text(*s);
  EXPECT_EQ(text.substr(text.find("rank 3: ")),
            "rank 3: Fa0 Fb0 Fa1 Fb1 Fa2 Fb2 Fa3 Fb3 Fa4 Bb0 Fb4&Ba0 Fa5&Bb1 Fb5&Ba1 Fa6&Bb2 Fb6&Ba2 Fa7&Bb3 Fb7&Ba3 "
            "Fa8&Bb4 Fb8&Ba4 Fa9&Bb5 Fb9&Ba5 Bb6 Ba6 Bb7 Ba7 Ib8 Ia8 Ib9 Ia9 Wb8 Wa8 Wb9 Wa9\n");
}

// V3 trained with PP16 and 15,360 sequences over 128 data-parallel ranks: 120 micro-batches. Per rank at h places from
// its end: 97 + h pairs, 23 - h lone forwards, 15 - h deferred weight gradients.
TEST(DualPipe, CountsOfTheV3Run) {
  const auto s = make_dualpipe(16, 120);
  ASSERT_TRUE(s.ok());
  for (int rank = 0; rank < 16; ++rank) {
    const int h = std::min(rank, 15 - rank);
    int pairs = 0;
    std::array<int, 4> alone{};
    for (const Instruction& instruction : s->ranks[static_cast<size_t>(rank)]) {
      if (instruction.is_pair())
        ++pairs;
      else
        ++alone[static_cast<size_t>(instruction.chunks[0].op)];
    }
    EXPECT_EQ(pairs, 97 + h - (h == 7 ? 1 : 0)) << rank;  // the middle ranks run their first pair apart
    EXPECT_EQ(alone[0], 23 - h + (h == 7 ? 1 : 0)) << rank;
    EXPECT_EQ(alone[2], alone[3]) << rank;
    EXPECT_EQ(alone[3], 15 - h) << rank;
    EXPECT_EQ(pairs + alone[1] + alone[2], 120) << rank;
  }
}

TEST(DualPipe, DeferredWeightGradientsOfTheWorkedExample) {
  const auto s = make_dualpipe(4, 10);
  std::vector<int> deferred;
  for (const auto& list : s->ranks) {
    int count = 0;
    for (const Instruction& instruction : list) count += instruction.chunks[0].op == Op::kBackwardWeight;
    deferred.push_back(count);
  }
  EXPECT_EQ(deferred, (std::vector<int>{3, 2, 2, 3}));
}

TEST(DualPipe, RefusesWhatTheStepsCannotFill) {
  EXPECT_EQ(make_dualpipe(3, 12).error().text,
            "dualpipe: 3 ranks; the number must be even, as each holds a stage of both directions: 4, or dualpipev");
  EXPECT_EQ(make_dualpipe(4, 9).error().text,
            "dualpipe: 9 micro-batches; the number must be even, half of them enter at each end");
  EXPECT_EQ(make_dualpipe(4, 6).error().text, "dualpipe: 6 micro-batches on 4 ranks; it needs at least 8");
  EXPECT_EQ(make_dualpipev(4, 7).error().text, "dualpipev: 7 micro-batches on 4 ranks; it needs at least 8");
}

}  // namespace
}  // namespace fathom
