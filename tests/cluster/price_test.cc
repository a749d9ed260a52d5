// Price: table 3 of the paper, and what a fabric's price is made of.
#include "cluster/price.h"

#include <gtest/gtest.h>

#include <cmath>

#include "cluster/dragonfly.h"
#include "cluster/fat_tree.h"
#include "cluster/mpft.h"
#include "cluster/slim_fly.h"

namespace fathom {
namespace {

TEST(Price, EveryColumnOfTheTableWithin8Permille) {
  const struct {
    Fabric fabric;
    int64_t endpoints, switches, links;
    double million, thousand_per_endpoint;
  } table[] = {{*fat_tree2(64), 2048, 96, 2048, 9, 4.39},
               {*mpft(64, 8), 16384, 768, 16384, 72, 4.39},
               {*fat_tree3(64), 65536, 5120, 131072, 491, 7.5},
               {*slim_fly_counts(28), 32928, 1568, 32928, 146, 4.4},
               {*dragonfly(16, 511), 261632, 16352, 384272, 1522, 5.8}};
  for (const auto& row : table) {
    EXPECT_EQ(row.fabric.endpoints, row.endpoints) << row.fabric.name;
    EXPECT_EQ(row.fabric.switches, row.switches) << row.fabric.name;
    EXPECT_EQ(row.fabric.switch_links(), row.links) << row.fabric.name;
    const auto price = price_of(row.fabric, paper_table3_prices());
    ASSERT_TRUE(price.ok());
    EXPECT_NEAR(price->total() / 1e6 / row.million, 1, 0.008) << row.fabric.name;
    EXPECT_NEAR(price->total() / 1e3 / static_cast<double>(row.endpoints) / row.thousand_per_endpoint, 1, 0.008)
        << row.fabric.name;
  }
}

TEST(Price, IsLinearInItsParts) {
  const PriceTable prices{.switch_base = 1000, .switch_per_port = 10, .link = 7, .endpoint = 3, .source = ""};
  const auto price = price_of(*fat_tree2(4), prices);  // 8 endpoints, 6 switches, 8 links
  EXPECT_EQ(price->switches, 6 * 1040);
  EXPECT_EQ(price->links, 8 * 7);
  EXPECT_EQ(price->endpoints, 8 * 3);
  EXPECT_EQ(price->total(), 6240 + 56 + 24);
}

TEST(Price, RefusesPricesThatAreNone) {
  PriceTable prices = paper_table3_prices();
  prices.link = std::nan("");
  EXPECT_EQ(price_of(*fat_tree2(64), prices).error().text, "price of a link is nan dollars; accepted: 0 to 1e12");
  prices = paper_table3_prices();
  prices.switch_base = -1e6;
  EXPECT_EQ(price_of(*fat_tree2(64), prices).error().text.rfind("price of a switch is -", 0), 0u);
}

TEST(Price, FiguresOfAFabricAreItsCountsAndPrices) {
  const auto figures = fabric_figures(*mpft(64, 8), paper_table3_prices());
  ASSERT_TRUE(figures.ok());
  const auto value = [&](const std::string& name) {
    for (const Figure& f : *figures) {
      EXPECT_FALSE(f.formula.empty() || f.source.empty()) << f.name;
      if (f.name == name) return f.value;
    }
    ADD_FAILURE() << name;
    return 0.0;
  };
  EXPECT_EQ(value("endpoints"), 16384);
  EXPECT_EQ(value("switches"), 768);
  EXPECT_EQ(value("links leaf-spine"), 16384);
  EXPECT_NEAR(value("price"), 72, 0.008 * 72);
  EXPECT_NEAR(value("price per endpoint"), 4390, 0.008 * 4390);
}

TEST(Price, GivenPricesAreAllOrNone) {
  EXPECT_EQ(prices_of({}, "prices")->link, paper_table3_prices().link);
  EXPECT_EQ(prices_of({.link_dollars = 5}, "prices").error().text,
            "prices.switch_port_dollars is missing: other prices are given; 0 makes it free");
  EXPECT_EQ(prices_of({.link_dollars = -3}, "fabric").error().text, "fabric.link_dollars is -3; accepted: 0 or more");
  const auto own = prices_of({1000, 10, 7, 3}, "prices");
  ASSERT_TRUE(own.ok());
  EXPECT_EQ(own->switch_base + own->switch_per_port + own->link + own->endpoint, 1020);
}

}  // namespace
}  // namespace fathom
