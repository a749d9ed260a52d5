// Jinja filters. Where Jinja returns a generator (map, select, unique, items ...) these return a list, so that tojson,
// length and indexing work on it too.
#include <algorithm>
#include <array>
#include <charconv>
#include <cmath>
#include <cstdio>
#include <iterator>
#include <list>

#include "text/jinja_builtins.h"
#include "text/jinja_operators.h"

namespace fathom::jinja {
namespace {

// --- text ---

Value upper(Runtime& rt, const Value& self, const Call&) { return with_case(rt, to_text(rt, self), Case::kUpper); }
Value lower(Runtime& rt, const Value& self, const Call&) { return with_case(rt, to_text(rt, self), Case::kLower); }
Value capitalize(Runtime& rt, const Value& self, const Call&) {
  return with_case(rt, to_text(rt, self), Case::kCapitalize);
}

// Unlike str.title: a word begins behind whitespace, '-' or an opening bracket only.
Value title(Runtime& rt, const Value& self, const Call&) {
  const std::string text = to_text(rt, self);
  std::string out;
  size_t begin = 0;
  const auto is_break = [&](size_t at) {
    return std::string_view("-({[<").find(text[at]) != std::string_view::npos ||
           space_length(std::string_view(text).substr(at)) != 0;
  };
  while (begin < text.size()) {
    rt.meter.step();
    const bool between = is_break(begin);
    size_t end = begin;
    while (end < text.size() && is_break(end) == between) end += char_length(std::string_view(text).substr(end));
    const std::string_view word = std::string_view(text).substr(begin, end - begin);
    append(rt, out, between ? word : std::string_view(with_case(rt, word, Case::kCapitalize).as_text()));
    begin = end;
  }
  return rt.text(std::move(out));
}

Value string(Runtime& rt, const Value& self, const Call&) { return self.is_text() ? self : rt.text(to_text(rt, self)); }
Value trim(Runtime& rt, const Value& self, const Call& call) {
  return strip(rt, to_text(rt, self), call.get(0), true, true);
}

Value replace_text(Runtime& rt, const Value& self, const Call& call) {
  const bool limited = call.get(2) != nullptr && !call.get(2)->is_none();
  const int64_t count = limited ? integer_argument(rt, *call.get(2), "the count") : -1;
  return replace(rt, to_text(rt, self), to_text(rt, *call.get(0)), to_text(rt, *call.get(1)), count);
}

Value indent(Runtime& rt, const Value& self, const Call& call) {
  std::string margin(4, ' ');
  if (const Value* width = call.get(0)) {
    if (width->is_text()) {
      margin = width->as_text();
    } else {
      const int64_t spaces = integer_argument(rt, *width, "the width of indent");
      if (spaces > kMaxTextBytes) rt.fail("indent: width " + std::to_string(spaces) + " is too large");
      margin.assign(static_cast<size_t>(std::max(spaces, int64_t{0})), ' ');
    }
  }
  const std::string text = to_text(rt, self) + "\n";
  rt.meter.step(static_cast<int64_t>(text.size()) / 16);
  std::string out;
  bool first = true;
  for (const std::string_view line : split_lines(text)) {
    if (!first) append(rt, out, "\n");
    const bool margin_here = first ? call.truthy(1, false) : !line.empty() || call.truthy(2, false);
    if (margin_here) append(rt, out, margin);
    first = false;
    append(rt, out, line);
  }
  return rt.text(std::move(out));
}

Value tojson(Runtime& rt, const Value& self, const Call& call) {
  JsonStyle style;
  style.ensure_ascii = call.truthy(0, false);
  if (const Value* level = call.get(1); level != nullptr && !level->is_none()) {
    if (level->is_text()) {
      style.indent = level->as_text();
    } else {
      const int64_t spaces = integer_argument(rt, *level, "the indent of tojson");
      if (spaces > 1000) rt.fail("tojson: indent " + std::to_string(spaces) + " is above 1000");
      style.indent = std::string(static_cast<size_t>(std::max(spaces, int64_t{0})), ' ');
    }
    style.item_separator = ",";
  }
  if (const Value* separators = call.get(2); separators != nullptr && !separators->is_none()) {
    if (!separators->is_list() || separators->items().size() != 2) rt.fail("tojson: separators must be two strings");
    style.item_separator = text_argument(rt, separators->items()[0], "a separator of tojson");
    style.key_separator = text_argument(rt, separators->items()[1], "a separator of tojson");
  }
  style.sort_keys = call.truthy(3, false);
  return rt.text(to_json(rt, self, style));
}

Value from_json(Runtime& rt, const Value& self, const Call&) {
  const auto json = Json::parse(text_argument(rt, self, "the value of from_json"), "from_json");
  if (!json) rt.fail(json.error().text);
  return Value::from_json(rt.meter, *json);
}

// --- numbers ---

// The float that Python's float() reads from a string.
std::optional<double> parse_float(std::string_view text) {
  text = strip_right(strip_left(text));
  if (text.starts_with('+')) text.remove_prefix(1);
  double value = 0;
  const auto parsed = std::from_chars(text.data(), text.data() + text.size(), value);
  if (text.empty() || parsed.ec != std::errc() || parsed.ptr != text.data() + text.size()) return std::nullopt;
  return value;
}

std::optional<int64_t> truncate(double value) {
  if (!(value > -0x1p63 && value < 0x1p63)) return std::nullopt;
  return static_cast<int64_t>(value);
}

Value to_int(Runtime& rt, const Value& self, const Call& call) {
  const Value fallback = call.get(0) == nullptr ? Value(int64_t{0}) : *call.get(0);
  if (const auto integer = self.integer()) return *integer;
  if (self.is_float()) {
    const auto integer = truncate(self.as_float());
    return integer ? Value(*integer) : fallback;
  }
  if (!self.is_text()) return fallback;
  const int64_t base = call.get(1) == nullptr ? 10 : integer_argument(rt, *call.get(1), "the base of int");
  if (base < 2 || base > 36) rt.fail("int: base " + std::to_string(base) + "; accepted: 2 to 36");
  std::string_view text = strip_right(strip_left(self.as_text()));
  if (text.starts_with('+')) text.remove_prefix(1);
  const std::string_view prefix = base == 16 ? "0x" : base == 8 ? "0o" : base == 2 ? "0b" : "";
  if (!prefix.empty() && text.starts_with(prefix)) text.remove_prefix(2);
  int64_t value = 0;
  const auto parsed = std::from_chars(text.data(), text.data() + text.size(), value, static_cast<int>(base));
  if (!text.empty() && parsed.ec == std::errc() && parsed.ptr == text.data() + text.size()) return value;
  const auto number = parse_float(self.as_text());  // "42.23" gives 42
  const auto integer = number ? truncate(*number) : std::nullopt;
  return integer ? Value(*integer) : fallback;
}

Value to_float(Runtime&, const Value& self, const Call& call) {
  const Value fallback = call.get(0) == nullptr ? Value(0.0) : *call.get(0);
  if (self.is_number()) return self.number();
  const auto number = self.is_text() ? parse_float(self.as_text()) : std::nullopt;
  return number ? Value(*number) : fallback;
}

Value absolute(Runtime& rt, const Value& self, const Call&) {
  if (self.is_float()) return std::fabs(self.as_float());
  const int64_t value = integer_argument(rt, self, "the value of abs");
  if (value == INT64_MIN) rt.fail("integer overflow");
  return value < 0 ? -value : value;
}

Value round_number(Runtime& rt, const Value& self, const Call& call) {
  if (!self.is_number()) rt.fail("round: a value of type " + std::string(self.type_name()) + " is not a number");
  const int64_t digits = call.get(0) == nullptr ? 0 : integer_argument(rt, *call.get(0), "the precision of round");
  if (digits < 0 || digits > 15) rt.fail("round: precision " + std::to_string(digits) + "; accepted: 0 to 15");
  const std::string method = call.get(1) == nullptr ? "common" : text_argument(rt, *call.get(1), "the method of round");
  const double value = self.number();
  if (!std::isfinite(value)) return value;
  if (method == "ceil" || method == "floor") {
    const double scale = std::pow(10.0, static_cast<double>(digits));
    return (method == "ceil" ? std::ceil(value * scale) : std::floor(value * scale)) / scale;
  }
  if (method != "common") rt.fail("round: unknown method \"" + method + "\"; accepted: common, ceil, floor");
  // printf rounds the exact binary value, ties to even, as Python's round() does.
  std::array<char, 400> buffer;
  const int size = std::snprintf(buffer.data(), buffer.size(), "%.*f", static_cast<int>(digits), value);
  double out = 0;
  std::from_chars(buffer.data(), buffer.data() + size, out);
  return out;
}

// --- reading a value ---

Value fallback(Runtime& rt, const Value& self, const Call& call) {
  if (!self.is_undefined() && !(call.truthy(1, false) && !self.truthy())) return self;
  return call.get(0) == nullptr ? rt.text("") : *call.get(0);
}

Value count(Runtime& rt, const Value& self, const Call&) { return length(rt, self); }
Value list(Runtime& rt, const Value& self, const Call&) { return rt.list(iterate(rt, self)); }
Value safe(Runtime& rt, const Value& self, const Call& call) { return string(rt, self, call); }

Value first(Runtime& rt, const Value& self, const Call&) {
  const std::vector<Value> items = iterate(rt, self);
  return items.empty() ? Value::undefined("first: there are no items") : items.front();
}
Value last(Runtime& rt, const Value& self, const Call&) {
  const std::vector<Value> items = iterate(rt, self);
  return items.empty() ? Value::undefined("last: there are no items") : items.back();
}

Value items(Runtime& rt, const Value& self, const Call&) {
  if (self.is_undefined()) return rt.list({});
  if (!self.is_dict()) rt.fail("items: a value of type " + std::string(self.type_name()) + " is not a dict");
  return apply(rt, *find_method(self, "items"), self, {});
}

// value.a.b.0: a path of attributes and indices; `missing` replaces what is undefined on the way.
Value read_path(Runtime& rt, const Value& item, const Value& path, const Value* missing) {
  if (!path.is_text()) return get_item(rt, item, path);
  Value at = item;
  for (const std::string_view part : split_at(path.as_text(), ".", -1)) {
    int64_t index = 0;
    const auto parsed = std::from_chars(part.data(), part.data() + part.size(), index);
    const bool digits =
        !part.empty() && part[0] != '-' && parsed.ec == std::errc() && parsed.ptr == part.data() + part.size();
    at = get_item(rt, at, digits ? Value(index) : rt.text(std::string(part)));
    if (missing != nullptr && at.is_undefined()) at = *missing;
  }
  return at;
}

// The attribute given at slot `i`, or the item itself.
Value read_slot(Runtime& rt, const Value& item, const Call& call, size_t i) {
  const Value* path = call.get(i);
  return path == nullptr || path->is_none() ? item : read_path(rt, item, *path, nullptr);
}

Value join(Runtime& rt, const Value& self, const Call& call) {
  const std::string separator = call.get(0) == nullptr ? "" : to_text(rt, *call.get(0));
  std::string out;
  bool first_item = true;
  for (const Value& item : iterate(rt, self)) {
    if (!first_item) append(rt, out, separator);
    first_item = false;
    append(rt, out, to_text(rt, read_slot(rt, item, call, 1)));
  }
  return rt.text(std::move(out));
}

// --- many values ---

Value reverse(Runtime& rt, const Value& self, const Call&) {
  if (self.is_text()) return get_slice(rt, self, None{}, None{}, Value(int64_t{-1}));
  std::vector<Value> out = iterate(rt, self);
  std::reverse(out.begin(), out.end());
  return rt.list(std::move(out));
}

// What sort, unique, min and max compare: letters in one case unless asked otherwise.
Value sort_key(Runtime& rt, const Value& value, bool case_sensitive) {
  return value.is_text() && !case_sensitive ? with_case(rt, value.as_text(), Case::kLower) : value;
}

struct Keyed {
  Value key;
  Value item;
};

std::vector<Keyed> with_keys(Runtime& rt, const Value& self, const Call& call, size_t case_slot, size_t path_slot) {
  std::vector<Keyed> out;
  const bool case_sensitive = call.truthy(case_slot, false);
  for (const Value& item : iterate(rt, self)) {
    out.push_back({sort_key(rt, read_slot(rt, item, call, path_slot), case_sensitive), item});
  }
  return out;
}

Value sorted(Runtime& rt, std::vector<Keyed> keyed, bool descending) {
  // A list sorts stably, and stays in one piece when the comparison fails or (with nan) contradicts itself.
  std::list<Keyed> order(std::make_move_iterator(keyed.begin()), std::make_move_iterator(keyed.end()));
  order.sort([&](const Keyed& a, const Keyed& b) {
    return descending ? compare(rt, b.key, a.key) < 0 : compare(rt, a.key, b.key) < 0;
  });
  std::vector<Value> out;
  for (Keyed& k : order) out.push_back(std::move(k.item));
  return rt.list(std::move(out));
}

Value sort(Runtime& rt, const Value& self, const Call& call) {
  return sorted(rt, with_keys(rt, self, call, 1, 2), call.truthy(0, false));
}

Value dictsort(Runtime& rt, const Value& self, const Call& call) {
  const std::string by = call.get(1) == nullptr ? "key" : text_argument(rt, *call.get(1), "\"by\" of dictsort");
  if (by != "key" && by != "value") rt.fail("dictsort: by \"" + by + "\"; accepted: key, value");
  std::vector<Keyed> keyed;
  const Value pairs = items(rt, self, call);
  for (const Value& pair : pairs.items()) {
    keyed.push_back({sort_key(rt, pair.items()[by == "key" ? 0 : 1], call.truthy(0, false)), pair});
  }
  return sorted(rt, std::move(keyed), call.truthy(2, false));
}

Value unique(Runtime& rt, const Value& self, const Call& call) {
  std::vector<Value> seen;
  std::vector<Value> out;
  for (const Keyed& k : with_keys(rt, self, call, 0, 1)) {
    if (std::any_of(seen.begin(), seen.end(), [&](const Value& key) { return equal(rt.meter, key, k.key); })) continue;
    seen.push_back(k.key);
    out.push_back(k.item);
  }
  return rt.list(std::move(out));
}

Value extreme(Runtime& rt, const Value& self, const Call& call, int sign, const char* name) {
  const std::vector<Keyed> keyed = with_keys(rt, self, call, 0, 1);
  if (keyed.empty()) return Value::undefined(std::string(name) + ": there are no items");
  const Keyed* best = &keyed.front();
  for (const Keyed& k : keyed) {
    if (compare(rt, k.key, best->key) * sign > 0) best = &k;
  }
  return best->item;
}
Value maximum(Runtime& rt, const Value& self, const Call& call) { return extreme(rt, self, call, 1, "max"); }
Value minimum(Runtime& rt, const Value& self, const Call& call) { return extreme(rt, self, call, -1, "min"); }

Value sum(Runtime& rt, const Value& self, const Call& call) {
  Value total = call.get(1) == nullptr ? Value(int64_t{0}) : *call.get(1);
  if (total.is_text()) rt.fail("sum: strings are joined with join");
  for (const Value& item : iterate(rt, self)) total = arithmetic(rt, "+", total, read_slot(rt, item, call, 0));
  return total;
}

// The arguments behind the first `count` positional ones.
Args rest_of(const Args& args, size_t count) {
  Args out;
  out.positional.assign(args.positional.begin() + static_cast<std::ptrdiff_t>(count), args.positional.end());
  out.named = args.named;
  return out;
}

// map('filter', arguments...) or map(attribute='path', default=...).
Value map(Runtime& rt, const Value& self, const Call& call) {
  const Args& args = call.args;
  std::vector<Value> out;
  if (args.positional.empty()) {
    const Value* path = nullptr;
    const Value* missing = nullptr;
    for (const auto& [name, value] : args.named) {
      if (name != "attribute" && name != "default") {
        rt.fail("map: unknown argument \"" + name + "\"; accepted: a filter name, or attribute, default");
      }
      (name == "attribute" ? path : missing) = &value;
    }
    if (path == nullptr) rt.fail("map needs a filter name or attribute=");
    for (const Value& item : iterate(rt, self)) out.push_back(read_path(rt, item, *path, missing));
    return rt.list(std::move(out));
  }
  const std::string& name = text_argument(rt, args.positional[0], "the filter of map");
  const Builtin* filter = find_filter(name);
  if (filter == nullptr) rt.fail("unknown filter \"" + name + "\"; accepted: " + filter_names());
  const Args rest = rest_of(args, 1);
  for (const Value& item : iterate(rt, self)) out.push_back(apply(rt, *filter, item, rest));
  return rt.list(std::move(out));
}

// The items whose test gives `wanted`. The test is named behind `skip` positional arguments; without one: truth.
Value choose(Runtime& rt, const Value& self, const Call& call, size_t skip, bool wanted) {
  const Args& args = call.args;
  if (args.positional.size() < skip) rt.fail("selectattr and rejectattr need the name of an attribute");
  const Builtin* test = nullptr;
  Args rest;
  if (args.positional.size() > skip) {
    const std::string& name = text_argument(rt, args.positional[skip], "the name of a test");
    test = find_test(name);
    if (test == nullptr) rt.fail("unknown test \"" + name + "\"; accepted: " + test_names());
    rest = rest_of(args, skip + 1);
  }
  std::vector<Value> out;
  for (const Value& item : iterate(rt, self)) {
    const Value tested = skip == 0 ? item : read_path(rt, item, args.positional[0], nullptr);
    const bool holds = test == nullptr ? tested.truthy() : apply(rt, *test, tested, rest).truthy();
    if (holds == wanted) out.push_back(item);
  }
  return rt.list(std::move(out));
}
Value select(Runtime& rt, const Value& self, const Call& call) { return choose(rt, self, call, 0, true); }
Value reject(Runtime& rt, const Value& self, const Call& call) { return choose(rt, self, call, 0, false); }
Value selectattr(Runtime& rt, const Value& self, const Call& call) { return choose(rt, self, call, 1, true); }
Value rejectattr(Runtime& rt, const Value& self, const Call& call) { return choose(rt, self, call, 1, false); }

constexpr std::array kFilters = std::to_array<Builtin>({
    {"abs", "", absolute},
    {"capitalize", "", capitalize},
    {"count", "", count},
    {"d", "default_value?,boolean?", fallback},
    {"default", "default_value?,boolean?", fallback},
    {"dictsort", "case_sensitive?,by?,reverse?", dictsort},
    {"first", "", first},
    {"float", "default?", to_float},
    {"from_json", "", from_json},
    {"indent", "width?,first?,blank?", indent},
    {"int", "default?,base?", to_int},
    {"items", "", items},
    {"join", "d?,attribute?", join},
    {"last", "", last},
    {"length", "", count},
    {"list", "", list},
    {"lower", "", lower},
    {"map", "*", map},
    {"max", "case_sensitive?,attribute?", maximum},
    {"min", "case_sensitive?,attribute?", minimum},
    {"reject", "*", reject},
    {"rejectattr", "*", rejectattr},
    {"replace", "old,new,count?", replace_text},
    {"reverse", "", reverse},
    {"round", "precision?,method?", round_number},
    {"safe", "", safe},
    {"select", "*", select},
    {"selectattr", "*", selectattr},
    {"sort", "reverse?,case_sensitive?,attribute?", sort},
    {"string", "", string},
    {"sum", "attribute?,start?", sum},
    {"title", "", title},
    {"tojson", "ensure_ascii?,indent?,separators?,sort_keys?", tojson},
    {"trim", "chars?", trim},
    {"unique", "case_sensitive?,attribute?", unique},
    {"upper", "", upper},
});

}  // namespace

const Builtin* find_filter(std::string_view name) { return find_in(kFilters, name); }
std::string filter_names() { return names_of(kFilters); }

}  // namespace fathom::jinja
