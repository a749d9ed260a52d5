#include "report/axis.h"

#include <algorithm>
#include <charconv>
#include <cmath>

#include "base/check.h"

namespace fathom {
namespace {

// The round number (1, 2 or 5 times a power of ten) that splits `span` into about `target` parts.
double nice_step(double span, int target) {
  const double raw = span / target;
  const double power = std::pow(10.0, std::floor(std::log10(raw)));
  const double leading = raw / power;
  return (leading < 1.5 ? 1 : leading < 3.5 ? 2 : leading < 7.5 ? 5 : 10) * power;
}

std::string fixed_text(double v, int decimals) {
  char buffer[64];
  const auto end = std::to_chars(buffer, buffer + sizeof(buffer), v + 0.0, std::chars_format::fixed, decimals).ptr;
  return std::string(buffer, end);
}

std::string scientific_text(double v) {
  char buffer[32];
  const auto end = std::to_chars(buffer, buffer + sizeof(buffer), v, std::chars_format::scientific, 2).ptr;
  std::string text(buffer, end);
  // "1.50e-05" reads better as "1.5e-5".
  const size_t e = text.find('e');
  std::string mantissa = text.substr(0, e);
  std::string exponent = text.substr(e + 1);
  mantissa.erase(mantissa.find_last_not_of('0') + 1);
  if (mantissa.back() == '.') mantissa.pop_back();
  const bool negative = exponent[0] == '-';
  exponent.erase(0, std::min(exponent.find_first_not_of("+-0"), exponent.size() - 1));
  return mantissa + "e" + (negative ? "-" : "") + exponent;
}

}  // namespace

std::string tick_text(double value, double step, double largest) {
  const double size = std::max(std::abs(largest), std::abs(step));
  if (value == 0) return "0";
  if (size >= 1e15 || size < 1e-3) return scientific_text(value);
  double unit = 1;
  const char* suffix = "";
  if (size >= 1e12) {
    unit = 1e12, suffix = "T";
  } else if (size >= 1e9) {
    unit = 1e9, suffix = "G";
  } else if (size >= 1e6) {
    unit = 1e6, suffix = "M";
  } else if (size >= 1e4) {
    unit = 1e3, suffix = "k";
  }
  const double relative_step = std::abs(step) / unit;
  const int decimals = std::clamp(static_cast<int>(std::ceil(-std::log10(relative_step) - 1e-9)), 0, 9);
  return fixed_text(value / unit, decimals) + suffix;
}

Axis::Axis(double low, double high, bool log, bool to_ticks, int target_ticks) : low_(low), high_(high), log_(log) {
  check(low <= high && std::abs(low) <= 1e300 && std::abs(high) <= 1e300, "an axis has a finite range");
  check(!log || low > 0, "a logarithmic axis is positive");
  check(target_ticks >= 2, "an axis has ticks");
  if (log) {
    const double decades = std::log10(high_) - std::log10(low_);
    const double margin = std::pow(10.0, decades < 0.005 ? 0.18 : std::min(0.04 * decades, 4.0));
    low_ /= margin;
    high_ *= margin;
    log_ticks(target_ticks);
    return;
  }
  // Below about 1e-9 of the values' size, ticks could no longer be told apart.
  const double size = std::max(std::abs(low_), std::abs(high_));
  const double smallest_span = std::max(size * 1e-9, 1e-300);
  if (high_ - low_ < smallest_span) {
    const double margin = size == 0 ? 1 : size * 0.1;
    low_ -= margin;
    high_ += margin;
  }
  if (to_ticks) {
    const double step = nice_step(high_ - low_, target_ticks);
    low_ = std::floor(low_ / step + 1e-9) * step;
    high_ = std::ceil(high_ / step - 1e-9) * step;
  }
  linear_ticks(target_ticks);
}

void Axis::linear_ticks(int target_ticks) {
  const double step = nice_step(high_ - low_, target_ticks);
  const double first = std::ceil(low_ / step - 1e-9);
  const double largest = std::max(std::abs(low_), std::abs(high_));
  for (int i = 0; i <= 4 * target_ticks; ++i) {
    const double value = (first + i) * step;
    if (value > high_ + step * 1e-9) break;
    ticks_.push_back({value, tick_text(value, step, largest)});
  }
}

void Axis::log_ticks(int target_ticks) {
  const int first = static_cast<int>(std::floor(std::log10(low_)));
  const int last = static_cast<int>(std::ceil(std::log10(high_)));
  const double decades = std::log10(high_) - std::log10(low_);
  if (decades < 0.7) {  // less than one 1-2-5 round: round numbers, unevenly spaced
    linear_ticks(target_ticks);
    return;
  }
  const int stride = std::max(1, static_cast<int>(std::ceil(decades / (target_ticks + 2))));
  for (int exponent = first; exponent <= last; ++exponent) {
    for (const int digit : {1, 2, 5}) {
      if (digit != 1 && decades > 2.5) break;
      if (exponent % stride != 0) break;
      const double value = digit * std::pow(10.0, exponent);
      if (value >= low_ * (1 - 1e-9) && value <= high_ * (1 + 1e-9))
        ticks_.push_back({value, tick_text(value, value, value)});
    }
  }
}

double Axis::position(double value) const {
  // Halved, because the difference of two large values may overflow.
  if (log_) return (std::log10(value) - std::log10(low_)) / (std::log10(high_) - std::log10(low_));
  return (value / 2 - low_ / 2) / (high_ / 2 - low_ / 2);
}

}  // namespace fathom
