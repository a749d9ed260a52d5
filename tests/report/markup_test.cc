// Markup: nothing that a report shows can become markup, and invalid text becomes visible instead of invalid files.
#include "report/markup.h"

#include <gtest/gtest.h>

namespace fathom {
namespace {

TEST(EscapeMarkup, EscapesWhatMarkupMeans) {
  EXPECT_EQ(escape_markup("<a href=\"x\" b='y'> & </a>"),
            "&lt;a href=&quot;x&quot; b=&#39;y&#39;&gt; &amp; &lt;/a&gt;");
}

TEST(EscapeMarkup, KeepsUtf8AndReplacesTheRest) {
  EXPECT_EQ(escape_markup("µs 中 😀\n\t"), "µs 中 😀\n\t");
  EXPECT_EQ(escape_markup(std::string_view("a\0b\x1b", 4)), "a\uFFFDb\uFFFD");
  EXPECT_EQ(escape_markup("\xC0\xAF"), "\uFFFD\uFFFD");                 // overlong
  EXPECT_EQ(escape_markup("\xED\xA0\x80"), "\uFFFD\uFFFD\uFFFD");       // surrogate
  EXPECT_EQ(escape_markup("\xF4\x90\x80\x80").substr(0, 3), "\uFFFD");  // above U+10FFFF
  EXPECT_EQ(escape_markup("\xE4\xB8"), "\uFFFD\uFFFD");                 // cut short
}

TEST(CoordinateText, HasAtMostTwoDecimalsAndNoNegativeZero) {
  EXPECT_EQ(coordinate_text(12.5), "12.5");
  EXPECT_EQ(coordinate_text(1.0 / 3), "0.33");
  EXPECT_EQ(coordinate_text(-0.001), "0");
  EXPECT_EQ(coordinate_text(720), "720");
}

}  // namespace
}  // namespace fathom
