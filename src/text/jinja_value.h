// Jinja values: Python's data model as far as chat templates see it (None, bool, int, float, str, list, tuple, dict,
// and objects with attributes), with the meter that bounds what a template may spend. Values are immutable except for
// namespace attributes, so only a namespace can close a cycle; the evaluator breaks those at its end.
#pragma once

#include <cstdint>
#include <ctime>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <variant>
#include <vector>

#include "base/json.h"
#include "text/jinja_lexer.h"

namespace fathom::jinja {

inline constexpr int64_t kMaxTextBytes = int64_t{16} << 20;  // one string value
inline constexpr int kMaxValueDepth = 300;                   // lists in lists; above what Json::parse accepts

/// Counts down what one render may spend; exceeding a limit throws Failure.
class Meter {
 public:
  Meter(int64_t steps, int64_t live_bytes) : steps_(steps), live_bytes_(live_bytes) {}
  Meter(const Meter&) = delete;
  Meter& operator=(const Meter&) = delete;

  void step(int64_t count = 1) {
    steps_ -= count;
    if (steps_ < 0) [[unlikely]]
      throw Failure{0, "the template takes too many evaluation steps"};
  }
  void hold(int64_t bytes) {
    live_bytes_ -= bytes;
    if (live_bytes_ < 0) [[unlikely]] {
      live_bytes_ += bytes;
      throw Failure{0, "the template's values take too much memory"};
    }
  }
  void release(int64_t bytes) { live_bytes_ += bytes; }

 private:
  int64_t steps_;
  int64_t live_bytes_;
};

/// Bytes held from a meter until destruction. Without a meter (constants of a parsed template) it holds nothing.
class Held {
 public:
  Held() = default;
  Held(Meter& meter, int64_t bytes) : bytes_(bytes) {
    meter.hold(bytes);
    meter_ = &meter;
  }
  Held(Held&& other) noexcept : meter_(std::exchange(other.meter_, nullptr)), bytes_(other.bytes_) {}
  Held& operator=(Held&&) = delete;
  ~Held() {
    if (meter_ != nullptr) meter_->release(bytes_);
  }

 private:
  Meter* meter_ = nullptr;
  int64_t bytes_ = 0;
};

struct Text;
struct List;
struct Dict;
class Object;
struct Runtime;
struct Args;

/// The value of a name or attribute that does not exist; `why` says so in an error.
struct Undefined {
  std::shared_ptr<const std::string> why;
};
struct None {};

class Value {
 public:
  Value() = default;  // undefined, without a reason
  Value(None v) : data_(v) {}
  Value(bool v) : data_(v) {}
  Value(int64_t v) : data_(v) {}
  Value(double v) : data_(v) {}
  Value(std::shared_ptr<Object> v) : data_(std::move(v)) {}
  Value(const char*) = delete;  // would become a bool

  static Value undefined(std::string why) {
    return Value(Undefined{std::make_shared<const std::string>(std::move(why))});
  }
  static Value text(Meter& meter, std::string bytes);
  static Value constant(std::string bytes);  // owned by a parsed template
  static Value list(Meter& meter, std::vector<Value> items, bool is_tuple = false);
  static Value dict(Meter& meter, std::vector<std::pair<Value, Value>> items);
  /// The same data; at most kMaxValueDepth deep.
  static Value from_json(Meter& meter, const Json& json);

  bool is_undefined() const { return data_.index() == 0; }
  bool is_none() const { return data_.index() == 1; }
  bool is_bool() const { return data_.index() == 2; }
  bool is_int() const { return data_.index() == 3; }  // not a bool, unlike Python's isinstance
  bool is_float() const { return data_.index() == 4; }
  bool is_number() const { return is_bool() || is_int() || is_float(); }
  bool is_text() const { return data_.index() == 5; }
  bool is_list() const { return data_.index() == 6; }  // or tuple
  bool is_dict() const { return data_.index() == 7; }
  bool is_object() const { return data_.index() == 8; }

  // Typed access: the kind must have been tested.
  bool as_bool() const { return std::get<bool>(data_); }
  double as_float() const { return std::get<double>(data_); }
  const std::string& as_text() const;
  const std::vector<Value>& items() const;
  bool is_tuple() const;
  const std::vector<std::pair<Value, Value>>& members() const;
  Object& object() const { return *std::get<8>(data_); }
  const std::shared_ptr<Object>& shared_object() const { return std::get<8>(data_); }

