// Storage: zeroed, aligned memory; large blocks on huge-page boundaries.
#include "tensor/storage.h"

#include <gtest/gtest.h>

#include <algorithm>

namespace fathom {
namespace {

TEST(Storage, IsZeroedAndAligned) {
  for (const int64_t bytes : {int64_t{0}, int64_t{1}, int64_t{63}, int64_t{65}, int64_t{100'000}}) {
    const Storage storage(bytes);
    EXPECT_EQ(storage.num_bytes(), bytes);
    EXPECT_EQ(reinterpret_cast<uintptr_t>(storage.data()) % 64, 0u);
    const auto* data = static_cast<const unsigned char*>(storage.data());
    EXPECT_TRUE(std::all_of(data, data + bytes, [](unsigned char b) { return b == 0; }));
  }
}

TEST(Storage, LargeBlocksLieOnHugePageBoundaries) {
  const Storage storage((int64_t{2} << 20) + 1);
  EXPECT_EQ(reinterpret_cast<uintptr_t>(storage.data()) % (2 << 20), 0u);
}

TEST(StorageDeathTest, EndsWhenThereIsNoMemory) {
  EXPECT_EXIT(Storage(int64_t{1} << 60), testing::ExitedWithCode(2), "out of memory");
}

TEST(Storage, MakesATensorOverItself) {
  Tensor t;
  const Storage storage = Storage::for_tensor(DType::kF32, {3, 4}, &t);
  EXPECT_EQ(t.data, storage.data());
  EXPECT_EQ(storage.num_bytes(), 48);
  EXPECT_EQ((t.view<float, 2>()(2, 3)), 0.0f);
}

}  // namespace
}  // namespace fathom
