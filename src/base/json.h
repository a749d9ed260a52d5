// Json: the only door to the JSON library. Never throws; depth and size are bounded by the parser; object order is
// kept, and duplicate keys are an error because two readers would disagree about them.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <utility>
#include <variant>
#include <vector>

#include "base/result.h"

namespace fathom {

class Json {
 public:
  using Array = std::vector<Json>;
  using Member = std::pair<std::string, Json>;
  using Object = std::vector<Member>;

  Json() = default;  // null
  Json(std::nullptr_t) {}
  Json(bool v) : value_(v) {}
  Json(int v) : value_(int64_t{v}) {}
  Json(int64_t v) : value_(v) {}
  Json(uint64_t v) : value_(static_cast<int64_t>(v)) {}
  Json(double v) : value_(v) {}
  Json(const char* v) : value_(std::string(v)) {}
  Json(std::string_view v) : value_(std::string(v)) {}
  Json(std::string v) : value_(std::move(v)) {}
  Json(Array v) : value_(std::move(v)) {}
  Json(Object v) : value_(std::move(v)) {}
  static Json array() { return Json(Array{}); }
  static Json object() { return Json(Object{}); }

  /// Parses RFC 8259 text. `where` names the source in the error ("DIR/config.json"). Depth is limited to 256.
  static Result<Json> parse(std::string_view text, std::string_view where);

  bool is_null() const { return value_.index() == 0; }
  bool is_bool() const { return value_.index() == 1; }
  bool is_int() const { return value_.index() == 2; }
  bool is_double() const { return value_.index() == 3; }
  bool is_number() const { return is_int() || is_double(); }
  bool is_string() const { return value_.index() == 4; }
  bool is_array() const { return value_.index() == 5; }
  bool is_object() const { return value_.index() == 6; }
  /// "null", "boolean", "integer", "number", "string", "array" or "object", for error messages.
  std::string_view kind() const;

  // Typed access: the kind must have been tested (check() otherwise).
  bool as_bool() const;
  int64_t as_int() const;
  double as_double() const;  // integers convert
  const std::string& as_string() const;
  const Array& items() const;
  const Object& members() const;
  Array& items();
  Object& members();

  /// The member `key` of an object, or nullptr (also when this is not an object).
  const Json* find(std::string_view key) const;

  /// Sets or replaces a member; this must be null or an object.
  Json& set(std::string_view key, Json value);
  /// Appends; this must be null or an array.
  Json& push(Json value);

  /// JSON text; indent < 0 gives one line. Invalid UTF-8 inside strings becomes U+FFFD.
  std::string dump(int indent = -1) const;

  bool operator==(const Json&) const = default;

 private:
  std::variant<std::monostate, bool, int64_t, double, std::string, Array, Object> value_;
};

}  // namespace fathom
