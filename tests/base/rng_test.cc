// Philox: the published known answers, and the distributions built on it.
#include "base/rng.h"

#include <gtest/gtest.h>

#include <set>

namespace fathom {
namespace {

using Words = std::array<uint32_t, 4>;

TEST(Philox, GivesTheKnownAnswersOfTheRandom123Library) {
  EXPECT_EQ(philox({0, 0, 0, 0}, {0, 0}), (Words{0x6627e8d5, 0xe169c58d, 0xbc57ac4c, 0x9b00dbd8}));
  EXPECT_EQ(philox({0xffffffff, 0xffffffff, 0xffffffff, 0xffffffff}, {0xffffffff, 0xffffffff}),
            (Words{0x408f276d, 0x41c83b0e, 0xa20bc7c6, 0x6d5451fd}));
  EXPECT_EQ(philox({0x243f6a88, 0x85a308d3, 0x13198a2e, 0x03707344}, {0xa4093822, 0x299f31d0}),
            (Words{0xd16cfe09, 0x94fdcceb, 0x5001e420, 0x24126ea1}));
}

TEST(Rng, MapsSeedToTheKeyAndStreamAndIndexToTheCounter) {
  const Rng rng(0x0123456789abcdef, 0xfedcba9876543210);
  EXPECT_EQ(rng.at(0x1111111122222222),
            philox({0x22222222, 0x11111111, 0x76543210, 0xfedcba98}, {0x89abcdef, 0x01234567}));
  const Words w = rng.at(5);
  EXPECT_EQ(rng.u64(5), uint64_t{w[1]} << 32 | w[0]);
}

TEST(Rng, StreamsAndSeedsDiffer) {
  std::set<uint64_t> draws;
  for (uint64_t seed = 0; seed < 4; ++seed) {
    for (uint64_t stream = 0; stream < 4; ++stream) {
      for (uint64_t i = 0; i < 16; ++i) draws.insert(Rng(seed, stream).u64(i));
    }
  }
  EXPECT_EQ(draws.size(), 4u * 4u * 16u);
}

TEST(Rng, StreamOfIsFnv1a) {
  EXPECT_EQ(stream_of(""), 0xcbf29ce484222325u);
  EXPECT_EQ(stream_of("a"), 0xaf63dc4c8601ec8cu);
  EXPECT_EQ(stream_of("foobar"), 0x85944171f73967e8u);
}

TEST(Rng, UniformHasTheMomentsOfTheUnitInterval) {
  const Rng rng(7, stream_of("uniform"));
  constexpr int kCount = 100'000;
  double sum = 0, squares = 0;
  for (uint64_t i = 0; i < kCount; ++i) {
    const double u = rng.uniform(i);
    ASSERT_GE(u, 0.0);
    ASSERT_LT(u, 1.0);
    sum += u;
    squares += u * u;
  }
  // Five standard errors: sqrt(1/12 / n) and sqrt(4/45 / n).
  EXPECT_NEAR(sum / kCount, 0.5, 5 * std::sqrt(1.0 / 12 / kCount));
  EXPECT_NEAR(squares / kCount, 1.0 / 3, 5 * std::sqrt(4.0 / 45 / kCount));
}

TEST(Rng, NormalHasTheMomentsOfTheStandardNormal) {
  const Rng rng(7, stream_of("normal"));
  constexpr int kCount = 100'000;
  double sum = 0, squares = 0, fourth = 0;
  for (uint64_t i = 0; i < kCount; ++i) {
    const double x = rng.normal(i);
    ASSERT_TRUE(std::isfinite(x));
    sum += x;
    squares += x * x;
    fourth += x * x * x * x;
  }
  EXPECT_NEAR(sum / kCount, 0.0, 5 * std::sqrt(1.0 / kCount));
  EXPECT_NEAR(squares / kCount, 1.0, 5 * std::sqrt(2.0 / kCount));
  EXPECT_NEAR(fourth / kCount, 3.0, 5 * std::sqrt(96.0 / kCount));
}

TEST(Rng, BelowIsInBoundsAndHitsEveryValue) {
  const Rng rng(1, 2);
  std::array<int, 7> hits{};
  for (uint64_t i = 0; i < 7000; ++i) {
    const uint64_t v = rng.below(i, 7);
    ASSERT_LT(v, 7u);
    ++hits[v];
  }
  for (const int count : hits) EXPECT_NEAR(count, 1000, 5 * std::sqrt(7000 * (1.0 / 7) * (6.0 / 7)));
  EXPECT_EQ(rng.below(0, 1), 0u);
}

TEST(SequentialRng, ReadsTheStreamInOrder) {
  SequentialRng sequence(3, 4);
  const Rng rng(3, 4);
  EXPECT_EQ(sequence.uniform(), rng.uniform(0));
  EXPECT_EQ(sequence.below(100), rng.below(1, 100));
  for (int i = 0; i < 100; ++i) {
    const int64_t v = sequence.between(-2, 2);
    EXPECT_GE(v, -2);
    EXPECT_LE(v, 2);
  }
  const std::vector<int> options{5, 6};
  const int picked = sequence.pick(options);
  EXPECT_TRUE(picked == 5 || picked == 6);
}

}  // namespace
}  // namespace fathom
