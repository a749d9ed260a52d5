// RoPE frequencies and YaRN against the published configs' numbers and the definition.
#include "model/rotary.h"

#include <gtest/gtest.h>

#include <cmath>

#include "kernels/registry.h"

namespace fathom {
namespace {

ModelConfig released(const std::string& name) {
  const Path path = Path(FATHOM_SOURCE_DIR) / "tests/model/configs" / (name + ".json");
  const auto text = read_file(path);
  EXPECT_TRUE(text) << text.error().text;
  const auto config = ModelConfig::parse(*Json::parse(*text, name), name);
  EXPECT_TRUE(config) << config.error().text;
  return *config;
}

ModelConfig plain(int64_t width, double theta) {
  ModelConfig config;
  config.qk_rope_head_dim = width;
  config.rope_theta = theta;
  return config;
}

TEST(Rotary, FrequenciesFallGeometricallyWithoutScaling) {
  const auto f = rotary_frequencies(plain(8, 10'000));
  ASSERT_EQ(f.size(), 4u);
  EXPECT_DOUBLE_EQ(f[0], 1);
  EXPECT_DOUBLE_EQ(f[1], 0.1);
  EXPECT_DOUBLE_EQ(f[2], 0.01);
  EXPECT_DOUBLE_EQ(f[3], 0.001);
  EXPECT_EQ(rotary_amplitude(plain(8, 10'000)), 1);
}

// V3 and V2-Lite: 32 frequencies, kept up to index 10, divided by 40 from index 23 on, blended linearly between.
TEST(Rotary, YarnBlendsBetweenTheCorrectionIndices) {
  for (const char* name : {"deepseek-v3", "deepseek-v2-lite", "deepseek-v2"}) {
    const auto f = rotary_frequencies(released(name));
    ASSERT_EQ(f.size(), 32u) << name;
    for (size_t j = 0; j < f.size(); ++j) {
      const double base = std::pow(10'000.0, -static_cast<double>(j) / 32);
      if (j <= 10) {
        EXPECT_NEAR(f[j], base, 1e-15 * base) << name << " " << j;
      } else if (j >= 23) {
        EXPECT_NEAR(f[j], base / 40, 1e-15 * base) << name << " " << j;
      } else {
        const double ramp = static_cast<double>(j - 10) / 13;
        EXPECT_NEAR(f[j], base * (1 - ramp) + base / 40 * ramp, 1e-14 * base) << name << " " << j;
      }
    }
    EXPECT_NEAR(f[16], 0.0055, 1e-15) << "0.01 (7 + 6 / 40) / 13, by hand";
  }
}

TEST(Rotary, CoincidingCorrectionIndicesMakeAStep) {
  ModelConfig config = plain(6, 100);
  config.rope_scaling = YarnScaling{.factor = 8, .original_max_position_embeddings = 6};  // both become 0
  const auto f = rotary_frequencies(config);
  EXPECT_DOUBLE_EQ(f[0], 1) << "index 0 is not above the low end";
  EXPECT_DOUBLE_EQ(f[1], std::pow(100, -1.0 / 3) / 8);
  EXPECT_DOUBLE_EQ(f[2], std::pow(100, -2.0 / 3) / 8);
}

TEST(Rotary, SoftmaxScalesOfTheReleasedModels) {
  EXPECT_NEAR(released("deepseek-v3").softmax_scale(), 0.135234, 5e-7);
  EXPECT_NEAR(released("deepseek-v2").softmax_scale(), 0.114721, 5e-7);
  EXPECT_NEAR(released("deepseek-v2-lite").softmax_scale(), 0.114721, 5e-7);
  EXPECT_NEAR(released("kimi-k2").softmax_scale(), 0.130861, 5e-7);
  ModelConfig config = plain(64, 10'000);
  config.qk_nope_head_dim = 192;
  EXPECT_DOUBLE_EQ(config.softmax_scale(), 1.0 / 16) << "no YaRN: the plain scale";
}

TEST(Rotary, AmplitudeIsTheRatioOfTheTwoMscales) {
  for (const char* name : {"deepseek-v3", "deepseek-v2", "deepseek-v2-lite", "kimi-k2"}) {
    EXPECT_EQ(rotary_amplitude(released(name)), 1) << name;
  }
  ModelConfig config = plain(64, 10'000);
  config.rope_scaling = YarnScaling{.factor = 40, .mscale = 1, .mscale_all_dim = 0.707};
  EXPECT_NEAR(rotary_amplitude(config), 1.368888 / 1.260804, 1e-6);
  config.rope_scaling->mscale_all_dim = 0;
  EXPECT_NEAR(rotary_amplitude(config), 1.368888, 1e-6);
  config.rope_scaling->factor = 1;
  EXPECT_EQ(rotary_amplitude(config), 1) << "nothing is stretched";
}

TEST(Rotary, TableHoldsCosAndSinOfPositionTimesFrequency) {
  ModelConfig config = plain(6, 100);
  config.rope_scaling = YarnScaling{.factor = 4, .original_max_position_embeddings = 100, .mscale = 1};
  const double amplitude = rotary_amplitude(config);
  ASSERT_GT(amplitude, 1.1);
  const auto f = rotary_frequencies(config);
  const std::vector<int64_t> positions{0, 1, 77, 163'839, 5};
  ThreadPool pool(1);
  const auto kernels = make_kernels("ref", pool);
  Arena arena;
  const RotaryTable exact =
      Rotary(config).table({.k = **kernels, .arena = arena, .activation = DType::kF64}, positions);
  const RotaryTable single = Rotary(config).table({.k = **kernels, .arena = arena}, positions);
  ASSERT_EQ(exact.cos.extent(0), 5);
  ASSERT_EQ(exact.sin.extent(1), 3);
  for (int64_t t = 0; t < 5; ++t) {
    for (int64_t j = 0; j < 3; ++j) {
      const double angle = static_cast<double>(positions[static_cast<size_t>(t)]) * f[static_cast<size_t>(j)];
      const double c = exact.cos.view<double, 2>()(t, j), s = exact.sin.view<double, 2>()(t, j);
      EXPECT_NEAR(c, amplitude * std::cos(angle), 1e-15);
      EXPECT_NEAR(s, amplitude * std::sin(angle), 1e-15);
      const float c32 = single.cos.view<float, 2>()(t, j), s32 = single.sin.view<float, 2>()(t, j);
      EXPECT_EQ(c32, static_cast<float>(c)) << "rounded once, also at large positions";
      EXPECT_EQ(s32, static_cast<float>(s));
    }
  }
}

}  // namespace
}  // namespace fathom
