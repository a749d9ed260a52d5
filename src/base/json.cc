#include "base/json.h"

#include <nlohmann/json.hpp>
#include <unordered_set>

#include "base/check.h"
#include "base/git_lfs.h"

namespace fathom {
namespace {

constexpr size_t kMaxDepth = 256;

// Builds a Json from parser events; returning false from an event stops the parser.
class Builder final : public nlohmann::json_sax<nlohmann::json> {
 public:
  Json root;
  std::string problem;

  bool null() override { return put(Json()); }
  bool boolean(bool v) override { return put(Json(v)); }
  bool number_integer(number_integer_t v) override { return put(Json(int64_t{v})); }
  bool number_unsigned(number_unsigned_t v) override {
    if (v > static_cast<uint64_t>(INT64_MAX)) return put(Json(static_cast<double>(v)));
    return put(Json(static_cast<int64_t>(v)));
  }
  bool number_float(number_float_t v, const string_t&) override { return put(Json(double{v})); }
  bool string(string_t& v) override { return put(Json(std::move(v))); }
  bool binary(binary_t&) override { return false; }
  bool start_object(std::size_t) override { return open(Json::object()); }
  bool start_array(std::size_t) override { return open(Json::array()); }
  bool end_object() override { return close(); }
  bool end_array() override { return close(); }
  bool key(string_t& v) override {
    if (!stack_.back().seen.insert(v).second) {
      problem = "duplicate key \"" + v + "\"";
      return false;
    }
    stack_.back().key = std::move(v);
    return true;
  }
  bool parse_error(std::size_t position, const std::string&, const nlohmann::detail::exception& e) override {
    // The library's text starts with "[json.exception...] parse error at line ...: ": keep what follows.
    std::string text = e.what();
    const size_t cut = text.find("] ");
    problem = (cut == std::string::npos ? text : text.substr(cut + 2)) + " (byte " + std::to_string(position) + ")";
    return false;
  }

 private:
  struct Level {
    Json value;
    std::string key;
    std::unordered_set<std::string> seen;
  };

  bool put(Json v) {
    if (stack_.empty()) {
      root = std::move(v);
    } else if (stack_.back().value.is_array()) {
      stack_.back().value.items().push_back(std::move(v));
    } else {
      stack_.back().value.members().emplace_back(std::move(stack_.back().key), std::move(v));
    }
    return true;
  }
  bool open(Json v) {
    if (stack_.size() >= kMaxDepth) {
      problem = "nested deeper than " + std::to_string(kMaxDepth) + " levels";
      return false;
    }
    stack_.push_back({std::move(v), {}, {}});
    return true;
  }
  bool close() {
    Json v = std::move(stack_.back().value);
    stack_.pop_back();
    return put(std::move(v));
  }

  std::vector<Level> stack_;
};

nlohmann::ordered_json to_library(const Json& json) {
  if (json.is_bool()) return json.as_bool();
  if (json.is_int()) return json.as_int();
  if (json.is_double()) return json.as_double();
  if (json.is_string()) return json.as_string();
  if (json.is_array()) {
    auto out = nlohmann::ordered_json::array();
    for (const Json& item : json.items()) out.push_back(to_library(item));
    return out;
  }
  if (json.is_object()) {
    auto out = nlohmann::ordered_json::object();
    // push_back, not operator[]: the ordered map searches linearly for the key, which is quadratic on vocabularies.
    auto& object = out.get_ref<nlohmann::ordered_json::object_t&>();
    object.reserve(json.members().size());
    for (const auto& [key, value] : json.members()) {
      object.std::vector<std::pair<const std::string, nlohmann::ordered_json>>::emplace_back(key, to_library(value));
    }
    return out;
  }
  return nullptr;
}

}  // namespace

Result<Json> Json::parse(std::string_view text, std::string_view where) {
  if (is_git_lfs_pointer(text)) return git_lfs_pointer_error(where);  // tokenizer.json often is one
  // The library takes a NUL byte for the end of the text and would not look at what follows.
  if (const size_t nul = text.find('\0'); nul != std::string_view::npos) {
    return corrupt(std::string(where) + ": not valid JSON: NUL byte (byte " + std::to_string(nul + 1) + ")");
  }
  Builder builder;
  if (!nlohmann::json::sax_parse(text.begin(), text.end(), &builder)) {
    return corrupt(std::string(where) + ": not valid JSON: " + builder.problem);
  }
  return std::move(builder.root);
}

std::string_view Json::kind() const {
  constexpr std::string_view kNames[] = {"null", "boolean", "integer", "number", "string", "array", "object"};
  return kNames[value_.index()];
}

bool Json::as_bool() const {
  check(is_bool(), "json value is a boolean");
  return std::get<bool>(value_);
}
int64_t Json::as_int() const {
  check(is_int(), "json value is an integer");
  return std::get<int64_t>(value_);
}
double Json::as_double() const {
  check(is_number(), "json value is a number");
  return is_int() ? static_cast<double>(as_int()) : std::get<double>(value_);
}
const std::string& Json::as_string() const {
  check(is_string(), "json value is a string");
  return std::get<std::string>(value_);
}
const Json::Array& Json::items() const {
  check(is_array(), "json value is an array");
  return std::get<Array>(value_);
}
const Json::Object& Json::members() const {
  check(is_object(), "json value is an object");
  return std::get<Object>(value_);
}
Json::Array& Json::items() {
  check(is_array(), "json value is an array");
  return std::get<Array>(value_);
}
Json::Object& Json::members() {
  check(is_object(), "json value is an object");
  return std::get<Object>(value_);
}

const Json* Json::find(std::string_view key) const {
  if (!is_object()) return nullptr;
  for (const auto& [name, value] : members()) {
    if (name == key) return &value;
  }
  return nullptr;
}

Json& Json::set(std::string_view key, Json value) {
  if (is_null()) *this = object();
  for (auto& [name, old] : members()) {
    if (name == key) {
      old = std::move(value);
      return *this;
    }
  }
  members().emplace_back(std::string(key), std::move(value));
  return *this;
}

Json& Json::push(Json value) {
  if (is_null()) *this = array();
  items().push_back(std::move(value));
  return *this;
}

std::string Json::dump(int indent) const {
  return to_library(*this).dump(indent, ' ', false, nlohmann::json::error_handler_t::replace);
}

}  // namespace fathom
