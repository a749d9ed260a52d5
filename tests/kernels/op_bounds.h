// How far an operation's result may be from ref's where neither equal bits nor the bound of one sum apply. Each bound
// is counted: roundings of the level and of ref, each times what it is relative to (the condition of what follows), in
// units of 2^-24, which is the largest relative error of one rounding to FP32. ref computes in double and rounds once.
// Terms of second order (units of 2^-48) are not counted.
#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "kernels/kernels.h"

namespace fathom::op_cases {

struct Operands;
struct PrefillShape;

/// Units of 2^-24 per element of an output.
using Bounds = std::vector<double>;
/// From the operands before the operation and after ref's.
using BoundsOf = std::function<Bounds(const Operands& before, const Operands& after, const std::string& output)>;

/// exp of a level: within 2 ulp (kernels/cpu/level/simd.h), and an ulp is at most two units.
inline constexpr double kExp = 4;

/// Units of the element itself: nothing cancels.
BoundsOf of_result(double roundings);

// One operation each; the counting is at the definition.
Bounds of_norm_backward(const Operands& before, const Operands& after, const std::string& output);
Bounds of_swiglu_backward(const Operands& before, const Operands& after, const std::string& output);
Bounds of_weighed_rows(const Operands& before, const Operands& after, const std::string& output);
Bounds of_rope(const Operands& before, const Operands& after, const std::string& output);
Bounds of_cross_entropy(const Operands& before, const Operands& after, const std::string& output);
Bounds of_router(const RouterSpec& spec, const Operands& before, const Operands& after, const std::string& output);
Bounds of_prefill(const PrefillShape& shape, double scale, Precision precision, const Operands& before,
                  const Operands& after, const std::string& output);
Bounds of_decode(const Operands& before, const Operands& after, Precision precision);

// What the cases give to the operations.
inline constexpr double kLossScale = 0.25, kDecodeScale = 0.2;
std::vector<int64_t> positions_of_decode(int64_t num_tokens);

}  // namespace fathom::op_cases
