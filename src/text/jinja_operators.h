// Jinja operators: Python's arithmetic on values. Integers are 64-bit; what leaves them is an error, not another
// number.
#pragma once

#include <string_view>

#include "text/jinja_value.h"

namespace fathom::jinja {

/// a `op` b for + - * / // % **.
Value arithmetic(Runtime& runtime, std::string_view op, const Value& a, const Value& b);
/// -a, +a.
Value negated(Runtime& runtime, const Value& a);
Value positive(Runtime& runtime, const Value& a);
/// a `op` b for == != < <= > >= in, "not in".
bool holds(Runtime& runtime, std::string_view op, const Value& a, const Value& b);

}  // namespace fathom::jinja
