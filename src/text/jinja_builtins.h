// Jinja builtins: the tables of filters, tests, global functions and methods, and the rules by which values are read
// (attribute, subscript, iteration). The parser looks filters and tests up; the evaluator calls them.
#pragma once

#include <span>
#include <string>
#include <string_view>

#include "text/jinja_strings.h"
#include "text/jinja_value.h"

namespace fathom::jinja {

/// A call of a builtin: the arguments as written, and bound to its parameters (nullptr: not given).
struct Call {
  const Args& args;
  std::span<const Value* const> slots;

  const Value* get(size_t i) const { return slots[i]; }
  bool truthy(size_t i, bool fallback) const { return slots[i] == nullptr ? fallback : slots[i]->truthy(); }
};

/// A filter, test, method or function. `parameters` lists names with commas: "old,new,count?" ('?': may be absent); "*"
/// leaves the arguments to the builtin.
struct Builtin {
  std::string_view name;
  std::string_view parameters;
  Value (*run)(Runtime& runtime, const Value& self, const Call& call);
};

/// Binds `args` to the builtin's parameters and runs it on `self` (the filtered or tested value, the method's object).
Value apply(Runtime& runtime, const Builtin& builtin, const Value& self, const Args& args);

const Builtin* find_filter(std::string_view name);
const Builtin* find_test(std::string_view name);
/// A global function: namespace, range, dict, raise_exception, strftime_now.
const Builtin* find_function(std::string_view name);
/// `function` as a value; `self` is what it was read from (a method's object).
Value bind(const Builtin& function, const Value& self);
/// Sets an attribute of a namespace object; an error for other values.
void set_attribute(Runtime& runtime, const Value& object, std::string_view name, Value value);
/// The method `name` of values like `self`, or nullptr.
const Builtin* find_method(const Value& self, std::string_view name);
const Builtin* find_in(std::span<const Builtin> table, std::string_view name);
/// The accepted names with commas, for errors.
std::string filter_names();
std::string test_names();
std::string names_of(std::span<const Builtin> table);
/// "methods of str are: ..." for an error about an unknown one; empty for types without methods.
std::string method_hint(const Value& self);

/// `self`.name as Jinja reads it: a method or attribute first, then the item of that key; undefined if there is
/// neither. Reading from an undefined value is an error.
Value get_attribute(Runtime& runtime, const Value& self, std::string_view name);
/// `self`[key]: the item first, then the attribute of that name.
Value get_item(Runtime& runtime, const Value& self, const Value& key);
/// `self`[start:stop:step] of a string, list or tuple; None and undefined bounds are open.
Value get_slice(Runtime& runtime, const Value& self, const Value& start, const Value& stop, const Value& step);
/// What a for loop walks over: items, keys of a dict, characters; an undefined value is empty.
std::vector<Value> iterate(Runtime& runtime, const Value& self);
/// Python's `item in container`.
bool contains(Runtime& runtime, const Value& container, const Value& item);
/// Python's len().
int64_t length(Runtime& runtime, const Value& self);
/// Calls a macro, function or bound method.
Value call_value(Runtime& runtime, const Value& callee, const Args& args);

// Helpers of the builtin files.

/// The integer of an argument; an error that names `what` for other types.
int64_t integer_argument(Runtime& runtime, const Value& value, std::string_view what);
/// The string of an argument; an error that names `what` for other types.
const std::string& text_argument(Runtime& runtime, const Value& value, std::string_view what);
/// str.replace(); at most `count` times when it is >= 0.
Value replace(Runtime& runtime, std::string_view text, std::string_view from, std::string_view to, int64_t count);
/// change_case() as a value.
Value with_case(Runtime& runtime, std::string_view text, Case to);
/// str.strip() with whitespace or a set of characters on the chosen sides.
Value strip(Runtime& runtime, std::string_view text, const Value* chars, bool left, bool right);

}  // namespace fathom::jinja
