// Spread: the median of several measurements and how far they lie apart.
#pragma once

#include <vector>

namespace fathom {

struct Spread {
  double median = 0;  // of an even number: the mean of the two in the middle
  double lowest = 0;
  double highest = 0;

  /// (highest - lowest) / median; 0 when the median is not above 0.
  double relative() const { return median > 0 ? (highest - lowest) / median : 0; }
};

/// Of at least one value, none of them NaN.
Spread spread_of(std::vector<double> values);

}  // namespace fathom
