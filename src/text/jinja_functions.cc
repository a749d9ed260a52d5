// Jinja global functions: namespace, range, dict, and the two that Hugging Face adds, raise_exception and strftime_now.
#include <array>
#include <ctime>

#include "text/jinja_builtins.h"

namespace fathom::jinja {
namespace {

constexpr int64_t kMaxRange = 100'000;  // the sandbox's limit in Jinja
constexpr int64_t kAttributeBytes = 128;

// namespace(): the only value that a template may change, so that a loop can hand results to what follows it.
class Namespace final : public Object {
 public:
  std::string_view type_name() const override { return "namespace"; }
  std::optional<Value> attribute(Runtime&, std::string_view name) override {
    for (const auto& [key, value] : attributes_) {
      if (key == name) return value;
    }
    return std::nullopt;
  }
  void set(Runtime& runtime, std::string_view name, Value value) {
    runtime.meter.step(static_cast<int64_t>(attributes_.size()) / 16);
    for (auto& [key, old] : attributes_) {
      if (key == name) {
        old = std::move(value);
        return;
      }
    }
    // Namespaces live until the render ends; so does what they take from the meter.
    runtime.meter.hold(kAttributeBytes + static_cast<int64_t>(name.size()));
    attributes_.emplace_back(std::string(name), std::move(value));
  }
  void drop() override { const auto attributes = std::exchange(attributes_, {}); }

 private:
  std::vector<std::pair<std::string, Value>> attributes_;
};

// The members of dict(other, name=value ...), which namespace() takes too.
std::vector<std::pair<Value, Value>> members(Runtime& rt, const Args& args, std::string_view what) {
  std::vector<std::pair<Value, Value>> out;
  if (args.positional.size() > 1) rt.fail(std::string(what) + " takes one dict and named values");
  if (!args.positional.empty()) {
    if (!args.positional[0].is_dict()) {
      rt.fail(std::string(what) + ": the positional argument must be a dict, not a value of type " +
              std::string(args.positional[0].type_name()));
    }
    out = args.positional[0].members();
  }
  for (const auto& [name, value] : args.named) {
    bool replaced = false;
    for (auto& [key, old] : out) {
      if (key.is_text() && key.as_text() == name) {
        old = value;
        replaced = true;
      }
    }
    if (!replaced) out.emplace_back(rt.text(name), value);
  }
  return out;
}

Value make_namespace(Runtime& rt, const Value&, const Call& call) {
  auto out = std::make_shared<Namespace>();
  rt.meter.hold(kAttributeBytes);
  rt.kept.push_back(out);
  for (auto& [key, value] : members(rt, call.args, "namespace")) {
    out->set(rt, text_argument(rt, key, "a key of namespace"), std::move(value));
  }
  return std::shared_ptr<Object>(std::move(out));
}

Value make_dict(Runtime& rt, const Value&, const Call& call) {
  return Value::dict(rt.meter, members(rt, call.args, "dict"));
}

Value range(Runtime& rt, const Value&, const Call& call) {
  int64_t bounds[3] = {0, 0, 1};
  for (size_t i = 0; i < 3; ++i) {
    if (call.get(i) != nullptr) bounds[i] = integer_argument(rt, *call.get(i), "an argument of range");
  }
  if (call.get(1) == nullptr) std::swap(bounds[0], bounds[1]);
  const auto [begin, end, step] = bounds;
  if (step == 0) rt.fail("range: the step is 0");
  std::vector<Value> out;
  int64_t at = begin;
  while (step > 0 ? at < end : at > end) {
    if (static_cast<int64_t>(out.size()) == kMaxRange) {
      rt.fail("range has more than " + std::to_string(kMaxRange) + " items");
    }
    out.push_back(at);
    if (__builtin_add_overflow(at, step, &at)) break;
  }
  return rt.list(std::move(out));
}

Value raise_exception(Runtime& rt, const Value&, const Call& call) {
  throw Failure{rt.line, to_text(rt, *call.get(0)), true};
}

// strftime with the directives that need no locale beyond C's.
Value strftime_now(Runtime& rt, const Value&, const Call& call) {
  constexpr std::string_view kDirectives = "aAbBcdDeFHIjmMpRSTuUwWxXyYZz%";
  const std::string& format = text_argument(rt, *call.get(0), "the format of strftime_now");
  const std::tm now = rt.now();
  std::string out;
  for (size_t i = 0; i < format.size(); ++i) {
    if (format[i] != '%') {
      out.push_back(format[i]);
      continue;
    }
    std::string directive = "%";
    if (i + 1 < format.size() && format[i + 1] == '-') directive += format[++i];  // no padding
    const char letter = ++i < format.size() ? format[i] : ' ';
    if (kDirectives.find(letter) == std::string_view::npos) {
      rt.fail("strftime_now: unknown directive \"" + directive + letter + "\"; accepted: % or %- and one of " +
              std::string(kDirectives));
    }
    directive += letter;
    std::array<char, 256> buffer;
    out.append(buffer.data(), std::strftime(buffer.data(), buffer.size(), directive.c_str(), &now));
  }
  return rt.text(std::move(out));
}

constexpr std::array kFunctions = std::to_array<Builtin>({
    {"dict", "*", make_dict},
    {"namespace", "*", make_namespace},
    {"raise_exception", "message", raise_exception},
    {"range", "start,stop?,step?", range},
    {"strftime_now", "format", strftime_now},
});

}  // namespace

const Builtin* find_function(std::string_view name) { return find_in(kFunctions, name); }

void set_attribute(Runtime& runtime, const Value& object, std::string_view name, Value value) {
  auto* space = object.is_object() ? dynamic_cast<Namespace*>(&object.object()) : nullptr;
  if (space == nullptr) {
    if (object.is_undefined()) runtime.fail(object.why());
    runtime.fail("attributes can be set on a namespace only, not on a value of type " +
                 std::string(object.type_name()));
  }
  space->set(runtime, name, std::move(value));
}

}  // namespace fathom::jinja
