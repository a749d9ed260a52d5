#include "base/config.h"

#include <unistd.h>

#include <algorithm>
#include <charconv>
#include <cmath>
#include <numeric>
#include <optional>
#include <set>

#include "base/check.h"
#include "base/json.h"

// A file of ours nests no deeper than [section] key = [list]; the parser's recursion is bounded far below its default.
#define TOML_EXCEPTIONS 0
#define TOML_MAX_NESTED_VALUES 16
#define TOML_ENABLE_FORMATTERS 0
#include <toml++/toml.h>

namespace fathom {
namespace {

constexpr int64_t kMaxFileBytes = int64_t{1} << 20;
constexpr int kMaxDotsPerLine = 256;
constexpr size_t kMaxShown = 80;

// A value on its way into a setting: what a TOML node or a string turned out to be.
using Value = std::variant<bool, int64_t, double, std::string, std::vector<int64_t>, std::vector<double>,
                           std::vector<std::string>>;

// Outside text as an error may show it: short, and without control characters that could move a terminal's cursor.
std::string shown(std::string_view text) {
  std::string out(text.substr(0, kMaxShown));
  for (char& c : out) {
    if (static_cast<unsigned char>(c) < 0x20 || c == 0x7F) c = '?';
  }
  return text.size() > kMaxShown ? out + "..." : out;
}

std::string number_text(double v) {
  char buffer[32];
  const auto end = std::to_chars(buffer, buffer + sizeof(buffer), v).ptr;
  return std::string(buffer, end);
}

// ---- What a setting accepts, in words ----

std::string range_text(const Accepts& accepts) {
  const bool low = std::isfinite(accepts.min);
  const bool high = std::isfinite(accepts.max);
  if (low && high) return " from " + number_text(accepts.min) + " to " + number_text(accepts.max);
  if (low) return " >= " + number_text(accepts.min);
  if (high) return " <= " + number_text(accepts.max);
  return "";
}

std::string type_text(const ConfigField::Target& target) {
  constexpr std::string_view kNames[] = {"boolean", "integer",          "number",          "string",
                                         "path",    "list of integers", "list of numbers", "list of strings"};
  return std::string(kNames[target.index()]);
}

std::string accepted_text(const ConfigField& field) {
  if (!field.accepts.choices.empty()) {
    std::string text;
    for (const std::string& choice : field.accepts.choices) text += (text.empty() ? "\"" : ", \"") + choice + "\"";
    return (std::holds_alternative<std::vector<std::string>*>(field.target) ? "a list of " : "one of ") + text;
  }
  const std::string type = type_text(field.target);
  if (type == "boolean") return "true or false";
  return (type == "integer" ? "an " : "a ") + type + range_text(field.accepts);
}

Error refused(const std::string& where, const ConfigField& field, std::string_view value) {
  return invalid(where + ": " + field.key + " = " + shown(value) + " is not accepted; it must be " +
                 accepted_text(field));
}

// ---- Unknown keys ----

size_t edit_distance(std::string_view a, std::string_view b) {
  std::vector<size_t> row(b.size() + 1);
  std::iota(row.begin(), row.end(), size_t{0});
  for (size_t i = 1; i <= a.size(); ++i) {
    size_t diagonal = row[0];
    row[0] = i;
    for (size_t j = 1; j <= b.size(); ++j) {
      const size_t above = row[j];
      row[j] = std::min({above + 1, row[j - 1] + 1, diagonal + (a[i - 1] == b[j - 1] ? 0 : 1)});
      diagonal = above;
    }
  }
  return row[b.size()];
}

std::string_view last_part(std::string_view key) { return key.substr(key.rfind('.') + 1); }
std::string section_of(std::string_view key) {
  const size_t dot = key.rfind('.');
  return dot == std::string_view::npos ? std::string() : std::string(key.substr(0, dot));
}

// The candidate a person most likely meant: few edits away, or the same name in another section.
std::optional<std::string> nearest(std::string_view unknown, const std::vector<std::string>& candidates) {
  if (unknown.size() > kMaxShown) return std::nullopt;
  std::optional<std::string> best;
  size_t best_distance = std::max<size_t>(2, unknown.size() / 3) + 1;
  for (const std::string& candidate : candidates) {
    size_t distance = edit_distance(unknown, candidate);
    if (last_part(unknown) == last_part(candidate)) distance = std::min<size_t>(distance, 2);
    if (distance < best_distance) {
      best_distance = distance;
      best = candidate;
    }
  }
  return best;
}

Error unknown_key(const std::string& where, std::string_view key, const std::vector<std::string>& candidates) {
  std::string text = where + ": unknown key \"" + shown(key) + "\"";
  if (const auto near = nearest(key, candidates)) {
    text += "; did you mean \"" + *near + "\"?";
  } else {
    text += "; known keys: ";
    for (size_t i = 0; i < std::min<size_t>(candidates.size(), 12); ++i) text += (i ? ", " : "") + candidates[i];
    if (candidates.size() > 12) text += ", ...";
  }
  return invalid(std::move(text));
}

std::vector<std::string> keys_of(const std::vector<ConfigField>& fields) {
  std::vector<std::string> keys;
  for (const ConfigField& field : fields) keys.push_back(field.key);
  return keys;
}

const ConfigField* find_field(const std::vector<ConfigField>& fields, std::string_view key) {
  for (const ConfigField& field : fields) {
    if (field.key == key) return &field;
  }
  return nullptr;
}

// ---- Storing a value of the right kind ----

bool in_range(const Accepts& accepts, double v) { return std::isfinite(v) && v >= accepts.min && v <= accepts.max; }
bool in_range(const Accepts& accepts, int64_t v) { return in_range(accepts, static_cast<double>(v)); }
bool in_range(const Accepts& accepts, const std::string& v) {
  const auto& choices = accepts.choices;
  return choices.empty() || std::find(choices.begin(), choices.end(), v) != choices.end();
}
bool in_range(const Accepts&, bool) { return true; }
template <class T>
bool in_range(const Accepts& accepts, const std::vector<T>& values) {
  return std::all_of(values.begin(), values.end(), [&](const T& v) { return in_range(accepts, v); });
}

// Stores `value` if its kind fits the setting and it is in range. Integers fit numbers; nothing else converts.
bool store(const ConfigField& field, Value value) {
  return std::visit(
      [&](auto* target) {
        using T = std::remove_pointer_t<decltype(target)>;
        if constexpr (std::is_same_v<T, Path>) {
          const auto* text = std::get_if<std::string>(&value);
          if (!text || !in_range(field.accepts, *text)) return false;
          *target = *text;
        } else {
          if constexpr (std::is_same_v<T, double>) {
            if (const auto* i = std::get_if<int64_t>(&value)) value = static_cast<double>(*i);
          } else if constexpr (std::is_same_v<T, std::vector<double>>) {
            if (const auto* i = std::get_if<std::vector<int64_t>>(&value)) value = T(i->begin(), i->end());
          }
          auto* typed = std::get_if<T>(&value);
          if (!typed || !in_range(field.accepts, *typed)) return false;
          *target = std::move(*typed);
        }
        return true;
      },
      field.target);
}

// A list keeps one kind: all integers, all numbers (integers among them widen), or all strings. An empty list takes the
// kind of the setting it is meant for.
class ListBuilder {
 public:
  void add(int64_t v) {
    integers_.push_back(v);
    numbers_.push_back(static_cast<double>(v));
  }
  void add(double v) { numbers_.push_back(v); }
  void add(std::string v) { strings_.push_back(std::move(v)); }
  void add_other() { valid_ = false; }

