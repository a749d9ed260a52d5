// Weights that change in memory are found, wherever it is.
#include "serve/weight_guard.h"

#include <utility>

#include "serve_fixture.h"

namespace fathom::serve {
namespace {

class WeightGuardTest : public fathom::testing::ServeFixture {};

std::vector<std::string> pass(WeightGuard& guard) {
  std::vector<std::string> found;
  do {
    if (auto damage = guard.check_next()) found.push_back(*damage);
  } while (!guard.at_start());
  return found;
}

TEST_F(WeightGuardTest, FindsOneBitInEveryTensor) {
  WeightGuard guard(*model_);
  EXPECT_GT(guard.num_bytes(), 0);
  EXPECT_FALSE(guard.is_complete());
  EXPECT_TRUE(pass(guard).empty());
  EXPECT_TRUE(guard.is_complete());
  EXPECT_EQ(guard.num_passes(), 0) << "the first one has nothing to compare with";
  EXPECT_TRUE(pass(guard).empty());
  EXPECT_EQ(guard.num_passes(), 1);
  const uint64_t digest = guard.digest();
  EXPECT_EQ(WeightGuard(*model_).digest(), digest);
  int64_t num_tensors = 0;
  visit_weights(model_->config, model_->weights, [&](const TensorSpec& spec, Weight& value, Tensor*) {
    ++num_tensors;
    auto* bytes = static_cast<std::byte*>(value.codes.data);
    std::byte& victim = bytes[value.codes.num_bytes() - 1];
    victim ^= std::byte{1};
    const auto found = pass(guard);
    EXPECT_NE(WeightGuard(*model_).digest(), digest);
    ASSERT_GE(found.size(), 1u) << spec.name;
    EXPECT_NE(found[0].find(spec.name), std::string::npos) << found[0];
    victim ^= std::byte{1};
  });
  EXPECT_GT(num_tensors, 10);
  EXPECT_TRUE(pass(guard).empty());
}

TEST_F(WeightGuardTest, FindsScalesWithGapsBetweenTheirRows) {
  std::vector<float> memory(4 * 8, 1.0f);
  Tensor scales = Tensor::contiguous(memory.data(), DType::kF32, {4, 8});
  bool is_set = false;
  visit_weights(model_->config, model_->weights, [&](const TensorSpec&, Weight& value, Tensor*) {
    if (!std::exchange(is_set, true)) value.scales = scales.slice(1, 0, 5);
  });
  WeightGuard guard(*model_);
  EXPECT_TRUE(pass(guard).empty());
  memory[8 + 6] = 2;  // a gap
  EXPECT_TRUE(pass(guard).empty());
  memory[8 + 4] = 2;
  const auto found = pass(guard);
  ASSERT_EQ(found.size(), 1u);
  EXPECT_NE(found[0].find("(scales)"), std::string::npos) << found[0];
}

}  // namespace
}  // namespace fathom::serve
