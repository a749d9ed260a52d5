#include "serve/fields.h"

#include <cmath>

namespace fathom::serve {
namespace {

std::string with_article(std::string_view kind) {
  const bool vowel = kind == "object" || kind == "array" || kind == "integer";
  return (vowel ? "an " : "a ") + std::string(kind);
}

bool is_integral(double value) {
  constexpr double kExact = 9007199254740992;  // 2^53
  return std::abs(value) <= kExact && value == std::trunc(value);
}

}  // namespace

const Json* Fields::find(std::string_view key) const {
  const Json* found = body_.find(key);
  return found == nullptr || found->is_null() ? nullptr : found;
}

void Fields::text(std::string_view key, std::string& value) {
  const Json* found = find(key);
  if (found == nullptr) return;
  if (!found->is_string()) return wrong_kind(key, *found, "a string");
  value = found->as_string();
}

void Fields::boolean(std::string_view key, bool& value) {
  const Json* found = find(key);
  if (found == nullptr) return;
  if (!found->is_bool()) return wrong_kind(key, *found, "true or false");
  value = found->as_bool();
}

void Fields::integer(std::string_view key, std::optional<int64_t>& value, int64_t least, int64_t most) {
  const Json* found = find(key);
  if (found == nullptr) return;
  const std::string accepted = "an integer from " + std::to_string(least) + " to " + std::to_string(most);
  int64_t given = 0;
  if (found->is_int()) {
    given = found->as_int();
  } else if (found->is_number() && is_integral(found->as_double())) {
    given = static_cast<int64_t>(found->as_double());  // 2.0: clients whose numbers are all floating
  } else {
    return wrong_kind(key, *found, accepted);
  }
  if (given < least || given > most) return out_of_range(key, *found, accepted);
  value = given;
}

void Fields::number(std::string_view key, std::optional<double>& value, double least, double most,
                    std::string_view accepted) {
  const Json* found = find(key);
  if (found == nullptr) return;
  if (!found->is_number()) return wrong_kind(key, *found, accepted);
  const double given = found->as_double();
  if (!(given >= least && given <= most)) return out_of_range(key, *found, accepted);
  value = given;
}

void Fields::refuse(std::string_view key, std::string message) {
  if (!error_) error_ = bad_parameter(key, std::move(message));
}

void Fields::wrong_kind(std::string_view key, const Json& found, std::string_view accepted) {
  refuse(key, std::string(key) + " is " + with_article(found.kind()) + "; accepted: " + std::string(accepted));
}

void Fields::out_of_range(std::string_view key, const Json& found, std::string_view accepted) {
  refuse(key,
         std::string(key) + " " + found.dump().substr(0, 100) + " is out of range; accepted: " + std::string(accepted));
}

}  // namespace fathom::serve
