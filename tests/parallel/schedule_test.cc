// Schedules as data: what the generators promise, for every size, and what the validator refuses.
#include "parallel/schedule.h"

#include <gtest/gtest.h>

#include "parallel/dualpipe.h"

namespace fathom {
namespace {

constexpr int kMaxRanks = 8, kMaxBatches = 24;

std::string error_of(const Schedule& s) {
  const auto status = check_schedule(s);
  return status ? "" : status.error().text;
}

TEST(Schedule, EverySizeUpTo8By24IsComplete) {
  int num_checked = 0;
  for (int ranks = 1; ranks <= kMaxRanks; ++ranks) {
    for (int m = 1; m <= kMaxBatches; ++m) {
      for (const char* name : {"1f1b", "zb1p", "dualpipe", "dualpipev"}) {
        const auto s = make_schedule(name, ranks, m);
        const bool is_dual = std::string_view(name) == "dualpipe", is_v = std::string_view(name) == "dualpipev";
        const bool possible = is_dual ? ranks % 2 == 0 && m % 2 == 0 && m >= 2 * ranks : !is_v || m >= 2 * ranks;
        ASSERT_EQ(s.ok(), possible) << name << " " << ranks << " " << m;
        if (!s) continue;
        EXPECT_EQ(error_of(*s), "") << name << " " << ranks << " " << m;
        ++num_checked;
      }
    }
  }
  // 1F1B and ZB1P: all; DualPipe: 11 + 9 + 7 + 5 even M from 2P; DualPipeV: 25 - 2P of each P.
  EXPECT_EQ(num_checked, 2 * 8 * 24 + (11 + 9 + 7 + 5) + (8 * 25 - 2 * 36));
}

TEST(Schedule, LiveActivationsReachExactlyTheirBound) {
  for (const auto& [name, ranks, m] : {std::tuple{"1f1b", 4, 10},
                                       {"zb1p", 4, 10},
                                       {"dualpipe", 4, 10},
                                       {"dualpipe", 8, 20},
                                       {"dualpipev", 4, 10},
                                       {"dualpipev", 3, 7}}) {
    const auto s = make_schedule(name, ranks, m);
    ASSERT_TRUE(s.ok());
    for (int rank = 0; rank < ranks; ++rank) {
      EXPECT_EQ(max_live(*s, rank), s->live_bound[static_cast<size_t>(rank)]) << name << " rank " << rank;
    }
  }
  const auto s = make_1f1b(4, 10);
  EXPECT_EQ(s->live_bound, (std::vector<int>{4, 3, 2, 1}));
  EXPECT_EQ(make_dualpipe(4, 10)->live_bound, (std::vector<int>{5, 5, 5, 5}));
  EXPECT_EQ(make_dualpipev(4, 10)->live_bound, (std::vector<int>{9, 9, 9, 9}));
}

TEST(Schedule, ListsOf1f1bAndZb1p) {
  EXPECT_EQ(list_text(*make_1f1b(2, 3)), "rank 0: F0 F1 B0 F2 B1 B2\nrank 1: F0 B0 F1 B1 F2 B2\n");
  EXPECT_EQ(list_text(*make_zb1p(2, 3)), "rank 0: F0 F1 I0 W0 F2 I1 W1 I2 W2\nrank 1: F0 I0 F1 I1 W0 F2 I2 W1 W2\n");
  EXPECT_EQ(list_text(*make_1f1b(3, 1)), "rank 0: F0 B0\nrank 1: F0 B0\nrank 2: F0 B0\n");
}

// Each damage to a good schedule, and what the validator says of it.
TEST(Schedule, TheValidatorNamesWhatIsWrong) {
  const Schedule good = *make_dualpipe(4, 10);
  Schedule s = good;
  s.ranks[0].pop_back();
  EXPECT_EQ(error_of(s), "dualpipe: Fa4 of stage 0 lacks its weight gradient");
  s = good;
  s.ranks[1].erase(s.ranks[1].begin());
  EXPECT_EQ(error_of(s), "dualpipe: rank 1, Fa1: micro-batches must pass a stage in order; expected 0");
  s = good;
  s.ranks[2].push_back(s.ranks[2].back());
  EXPECT_EQ(error_of(s), "dualpipe: rank 2, Wb4: a weight gradient needs its input gradient, once");
  s = good;
  std::swap(s.ranks[0].front(), s.ranks[3].front());
  EXPECT_EQ(error_of(s), "dualpipe: rank 0, Fb0: the stage is on another rank");
  s = good;
  std::swap(s.ranks[0][4], s.ranks[0][5]);  // Ib0, Wb0
  EXPECT_EQ(error_of(s), "dualpipe: rank 0, Wb0: a weight gradient needs its input gradient, once");
  s = good;
  s.live_bound[3] = 4;
  EXPECT_EQ(error_of(s), "dualpipe: rank 3 holds the activations of 5 micro-batches at once, more than its 4");
  s = good;
  s.ranks[0][0].chunks[0].micro_batch = 99;
  EXPECT_EQ(error_of(s), "dualpipe: rank 0, Fa99: no such stage or micro-batch");
  s = good;
  s.rank_of[1].pop_back();
  EXPECT_EQ(error_of(s), "dualpipe: stages, streams and ranks of the schedule do not fit together");
}

TEST(Schedule, TheValidatorFindsADeadlock) {
  // Each rank wants the other's output first: a runs 0 -> 1, b runs 1 -> 0, and both begin with what comes second.
  Schedule s;
  s.name = "crossed";
  s.num_stages = 2;
  s.micro_batches = {1, 1};
  s.rank_of = {{0, 1}, {1, 0}};
  s.live_bound = {2, 2};
  const auto chunk = [](Op op, int stream, int stage) { return Instruction{{{op, stream, stage, 0}}}; };
  s.ranks = {
      {chunk(Op::kForward, 1, 1), chunk(Op::kForward, 0, 0), chunk(Op::kBackward, 1, 1), chunk(Op::kBackward, 0, 0)},
      {chunk(Op::kForward, 0, 1), chunk(Op::kForward, 1, 0), chunk(Op::kBackward, 0, 1), chunk(Op::kBackward, 1, 0)}};
  EXPECT_EQ(error_of(s), "crossed: deadlock: rank 0, Fb0, waits for Fb0 of rank 1");
  std::swap(s.ranks[0][0], s.ranks[0][1]);
  std::swap(s.ranks[1][0], s.ranks[1][1]);
  EXPECT_EQ(error_of(s), "");
}

TEST(Schedule, RefusesSizesOutOfRange) {
  EXPECT_EQ(make_1f1b(0, 4).error().text, "1f1b: 0 pipeline ranks; accepted: 1 to 1024");
  EXPECT_EQ(make_zb1p(-3, 4).error().text, "zb1p: -3 pipeline ranks; accepted: 1 to 1024");
  EXPECT_EQ(make_1f1b(4, 0).error().text, "1f1b: 0 micro-batches on 4 ranks; accepted: 1 to 65536");
  EXPECT_EQ(make_1f1b(1024, 5000).error().text, "1f1b: 5000 micro-batches on 1024 ranks; accepted: 1 to 1024");
  EXPECT_EQ(make_schedule("gpipe", 4, 8).error().text,
            "unknown schedule \"gpipe\"; accepted: 1f1b, zb1p, dualpipe, dualpipev");
}

}  // namespace
}  // namespace fathom
