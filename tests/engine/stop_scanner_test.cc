// Stop strings in text that arrives in pieces: whatever the pieces, what is shown is decided by the whole text.
#include "engine/stop_scanner.h"

#include <gtest/gtest.h>

#include <optional>

#include "base/rng.h"

namespace fathom {
namespace {

/// The definition: the text before the stop string that is complete first (of those that end there, the longest).
struct Search {
  std::string shown;
  bool stopped = false;
};
Search search(const std::string& text, const std::vector<std::string>& stops) {
  for (size_t end = 0; end <= text.size(); ++end) {
    std::optional<size_t> first;
    for (const std::string& stop : stops) {
      if (stop.empty() || stop.size() > end || text.compare(end - stop.size(), stop.size(), stop) != 0) continue;
      if (!first || end - stop.size() < *first) first = end - stop.size();
    }
    if (first) return {text.substr(0, *first), true};
  }
  return {text, false};
}

TEST(StopScanner, ShowsEverythingWithoutStopStrings) {
  StopScanner scanner({});
  EXPECT_EQ(scanner.push("abc"), "abc");
  EXPECT_EQ(scanner.push(""), "");
  EXPECT_EQ(scanner.flush(), "");
  EXPECT_FALSE(scanner.stopped());
  StopScanner empty_ones({"", ""});
  EXPECT_EQ(empty_ones.push("abc"), "abc");
  EXPECT_FALSE(empty_ones.stopped());
}

TEST(StopScanner, HoldsBackWhatCouldBecomeAStopStringAndNoMore) {
  StopScanner scanner({"END"});
  EXPECT_EQ(scanner.push("the E"), "the ");
  EXPECT_EQ(scanner.push("N"), "");
  EXPECT_EQ(scanner.push("EN"), "EN");
  EXPECT_EQ(scanner.push("x"), "ENx");
  EXPECT_EQ(scanner.push("E"), "");
  EXPECT_EQ(scanner.flush(), "E");
  EXPECT_EQ(scanner.flush(), "");
}

TEST(StopScanner, ShowsNothingAfterTheEnd) {
  StopScanner scanner({"\n\n", "User:"});
  EXPECT_EQ(scanner.push("hi\nUs"), "hi\n");
  EXPECT_EQ(scanner.push("er: more"), "");
  EXPECT_TRUE(scanner.stopped());
  EXPECT_EQ(scanner.push("text"), "");
  EXPECT_EQ(scanner.flush(), "");
}

TEST(StopScanner, OverlappingStopStringsDoNotDependOnThePieces) {
  const std::vector<std::string> stops{"abcd", "bc"};
  StopScanner whole(stops), split(stops);
  EXPECT_EQ(whole.push("xabcd"), "xa");  // "bc" is complete before "abcd"
  EXPECT_EQ(split.push("xab"), "x");
  EXPECT_EQ(split.push("cd"), "a");
  StopScanner same_end({"bc", "abc"});
  EXPECT_EQ(same_end.push("xabc"), "x");
}

TEST(StopScanner, RandomSplitsShowWhatASearchInTheWholeTextShows) {
  SequentialRng rng(1, stream_of("stop scanner"));
  const auto draw = [&rng](int64_t low, int64_t high, uint64_t letters) {
    std::string text;
    for (int64_t n = rng.between(low, high); n > 0; --n) text += static_cast<char>('a' + rng.below(letters));
    return text;
  };
  int64_t num_stopped = 0;
  for (int trial = 0; trial < 20'000; ++trial) {
    const uint64_t letters = 2 + rng.below(2);  // few letters: many near misses and overlaps
    std::vector<std::string> stops;
    for (int64_t n = rng.between(0, 4); n > 0; --n) stops.push_back(draw(0, 6, letters));
    const std::string text = draw(0, 40, letters);
    const Search wanted = search(text, stops);
    num_stopped += wanted.stopped;
    StopScanner scanner(stops);
    std::string shown;
    for (size_t at = 0; at < text.size();) {
      const auto piece = static_cast<size_t>(rng.between(0, 7));
      shown += scanner.push(std::string_view(text).substr(at, piece));
      at += piece;
      ASSERT_EQ(wanted.shown.substr(0, shown.size()), shown) << text << ": shown too early";
    }
    shown += scanner.flush();
    std::string listed;
    for (const std::string& stop : stops) listed += " [" + stop + "]";
    ASSERT_EQ(shown, wanted.shown) << text << " with" << listed;
    ASSERT_EQ(scanner.stopped(), wanted.stopped) << text << " with" << listed;
  }
  EXPECT_GT(num_stopped, 5000);
  EXPECT_LT(num_stopped, 19'000);
}

}  // namespace
}  // namespace fathom
