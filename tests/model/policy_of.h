// A policy of formats from its text, which is right.
#pragma once

#include <gtest/gtest.h>

#include <string_view>

#include "model/quant_policy.h"

namespace fathom {

inline QuantPolicy policy_of(std::string_view text) {
  const auto policy = parse_quant_policy(text);
  EXPECT_TRUE(policy) << text;
  return *policy;
}

}  // namespace fathom
