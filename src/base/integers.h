// Arithmetic of sizes.
#pragma once

#include <cstdint>

namespace fathom {

/// The smallest integer that is not less than a / b; a >= 0, b > 0.
constexpr int64_t ceil_div(int64_t a, int64_t b) { return (a + b - 1) / b; }

}  // namespace fathom
