#include "text/utf8.h"

#include <gtest/gtest.h>

namespace fathom {
namespace {

std::string lossy(std::string bytes) {
  std::string out;
  take_utf8(bytes, true, out);
  EXPECT_TRUE(bytes.empty());
  return out;
}

TEST(Utf8, RoundTripsEveryCodePoint) {
  for (char32_t c = 0; c <= 0x10FFFF; ++c) {
    if (c == 0xD800) c = 0xE000;
    std::string text;
    append_utf8(c, text);
    const Utf8Step step = utf8_step(text);
    ASSERT_EQ(step.kind, Utf8Step::kValid);
    ASSERT_EQ(step.code_point, c);
    ASSERT_EQ(static_cast<size_t>(step.length), text.size());
    for (size_t cut = 1; cut < text.size(); ++cut) {
      ASSERT_EQ(utf8_step(std::string_view(text).substr(0, cut)).kind, Utf8Step::kIncomplete);
    }
  }
}

TEST(Utf8, RefusesOverlongFormsSurrogatesAndLargeCodePoints) {
  for (const char* bytes : {"\xC0\x80", "\xC1\xBF", "\xE0\x9F\xBF", "\xED\xA0\x80", "\xF0\x8F\xBF\xBF",
                            "\xF4\x90\x80\x80", "\xF5\x80\x80\x80", "\x80", "\xFF", "\xE4\x41"}) {
    EXPECT_EQ(first_invalid_utf8(bytes), 0u);
  }
  EXPECT_EQ(first_invalid_utf8("abcdefgh\xE4\xB8\x96ij\xFF"), 13u);
  EXPECT_EQ(first_invalid_utf8("abcdefgh\xE4\xB8"), 8u);
  EXPECT_EQ(first_invalid_utf8("abcdefgh\xE4\xB8\x96"), std::nullopt);
  EXPECT_EQ(first_invalid_utf8(""), std::nullopt);
}

TEST(Utf8, ReplacesMaximalSubparts) {
  // The examples of the Unicode Standard, tables 3-8 to 3-11.
  EXPECT_EQ(lossy("\xC0\xAF\xE0\x80\xBF\xF0\x81\x82\x41"), "\uFFFD\uFFFD\uFFFD\uFFFD\uFFFD\uFFFD\uFFFD\uFFFDA");
  EXPECT_EQ(lossy("\xED\xA0\x80\xED\xBF\xBF\xED\xAF\x41"), "\uFFFD\uFFFD\uFFFD\uFFFD\uFFFD\uFFFD\uFFFD\uFFFDA");
  EXPECT_EQ(lossy("\xF4\x91\x92\x93\xFF\x41\x80\xBF\x42"), "\uFFFD\uFFFD\uFFFD\uFFFD\uFFFDA\uFFFD\uFFFDB");
  EXPECT_EQ(lossy("\xE1\x80\xE2\xF0\x91\x92\xF1\xBF\x41"), "\uFFFD\uFFFD\uFFFD\uFFFDA");
}

TEST(Utf8, CutsBetweenCharacters) {
  EXPECT_EQ(utf8_prefix("a世b", 3), "a");
  EXPECT_EQ(utf8_prefix("a世b", 4), "a世");
  EXPECT_EQ(utf8_prefix("a世b", 9), "a世b");
}

}  // namespace
}  // namespace fathom
