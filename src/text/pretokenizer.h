// Pretokenizer: cuts text into the pieces that BPE never merges across, with the regular expressions of a
// TokenizerSpec. They are written for Oniguruma (Hugging Face tokenizers) and run by PCRE2; a pattern that the two read
// differently is refused, and \s is written out because they disagree about U+180E. Letters, marks and so on are those
// of PCRE2's Unicode version (14 in PCRE2 10.42): a newer character may be cut differently elsewhere.
#pragma once

#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"

namespace fathom {

class Pretokenizer {
 public:
  /// Compiles the patterns. Errors name the pattern and the construct that is not accepted.
  static Result<Pretokenizer> create(std::span<const std::string> patterns);

  Pretokenizer(Pretokenizer&&) noexcept;
  Pretokenizer& operator=(Pretokenizer&&) noexcept;
  ~Pretokenizer();

  /// The pieces of `text` (valid UTF-8) in order; none is empty and together they are `text`. Each pattern isolates its
  /// matches within every piece of the pattern before, which it sees as a text of its own. Thread-safe.
  /// Errors: a pattern that gives up (PCRE2 match or memory limit) on this text.
  Result<std::vector<std::string_view>> split(std::string_view text) const;

 private:
  struct Compiled;
  Pretokenizer();
  std::unique_ptr<Compiled> compiled_;
};

/// `pattern` (Oniguruma, Ruby syntax) as PCRE2 with UTF and UCP reads it. Errors name the first construct outside the
/// common subset: character classes without nesting, \p{..}, \s, \d, quantifiers, groups, lookaround, (?i:..).
Result<std::string> to_pcre2(std::string_view pattern);

}  // namespace fathom
