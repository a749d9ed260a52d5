// Axis: where the ticks of a chart lie, what they say, and how values map to positions. Pure arithmetic.
#pragma once

#include <string>
#include <vector>

namespace fathom {

/// A scale from data to [0, 1]: linear or logarithmic (base 10), with its ticks.
class Axis {
 public:
  struct Tick {
    double value = 0;
    std::string text;
  };

  /// An axis over [low, high], both finite and at most 1e300 in size (and > 0 when `log`), low <= high. A range too
  /// small to draw is widened. A linear axis grows outward to whole ticks when `to_ticks`; a logarithmic one gets a
  /// small margin.
  Axis(double low, double high, bool log, bool to_ticks, int target_ticks);

  /// The position of `value` in [0, 1] (outside for values outside the axis).
  double position(double value) const;
  const std::vector<Tick>& ticks() const { return ticks_; }
  double low() const { return low_; }
  double high() const { return high_; }

 private:
  void linear_ticks(int target_ticks);
  void log_ticks(int target_ticks);

  double low_;
  double high_;
  bool log_;
  std::vector<Tick> ticks_;
};

/// A tick label: as many decimals as `step` needs; k/M/G/T when `largest`, the largest value of the axis, is ten
/// thousand or more (so that all ticks of an axis have one unit); powers of ten beyond that and below 0.001.
std::string tick_text(double value, double step, double largest);

}  // namespace fathom
