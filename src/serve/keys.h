// API keys: who may use the server. Keys are kept and compared as SHA-256 digests in constant time, so that neither the
// length nor the first wrong character of a guess can be measured.
#pragma once

#include <array>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "base/file.h"
#include "base/result.h"

namespace fathom::serve {

class ApiKeys {
 public:
  /// `keys` of the command line, and those of `file` (one a line; blanks around a key, empty lines and lines that begin
  /// with # do not count) unless its name is empty. Errors: an empty key, a file that cannot be read or has no key.
  static Result<ApiKeys> create(const std::vector<std::string>& keys, const Path& file);

  /// False when no key was ever asked for: then everybody may come in.
  bool required() const { return !own_.empty() || !file_.empty(); }
  bool accepts(std::string_view key) const;

  /// Reads the file again if its time, size or inode has changed, or if `always`. On an error the old keys stay.
  /// The value says whether the keys were read anew.
  Result<bool> reload(bool always = false);

 private:
  using Digest = std::array<uint8_t, 32>;
  struct Stamp {
    int64_t seconds = 0, nanoseconds = 0, size = 0;
    uint64_t inode = 0;
    bool operator==(const Stamp&) const = default;
  };

  static Digest digest(std::string_view key);
  static Result<Stamp> stamp(const Path& file);

  std::vector<Digest> own_, from_file_;
  Path file_;
  Stamp stamp_;
};

/// The key of "Bearer KEY" (RFC 6750; the scheme in any case), or nothing.
std::string_view bearer_key(std::string_view authorization);

}  // namespace fathom::serve
