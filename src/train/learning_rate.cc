// The schedules' arithmetic.
#include "train/learning_rate.h"

#include <algorithm>
#include <cmath>
#include <numbers>
#include <numeric>

#include "base/check.h"

namespace fathom {
namespace {

/// Where `step` stands between two seams: 0 at `begin`, 1 at `end`.
double progress(int64_t step, int64_t begin, int64_t end) {
  return static_cast<double>(step - begin) / static_cast<double>(end - begin);
}

double cosine(double from, double to, double t) {
  return to + (from - to) * 0.5 * (1 + std::cos(std::numbers::pi * t));
}

/// The step at which the phases before `phase` end.
int64_t phase_begin(const LearningRateSettings& s, int64_t num_steps, size_t phase) {
  const double total = std::accumulate(s.v3_phases.begin(), s.v3_phases.end(), 0.0);
  const double before =
      std::accumulate(s.v3_phases.begin(), s.v3_phases.begin() + static_cast<std::ptrdiff_t>(phase), 0.0);
  return std::llround(before / total * static_cast<double>(num_steps));
}

double v3_rate(const LearningRateSettings& s, int64_t num_steps, int64_t step) {
  const int64_t decay = phase_begin(s, num_steps, 1), low = phase_begin(s, num_steps, 2);
  if (step < decay) return s.peak;
  if (step < low) return cosine(s.peak, s.final, progress(step, decay, low));
  return step < phase_begin(s, num_steps, 3) ? s.final : s.v3_last_ratio * s.final;
}

double wsd_rate(const LearningRateSettings& s, int64_t num_steps, int64_t step) {
  const int64_t decay = num_steps - std::llround(s.decay_fraction * static_cast<double>(num_steps));
  if (step < decay) return s.peak;
  if (step >= num_steps) return s.final;
  return s.peak + (s.final - s.peak) * progress(step, decay, num_steps);
}

}  // namespace

Status check_learning_rate(const LearningRateSettings& s, int64_t num_steps) {
  if (s.schedule != "v3" && s.schedule != "cosine" && s.schedule != "wsd") {
    return invalid("learning_rate.schedule \"" + s.schedule + "\" is not accepted; it must be v3, cosine or wsd");
  }
  if (!(s.peak >= 0) || !(s.final >= 0) || !std::isfinite(s.peak) || s.final > s.peak) {
    return invalid("learning_rate.final " + std::to_string(s.final) + " must lie between 0 and learning_rate.peak " +
                   std::to_string(s.peak));
  }
  if (s.warmup_steps < 0 || s.warmup_steps > num_steps) {
    return invalid("learning_rate.warmup_steps " + std::to_string(s.warmup_steps) +
                   " must lie between 0 and train.steps " + std::to_string(num_steps));
  }
  if (!(s.decay_fraction >= 0 && s.decay_fraction <= 1)) {
    return invalid("learning_rate.decay_fraction " + std::to_string(s.decay_fraction) + " must lie between 0 and 1");
  }
  const bool phases_fit = s.v3_phases.size() == 4 && std::all_of(s.v3_phases.begin(), s.v3_phases.end(),
                                                                 [](double p) { return p >= 0 && p <= 1e15; });
  if (!phases_fit || std::accumulate(s.v3_phases.begin(), s.v3_phases.end(), 0.0) <= 0) {
    return invalid("learning_rate.v3_phases must be four lengths >= 0 that are not all 0");
  }
  if (!(s.v3_last_ratio >= 0 && s.v3_last_ratio <= 1)) {
    return invalid("learning_rate.v3_last_ratio " + std::to_string(s.v3_last_ratio) + " must lie between 0 and 1");
  }
  return {};
}

double learning_rate(const LearningRateSettings& s, int64_t num_steps, int64_t step) {
  check(step >= 0, "steps count from 0");
  if (step < s.warmup_steps) return s.peak * static_cast<double>(step + 1) / static_cast<double>(s.warmup_steps);
  if (s.schedule == "v3") return v3_rate(s, num_steps, step);
  if (s.schedule == "wsd") return wsd_rate(s, num_steps, step);
  return step >= num_steps ? s.final : cosine(s.peak, s.final, progress(step, s.warmup_steps, num_steps));
}

}  // namespace fathom
