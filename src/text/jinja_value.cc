#include "text/jinja_value.h"

#include <algorithm>
#include <cmath>
#include <list>

#include "text/jinja_strings.h"

namespace fathom::jinja {

struct Text {
  std::string bytes;
  Held held;
};
struct List {
  std::vector<Value> items;
  bool is_tuple = false;
  int depth = 1;
  Held held;
};
struct Dict {
  std::vector<std::pair<Value, Value>> members;
  int depth = 1;
  Held held;
};

namespace {

constexpr int64_t kOverheadBytes = 64;  // control block and headers of one heap value

int checked_depth(int inner) {
  if (inner >= kMaxValueDepth) throw Failure{0, "values are nested deeper than " + std::to_string(kMaxValueDepth)};
  return inner + 1;
}

bool int_equals_float(int64_t i, double f) {
  // Exact as in Python: the conversion of i may round, so compare in the integers when f is one.
  if (!(f >= -0x1p63 && f < 0x1p63) || f != std::floor(f)) return false;
  return static_cast<int64_t>(f) == i;
}

// The order of an integer and a float, without rounding the integer.
int compare_int_float(int64_t i, double f) {
  if (f >= 0x1p63) return -1;
  if (!(f >= -0x1p63)) return 1;  // also nan, which sorts first
  const double floor = std::floor(f);
  const auto whole = static_cast<int64_t>(floor);
  if (i != whole) return i < whole ? -1 : 1;
  return f > floor ? -1 : 0;
}

void append_repr(Runtime& runtime, std::string& out, const Value& value) {
  runtime.meter.step();
  if (value.is_text()) return append(runtime, out, quoted(value.as_text()));
  if (value.is_list()) {
    append(runtime, out, value.is_tuple() ? "(" : "[");
    for (size_t i = 0; i < value.items().size(); ++i) {
      if (i > 0) append(runtime, out, ", ");
      append_repr(runtime, out, value.items()[i]);
    }
    if (value.is_tuple() && value.items().size() == 1) append(runtime, out, ",");
    return append(runtime, out, value.is_tuple() ? ")" : "]");
  }
  if (value.is_dict()) {
    append(runtime, out, "{");
    bool first = true;
    for (const auto& [key, item] : value.members()) {
      if (!first) append(runtime, out, ", ");
      first = false;
      append_repr(runtime, out, key);
      append(runtime, out, ": ");
      append_repr(runtime, out, item);
    }
    return append(runtime, out, "}");
  }
  if (value.is_undefined()) return append(runtime, out, "Undefined");
  append(runtime, out, to_text(runtime, value));
}

class JsonWriter {
 public:
  JsonWriter(Runtime& runtime, const JsonStyle& style) : runtime_(runtime), style_(style) {}

  void write(const Value& value, int level) {
    runtime_.meter.step();
    if (value.is_none()) {
      put("null");
    } else if (value.is_bool()) {
      put(value.as_bool() ? "true" : "false");
    } else if (value.is_float()) {
      put(number(value.as_float()));
    } else if (value.is_int()) {
      put(std::to_string(*value.integer()));
    } else if (value.is_text()) {
      put(json_quoted(value.as_text(), style_.ensure_ascii));
    } else if (value.is_list()) {
      put("[");
      for (size_t i = 0; i < value.items().size(); ++i) {
        separate(i == 0, level + 1);
        write(value.items()[i], level + 1);
      }
      if (!value.items().empty()) newline(level);
      put("]");
    } else if (value.is_dict()) {
      dict(value, level);
    } else {
      runtime_.fail("tojson: a value of type " + std::string(value.type_name()) + " has no JSON form" +
                    (value.is_undefined() ? " (" + value.why() + ")" : ""));
    }
  }

  std::string take() { return std::move(out_); }

 private:
  void put(std::string_view text) { append(runtime_, out_, text); }
  void newline(int level) {
    if (!style_.indent) return;
    put("\n");
    for (int i = 0; i < level; ++i) put(*style_.indent);
  }
  void separate(bool first, int level) {
    if (!first) put(style_.item_separator);
    newline(level);
  }
  static std::string number(double v) {
    if (std::isnan(v)) return "NaN";
    if (std::isinf(v)) return v > 0 ? "Infinity" : "-Infinity";
    return float_text(v);
  }
  std::string key(const Value& value) {
    if (value.is_text()) return json_quoted(value.as_text(), style_.ensure_ascii);
    std::string name;
    if (value.is_none()) {
      name = "null";
    } else if (value.is_bool()) {
      name = value.as_bool() ? "true" : "false";
    } else if (value.is_float()) {
      name = number(value.as_float());
    } else if (value.is_int()) {
      name = std::to_string(*value.integer());
    } else {
      runtime_.fail("tojson: a key of type " + std::string(value.type_name()) + " has no JSON form");
    }
    return json_quoted(name, style_.ensure_ascii);
  }
  void dict(const Value& value, int level) {
    const auto& members = value.members();
    std::list<const std::pair<Value, Value>*> order;  // a list's sort survives a comparison that fails
    for (const auto& member : members) order.push_back(&member);
    if (style_.sort_keys) {
      order.sort([this](auto* a, auto* b) { return compare(runtime_, a->first, b->first) < 0; });
    }
    put("{");
    bool first = true;
    for (const auto* member : order) {
      separate(first, level + 1);
      first = false;
      put(key(member->first));
      put(style_.key_separator);
      write(member->second, level + 1);
    }
    if (!order.empty()) newline(level);
    put("}");
  }

