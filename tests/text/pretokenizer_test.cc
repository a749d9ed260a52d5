#include "text/pretokenizer.h"

#include <gtest/gtest.h>

#include "text/tokenizer_spec.h"
#include "tokenizer_cases.h"

namespace fathom {
namespace {

using Pieces = std::vector<std::string_view>;

Pieces split(const std::vector<std::string>& patterns, std::string_view text) {
  const auto made = Pretokenizer::create(patterns);
  EXPECT_TRUE(made) << made.error().text;
  const auto pieces = made->split(text);
  EXPECT_TRUE(pieces) << pieces.error().text;
  return *pieces;
}

TEST(Pretokenizer, IsolatesMatchesAndKeepsWhatLiesBetween) {
  EXPECT_EQ(split({"[0-9]+"}, "ab12c345"), (Pieces{"ab", "12", "c", "345"}));
  EXPECT_EQ(split({}, "ab12"), Pieces{"ab12"});
  EXPECT_EQ(split({"a"}, ""), Pieces{});
  // The second pattern sees each piece as a text of its own: the lookahead finds the end, not the digit.
  EXPECT_EQ(split({"[0-9]+", " +(?![0-9])"}, "a  1 b"), (Pieces{"a", "  ", "1", " ", "b"}));
}

TEST(Pretokenizer, CutsAtEmptyMatches) {
  EXPECT_EQ(split({"x*"}, "axxb"), (Pieces{"a", "xx", "b"}));
  EXPECT_EQ(split({"(?=b)"}, "abab"), (Pieces{"a", "ba", "b"}));
}

TEST(Pretokenizer, SplitsAsDeepSeekV3) {
  EXPECT_EQ(split(deepseek_v3_split_patterns(), "Hi世界, x1234 don't\n\n  y"),
            (Pieces{"Hi", "世界", ",", " x", "123", "4", " don", "'t", "\n\n", " ", " y"}));
}

TEST(Pretokenizer, TakesOnlyUnicodeWhiteSpaceForSpace) {
  // U+180E left White_Space in Unicode 6.3; PCRE2 still matches it by \s.
  for (char32_t c = 1; c < 0x11000; ++c) {
    if (c >= 0xD800 && c <= 0xDFFF) continue;
    const bool space = (c >= 9 && c <= 13) || c == 0x20 || c == 0x85 || c == 0xA0 || c == 0x1680 ||
                       (c >= 0x2000 && c <= 0x200A) || c == 0x2028 || c == 0x2029 || c == 0x202F || c == 0x205F ||
                       c == 0x3000;
    static const auto spaces = Pretokenizer::create(std::vector<std::string>{R"(\s|[^\S]|[\sx])"});
    static const auto others = Pretokenizer::create(std::vector<std::string>{R"((?:\S|[\S]|[^\s])+)"});
    std::string text = "_";
    append_utf8(c, text);
    ASSERT_EQ(spaces->split(text + "_")->size(), space || c == 'x' ? 3u : 1u) << static_cast<uint32_t>(c);
    ASSERT_EQ(others->split(text + "_")->size(), space ? 3u : 1u) << static_cast<uint32_t>(c);
  }
}

TEST(Pretokenizer, AlwaysCoversTheText) {
  const auto made = Pretokenizer::create(deepseek_v3_split_patterns());
  ASSERT_TRUE(made);
  for (uint64_t seed = 1; seed <= 1000; ++seed) {
    SequentialRng rng(seed, stream_of("cover"));
    const std::string text = random_text(rng, 50);
    std::string joined;
    const auto pieces = made->split(text);
    ASSERT_TRUE(pieces);
    for (std::string_view piece : *pieces) {
      EXPECT_FALSE(piece.empty());
      joined += piece;
    }
    EXPECT_EQ(joined, text) << "seed " << seed;
  }
}

TEST(Pretokenizer, GivesUpOnHostilePatterns) {
  const auto made = Pretokenizer::create(std::vector<std::string>{"(?:a+)+[bc]"});
  ASSERT_TRUE(made) << made.error().text;
  const auto pieces = made->split(std::string(5000, 'a'));
  ASSERT_FALSE(pieces);
  EXPECT_EQ(pieces.error().text,
            "split pattern \"(?:a+)+[bc]\" gave up on a piece of 5000 bytes: match limit exceeded");
}

TEST(Pretokenizer, TakesLongRunsOfBlanks) {
  // One alternative walks the whole run in vain; that is honest work, in proportion to the text.
  const std::string text = std::string(size_t{16} << 20, ' ') + "x";
  EXPECT_EQ(split(deepseek_v3_split_patterns(), text),
            (Pieces{std::string_view(text).substr(0, text.size() - 2), " x"}));
}

TEST(Pretokenizer, HandlesDeepGroupsOnLongText) {
  // One stack frame per repetition: more than the JIT stack holds, so the interpreter takes over.
  const std::string text(100000, 'a');
  EXPECT_EQ(split({"(?:a|b(?=c))+"}, text), Pieces{text});
}

TEST(Pretokenizer, RefusesWhatOnigurumaAndPcre2ReadDifferently) {
  const auto refusal = [](const char* pattern) {
    const auto made = to_pcre2(pattern);
    return made ? "accepted " + *made : made.error().text.substr(0, made.error().text.find(';'));
  };
  const std::pair<const char*, const char*> cases[] = {
      {"^a", "split pattern: '^' at byte 0"},
      {"a$", "split pattern: '$' at byte 1"},
      {R"(\w+)", R"(split pattern: '\w' at byte 0)"},
      {R"(\bx)", R"(split pattern: '\b' at byte 0)"},
      {R"(\h)", R"(split pattern: '\h' at byte 0)"},
      {R"((a)\1)", R"(split pattern: '\1' at byte 3)"},
      {R"(a\)", R"(split pattern: '\' without a letter at byte 1)"},
      {"[a[b]]", "split pattern: '[' inside a class at byte 2"},
      {"[[:alpha:]]", "split pattern: '[' inside a class at byte 1"},
      {"[a&&b]", "split pattern: '&&' inside a class at byte 2"},
      {"[]a]", "split pattern: an empty class at byte 1"},
      {"[a", "split pattern: an open '[' at byte 2"},
      {R"([a-\s])", R"(split pattern: '-' next to \s at byte 3)"},
      {R"([\s-z])", R"(split pattern: '-' next to \s at byte 1)"},
      {"(*UTF)a", "split pattern: '(*' at byte 0"},
      {"(?i)a", "split pattern: '(?' of another kind at byte 0"},
      {"(?<n>a)", "split pattern: '(?' of another kind at byte 0"},
      {"a{,3}", "split pattern: '{' at byte 1"},
      {"a{3}+", "split pattern: '{' at byte 1"},
      {R"(\p{^L})", R"(split pattern: \p without {name} at byte 0)"},
      {R"(\pL)", R"(split pattern: \p without {name} at byte 0)"},
      {R"(\x41)", R"(split pattern: \x without {hex} at byte 0)"},
  };
  for (const auto& [pattern, text] : cases) EXPECT_EQ(refusal(pattern), text) << pattern;
  EXPECT_EQ(*to_pcre2(R"(\p{Han}\P{Lu}[\-\p{L}\x{41}]{2,3}|(?i:'s|a++)\d)"),
            R"(\p{sc:Han}\P{Lu}[\-\p{L}\x{41}]{2,3}|(?i:'s|a++)\d)");
  const auto unknown = Pretokenizer::create(std::vector<std::string>{R"(\p{Klingon})"});
  ASSERT_FALSE(unknown);
  EXPECT_TRUE(unknown.error().text.starts_with(R"(split pattern "\\p{Klingon}": )")) << unknown.error().text;
  EXPECT_FALSE(Pretokenizer::create(std::vector<std::string>{""}));
  EXPECT_FALSE(Pretokenizer::create(std::vector<std::string>(65, "a")));
  EXPECT_FALSE(Pretokenizer::create(std::vector<std::string>{"\xFF"}));
}

}  // namespace
}  // namespace fathom
