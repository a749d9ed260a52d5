#include "base/spread.h"

#include <algorithm>
#include <cstddef>

#include "base/check.h"

namespace fathom {

Spread spread_of(std::vector<double> values) {
  check(!values.empty(), "a median is of at least one value");
  std::sort(values.begin(), values.end());
  const size_t half = values.size() / 2;
  const double median = values.size() % 2 == 1 ? values[half] : (values[half - 1] + values[half]) / 2;
  return {.median = median, .lowest = values.front(), .highest = values.back()};
}

}  // namespace fathom
