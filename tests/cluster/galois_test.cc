// Galois: the laws of a field, for every prime power that a Slim Fly of 64 ports can have and a few more.
#include "cluster/galois.h"

#include <gtest/gtest.h>

#include <set>

namespace fathom {
namespace {

TEST(Galois, IsAField) {
  for (int q : {2, 3, 4, 5, 7, 8, 9, 11, 16, 25, 27, 32, 49}) {
    const auto f = GaloisField::make(q);
    ASSERT_TRUE(f.ok()) << q;
    std::set<int> powers;
    for (int e = 0; e < q - 1; ++e) powers.insert(f->generator_power(e));
    EXPECT_EQ(powers.size(), static_cast<size_t>(q - 1)) << q;
    EXPECT_FALSE(powers.contains(0)) << q;
    for (int a = 0; a < q; ++a) {
      EXPECT_EQ(f->add(a, 0), a);
      EXPECT_EQ(f->times(a, 1), a);
      EXPECT_EQ(f->add(a, f->negative(a)), 0) << q;
      for (int b = 0; b < q; ++b) {
        EXPECT_EQ(f->add(a, b), f->add(b, a));
        EXPECT_EQ(f->times(a, b), f->times(b, a));
        EXPECT_TRUE(f->times(a, b) != 0 || a == 0 || b == 0);
        const int c = (a + 2 * b + 1) % q;
        ASSERT_EQ(f->times(a, f->add(b, c)), f->add(f->times(a, b), f->times(a, c))) << q;
        ASSERT_EQ(f->add(a, f->add(b, c)), f->add(f->add(a, b), c)) << q;
      }
    }
  }
}

TEST(Galois, APrimeFieldIsModularArithmetic) {
  const auto f = GaloisField::make(13);
  EXPECT_EQ(f->add(9, 7), 3);
  EXPECT_EQ(f->times(9, 7), 63 % 13);
}

TEST(Galois, RefusesWhatIsNone) {
  for (int q : {-3, 0, 1, 6, 28, 521}) EXPECT_FALSE(GaloisField::make(q).ok()) << q;
  EXPECT_EQ(GaloisField::make(28).error().text,
            "no field of 28 elements is built; accepted: prime powers from 2 to 512");
}

}  // namespace
}  // namespace fathom
