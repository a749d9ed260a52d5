#include "text/jinja_builtins.h"

#include <algorithm>

#include "text/jinja_strings.h"

namespace fathom::jinja {
namespace {

// A function, or value.method without its call: remembers both.
class BoundFunction final : public Object {
 public:
  BoundFunction(Value self, const Builtin& method) : Object(self.depth() + 1), self_(std::move(self)), method_(method) {
    if (depth() > kMaxValueDepth) throw Failure{0, "values are nested deeper than " + std::to_string(kMaxValueDepth)};
  }
  std::string_view type_name() const override { return "function"; }
  bool callable() const override { return true; }
  Value call(Runtime& runtime, const Args& args) override { return apply(runtime, method_, self_, args); }

 private:
  Value self_;
  const Builtin& method_;
};

struct Parameter {
  std::string_view name;
  bool optional = false;
};

std::vector<Parameter> parse_parameters(std::string_view text) {
  std::vector<Parameter> out;
  if (text.empty()) return out;
  for (std::string_view name : split_at(text, ",", -1)) {
    const bool optional = name.ends_with('?');
    if (optional) name.remove_suffix(1);
    out.push_back({name, optional});
  }
  return out;
}

std::string plain_parameters(std::string_view text) {
  std::string out(text);
  std::erase(out, '?');
  return out.empty() ? "no arguments" : out;
}

// A position from a slice bound: Python's clamping for the direction of `step`.
int64_t clamp_bound(int64_t bound, int64_t count, int64_t step) {
  if (bound < 0) bound += count;
  if (bound < 0) return step < 0 ? -1 : 0;
  if (bound >= count) return step < 0 ? count - 1 : count;
  return bound;
}

std::optional<int64_t> slice_bound(Runtime& runtime, const Value& value) {
  if (value.is_none() || value.is_undefined()) return std::nullopt;
  return integer_argument(runtime, value, "a slice bound");
}

}  // namespace

Value apply(Runtime& runtime, const Builtin& builtin, const Value& self, const Args& args) {
  const Nesting nesting(runtime);
  runtime.meter.step();
  if (builtin.parameters == "*") return builtin.run(runtime, self, Call{args, {}});
  const std::vector<Parameter> parameters = parse_parameters(builtin.parameters);
  std::vector<const Value*> slots(parameters.size(), nullptr);
  const auto refuse = [&](const std::string& what) {
    runtime.fail(std::string(builtin.name) + ": " + what + "; accepted: " + plain_parameters(builtin.parameters));
  };
  if (args.positional.size() > slots.size()) {
    refuse(std::to_string(args.positional.size()) + " positional arguments are too many");
  }
  for (size_t i = 0; i < args.positional.size(); ++i) slots[i] = &args.positional[i];
  for (const auto& [name, value] : args.named) {
    const auto found = std::find_if(parameters.begin(), parameters.end(), [&](auto& p) { return p.name == name; });
    if (found == parameters.end()) refuse("unknown argument \"" + name + "\"");
    const auto i = static_cast<size_t>(found - parameters.begin());
    if (slots[i] != nullptr) refuse("argument \"" + name + "\" is given twice");
    slots[i] = &value;
  }
  for (size_t i = 0; i < slots.size(); ++i) {
    if (slots[i] == nullptr && !parameters[i].optional) {
      refuse("argument \"" + std::string(parameters[i].name) + "\" is missing");
    }
  }
  return builtin.run(runtime, self, Call{args, slots});
}

Value bind(const Builtin& function, const Value& self) {
  return std::shared_ptr<Object>(std::make_shared<BoundFunction>(self, function));
}

const Builtin* find_in(std::span<const Builtin> table, std::string_view name) {
  const auto found = std::find_if(table.begin(), table.end(), [name](const Builtin& b) { return b.name == name; });
  return found == table.end() ? nullptr : &*found;
}

std::string names_of(std::span<const Builtin> table) {
  std::string out;
  for (const Builtin& builtin : table) {
    if (!out.empty()) out += ", ";
    out += builtin.name;
  }
  return out;
}

Value get_attribute(Runtime& runtime, const Value& self, std::string_view name) {
  runtime.meter.step();
  if (self.is_undefined()) runtime.fail(self.why());
  if (self.is_object()) {
    if (auto value = self.object().attribute(runtime, name)) return *std::move(value);
  } else if (const Builtin* method = find_method(self, name)) {
    return bind(*method, self);
  } else if (self.is_dict()) {
    if (const Value* item = find(runtime.meter, self, name)) return *item;
  }
  return Value::undefined(std::string(self.type_name()) + " has no attribute \"" + std::string(name) + "\"");
}

Value get_item(Runtime& runtime, const Value& self, const Value& key) {
  runtime.meter.step();
  if (self.is_undefined()) runtime.fail(self.why());
  if (self.is_dict()) {
    if (const Value* item = find(runtime.meter, self, key)) return *item;
  } else if (const auto index = key.integer()) {
    if (self.is_list()) {
      const auto count = static_cast<int64_t>(self.items().size());
      const int64_t at = *index < 0 ? *index + count : *index;
      if (at >= 0 && at < count) return self.items()[static_cast<size_t>(at)];
    } else if (self.is_text()) {
      const std::string& text = self.as_text();
      runtime.meter.step(static_cast<int64_t>(text.size()) / 64);
      const std::vector<size_t> offsets = char_offsets(text);
      const auto count = static_cast<int64_t>(offsets.size()) - 1;
      const int64_t at = *index < 0 ? *index + count : *index;
      if (at >= 0 && at < count) {
        const auto i = static_cast<size_t>(at);
        return runtime.text(text.substr(offsets[i], offsets[i + 1] - offsets[i]));
      }
    }
  }
  if (key.is_text()) return get_attribute(runtime, self, key.as_text());
  const std::string shown = key.is_number() ? to_text(runtime, key) : "of type " + std::string(key.type_name());
  return Value::undefined(std::string(self.type_name()) + " has no item " + shown);
}

Value get_slice(Runtime& runtime, const Value& self, const Value& start, const Value& stop, const Value& step) {
  if (self.is_undefined()) runtime.fail(self.why());
  if (!self.is_text() && !self.is_list()) {
    return Value::undefined("a value of type " + std::string(self.type_name()) + " has no slices");
  }
  const int64_t stride = slice_bound(runtime, step).value_or(1);
  if (stride == 0) runtime.fail("a slice step of 0");
  std::vector<size_t> offsets;
  if (self.is_text()) offsets = char_offsets(self.as_text());
  const auto count = static_cast<int64_t>(self.is_text() ? offsets.size() - 1 : self.items().size());
  runtime.meter.step(count / 16);
  const auto from = slice_bound(runtime, start);
  const auto to = slice_bound(runtime, stop);
  const int64_t begin = from ? clamp_bound(*from, count, stride) : stride < 0 ? count - 1 : 0;
  const int64_t end = to ? clamp_bound(*to, count, stride) : stride < 0 ? -1 : count;
  // A stride beyond the length takes the first item only; the clamp keeps the sum below from overflowing.
  const int64_t safe_stride = std::clamp(stride, -count - 1, count + 1);
  std::string text;
  std::vector<Value> items;
  for (int64_t i = begin; stride > 0 ? i < end : i > end; i += safe_stride) {
    const auto at = static_cast<size_t>(i);
    if (self.is_text()) {
      text.append(self.as_text(), offsets[at], offsets[at + 1] - offsets[at]);
    } else {
      items.push_back(self.items()[at]);
    }
  }
  return self.is_text() ? runtime.text(std::move(text)) : runtime.list(std::move(items), self.is_tuple());
}

std::vector<Value> iterate(Runtime& runtime, const Value& self) {
  if (self.is_list()) {
    runtime.meter.step(static_cast<int64_t>(self.items().size()) / 8);
    return self.items();
  }
  std::vector<Value> out;
  if (self.is_dict()) {
    runtime.meter.step(static_cast<int64_t>(self.members().size()) / 8);
    for (const auto& [key, item] : self.members()) out.push_back(key);
  } else if (self.is_text()) {
    std::string_view rest = self.as_text();
    while (!rest.empty()) {
      runtime.meter.step();
      const size_t length = char_length(rest);
      out.push_back(runtime.text(std::string(rest.substr(0, length))));
      rest.remove_prefix(length);
    }
  } else if (!self.is_undefined()) {
    runtime.fail("a value of type " + std::string(self.type_name()) + " is not iterable");
  }
  return out;
}

bool contains(Runtime& runtime, const Value& container, const Value& item) {
  if (container.is_text()) {
    const std::string& needle = text_argument(runtime, item, "what is looked for in a string");
    runtime.meter.step(static_cast<int64_t>(container.as_text().size()) / 64);
    return container.as_text().find(needle) != std::string::npos;
  }
  if (container.is_dict()) return find(runtime.meter, container, item) != nullptr;
  if (container.is_list()) {
    return std::any_of(container.items().begin(), container.items().end(),
                       [&](const Value& other) { return equal(runtime.meter, other, item); });
  }
  if (container.is_undefined()) return false;
  runtime.fail("\"in\" needs a string, list or dict, not a value of type " + std::string(container.type_name()));
}

int64_t length(Runtime& runtime, const Value& self) {
  if (self.is_list()) return static_cast<int64_t>(self.items().size());
  if (self.is_dict()) return static_cast<int64_t>(self.members().size());
  if (self.is_text()) {
    runtime.meter.step(static_cast<int64_t>(self.as_text().size()) / 64);
    return count_chars(self.as_text());
  }
  if (self.is_undefined()) return 0;
  runtime.fail("a value of type " + std::string(self.type_name()) + " has no length");
}

Value call_value(Runtime& runtime, const Value& callee, const Args& args) {
  if (callee.is_undefined()) runtime.fail(callee.why());
  if (!callee.is_object()) runtime.fail("a value of type " + std::string(callee.type_name()) + " cannot be called");
  // NOLINTNEXTLINE(performance-unnecessary-copy-initialization): it stays alive through its own call
  const std::shared_ptr<Object> object = callee.shared_object();
  return object->call(runtime, args);
}

int64_t integer_argument(Runtime& runtime, const Value& value, std::string_view what) {
  if (const auto integer = value.integer()) return *integer;
  if (value.is_undefined()) runtime.fail(value.why());
  runtime.fail(std::string(what) + " must be an integer, not a value of type " + std::string(value.type_name()));
}

const std::string& text_argument(Runtime& runtime, const Value& value, std::string_view what) {
  if (value.is_text()) return value.as_text();
  if (value.is_undefined()) runtime.fail(value.why());
  runtime.fail(std::string(what) + " must be a string, not a value of type " + std::string(value.type_name()));
}

Value replace(Runtime& runtime, std::string_view text, std::string_view from, std::string_view to, int64_t count) {
  std::string out;
  int64_t done = 0;
  if (from.empty()) {  // Python puts `to` before every character and at the end
    for (; !text.empty() && (count < 0 || done < count); ++done) {
      const size_t length = char_length(text);
      append(runtime, out, to);
      append(runtime, out, text.substr(0, length));
      text.remove_prefix(length);
    }
    if (count < 0 || done < count) append(runtime, out, to);
    append(runtime, out, text);
    return runtime.text(std::move(out));
  }
  for (; count < 0 || done < count; ++done) {
    const size_t at = text.find(from);
    if (at == std::string_view::npos) break;
    runtime.meter.step();
    append(runtime, out, text.substr(0, at));
    append(runtime, out, to);
    text.remove_prefix(at + from.size());
  }
  append(runtime, out, text);
  return runtime.text(std::move(out));
}

Value with_case(Runtime& runtime, std::string_view text, Case to) {
  runtime.meter.step(static_cast<int64_t>(text.size()) / 16);
  auto changed = change_case(text, to);
  if (!changed) runtime.fail("letters beyond ASCII have no upper or lower case here: the C.UTF-8 locale is missing");
  return runtime.text(*std::move(changed));
}

Value strip(Runtime& runtime, std::string_view text, const Value* chars, bool left, bool right) {
  const bool whitespace = chars == nullptr || chars->is_none();
  const std::string_view set = whitespace ? "" : std::string_view(text_argument(runtime, *chars, "the set to strip"));
  // The work is one pass over the text, with a search in the set for every stripped character.
  runtime.meter.step(static_cast<int64_t>(text.size()) / 64 * (1 + static_cast<int64_t>(set.size()) / 16));
  if (left) text = whitespace ? strip_left(text) : strip_left(text, set);
  if (right) text = whitespace ? strip_right(text) : strip_right(text, set);
  return runtime.text(std::string(text));
}

}  // namespace fathom::jinja
