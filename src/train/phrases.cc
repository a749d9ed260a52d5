// Small text helpers of the generators.
#include "train/phrases.h"

#include <algorithm>
#include <numeric>

#include "base/check.h"

namespace fathom {

std::string_view one_of(SequentialRng& rng, std::initializer_list<std::string_view> options) {
  return options.begin()[rng.below(options.size())];
}

std::string fill(std::string_view pattern,
                 std::initializer_list<std::pair<std::string_view, std::string_view>> values) {
  std::string out;
  while (true) {
    const size_t open = pattern.find('{');
    out += pattern.substr(0, open);
    if (open == std::string_view::npos) return out;
    const size_t close = pattern.find('}', open);
    check(close != std::string_view::npos, "every { of a pattern has its }");
    const std::string_view name = pattern.substr(open + 1, close - open - 1);
    const auto value = std::find_if(values.begin(), values.end(), [&](const auto& v) { return v.first == name; });
    check(value != values.end(), "every name of a pattern has a value");
    out += value->second;
    pattern.remove_prefix(close + 1);
  }
}

std::string with_article(std::string_view noun_phrase) {
  const bool vowel = std::string_view("aeiou").find(noun_phrase.front()) != std::string_view::npos;
  return std::string(vowel ? "an " : "a ").append(noun_phrase);
}

std::string capitalised(std::string text) {
  if (!text.empty() && text[0] >= 'a' && text[0] <= 'z') text[0] = static_cast<char>(text[0] - 'a' + 'A');
  return text;
}

std::vector<size_t> distinct(SequentialRng& rng, size_t size, size_t count) {
  check(count <= size, "no more choices than options");
  std::vector<size_t> indexes(size);
  std::iota(indexes.begin(), indexes.end(), size_t{0});
  for (size_t i = 0; i < count; ++i) std::swap(indexes[i], indexes[i + rng.below(size - i)]);
  indexes.resize(count);
  return indexes;
}

std::string_view name_at(size_t index) { return index < kGirls.size() ? kGirls[index] : kBoys[index - kGirls.size()]; }

std::string_view any_name(SequentialRng& rng) { return name_at(rng.below(kNumNames)); }

}  // namespace fathom
