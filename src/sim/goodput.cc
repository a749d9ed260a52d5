#include "sim/goodput.h"

#include <algorithm>
#include <cmath>
#include <string>

#include "base/figure.h"

namespace fathom {
namespace {

double share_of(const FailureModel& m, double interval) {
  const double mtbf = m.mtbf_h * 60;
  return interval / (mtbf * std::exp(m.restart_min / mtbf) * std::expm1((interval + m.checkpoint_min) / mtbf));
}

}  // namespace

Result<Goodput> goodput(const FailureModel& m, double interval_min) {
  const struct {
    const char* name;
    double value;
    bool may_be_zero;
  } inputs[] = {{"mtbf_h", m.mtbf_h, false},
                {"checkpoint_min", m.checkpoint_min, true},
                {"restart_min", m.restart_min, true},
                {"interval_min", interval_min, true}};
  for (const auto& in : inputs) {
    if (!(in.value >= 0) || !(in.value <= 1e9) || (in.value == 0 && !in.may_be_zero)) {
      return invalid("goodput: " + std::string(in.name) + " is " + figure_text(in.value) +
                     "; accepted: " + (in.may_be_zero ? "0" : "more than 0") + " to 1e9");
    }
  }
  if (interval_min > 0) return Goodput{interval_min, share_of(m, interval_min)};
  if (m.checkpoint_min == 0)
    return invalid("goodput: checkpoint_min is 0, so the best interval is none; give interval_min");
  // The share has one maximum over the interval; golden section around Young's estimate finds it.
  const double young = std::sqrt(2 * m.checkpoint_min * m.mtbf_h * 60);
  double low = young / 100, high = young * 100;
  const double ratio = (std::sqrt(5.0) - 1) / 2;
  for (int i = 0; i < 200; ++i) {
    const double a = high - ratio * (high - low), b = low + ratio * (high - low);
    (share_of(m, a) < share_of(m, b) ? low : high) = share_of(m, a) < share_of(m, b) ? a : b;
  }
  const double best = (low + high) / 2;
  return Goodput{best, share_of(m, best)};
}

}  // namespace fathom
