#include "numerics/compare.h"

#include <cmath>
#include <cstring>
#include <limits>

#include "base/check.h"

namespace fathom {
namespace {

template <class T>
double relative_l2_of(std::span<const T> a, std::span<const T> b) {
  check(a.size() == b.size(), "compared spans have one size");
  double difference = 0, norm = 0;
  for (size_t i = 0; i < a.size(); ++i) {
    const double d = double{a[i]} - double{b[i]};
    difference += d * d;
    norm += double{b[i]} * double{b[i]};
  }
  if (!std::isfinite(difference) || !std::isfinite(norm)) return std::numeric_limits<double>::infinity();
  if (difference == 0) return 0;
  return std::sqrt(difference / norm);
}

template <class T>
double relative_max_of(std::span<const T> a, std::span<const T> b) {
  check(a.size() == b.size(), "compared spans have one size");
  double difference = 0, largest = 0;
  for (size_t i = 0; i < a.size(); ++i) {
    const double d = std::fabs(double{a[i]} - double{b[i]});
    if (!std::isfinite(d)) return std::numeric_limits<double>::infinity();
    difference = std::fmax(difference, d);
    largest = std::fmax(largest, std::fabs(double{b[i]}));
  }
  if (difference == 0) return 0;
  return difference / largest;
}

}  // namespace

bool bit_equal(std::span<const float> a, std::span<const float> b) {
  return a.size() == b.size() && (a.empty() || std::memcmp(a.data(), b.data(), a.size_bytes()) == 0);
}

double relative_l2(std::span<const float> a, std::span<const float> b) { return relative_l2_of(a, b); }
double relative_l2(std::span<const double> a, std::span<const double> b) { return relative_l2_of(a, b); }
double relative_max(std::span<const float> a, std::span<const float> b) { return relative_max_of(a, b); }
double relative_max(std::span<const double> a, std::span<const double> b) { return relative_max_of(a, b); }

double cosine_difference(std::span<const float> a, std::span<const float> b) {
  check(a.size() == b.size(), "compared spans have one size");
  double ab = 0, aa = 0, bb = 0;
  for (size_t i = 0; i < a.size(); ++i) {
    ab += double{a[i]} * double{b[i]};
    aa += double{a[i]} * double{a[i]};
    bb += double{b[i]} * double{b[i]};
  }
  if (aa + bb == 0) return 0;
  return 1 - 2 * ab / (aa + bb);
}

double sum_bound(int64_t n, double abs_sum) { return static_cast<double>(n + 2) * 0x1p-24 * abs_sum; }

}  // namespace fathom
