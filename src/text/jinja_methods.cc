// Jinja methods: what str, list and dict answer to. Only methods that leave their object as it is, as in the sandbox
// that Hugging Face renders chat templates in.
#include <algorithm>
#include <array>

#include "text/jinja_builtins.h"

namespace fathom::jinja {
namespace {

std::string_view self_text(const Value& self) { return self.as_text(); }

int64_t count_argument(Runtime& runtime, const Value* value) {
  return value == nullptr ? -1 : integer_argument(runtime, *value, "the count");
}

Value text_list(Runtime& runtime, const std::vector<std::string_view>& pieces) {
  std::vector<Value> out;
  for (const std::string_view piece : pieces) out.push_back(runtime.text(std::string(piece)));
  return runtime.list(std::move(out));
}

Value upper(Runtime& rt, const Value& self, const Call&) { return with_case(rt, self_text(self), Case::kUpper); }
Value lower(Runtime& rt, const Value& self, const Call&) { return with_case(rt, self_text(self), Case::kLower); }
Value title(Runtime& rt, const Value& self, const Call&) { return with_case(rt, self_text(self), Case::kTitle); }
Value capitalize(Runtime& rt, const Value& self, const Call&) {
  return with_case(rt, self_text(self), Case::kCapitalize);
}

Value strip_both(Runtime& rt, const Value& self, const Call& call) {
  return strip(rt, self_text(self), call.get(0), true, true);
}
Value strip_begin(Runtime& rt, const Value& self, const Call& call) {
  return strip(rt, self_text(self), call.get(0), true, false);
}
Value strip_end(Runtime& rt, const Value& self, const Call& call) {
  return strip(rt, self_text(self), call.get(0), false, true);
}

Value split_text(Runtime& rt, const Value& self, const Call& call, bool from_right) {
  const std::string_view text = self_text(self);
  const int64_t max_splits = count_argument(rt, call.get(1));
  rt.meter.step(static_cast<int64_t>(text.size()) / 16);
  if (call.get(0) == nullptr || call.get(0)->is_none()) {
    return text_list(rt, from_right ? rsplit_space(text, max_splits) : split_space(text, max_splits));
  }
  const std::string& separator = text_argument(rt, *call.get(0), "the separator of split");
  if (separator.empty()) rt.fail("split: the separator is empty");
  return text_list(rt, from_right ? rsplit_at(text, separator, max_splits) : split_at(text, separator, max_splits));
}
Value split(Runtime& rt, const Value& self, const Call& call) { return split_text(rt, self, call, false); }
Value rsplit(Runtime& rt, const Value& self, const Call& call) { return split_text(rt, self, call, true); }

Value splitlines(Runtime& rt, const Value& self, const Call&) { return text_list(rt, split_lines(self_text(self))); }

Value partition_text(Runtime& rt, const Value& self, const Call& call, bool from_right) {
  const std::string_view text = self_text(self);
  const std::string& separator = text_argument(rt, *call.get(0), "the separator of partition");
  if (separator.empty()) rt.fail("partition: the separator is empty");
  const size_t at = from_right ? text.rfind(separator) : text.find(separator);
  std::array<std::string_view, 3> parts = {text, "", ""};
  if (at != std::string_view::npos) {
    parts = {text.substr(0, at), separator, text.substr(at + separator.size())};
  } else if (from_right) {
    parts = {"", "", text};
  }
  std::vector<Value> out;
  for (const std::string_view part : parts) out.push_back(rt.text(std::string(part)));
  return rt.list(std::move(out), true);
}
Value partition(Runtime& rt, const Value& self, const Call& call) { return partition_text(rt, self, call, false); }
Value rpartition(Runtime& rt, const Value& self, const Call& call) { return partition_text(rt, self, call, true); }

Value matches_end(Runtime& rt, const Value& self, const Value& what, bool at_end) {
  const auto matches = [&](const Value& affix) {
    const std::string& text = text_argument(rt, affix, at_end ? "the suffix" : "the prefix");
    return at_end ? self_text(self).ends_with(text) : self_text(self).starts_with(text);
  };
  if (what.is_tuple()) return std::any_of(what.items().begin(), what.items().end(), matches);
  return matches(what);
}
Value startswith(Runtime& rt, const Value& self, const Call& call) {
  return matches_end(rt, self, *call.get(0), false);
}
Value endswith(Runtime& rt, const Value& self, const Call& call) { return matches_end(rt, self, *call.get(0), true); }

Value removeprefix(Runtime& rt, const Value& self, const Call& call) {
  std::string_view text = self_text(self);
  const std::string& prefix = text_argument(rt, *call.get(0), "the prefix");
  if (text.starts_with(prefix)) text.remove_prefix(prefix.size());
  return rt.text(std::string(text));
}
Value removesuffix(Runtime& rt, const Value& self, const Call& call) {
  std::string_view text = self_text(self);
  const std::string& suffix = text_argument(rt, *call.get(0), "the suffix");
  if (text.ends_with(suffix)) text.remove_suffix(suffix.size());
  return rt.text(std::string(text));
}

Value replace_text(Runtime& rt, const Value& self, const Call& call) {
  const std::string& from = text_argument(rt, *call.get(0), "the text to replace");
  const std::string& to = text_argument(rt, *call.get(1), "the replacement");
  return replace(rt, self_text(self), from, to, count_argument(rt, call.get(2)));
}

Value join(Runtime& rt, const Value& self, const Call& call) {
  std::string out;
  bool first = true;
  for (const Value& item : iterate(rt, *call.get(0))) {
    if (!first) append(rt, out, self_text(self));
    first = false;
    append(rt, out, text_argument(rt, item, "an item of join"));
  }
  return rt.text(std::move(out));
}

Value find_text(Runtime& rt, const Value& self, const Call& call, bool from_right) {
  const std::string_view text = self_text(self);
  const std::string& what = text_argument(rt, *call.get(0), "the text to find");
  rt.meter.step(static_cast<int64_t>(text.size()) / 64);
  const size_t at = from_right ? text.rfind(what) : text.find(what);
  return at == std::string_view::npos ? int64_t{-1} : count_chars(text.substr(0, at));
}
Value find_first(Runtime& rt, const Value& self, const Call& call) { return find_text(rt, self, call, false); }
Value find_last(Runtime& rt, const Value& self, const Call& call) { return find_text(rt, self, call, true); }

Value count_text(Runtime& rt, const Value& self, const Call& call) {
  const std::string_view text = self_text(self);
  const std::string& what = text_argument(rt, *call.get(0), "the text to count");
  rt.meter.step(static_cast<int64_t>(text.size()) / 16);
  if (what.empty()) return count_chars(text) + 1;
  return static_cast<int64_t>(split_at(text, what, -1).size()) - 1;
}

Value is_space(Runtime& rt, const Value& self, const Call&) {
  rt.meter.step(static_cast<int64_t>(self_text(self).size()) / 64);
  return !self_text(self).empty() && strip_left(self_text(self)).empty();
}

constexpr std::array kTextMethods = std::to_array<Builtin>({
    {"capitalize", "", capitalize},
    {"count", "sub", count_text},
    {"endswith", "suffix", endswith},
    {"find", "sub", find_first},
    {"isspace", "", is_space},
    {"join", "iterable", join},
    {"lower", "", lower},
    {"lstrip", "chars?", strip_begin},
    {"partition", "sep", partition},
    {"removeprefix", "prefix", removeprefix},
    {"removesuffix", "suffix", removesuffix},
    {"replace", "old,new,count?", replace_text},
    {"rfind", "sub", find_last},
    {"rpartition", "sep", rpartition},
    {"rsplit", "sep?,maxsplit?", rsplit},
    {"rstrip", "chars?", strip_end},
    {"split", "sep?,maxsplit?", split},
    {"splitlines", "", splitlines},
    {"startswith", "prefix", startswith},
    {"strip", "chars?", strip_both},
    {"title", "", title},
    {"upper", "", upper},
});

Value list_count(Runtime& rt, const Value& self, const Call& call) {
  return static_cast<int64_t>(std::count_if(self.items().begin(), self.items().end(),
                                            [&](const Value& item) { return equal(rt.meter, item, *call.get(0)); }));
}

Value list_index(Runtime& rt, const Value& self, const Call& call) {
  for (size_t i = 0; i < self.items().size(); ++i) {
    if (equal(rt.meter, self.items()[i], *call.get(0))) return static_cast<int64_t>(i);
  }
  rt.fail("index: the value is not in the list");
}

constexpr std::array kListMethods = std::to_array<Builtin>({
    {"count", "value", list_count},
    {"index", "value", list_index},
});

Value dict_get(Runtime& rt, const Value& self, const Call& call) {
  if (const Value* item = find(rt.meter, self, *call.get(0))) return *item;
  return call.get(1) == nullptr ? Value(None{}) : *call.get(1);
}

Value dict_items(Runtime& rt, const Value& self, const Call&) {
  std::vector<Value> out;
  for (const auto& [key, item] : self.members()) out.push_back(rt.list({key, item}, true));
  return rt.list(std::move(out));
}

Value dict_keys(Runtime& rt, const Value& self, const Call&) { return rt.list(iterate(rt, self)); }

Value dict_values(Runtime& rt, const Value& self, const Call&) {
  std::vector<Value> out;
  for (const auto& [key, item] : self.members()) out.push_back(item);
  return rt.list(std::move(out));
}

constexpr std::array kDictMethods = std::to_array<Builtin>({
    {"get", "key,default?", dict_get},
    {"items", "", dict_items},
    {"keys", "", dict_keys},
    {"values", "", dict_values},
});

std::span<const Builtin> methods_of(const Value& self) {
  if (self.is_text()) return kTextMethods;
  if (self.is_list()) return kListMethods;
  if (self.is_dict()) return kDictMethods;
  return {};
}

}  // namespace

const Builtin* find_method(const Value& self, std::string_view name) { return find_in(methods_of(self), name); }

std::string method_hint(const Value& self) {
  const std::string names = names_of(methods_of(self));
  return names.empty() ? "" : "; methods of " + std::string(self.type_name()) + ": " + names;
}

}  // namespace fathom::jinja
