// Table: CSV that spreadsheets read back, numbers that read back to the bit, grids.
#include "report/table.h"

#include <gtest/gtest.h>

#include <cmath>
#include <cstdlib>

namespace fathom {
namespace {

TEST(Table, CsvQuotesWhatItMust) {
  EXPECT_EQ(to_csv({{"a", "b \"c\""}, {{"1,5", "line\nbreak"}, {"", "<&'>"}}}),
            "a,\"b \"\"c\"\"\"\n\"1,5\",\"line\nbreak\"\n,<&'>\n");
}

TEST(Table, NumbersReadBackToTheBit) {
  for (const double v : {0.0, 1.0, -2.5, 0.1, 14.761904761904762, 1e300, 5e-324, 70272.0, 1.0 / 3}) {
    EXPECT_EQ(std::strtod(exact_text(v).c_str(), nullptr), v);
  }
  EXPECT_EQ(exact_text(-0.0), "0");
  EXPECT_EQ(exact_text(std::nan("")), "");
  EXPECT_TRUE(number_json(HUGE_VAL).is_null());
}

TEST(Table, AGridIsJsonAndCsv) {
  const Grid grid{"Fabrics",
                  "fabric",
                  {{"endpoints"}, {"price", "M$", {"formula", "source"}}},
                  {{"FT2", {2048, 9.25}}, {"x", {1, NAN}}}};
  EXPECT_EQ(to_csv(to_table(grid)), "fabric,endpoints,price (M$)\nFT2,2048,9.25\nx,1,\n");
  EXPECT_EQ(to_json(grid).dump(),
            "{\"kind\":\"grid\",\"title\":\"Fabrics\",\"row_label\":\"fabric\",\"columns\":[{\"name\":\"endpoints\"},"
            "{\"name\":\"price\",\"unit\":\"M$\",\"formula\":\"formula\",\"source\":\"source\"}],\"rows\":[{\"name\":"
            "\"FT2\",\"values\":[2048.0,9.25]},{\"name\":\"x\",\"values\":[1.0,null]}]}");
}

TEST(TableDeathTest, RowsOfAnotherLengthAreOurBug) {
  EXPECT_DEATH((void)to_csv({{"a", "b"}, {{"1"}}}), "as long as its header");
  EXPECT_DEATH((void)to_table(Grid{"t", "r", {{"a"}}, {{"x", {1, 2}}}}), "a value per column");
}

}  // namespace
}  // namespace fathom
