#include "model/config_reader.h"

#include <algorithm>
#include <cmath>
#include <cstdio>

namespace fathom {

std::string number_text(double v) {
  char text[32];
  std::snprintf(text, sizeof text, "%.6g", v);
  return text;
}

ConfigReader::ConfigReader(const Json& json, std::string where) : where_(std::move(where)) {
  if (!json.is_object()) {
    fail(corrupt(where_ + ": expected an object, found " + std::string(json.kind())));
    return;
  }
  for (const auto& [key, value] : json.members()) members_.emplace(key, &value);
}

void ConfigReader::fail(Error error) {
  if (!error_) error_ = std::move(error);
}

void ConfigReader::require(bool holds, std::string_view problem) {
  if (!holds) fail(corrupt(where_ + ": " + std::string(problem)));
}

const Json* ConfigReader::get(std::string_view key) {
  known_.insert(key);
  const auto it = members_.find(key);
  return it == members_.end() || it->second->is_null() ? nullptr : it->second;
}

int64_t ConfigReader::integer(std::string_view key, int64_t low, int64_t high) {
  if (!get(key)) missing(key);
  return integer_or(key, low, low, high);
}

int64_t ConfigReader::integer_or_null(std::string_view key, int64_t when_null, int64_t low, int64_t high) {
  if (!has(key)) missing(key);
  return integer_or(key, when_null, low, high);
}

int64_t ConfigReader::integer_or(std::string_view key, int64_t otherwise, int64_t low, int64_t high) {
  const Json* value = get(key);
  return value ? integer_of(key, *value, low, high) : otherwise;
}

int64_t ConfigReader::integer_of(std::string_view key, const Json& value, int64_t low, int64_t high) {
  if (!value.is_int()) {
    wrong_kind(key, value, "an integer");
    return low;
  }
  const int64_t v = value.as_int();
  if (v >= low && v <= high) return v;
  fail(corrupt(where_ + ": " + std::string(key) + " " + std::to_string(v) +
               " is out of range; accepted: " + std::to_string(low) + " to " + std::to_string(high)));
  return low;
}

double ConfigReader::positive(std::string_view key, double low, double high) {
  if (!get(key)) missing(key);
  return positive_or(key, low, low, high);
}

double ConfigReader::positive_or(std::string_view key, double otherwise, double low, double high) {
  const Json* value = get(key);
  return value ? number_of(key, *value, low, high, false) : otherwise;
}

double ConfigReader::number(std::string_view key, double low, double high) {
  if (!get(key)) missing(key);
  return number_or(key, low, low, high);
}

double ConfigReader::number_or(std::string_view key, double otherwise, double low, double high) {
  const Json* value = get(key);
  return value ? number_of(key, *value, low, high, true) : otherwise;
}

double ConfigReader::number_of(std::string_view key, const Json& value, double low, double high, bool includes_low) {
  if (!value.is_number()) {
    wrong_kind(key, value, "a number");
    return low;
  }
  const double v = value.as_double();
  if (std::isfinite(v) && v <= high && (includes_low ? v >= low : v > low)) return v;
  fail(corrupt(where_ + ": " + std::string(key) + " " + number_text(v) + " is out of range; accepted: " +
               (includes_low ? "at least " : "more than ") + number_text(low) + ", at most " + number_text(high)));
  return low;
}

bool ConfigReader::boolean(std::string_view key) {
  if (!get(key)) missing(key);
  return boolean_or(key, false);
}

bool ConfigReader::boolean_or(std::string_view key, bool otherwise) {
  const Json* value = get(key);
  if (!value) return otherwise;
  if (value->is_bool()) return value->as_bool();
  wrong_kind(key, *value, "true or false");
  return otherwise;
}

std::string ConfigReader::text_or_empty(std::string_view key) {
  const Json* value = get(key);
  if (!value) return {};
  if (value->is_string()) return value->as_string();
  wrong_kind(key, *value, "a string");
  return {};
}

void ConfigReader::only(std::string_view key, std::initializer_list<std::string_view> accepted, bool optional) {
  if (!get(key)) {
    if (!optional) missing(key);
    return;
  }
  const std::string text = text_or_empty(key);
  if (std::find(accepted.begin(), accepted.end(), text) != accepted.end()) return;
  not_accepted(key, quoted(text), {accepted.begin(), accepted.size()});
}

void ConfigReader::only(std::string_view key, bool accepted) {
  if (boolean_or(key, accepted) == accepted) return;
  const std::string_view names[] = {accepted ? "true" : "false"};
  not_accepted(key, accepted ? "false" : "true", names);
}

std::vector<std::string> ConfigReader::unknown() const {
  std::vector<std::string> keys;
  for (const auto& [key, value] : members_) {
    if (!known_.contains(key)) keys.emplace_back(key);
  }
  std::sort(keys.begin(), keys.end());
  return keys;
}

void ConfigReader::finish(const ConfigReader& nested) {
  if (nested.error()) return fail(*nested.error());
  const auto unknown_keys = nested.unknown();
  if (!unknown_keys.empty()) {
    fail(unsupported(nested.where() + ": unknown key " + quoted(unknown_keys.front()) +
                     "; remove it if it is harmless"));
  }
}

void ConfigReader::missing(std::string_view key) { fail(corrupt(where_ + ": " + std::string(key) + " is missing")); }

void ConfigReader::not_accepted(std::string_view key, const std::string& value,
                                std::span<const std::string_view> accepted) {
  std::string list;
  for (std::string_view name : accepted) list += (list.empty() ? "" : ", ") + std::string(name);
  fail(unsupported(where_ + ": " + std::string(key) + " " + value + " is not supported; accepted: " + list));
}

void ConfigReader::wrong_kind(std::string_view key, const Json& value, std::string_view wanted) {
  fail(corrupt(where_ + ": " + std::string(key) + " must be " + std::string(wanted) + ", found " +
               std::string(value.kind())));
}

std::string ConfigReader::quoted(std::string_view text) { return Json(text.substr(0, 200)).dump(); }

}  // namespace fathom