  /// The integer of an int or a bool.
  std::optional<int64_t> integer() const;
  /// The number of an int, a bool or a float.
  double number() const;
  /// Why an undefined value is one, as a sentence.
  std::string why() const;
  /// Python's name of the type, for errors.
  std::string_view type_name() const;
  bool truthy() const;
  /// Levels of lists, dicts and objects; 0 for a scalar.
  int depth() const;

 private:
  explicit Value(Undefined v) : data_(std::move(v)) {}
  std::variant<Undefined, None, bool, int64_t, double, std::shared_ptr<const Text>, std::shared_ptr<const List>,
               std::shared_ptr<const Dict>, std::shared_ptr<Object>>
      data_;
};

/// Something with behaviour: namespace, macro, loop, function, bound method.
class Object {
 public:
  explicit Object(int depth = 1) : depth_(depth) {}
  virtual ~Object() = default;
  Object(const Object&) = delete;
  Object& operator=(const Object&) = delete;

  virtual std::string_view type_name() const = 0;
  virtual std::optional<Value> attribute(Runtime&, std::string_view) { return std::nullopt; }
  virtual bool callable() const { return false; }
  virtual Value call(Runtime& runtime, const Args& args);
  /// Lets go of other values. Called when the render ends, on objects that may be part of a cycle.
  virtual void drop() {}
  int depth() const { return depth_; }

 private:
  int depth_;
};

/// The state that every evaluation step shares.
struct Runtime {
  Meter meter;
  const std::function<std::tm()>& now;        // the local time, for strftime_now
  int line = 0;                               // of the node under evaluation
  int depth = 0;                              // nested evaluations, see Nesting
  std::vector<std::shared_ptr<Object>> kept;  // objects that may be part of a cycle: namespaces

  Runtime(int64_t steps, int64_t live_bytes, const std::function<std::tm()>& clock)
      : meter(steps, live_bytes), now(clock) {}
  ~Runtime() {
    for (const auto& object : kept) object->drop();
  }
  [[noreturn]] void fail(std::string text) const { throw Failure{line, std::move(text)}; }
  Value text(std::string bytes) { return Value::text(meter, std::move(bytes)); }
  Value list(std::vector<Value> items, bool is_tuple = false) { return Value::list(meter, std::move(items), is_tuple); }
};

/// One level of nested evaluation; too many are a Failure instead of a stack overflow.
class Nesting {
 public:
  static constexpr int kMaxDepth = 1000;
  explicit Nesting(Runtime& runtime) : runtime_(runtime) {
    if (runtime_.depth >= kMaxDepth) runtime_.fail("macros or expressions are nested too deep");
    ++runtime_.depth;
  }
  ~Nesting() { --runtime_.depth; }
  Nesting(const Nesting&) = delete;
  Nesting& operator=(const Nesting&) = delete;

 private:
  Runtime& runtime_;
};

/// Arguments of a call as written.
struct Args {
  std::vector<Value> positional;
  std::vector<std::pair<std::string, Value>> named;
};

/// Python's ==, which never fails.
bool equal(Meter& meter, const Value& a, const Value& b);
/// Negative, zero or positive as a < b, a == b, a > b; fails for types that have no order.
int compare(Runtime& runtime, const Value& a, const Value& b);
/// The value of `key` in a dict, or nullptr.
const Value* find(Meter& meter, const Value& dict, const Value& key);
const Value* find(Meter& meter, const Value& dict, std::string_view key);

/// Appends within kMaxTextBytes.
void append(Runtime& runtime, std::string& out, std::string_view text);
/// Python's str(): strings as they are, everything else as repr. Undefined is "".
std::string to_text(Runtime& runtime, const Value& value);

struct JsonStyle {
  bool ensure_ascii = false;
  bool sort_keys = false;
  std::optional<std::string> indent;  // per level; absent: one line
  std::string item_separator = ", ";
  std::string key_separator = ": ";
};
/// json.dumps(). Undefined values and objects have no JSON form: an error.
std::string to_json(Runtime& runtime, const Value& value, const JsonStyle& style);

}  // namespace fathom::jinja
