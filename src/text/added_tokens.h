// AddedTokenMatcher: finds the added tokens of a tokenizer in text, leftmost and then longest, before BPE sees the
// rest.
#pragma once

#include <array>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"
#include "text/tokenizer_spec.h"

namespace fathom {

/// A part of a text: one added token, or (id < 0) a stretch without any.
struct TextSegment {
  std::string_view text;
  int32_t id = -1;
};

class AddedTokenMatcher {
 public:
  /// Contents must be 1 to 512 bytes of valid UTF-8 and differ from each other; errors name the one that is not.
  static Result<AddedTokenMatcher> create(std::span<const AddedToken> tokens);

  /// `text` cut at its added tokens, in order, without empty segments. Those with normalized = false are found first;
  /// the others in what is left. At most 512 steps per byte.
  std::vector<TextSegment> split(std::string_view text) const;

  /// The id of an added token, or -1.
  int32_t find(std::string_view content) const;

 private:
  // The tokens of one pass, sorted by content; those that begin with byte b are [starts[b], starts[b + 1]).
  struct Pass {
    std::vector<AddedToken> tokens;
    std::array<uint32_t, 257> starts{};

    const AddedToken* longest_at(std::string_view text) const;
    void split(std::string_view text, std::vector<TextSegment>& out) const;
  };

  std::array<Pass, 2> passes_;
};

}  // namespace fathom
