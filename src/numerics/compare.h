// The only metrics of closeness: bit-equal, largest difference against a bound, relative L2, cosine difference.
#pragma once

#include <cstdint>
#include <span>

namespace fathom {

/// Every bit pattern equal (so NaN equals the same NaN, and 0 differs from -0).
bool bit_equal(std::span<const float> a, std::span<const float> b);

/// ||a - b|| / ||b|| in double; 0 when both are zero; infinite when a value is not finite.
double relative_l2(std::span<const float> a, std::span<const float> b);
double relative_l2(std::span<const double> a, std::span<const double> b);

/// max |a - b| / max |b|; infinite when a value is not finite.
double relative_max(std::span<const float> a, std::span<const float> b);
double relative_max(std::span<const double> a, std::span<const double> b);

/// 1 - 2 <a, b> / (<a, a> + <b, b>): DeepGEMM's measure of a gemm's error.
double cosine_difference(std::span<const float> a, std::span<const float> b);

/// Bound on |computed - exact| of an FP32 sum of n products whose magnitudes sum to `abs_sum`: (n + 2) 2^-24 abs_sum,
/// the standard first-order bound (Higham, Accuracy and Stability, section 3.1) for any order of summation.
double sum_bound(int64_t n, double abs_sum);

}  // namespace fathom
