// Learning rate: the three schedules as pure functions of the step. Linear warm-up comes first in all of them.
//   v3      constant, cosine decay to `final`, constant, constant at v3_last_ratio * final (V3 report section 4.2)
//   cosine  cosine decay to `final` right after the warm-up
//   wsd     constant, then a linear decay to `final` over the last decay_fraction of all steps
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "base/result.h"

namespace fathom {

struct LearningRateSettings {
  std::string schedule = "wsd";  // v3, cosine or wsd
  double peak = 2e-3;
  double final = 0;
  int64_t warmup_steps = 30;
  double decay_fraction = 0.2;  // wsd
  /// v3: relative lengths of the phases, warm-up being part of the first: 10T, 4.3T, 333B and 167B tokens.
  std::vector<double> v3_phases = {10, 4.3, 0.333, 0.167};
  double v3_last_ratio = 7.3 / 22;  // v3: the last phase's rate over `final`
};

/// Errors: a schedule that does not exist; rates, lengths or fractions that make no schedule of `num_steps` steps.
Status check_learning_rate(const LearningRateSettings& settings, int64_t num_steps);

/// The rate of step `step` (counted from 0) in a run of `num_steps`; steps beyond the end get the end's rate.
/// Settings must have passed check_learning_rate.
double learning_rate(const LearningRateSettings& settings, int64_t num_steps, int64_t step);

}  // namespace fathom
