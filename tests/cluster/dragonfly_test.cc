// Dragonfly: counts against one that is wired link by link.
#include "cluster/dragonfly.h"

#include <gtest/gtest.h>

#include <set>

namespace fathom {
namespace {

TEST(Dragonfly, IsWhatOneCanWire) {
  for (int64_t p : {1, 2, 3}) {
    const auto f = dragonfly(p);
    ASSERT_TRUE(f.ok());
    const int64_t a = 2 * p, h = p, groups = a * h + 1;
    // Global link i of group g goes to group g + 1 + i (mod groups); every pair of groups meets once.
    std::set<std::pair<int64_t, int64_t>> global;
    for (int64_t g = 0; g < groups; ++g) {
      for (int64_t i = 0; i < a * h; ++i) global.insert(std::minmax(g, (g + 1 + i) % groups));
    }
    EXPECT_EQ(f->links[1].count, static_cast<int64_t>(global.size()));
    int64_t local = 0;
    for (int64_t i = 0; i < a; ++i) local += i;
    EXPECT_EQ(f->links[0].count, groups * local);
    EXPECT_EQ(f->switches, groups * a);
    EXPECT_EQ(f->endpoints, groups * a * p);
    EXPECT_EQ(f->radix, 4 * p - 1);
  }
}

TEST(Dragonfly, ThePublishedOneHas511Groups) {
  const auto f = dragonfly(16, 511);
  EXPECT_EQ(f->radix, 63);
  EXPECT_EQ(f->links[0].count, 253456);
  EXPECT_EQ(f->links[1].count, 130816);
  EXPECT_EQ(f->max_endpoints, 262656);
  EXPECT_EQ(dragonfly(16)->endpoints, 262656);
}

TEST(Dragonfly, RefusesGroupsWithoutLinks) {
  EXPECT_EQ(dragonfly(16, 514).error().text,
            "Dragonfly: 514 groups; a group has 512 global links, so accepted are 2 to 513");
  EXPECT_EQ(dragonfly(16, 1).error().text,
            "Dragonfly: 1 groups; a group has 512 global links, so accepted are 2 to 513");
  EXPECT_EQ(dragonfly(0).error().text, "Dragonfly: 0 endpoints a router; accepted: 1 to 256");
}

}  // namespace
}  // namespace fathom
