// Svg: text that is escaped and fits, legends that wrap, row names that leave each other room.
#include "report/svg.h"

#include <gtest/gtest.h>

#include "../count.h"

namespace fathom {
namespace {

using testing::count;

TEST(Svg, TextIsEscapedAndCountedInCharacters) {
  EXPECT_EQ(text_element(1, 2.5, "end", "a<b"), "<text x=\"1\" y=\"2.5\" text-anchor=\"end\">a&lt;b</text>");
  EXPECT_EQ(text_width("\xC3\xA4"
                       "b"),
            2 * kCharacterWidth);
  EXPECT_EQ(shortened("\xC3\xA4\xC3\xB6\xC3\xBC", 2), "\xC3\xA4\xC3\xB6\xE2\x80\xA6");
  EXPECT_EQ(shortened("ab", 2), "ab");
}

TEST(Svg, HoverSaysTextFormulaAndSource) {
  EXPECT_EQ(hover_element("a"), "<title>a</title>");
  EXPECT_EQ(hover_element("a", {"b < c", "d"}), "<title>a\nb &lt; c\nd</title>");
  EXPECT_EQ(hover_element("a", {"", "d"}), "<title>a\nd</title>");
}

TEST(Svg, ALegendWrapsAtTheRightEdge) {
  std::string out;
  const std::vector<LegendEntry> entries(6, {std::string(30, 'm'), "fc-p0", 0});
  EXPECT_EQ(add_legend(entries, 16, 46, 700, out), 46 + 18 * 3);
  EXPECT_EQ(count(out, "y=\"82\""), 2u);
  EXPECT_EQ(add_legend({}, 16, 46, 700, out), 46);
}

TEST(Svg, RowNamesLeaveEachOtherRoom) {
  const std::vector<std::string> names(100, "n");
  EXPECT_EQ(count(row_names_element(names, {50, 0, 100, 1300}, 10), "<text"), 100u);
  EXPECT_EQ(count(row_names_element(names, {50, 0, 100, 650}, 10), "<text"), 50u);
  EXPECT_EQ(count(row_names_element({}, {50, 0, 100, 650}, 10), "<text"), 0u);
}

TEST(Svg, TheStyleIsForLightDarkAndPaper) {
  const std::string head = svg_head("line", "a & b", 720, 380);
  EXPECT_NE(head.find("@media(prefers-color-scheme:dark)"), std::string::npos);
  EXPECT_NE(head.find("@media print"), std::string::npos);
  EXPECT_NE(head.find("aria-label=\"a &amp; b\""), std::string::npos);
  EXPECT_EQ(head.find("url("), std::string::npos);
}

TEST(Svg, AxesSayTheirTicksExactly) {
  const Axis axis(0, 100'000, false, true, 5);
  const std::string x = x_axis_element(axis, {50, 10, 100, 100}, "bandwidth (GB/s)", true);
  EXPECT_NE(x.find("class=\"fc-xt\" data-v=\"20000\">20k</text>"), std::string::npos) << x;
  EXPECT_NE(x.find("class=\"fc-xl\">bandwidth (GB/s)</text>"), std::string::npos);
  EXPECT_EQ(count(x, "fc-grid"), axis.ticks().size());
  EXPECT_NE(y_axis_element(axis, {50, 10, 100, 100}, "ms").find("rotate(-90 22 60)\">ms</text>"), std::string::npos);
}

}  // namespace
}  // namespace fathom