  std::optional<Value> build(const ConfigField& field) && {
    if (!valid_ || (!strings_.empty() && !numbers_.empty())) return std::nullopt;
    if (std::holds_alternative<std::vector<std::string>*>(field.target) && numbers_.empty()) return strings_;
    if (!strings_.empty()) return strings_;
    if (integers_.size() == numbers_.size()) return integers_;
    return numbers_;
  }

 private:
  std::vector<int64_t> integers_;
  std::vector<double> numbers_;
  std::vector<std::string> strings_;
  bool valid_ = true;
};

// ---- From text: environment and overrides ----

template <class T>
std::optional<T> parse_number(std::string_view text) {
  T value{};
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (error != std::errc() || end != text.data() + text.size()) return std::nullopt;
  return value;
}

std::vector<std::string_view> split_commas(std::string_view text) {
  std::vector<std::string_view> parts;
  while (!text.empty()) {
    const size_t comma = std::min(text.find(','), text.size());
    parts.push_back(text.substr(0, comma));
    text.remove_prefix(std::min(comma + 1, text.size()));
  }
  return parts;
}

std::optional<Value> parse_list(const ConfigField& field, std::string_view text) {
  ListBuilder list;
  if (text.starts_with('[')) {
    const auto json = Json::parse(text, field.key);
    if (!json || !json->is_array()) return std::nullopt;
    for (const Json& item : json->items()) {
      if (item.is_int()) {
        list.add(item.as_int());
      } else if (item.is_double()) {
        list.add(item.as_double());
      } else if (item.is_string()) {
        list.add(item.as_string());
      } else {
        list.add_other();
      }
    }
    return std::move(list).build(field);
  }
  for (const std::string_view part : split_commas(text)) {
    if (std::holds_alternative<std::vector<std::string>*>(field.target)) {
      list.add(std::string(part));
    } else if (const auto integer = parse_number<int64_t>(part)) {
      list.add(*integer);
    } else if (const auto number = parse_number<double>(part)) {
      list.add(*number);
    } else {
      list.add_other();
    }
  }
  return std::move(list).build(field);
}

std::optional<Value> parse_text(const ConfigField& field, std::string_view text) {
  if (std::holds_alternative<bool*>(field.target)) {
    if (text == "true") return Value(true);
    if (text == "false") return Value(false);
    return std::nullopt;
  }
  if (std::holds_alternative<int64_t*>(field.target)) {
    if (const auto v = parse_number<int64_t>(text)) return Value(*v);
    return std::nullopt;
  }
  if (std::holds_alternative<double*>(field.target)) {
    if (const auto v = parse_number<double>(text)) return Value(*v);
    return std::nullopt;
  }
  if (std::holds_alternative<std::string*>(field.target) || std::holds_alternative<Path*>(field.target)) {
    return Value(std::string(text));
  }
  return parse_list(field, text);
}

Status apply_text(const ConfigField& field, const std::string& where, std::string_view text) {
  auto value = parse_text(field, text);
  if (!value || !store(field, std::move(*value))) return refused(where, field, "\"" + std::string(text) + "\"");
  return {};
}

std::string environment_name(std::string_view key) {
  std::string name = "FATHOM_";
  for (const char c : key) {
    name += c == '.' ? '_' : static_cast<char>(c >= 'a' && c <= 'z' ? c - 'a' + 'A' : c);
  }
  return name;
}

Status apply_environment(const std::vector<ConfigField>& fields, const std::vector<std::string>& environment) {
  std::vector<std::string> names;
  std::set<std::string> sections;
  for (const ConfigField& field : fields) {
    names.push_back(environment_name(field.key));
    const std::string section = section_of(field.key);
    if (!section.empty()) sections.insert(environment_name(section) + "_");
  }
  for (const std::string& entry : environment) {
    const size_t equals = entry.find('=');
    if (equals == std::string::npos) continue;
    const std::string name = entry.substr(0, equals);
    const auto known = std::find(names.begin(), names.end(), name);
    if (known != names.end()) {
      const ConfigField& field = fields[static_cast<size_t>(known - names.begin())];
      if (auto s = apply_text(field, "environment " + name, std::string_view(entry).substr(equals + 1)); !s) return s;
    } else if (std::any_of(sections.begin(), sections.end(), [&](const auto& s) { return name.starts_with(s); })) {
      return unknown_key("environment", name, names);
    }
  }
  return {};
}

Status apply_overrides(const std::vector<ConfigField>& fields, const std::vector<std::string>& overrides) {
  for (const std::string& text : overrides) {
    const size_t equals = text.find('=');
    if (equals == std::string::npos) return invalid("flag \"" + shown(text) + "\": expected key=value");
    const std::string key = text.substr(0, equals);
    const ConfigField* field = find_field(fields, key);
    if (!field) return unknown_key("flag \"" + shown(text) + "\"", key, keys_of(fields));
    const auto value = std::string_view(text).substr(equals + 1);
    if (auto s = apply_text(*field, "flag \"" + shown(text) + "\"", value); !s) return s;
  }
  return {};
}

// ---- From TOML ----

std::string node_text(const toml::node& node) {
  if (const auto* v = node.as_boolean()) return v->get() ? "true" : "false";
  if (const auto* v = node.as_integer()) return std::to_string(v->get());
  if (const auto* v = node.as_floating_point()) return number_text(v->get());
  if (const auto* v = node.as_string()) return "\"" + shown(v->get()) + "\"";
  if (node.is_array()) return "a list";
  if (node.is_table()) return "a table";
  return "a date or time";
}

std::optional<Value> node_value(const ConfigField& field, const toml::node& node) {
  if (const auto* v = node.as_boolean()) return Value(v->get());
  if (const auto* v = node.as_integer()) return Value(v->get());
  if (const auto* v = node.as_floating_point()) return Value(v->get());
  if (const auto* v = node.as_string()) return Value(v->get());
  const auto* array = node.as_array();
  if (!array) return std::nullopt;
  ListBuilder list;
  for (const toml::node& item : *array) {
    if (const auto* integer = item.as_integer()) {
      list.add(integer->get());
    } else if (const auto* number = item.as_floating_point()) {
      list.add(number->get());
    } else if (const auto* text = item.as_string()) {
      list.add(text->get());
    } else {
      list.add_other();
    }
  }
  return std::move(list).build(field);
}

// Recursion goes only into tables that the settings know, so its depth is that of the longest known key.
Status apply_table(const std::vector<ConfigField>& fields, const toml::table& table, const std::string& prefix,
                   const std::string& file) {
  for (const auto& [name, node] : table) {
    const std::string key = prefix + std::string(name.str());
    const std::string where = file + ":" + std::to_string(name.source().begin.line);
    if (const ConfigField* field = find_field(fields, key)) {
      auto value = node_value(*field, node);
      if (!value || !store(*field, std::move(*value))) return refused(where, *field, node_text(node));
      continue;
    }
    const bool is_section =
        std::any_of(fields.begin(), fields.end(), [&](const ConfigField& f) { return f.key.starts_with(key + "."); });
    if (is_section && node.is_table()) {
      if (auto s = apply_table(fields, *node.as_table(), key + ".", file); !s) return s;
    } else if (is_section) {
      return invalid(where + ": " + key + " = " + node_text(node) + " is not accepted; it must be a table [" + key +
                     "]");
    } else {
      std::vector<std::string> candidates = keys_of(fields);
      if (node.is_table()) {
        std::set<std::string> sections;
        for (const ConfigField& field : fields) sections.insert(section_of(field.key));
        sections.erase("");
        candidates.assign(sections.begin(), sections.end());
      }
      return unknown_key(where, key, candidates);
    }
  }
  return {};
}

Status apply_file(const std::vector<ConfigField>& fields, const Path& path) {
  const auto text = read_file(path, kMaxFileBytes);
  if (!text) return text.error();
  // Each dot of a dotted key is a level of nested tables, which the parser would build and free by recursion.
  int line = 1;
  int dots = 0;
  for (const char c : *text) {
    if (c == '\n') {
      ++line;
      dots = 0;
    } else if (c == '.' && ++dots > kMaxDotsPerLine) {
      return corrupt(path.string() + ":" + std::to_string(line) + ": more than " + std::to_string(kMaxDotsPerLine) +
                     " dots on one line; break a long list into several lines");
    }
  }
  const toml::parse_result parsed = toml::parse(*text);
  if (!parsed) {
    const toml::parse_error& error = parsed.error();
    return corrupt(path.string() + ":" + std::to_string(error.source().begin.line) +
                   ": not valid TOML: " + std::string(error.description()));
  }
  return apply_table(fields, parsed.table(), "", path.string());
}

// ---- To TOML ----

std::string toml_text(bool v) { return v ? "true" : "false"; }
std::string toml_text(int64_t v) { return std::to_string(v); }
std::string toml_text(double v) {
  std::string text = number_text(v);
  if (text.find_first_of(".en") == std::string::npos) text += ".0";
  return text;
}
std::string toml_text(const std::string& v) {
  std::string out = "\"";
  for (const char c : v) {
    const auto u = static_cast<unsigned char>(c);
    if (c == '"' || c == '\\') {
      out += '\\';
      out += c;
    } else if (u < 0x20 || u == 0x7F) {
      constexpr char kHex[] = "0123456789ABCDEF";
      out += "\\u00";
      out += kHex[u >> 4];
      out += kHex[u & 15];
    } else {
      out += c;
    }
  }
  return out + "\"";
}
std::string toml_text(const Path& v) { return toml_text(v.string()); }
template <class T>
std::string toml_text(const std::vector<T>& values) {
  std::string out = "[";
  for (size_t i = 0; i < values.size(); ++i) out += (i ? ", " : "") + toml_text(values[i]);
  return out + "]";
}
std::string toml_text(const ConfigField& field) {
  return std::visit([](const auto* target) { return toml_text(*target); }, field.target);
}

// The promises of a config struct: plain keys, none twice, none that is another's section, one variable per key.
void check_fields(const std::vector<ConfigField>& fields) {
  std::set<std::string> keys, variables;
  for (const ConfigField& field : fields) {
    check(!field.key.empty() &&
              field.key.find_first_not_of("abcdefghijklmnopqrstuvwxyz0123456789_.") == std::string::npos &&
              field.key.find("..") == std::string::npos && field.key.front() != '.' && field.key.back() != '.',
          "a config key is made of lower-case words joined by dots");
    check(keys.insert(field.key).second, "a config key is listed once");
    check(variables.insert(environment_name(field.key)).second, "a config key has an environment variable of its own");
  }
  for (const std::string& key : keys) {
    const auto next = keys.lower_bound(key + ".");
    check(next == keys.end() || !next->starts_with(key + "."), "a config key is not a section too");
  }
}

}  // namespace

std::vector<std::string> process_environment() {
  std::vector<std::string> out;
  for (char** entry = ::environ; entry && *entry; ++entry) {
    if (std::string_view(*entry).starts_with("FATHOM_")) out.emplace_back(*entry);
  }
  return out;
}

Status apply_config(const std::vector<ConfigField>& fields, const ConfigSources& sources) {
  check_fields(fields);
  if (!sources.file.empty()) {
    if (auto s = apply_file(fields, sources.file); !s) return s;
  }
  if (auto s = apply_environment(fields, sources.environment); !s) return s;
  return apply_overrides(fields, sources.overrides);
}

std::string config_to_toml(const std::vector<ConfigField>& fields) {
  check_fields(fields);
  // TOML wants the keys without a section first, and each section once.
  std::vector<std::string> sections{""};
  for (const ConfigField& field : fields) {
    const std::string section = section_of(field.key);
    if (std::find(sections.begin(), sections.end(), section) == sections.end()) sections.push_back(section);
  }
  std::string out;
  for (const std::string& section : sections) {
    if (!section.empty()) out += (out.empty() ? "[" : "\n[") + section + "]\n";
    for (const ConfigField& field : fields) {
      if (section_of(field.key) != section) continue;
      out += std::string(last_part(field.key)) + " = " + toml_text(field) + "\n";
    }
  }
  return out;
}

std::vector<ConfigKey> config_keys(const std::vector<ConfigField>& fields) {
  check_fields(fields);
  std::vector<ConfigKey> keys;
  for (const ConfigField& field : fields) {
    keys.push_back({field.key, environment_name(field.key), type_text(field.target), accepted_text(field),
                    toml_text(field), field.help});
  }
  return keys;
}

}  // namespace fathom
