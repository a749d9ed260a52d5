// RoPE on the decoupled rope dimensions, with YaRN (paper-facts 1.4; HF modeling code). The pairs are (2j, 2j + 1).
#pragma once

#include <span>
#include <vector>

#include "model/config.h"
#include "model/run.h"

namespace fathom {

/// The inverse frequencies [R/2] of the config, YaRN's blend included.
std::vector<double> rotary_frequencies(const ModelConfig& config);
/// Factor on cos and sin: mscale(factor, mscale) / mscale(factor, mscale_all_dim); 1 without YaRN.
double rotary_amplitude(const ModelConfig& config);

/// cos and sin [T, R/2] of a step's positions, computed in double: shared by all layers of the step.
struct RotaryTable {
  Tensor cos, sin;
};

class Rotary {
 public:
  explicit Rotary(const ModelConfig& config)
      : frequencies_(rotary_frequencies(config)), amplitude_(rotary_amplitude(config)) {}
  RotaryTable table(const Run& run, std::span<const int64_t> positions) const;

 private:
  std::vector<double> frequencies_;
  double amplitude_;
};

}  // namespace fathom
