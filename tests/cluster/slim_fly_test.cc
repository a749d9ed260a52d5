// Slim Fly: counts against McKay-Miller-Siran graphs built for small primes, and the sizes that do not exist.
#include "cluster/slim_fly.h"

#include <gtest/gtest.h>

#include <vector>

namespace fathom {
namespace {

// The MMS graph of a prime q (q mod 4 is 1 or 3): routers (0, x, y) and (1, m, c); (0, x, y) ~ (0, x, y') when y - y'
// is in X, (1, m, c) ~ (1, m, c') when c - c' is in X', (0, x, y) ~ (1, m, c) when y = m x + c.
std::vector<std::vector<bool>> mms(int64_t q) {
  int64_t root = 2;
  for (;; ++root) {
    int64_t order = 1;
    for (int64_t v = root; v != 1; v = v * root % q) ++order;
    if (order == q - 1) break;
  }
  std::vector<bool> x(static_cast<size_t>(q)), x2(static_cast<size_t>(q));
  int64_t v = 1;
  if (q % 4 == 1) {
    for (int64_t i = 0; i < q - 1; ++i, v = v * root % q) (i % 2 == 0 ? x : x2)[static_cast<size_t>(v)] = true;
  } else {  // q = 4w - 1: X = +- even powers up to 2w - 2, X' = +- odd powers up to 2w - 1
    const int64_t w = (q + 1) / 4;
    for (int64_t i = 0; i <= 2 * w - 1; ++i, v = v * root % q) {
      auto& set = i % 2 == 0 ? x : x2;
      set[static_cast<size_t>(v)] = set[static_cast<size_t>(q - v)] = true;
    }
  }
  const auto n = static_cast<size_t>(2 * q * q);
  std::vector<std::vector<bool>> edge(n, std::vector<bool>(n));
  const auto id = [q](int64_t side, int64_t a, int64_t b) { return static_cast<size_t>((side * q + a) * q + b); };
  for (int64_t a = 0; a < q; ++a) {
    for (int64_t b = 0; b < q; ++b) {
      for (int64_t c = 0; c < q; ++c) {
        if (x[static_cast<size_t>((b - c + q) % q)]) edge[id(0, a, b)][id(0, a, c)] = true;
        if (x2[static_cast<size_t>((b - c + q) % q)]) edge[id(1, a, b)][id(1, a, c)] = true;
        const int64_t y = (c * a + b) % q;  // side 1: slope c, offset b; side 0: x = a
        edge[id(0, a, y)][id(1, c, b)] = edge[id(1, c, b)][id(0, a, y)] = true;
      }
    }
  }
  return edge;
}

TEST(SlimFly, IsTheMmsGraphOfDiameterTwo) {
  for (int64_t q : {5, 7, 11, 13}) {
    const auto f = slim_fly_counts(q);
    const auto edge = mms(q);
    ASSERT_EQ(f->switches, static_cast<int64_t>(edge.size()));
    int64_t links = 0, far = 0;
    for (size_t i = 0; i < edge.size(); ++i) {
      int64_t degree = 0;
      std::vector<bool> reach = edge[i];
      for (size_t j = 0; j < edge.size(); ++j) {
        if (!edge[i][j]) continue;
        ++degree;
        for (size_t k = 0; k < edge.size(); ++k) reach[k] = reach[k] || edge[j][k];
      }
      links += degree;
      EXPECT_EQ(degree * f->switches, 2 * f->switch_links()) << q;
      for (size_t k = 0; k < edge.size(); ++k) far += k != i && !reach[k];
    }
    EXPECT_EQ(links, 2 * f->switch_links()) << q;
    EXPECT_EQ(far, 0) << q;
  }
}

TEST(SlimFly, ThePublishedCountsAreAFormula) {
  const auto f = slim_fly_counts(28);
  EXPECT_EQ(f->endpoints, 32928);
  EXPECT_EQ(f->switches, 1568);
  EXPECT_EQ(f->switch_links(), 32928);
  EXPECT_EQ(f->radix, 63);
}

TEST(SlimFly, SaysWhatExistsInstead) {
  EXPECT_EQ(slim_fly(28, 64).error().text,
            "Slim Fly: q = 28 = 2 * 2 * 7, but its graph exists only for prime powers other than 2; possible with 64 "
            "ports: q = 27 (30618 endpoints, 62 ports) or q = 25 (23750 endpoints, 56 ports), or q = 29 (35322 "
            "endpoints, 64 ports) with 21 endpoints a switch");
  EXPECT_EQ(slim_fly(27, 64)->endpoints, 30618);
  EXPECT_EQ(slim_fly(25, 64)->endpoints, 23750);
  EXPECT_EQ(slim_fly(29, 64, 21)->endpoints, 35322);
  EXPECT_EQ(slim_fly(29, 64).error().text.rfind(
                "Slim Fly: q = 29 needs 65 ports a switch, more than 64; possible: q = 27 ", 0),
            0u);
  EXPECT_NE(slim_fly(29, 64).error().text.find("or this q with 21 endpoints a switch"), std::string::npos);
  EXPECT_EQ(slim_fly(1, 64).error().text, "Slim Fly: q = 1; accepted: 3 to 512");
  EXPECT_FALSE(slim_fly(6, 64).ok());
  EXPECT_FALSE(slim_fly(27, 64, -1).ok());
}

TEST(SlimFly, PrimePowers) {
  std::vector<int64_t> found;
  for (int64_t q = -1; q <= 32; ++q) {
    if (is_prime_power(q)) found.push_back(q);
  }
  EXPECT_EQ(found, (std::vector<int64_t>{2, 3, 4, 5, 7, 8, 9, 11, 13, 16, 17, 19, 23, 25, 27, 29, 31, 32}));
}

}  // namespace
}  // namespace fathom