  Runtime& runtime_;
  const JsonStyle& style_;
  std::string out_;
};

}  // namespace

Value Object::call(Runtime& runtime, const Args&) {
  runtime.fail("a value of type " + std::string(type_name()) + " cannot be called");
}

Value Value::text(Meter& meter, std::string bytes) {
  const auto size = static_cast<int64_t>(bytes.size());
  if (size > kMaxTextBytes) throw Failure{0, "a string is longer than " + std::to_string(kMaxTextBytes) + " bytes"};
  meter.step(size / 64);
  Value out;
  out.data_ = std::make_shared<const Text>(Text{std::move(bytes), Held(meter, size + kOverheadBytes)});
  return out;
}

Value Value::constant(std::string bytes) {
  Value out;
  out.data_ = std::make_shared<const Text>(Text{std::move(bytes), Held()});
  return out;
}

Value Value::list(Meter& meter, std::vector<Value> items, bool is_tuple) {
  const auto count = static_cast<int64_t>(items.size());
  meter.step(count / 8);
  int inner = 0;
  for (const Value& item : items) inner = std::max(inner, item.depth());
  Value out;
  Held held(meter, kOverheadBytes + count * static_cast<int64_t>(sizeof(Value)));
  out.data_ = std::make_shared<const List>(List{std::move(items), is_tuple, checked_depth(inner), std::move(held)});
  return out;
}

Value Value::dict(Meter& meter, std::vector<std::pair<Value, Value>> items) {
  const auto count = static_cast<int64_t>(items.size());
  meter.step(count / 8);
  int inner = 0;
  for (const auto& [key, item] : items) inner = std::max({inner, key.depth(), item.depth()});
  Value out;
  Held held(meter, kOverheadBytes + 2 * count * static_cast<int64_t>(sizeof(Value)));
  out.data_ = std::make_shared<const Dict>(Dict{std::move(items), checked_depth(inner), std::move(held)});
  return out;
}

// Recursion is bounded: every level checks the depth that is left before it goes down.
static Value convert(Meter& meter, const Json& json, int levels_left) {
  if (levels_left == 0) throw Failure{0, "values are nested deeper than " + std::to_string(kMaxValueDepth)};
  if (json.is_bool()) return json.as_bool();
  if (json.is_int()) return json.as_int();
  if (json.is_double()) return json.as_double();
  if (json.is_string()) return Value::text(meter, json.as_string());
  if (json.is_array()) {
    std::vector<Value> items;
    items.reserve(json.items().size());
    for (const Json& item : json.items()) items.push_back(convert(meter, item, levels_left - 1));
    return Value::list(meter, std::move(items));
  }
  if (json.is_object()) {
    std::vector<std::pair<Value, Value>> items;
    items.reserve(json.members().size());
    for (const auto& [key, item] : json.members()) {
      items.emplace_back(Value::text(meter, key), convert(meter, item, levels_left - 1));
    }
    return Value::dict(meter, std::move(items));
  }
  return None{};
}

Value Value::from_json(Meter& meter, const Json& json) { return convert(meter, json, kMaxValueDepth); }

const std::string& Value::as_text() const { return std::get<5>(data_)->bytes; }
const std::vector<Value>& Value::items() const { return std::get<6>(data_)->items; }
bool Value::is_tuple() const { return is_list() && std::get<6>(data_)->is_tuple; }
const std::vector<std::pair<Value, Value>>& Value::members() const { return std::get<7>(data_)->members; }

std::optional<int64_t> Value::integer() const {
  if (is_int()) return std::get<int64_t>(data_);
  if (is_bool()) return as_bool() ? 1 : 0;
  return std::nullopt;
}

double Value::number() const { return is_float() ? as_float() : static_cast<double>(*integer()); }

std::string Value::why() const {
  const auto& reason = std::get<Undefined>(data_).why;
  return reason == nullptr ? "the value is undefined" : *reason;
}

std::string_view Value::type_name() const {
  constexpr std::string_view kNames[] = {"undefined", "NoneType", "bool", "int", "float", "str", "list", "dict"};
  if (is_object()) return object().type_name();
  return is_tuple() ? "tuple" : kNames[data_.index()];
}

bool Value::truthy() const {
  if (is_undefined() || is_none()) return false;
  if (is_number()) return number() != 0;
  if (is_text()) return !as_text().empty();
  if (is_list()) return !items().empty();
  if (is_dict()) return !members().empty();
  return true;
}

int Value::depth() const {
  if (is_list()) return std::get<6>(data_)->depth;
  if (is_dict()) return std::get<7>(data_)->depth;
  return is_object() ? object().depth() : 0;
}

bool equal(Meter& meter, const Value& a, const Value& b) {
  meter.step();
  if (a.is_number() && b.is_number()) {
    if (a.is_float() && b.is_float()) return a.as_float() == b.as_float();
    if (a.is_float()) return int_equals_float(*b.integer(), a.as_float());
    if (b.is_float()) return int_equals_float(*a.integer(), b.as_float());
    return *a.integer() == *b.integer();
  }
  if (a.is_text() && b.is_text()) {
    meter.step(static_cast<int64_t>(std::min(a.as_text().size(), b.as_text().size())) / 256);
    return a.as_text() == b.as_text();
  }
  if (a.is_list() && b.is_list()) {
    if (a.is_tuple() != b.is_tuple() || a.items().size() != b.items().size()) return false;
    for (size_t i = 0; i < a.items().size(); ++i) {
      if (!equal(meter, a.items()[i], b.items()[i])) return false;
    }
    return true;
  }
  if (a.is_dict() && b.is_dict()) {
    if (a.members().size() != b.members().size()) return false;
    for (const auto& [key, item] : a.members()) {
      const Value* other = find(meter, b, key);
      if (other == nullptr || !equal(meter, item, *other)) return false;
    }
    return true;
  }
  if (a.is_object() && b.is_object()) return &a.object() == &b.object();
  return (a.is_undefined() && b.is_undefined()) || (a.is_none() && b.is_none());
}

int compare(Runtime& runtime, const Value& a, const Value& b) {
  runtime.meter.step();
  if (a.is_number() && b.is_number()) {
    if (!a.is_float() && !b.is_float()) return *a.integer() < *b.integer() ? -1 : *a.integer() > *b.integer();
    if (!a.is_float()) return compare_int_float(*a.integer(), b.as_float());
    if (!b.is_float()) return -compare_int_float(*b.integer(), a.as_float());
    return a.as_float() < b.as_float() ? -1 : a.as_float() > b.as_float();
  }
  if (a.is_text() && b.is_text()) {
    runtime.meter.step(static_cast<int64_t>(std::min(a.as_text().size(), b.as_text().size())) / 256);
    return a.as_text().compare(b.as_text());  // UTF-8 sorts as its code points do
  }
  if (a.is_list() && b.is_list() && a.is_tuple() == b.is_tuple()) {
    const size_t count = std::min(a.items().size(), b.items().size());
    for (size_t i = 0; i < count; ++i) {
      if (!equal(runtime.meter, a.items()[i], b.items()[i])) return compare(runtime, a.items()[i], b.items()[i]);
    }
    return a.items().size() < b.items().size() ? -1 : a.items().size() > b.items().size();
  }
  if (a.is_undefined()) runtime.fail(a.why());
  if (b.is_undefined()) runtime.fail(b.why());
  runtime.fail("values of type " + std::string(a.type_name()) + " and " + std::string(b.type_name()) +
               " have no order");
}

const Value* find(Meter& meter, const Value& dict, const Value& key) {
  if (key.is_text()) return find(meter, dict, std::string_view(key.as_text()));
  for (const auto& [name, item] : dict.members()) {
    if (equal(meter, name, key)) return &item;
  }
  return nullptr;
}

const Value* find(Meter& meter, const Value& dict, std::string_view key) {
  meter.step(static_cast<int64_t>(dict.members().size()) / 16);
  for (const auto& [name, item] : dict.members()) {
    if (name.is_text() && name.as_text() == key) return &item;
  }
  return nullptr;
}

void append(Runtime& runtime, std::string& out, std::string_view text) {
  if (static_cast<int64_t>(out.size() + text.size()) > kMaxTextBytes) {
    runtime.fail("a string is longer than " + std::to_string(kMaxTextBytes) + " bytes");
  }
  runtime.meter.step(static_cast<int64_t>(text.size()) / 64);
  out.append(text);
}

std::string to_text(Runtime& runtime, const Value& value) {
  if (value.is_text()) return value.as_text();
  if (value.is_undefined()) return "";
  if (value.is_none()) return "None";
  if (value.is_bool()) return value.as_bool() ? "True" : "False";
  if (value.is_int()) return std::to_string(*value.integer());
  if (value.is_float()) return float_text(value.as_float());
  if (value.is_object()) runtime.fail("a value of type " + std::string(value.type_name()) + " has no text form");
  std::string out;
  append_repr(runtime, out, value);
  return out;
}

std::string to_json(Runtime& runtime, const Value& value, const JsonStyle& style) {
  JsonWriter writer(runtime, style);
  writer.write(value, 0);
  return writer.take();
}

}  // namespace fathom::jinja
