#include "text/jinja_operators.h"

#include <cmath>

#include "text/jinja_builtins.h"

namespace fathom::jinja {
namespace {

[[noreturn]] void refuse(Runtime& rt, std::string_view op, const Value& a, const Value& b) {
  if (a.is_undefined()) rt.fail(a.why());
  if (b.is_undefined()) rt.fail(b.why());
  rt.fail("\"" + std::string(op) + "\" does not apply to values of type " + std::string(a.type_name()) + " and " +
          std::string(b.type_name()));
}

// Python's %: the sign of the divisor.
double float_modulo(double a, double b) {
  const double rest = std::fmod(a, b);
  if (rest == 0) return std::copysign(0.0, b);
  return (rest < 0) != (b < 0) ? rest + b : rest;
}

double float_floor_divide(double a, double b) {
  const double quotient = (a - float_modulo(a, b)) / b;
  const double floored = std::floor(quotient);
  return quotient - floored > 0.5 ? floored + 1 : floored;
}

Value float_arithmetic(Runtime& rt, std::string_view op, double a, double b) {
  if (op == "+") return a + b;
  if (op == "-") return a - b;
  if (op == "*") return a * b;
  if (op == "**") {
    const double out = std::pow(a, b);
    if (a == 0 && b < 0) rt.fail("division by zero");
    if (std::isnan(out) && !std::isnan(a) && !std::isnan(b)) rt.fail("a power that is no real number");
    if (std::isinf(out) && std::isfinite(a) && std::isfinite(b)) rt.fail("float overflow");
    return out;
  }
  if (b == 0) rt.fail("division by zero");
  if (op == "/") return a / b;
  return op == "//" ? float_floor_divide(a, b) : float_modulo(a, b);
}

Value power(Runtime& rt, int64_t base, int64_t exponent) {
  if (exponent < 0) return float_arithmetic(rt, "**", static_cast<double>(base), static_cast<double>(exponent));
  int64_t out = 1;
  bool overflow = false;
  // Square and multiply; a base of -1, 0 or 1 takes any exponent.
  bool base_overflow = false;
  for (; exponent > 0; exponent >>= 1) {
    if ((exponent & 1) != 0) overflow |= base_overflow || __builtin_mul_overflow(out, base, &out);
    base_overflow |= __builtin_mul_overflow(base, base, &base);
  }
  if (overflow) rt.fail("integer overflow");
  return out;
}

Value int_arithmetic(Runtime& rt, std::string_view op, int64_t a, int64_t b) {
  int64_t out = 0;
  bool overflow = false;
  if (op == "+") {
    overflow = __builtin_add_overflow(a, b, &out);
  } else if (op == "-") {
    overflow = __builtin_sub_overflow(a, b, &out);
  } else if (op == "*") {
    overflow = __builtin_mul_overflow(a, b, &out);
  } else if (op == "**") {
    return power(rt, a, b);
  } else if (b == 0) {
    rt.fail("division by zero");
  } else if (op == "/") {
    return static_cast<double>(a) / static_cast<double>(b);
  } else if (b == -1) {  // INT64_MIN / -1 does not fit
    if (op == "%") return int64_t{0};
    overflow = __builtin_sub_overflow(int64_t{0}, a, &out);
  } else {
    const int64_t rest = a % b;
    const bool down = rest != 0 && (rest < 0) != (b < 0);  // C++ rounds to zero, Python down
    out = op == "//" ? a / b - (down ? 1 : 0) : rest + (down ? b : 0);
  }
  if (overflow) rt.fail("integer overflow");
  return out;
}

// A string or a list, `times` times.
Value repeated(Runtime& rt, const Value& what, int64_t times) {
  const auto size = static_cast<int64_t>(what.is_text() ? what.as_text().size() : what.items().size());
  if (times < 0 || size == 0) times = 0;
  if (times > 0 && size > kMaxTextBytes / times) rt.fail("\"*\" makes a value that is too large");
  rt.meter.step(size * times / 16);
  if (what.is_text()) {
    std::string out;
    out.reserve(static_cast<size_t>(size * times));
    for (int64_t i = 0; i < times; ++i) out += what.as_text();
    return rt.text(std::move(out));
  }
  const Held reserved(rt.meter, size * times * static_cast<int64_t>(sizeof(Value)));
  std::vector<Value> out;
  for (int64_t i = 0; i < times; ++i) out.insert(out.end(), what.items().begin(), what.items().end());
  return rt.list(std::move(out), what.is_tuple());
}

}  // namespace

Value arithmetic(Runtime& rt, std::string_view op, const Value& a, const Value& b) {
  if (a.is_number() && b.is_number()) {
    if (a.is_float() || b.is_float()) return float_arithmetic(rt, op, a.number(), b.number());
    return int_arithmetic(rt, op, *a.integer(), *b.integer());
  }
  if (op == "+" && a.is_text() && b.is_text()) {
    std::string out;
    out.reserve(a.as_text().size() + b.as_text().size());
    append(rt, out, a.as_text());
    append(rt, out, b.as_text());
    return rt.text(std::move(out));
  }
  if (op == "+" && a.is_list() && b.is_list() && a.is_tuple() == b.is_tuple()) {
    std::vector<Value> out = a.items();
    out.insert(out.end(), b.items().begin(), b.items().end());
    return rt.list(std::move(out), a.is_tuple());
  }
  if (op == "*") {
    if ((a.is_text() || a.is_list()) && b.integer()) return repeated(rt, a, *b.integer());
    if ((b.is_text() || b.is_list()) && a.integer()) return repeated(rt, b, *a.integer());
  }
  if (op == "%" && a.is_text()) rt.fail("formatting with % is not supported; join strings with ~");
  refuse(rt, op, a, b);
}

Value negated(Runtime& rt, const Value& a) {
  if (a.is_float()) return -a.as_float();
  return int_arithmetic(rt, "-", 0, integer_argument(rt, a, "what follows \"-\""));
}

Value positive(Runtime& rt, const Value& a) {
  if (a.is_float()) return a;
  return integer_argument(rt, a, "what follows \"+\"");
}

bool holds(Runtime& rt, std::string_view op, const Value& a, const Value& b) {
  if (op == "==") return equal(rt.meter, a, b);
  if (op == "!=") return !equal(rt.meter, a, b);
  if (op == "in") return contains(rt, b, a);
  if (op == "not in") return !contains(rt, b, a);
  if (a.is_number() && b.is_number() && (std::isnan(a.number()) || std::isnan(b.number()))) return false;
  const int order = compare(rt, a, b);
  if (op == "<") return order < 0;
  if (op == "<=") return order <= 0;
  return op == ">" ? order > 0 : order >= 0;
}

}  // namespace fathom::jinja
