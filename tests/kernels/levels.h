// The levels of the cpu back end that this machine runs, for the tests that go through all of them.
#pragma once

#include <gtest/gtest.h>

#include <memory>
#include <string>
#include <vector>

#include "kernels/registry.h"

namespace fathom::testing {

inline std::vector<std::string> levels() {
  auto names = available_kernels();
  names.erase(names.begin(), names.begin() + 2);  // "ref", "cpu"
  return names;
}

inline std::unique_ptr<Kernels> make(const std::string& name, ThreadPool& pool) {
  auto kernels = make_kernels(name, pool);
  EXPECT_TRUE(kernels);
  return *std::move(kernels);
}

}  // namespace fathom::testing
