#include "model/rotary.h"

#include <algorithm>
#include <cmath>
#include <numbers>

namespace fathom {
namespace {

double yarn_mscale(double factor, double mscale) { return factor <= 1 ? 1.0 : 0.1 * mscale * std::log(factor) + 1.0; }

}  // namespace

std::vector<double> rotary_frequencies(const ModelConfig& config) {
  const int64_t width = config.qk_rope_head_dim;
  std::vector<double> frequencies(static_cast<size_t>(width / 2));
  for (int64_t j = 0; j < width / 2; ++j) {
    frequencies[static_cast<size_t>(j)] =
        std::pow(config.rope_theta, -2.0 * static_cast<double>(j) / static_cast<double>(width));
  }
  if (!config.rope_scaling) return frequencies;
  const YarnScaling& yarn = *config.rope_scaling;
  // The (fractional) index of the frequency that turns `rotations` times over the original context.
  const auto correction = [&](double rotations) {
    return static_cast<double>(width) *
           std::log(static_cast<double>(yarn.original_max_position_embeddings) / (rotations * 2 * std::numbers::pi)) /
           (2 * std::log(config.rope_theta));
  };
  const double low = std::max(std::floor(correction(yarn.beta_fast)), 0.0);
  double high = std::min(std::ceil(correction(yarn.beta_slow)), static_cast<double>(width - 1));
  if (low == high) high += 0.001;
  for (size_t j = 0; j < frequencies.size(); ++j) {
    const double ramp = std::clamp((static_cast<double>(j) - low) / (high - low), 0.0, 1.0);
    frequencies[j] = frequencies[j] / yarn.factor * ramp + frequencies[j] * (1 - ramp);
  }
  return frequencies;
}

double rotary_amplitude(const ModelConfig& config) {
  if (!config.rope_scaling) return 1;
  const YarnScaling& yarn = *config.rope_scaling;
  return yarn_mscale(yarn.factor, yarn.mscale) / yarn_mscale(yarn.factor, yarn.mscale_all_dim);
}

RotaryTable Rotary::table(const Run& run, std::span<const int64_t> positions) const {
  const auto count = static_cast<int64_t>(positions.size());
  const auto half = static_cast<int64_t>(frequencies_.size());
  RotaryTable table{run.make({count, half}), run.make({count, half})};
  const auto fill = [&]<class T>(T) {
    const auto cos = table.cos.view<T, 2>();
    const auto sin = table.sin.view<T, 2>();
    for (int64_t t = 0; t < count; ++t) {
      for (int64_t j = 0; j < half; ++j) {
        const double angle =
            static_cast<double>(positions[static_cast<size_t>(t)]) * frequencies_[static_cast<size_t>(j)];
        cos(t, j) = static_cast<T>(std::cos(angle) * amplitude_);
        sin(t, j) = static_cast<T>(std::sin(angle) * amplitude_);
      }
    }
  };
  run.activation == DType::kF64 ? fill(double{}) : fill(float{});
  return table;
}

}  // namespace fathom
