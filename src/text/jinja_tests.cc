// Jinja tests: what may stand behind "is", and the comparisons that select() and selectattr() take by name.
#include <array>
#include <cmath>

#include "text/jinja_builtins.h"
#include "text/jinja_operators.h"

namespace fathom::jinja {
namespace {

Value is_defined(Runtime&, const Value& self, const Call&) { return !self.is_undefined(); }
Value is_undefined(Runtime&, const Value& self, const Call&) { return self.is_undefined(); }
Value is_none(Runtime&, const Value& self, const Call&) { return self.is_none(); }
Value is_string(Runtime&, const Value& self, const Call&) { return self.is_text(); }
Value is_mapping(Runtime&, const Value& self, const Call&) { return self.is_dict(); }
Value is_number(Runtime&, const Value& self, const Call&) { return self.is_number(); }
Value is_integer(Runtime&, const Value& self, const Call&) { return self.is_int(); }
Value is_float(Runtime&, const Value& self, const Call&) { return self.is_float(); }
Value is_boolean(Runtime&, const Value& self, const Call&) { return self.is_bool(); }
Value is_true(Runtime&, const Value& self, const Call&) { return self.is_bool() && self.as_bool(); }
Value is_false(Runtime&, const Value& self, const Call&) { return self.is_bool() && !self.as_bool(); }
Value is_callable(Runtime&, const Value& self, const Call&) { return self.is_object() && self.object().callable(); }

// Jinja asks for len() and []: dicts pass, and so does an undefined value.
Value is_sequence(Runtime&, const Value& self, const Call&) {
  return self.is_text() || self.is_list() || self.is_dict() || self.is_undefined();
}

// The remainder that odd, even and divisibleby look at, with the sign of the divisor as in Python.
int64_t remainder(Runtime& rt, const Value& self, int64_t divisor) {
  const int64_t value = integer_argument(rt, self, "the tested value");
  if (divisor == 0) rt.fail("division by zero");
  if (divisor == -1) return 0;  // INT64_MIN % -1 is undefined in C++
  const int64_t rest = value % divisor;
  return rest != 0 && (rest < 0) != (divisor < 0) ? rest + divisor : rest;
}
Value is_odd(Runtime& rt, const Value& self, const Call&) { return remainder(rt, self, 2) == 1; }
Value is_even(Runtime& rt, const Value& self, const Call&) { return remainder(rt, self, 2) == 0; }
Value is_divisible(Runtime& rt, const Value& self, const Call& call) {
  return remainder(rt, self, integer_argument(rt, *call.get(0), "the divisor")) == 0;
}

Value is_equal(Runtime& rt, const Value& self, const Call& call) { return equal(rt.meter, self, *call.get(0)); }
Value is_unequal(Runtime& rt, const Value& self, const Call& call) { return !equal(rt.meter, self, *call.get(0)); }
Value is_less(Runtime& rt, const Value& self, const Call& call) { return holds(rt, "<", self, *call.get(0)); }
Value is_at_most(Runtime& rt, const Value& self, const Call& call) { return holds(rt, "<=", self, *call.get(0)); }
Value is_greater(Runtime& rt, const Value& self, const Call& call) { return holds(rt, ">", self, *call.get(0)); }
Value is_at_least(Runtime& rt, const Value& self, const Call& call) { return holds(rt, ">=", self, *call.get(0)); }
Value is_in(Runtime& rt, const Value& self, const Call& call) { return contains(rt, *call.get(0), self); }

// Identity, where Python promises one: None, booleans and objects. Whether two equal numbers or strings are the same
// object is up to Python's caches, so it is not answered.
Value is_same(Runtime& rt, const Value& self, const Call& call) {
  const auto has_identity = [](const Value& v) { return v.is_none() || v.is_bool() || v.is_object(); };
  const Value& other = *call.get(0);
  if (!has_identity(self) && !has_identity(other)) rt.fail("sameas is for none, booleans and objects; use ==");
  return has_identity(self) && has_identity(other) && self.is_bool() == other.is_bool() && equal(rt.meter, self, other);
}

Value is_case(Runtime& rt, const Value& self, Case to) {
  const std::string text = to_text(rt, self);
  const bool cased = with_case(rt, text, Case::kUpper).as_text() != with_case(rt, text, Case::kLower).as_text();
  return cased && with_case(rt, text, to).as_text() == text;
}
Value is_lower(Runtime& rt, const Value& self, const Call&) { return is_case(rt, self, Case::kLower); }
Value is_upper(Runtime& rt, const Value& self, const Call&) { return is_case(rt, self, Case::kUpper); }

Value is_filter(Runtime&, const Value& self, const Call&) {
  return self.is_text() && find_filter(self.as_text()) != nullptr;
}
Value is_test(Runtime&, const Value& self, const Call&) {
  return self.is_text() && find_test(self.as_text()) != nullptr;
}

constexpr std::array kTests = std::to_array<Builtin>({
    {"!=", "other", is_unequal},
    {"<", "other", is_less},
    {"<=", "other", is_at_most},
    {"==", "other", is_equal},
    {">", "other", is_greater},
    {">=", "other", is_at_least},
    {"boolean", "", is_boolean},
    {"callable", "", is_callable},
    {"defined", "", is_defined},
    {"divisibleby", "num", is_divisible},
    {"eq", "other", is_equal},
    {"equalto", "other", is_equal},
    {"even", "", is_even},
    {"false", "", is_false},
    {"filter", "", is_filter},
    {"float", "", is_float},
    {"ge", "other", is_at_least},
    {"greaterthan", "other", is_greater},
    {"gt", "other", is_greater},
    {"in", "seq", is_in},
    {"integer", "", is_integer},
    {"iterable", "", is_sequence},  // the same kinds here
    {"le", "other", is_at_most},
    {"lessthan", "other", is_less},
    {"lower", "", is_lower},
    {"lt", "other", is_less},
    {"mapping", "", is_mapping},
    {"ne", "other", is_unequal},
    {"none", "", is_none},
    {"number", "", is_number},
    {"odd", "", is_odd},
    {"sameas", "other", is_same},
    {"sequence", "", is_sequence},
    {"string", "", is_string},
    {"test", "", is_test},
    {"true", "", is_true},
    {"undefined", "", is_undefined},
    {"upper", "", is_upper},
});

}  // namespace

const Builtin* find_test(std::string_view name) { return find_in(kTests, name); }
std::string test_names() { return names_of(kTests); }

}  // namespace fathom::jinja
