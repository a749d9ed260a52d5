// ConfigReader: reads the members of one JSON object of a model config and keeps the first error, so that parsing reads
// as a list of keys. It also knows which keys nobody asked for.
#pragma once

#include <cstdint>
#include <initializer_list>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <unordered_map>
#include <unordered_set>
#include <utility>
#include <vector>

#include "base/json.h"
#include "base/result.h"

namespace fathom {

/// After an error the getters return harmless values (a bound or the default); test error() before using any of them.
/// The Json must outlive the reader. null counts as absent, except for has().
class ConfigReader {
 public:
  template <class Enum>
  using Choice = std::pair<Enum, std::string_view>;

  /// `where` begins every error.
  ConfigReader(const Json& json, std::string where);

  const std::optional<Error>& error() const { return error_; }
  const std::string& where() const { return where_; }
  /// Records an error unless there is one.
  void fail(Error error);
  /// Fails with `problem` unless `holds`.
  void require(bool holds, std::string_view problem);

  /// The key is written, maybe as null.
  bool has(std::string_view key) const { return members_.contains(key); }
  /// The value of `key`, or nullptr. Every getter marks its key as known.
  const Json* get(std::string_view key);

  int64_t integer(std::string_view key, int64_t low, int64_t high);
  /// The key must be written, but may be null, which means `when_null`.
  int64_t integer_or_null(std::string_view key, int64_t when_null, int64_t low, int64_t high);
  int64_t integer_or(std::string_view key, int64_t otherwise, int64_t low, int64_t high);
  /// The integer in `value`, which belongs to `key`.
  int64_t integer_of(std::string_view key, const Json& value, int64_t low, int64_t high);

  /// A number above `low` (not equal), at most `high`.
  double positive(std::string_view key, double low, double high);
  double positive_or(std::string_view key, double otherwise, double low, double high);
  /// A number in [low, high].
  double number(std::string_view key, double low, double high);
  double number_or(std::string_view key, double otherwise, double low, double high);

  bool boolean(std::string_view key);
  bool boolean_or(std::string_view key, bool otherwise);
  /// The text of a key; empty when it is absent.
  std::string text_or_empty(std::string_view key);

  /// The key must have one of these texts; `optional` lets it be absent.
  void only(std::string_view key, std::initializer_list<std::string_view> accepted, bool optional);
  /// The key, when present, must have this value, because fathom has no other.
  void only(std::string_view key, bool accepted);
  template <class Enum>
  Enum choice_or(std::string_view key, std::span<const Choice<Enum>> choices, Enum otherwise) {
    if (!get(key)) return otherwise;
    const std::string text = text_or_empty(key);
    std::vector<std::string_view> accepted;
    for (const auto& [value, name] : choices) {
      if (name == text) return value;
      accepted.push_back(name);
    }
    not_accepted(key, quoted(text), accepted);
    return otherwise;
  }

  /// The keys that nobody asked for, sorted.
  std::vector<std::string> unknown() const;
  /// Takes the error of `nested`; when it has none, its unknown keys are one.
  void finish(const ConfigReader& nested);

  void missing(std::string_view key);
  void not_accepted(std::string_view key, const std::string& value, std::span<const std::string_view> accepted);

  /// `text` as a JSON string for an error: control characters escaped, cut after 200 bytes.
  static std::string quoted(std::string_view text);

 private:
  double number_of(std::string_view key, const Json& value, double low, double high, bool includes_low);
  void wrong_kind(std::string_view key, const Json& value, std::string_view wanted);

  std::string where_;
  std::unordered_map<std::string_view, const Json*> members_;
  std::unordered_set<std::string_view> known_;
  std::optional<Error> error_;
};

/// A number in an error message: six significant digits.
std::string number_text(double v);

}  // namespace fathom
