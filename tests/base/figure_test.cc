// Figure: its JSON and its digits.
#include "base/figure.h"

#include <gtest/gtest.h>

#include <cmath>

namespace fathom {
namespace {

TEST(Figure, JsonKeepsWhatIsKnown) {
  EXPECT_EQ(to_json({"KV", 70272, "B", "a * b", "table 1"}).dump(),
            R"({"name":"KV","value":70272.0,"unit":"B","formula":"a * b","source":"table 1"})");
  EXPECT_EQ(to_json({"x", std::nan(""), "", "", ""}).dump(), R"({"name":"x","value":null})");
}

TEST(Figure, TextHasThousandsOrSignificantDigits) {
  EXPECT_EQ(figure_text(70272), "70,272");
  EXPECT_EQ(figure_text(1568), "1,568");
  EXPECT_EQ(figure_text(96), "96");
  EXPECT_EQ(figure_text(0), "0");
  EXPECT_EQ(figure_text(-1234567), "-1,234,567");
  EXPECT_EQ(figure_text(-123), "-123");
  EXPECT_EQ(figure_text(14.757, 4), "14.76");
  EXPECT_EQ(figure_text(250.44, 3), "250");
  EXPECT_EQ(figure_text(123456.7), "123,457");
  EXPECT_EQ(figure_text(1.234567e-7, 3), "1.23e-07");
  EXPECT_EQ(figure_text(std::nan("")), "nan");
}

}  // namespace
}  // namespace fathom
