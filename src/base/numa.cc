#include "base/numa.h"

#include <linux/mempolicy.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <bit>

namespace fathom {
namespace {

constexpr size_t kMaskWords = 16;  // 1,024 nodes, as many as any kernel is built for

/// The kernel reads one bit less than it is told.
unsigned long bits_of(size_t words) { return words * 64 + 1; }

}  // namespace

std::vector<uint64_t> allowed_numa_nodes() {
  std::vector<uint64_t> nodes(kMaskWords);
  int mode = 0;
  if (::syscall(SYS_get_mempolicy, &mode, nodes.data(), bits_of(nodes.size()), nullptr, MPOL_F_MEMS_ALLOWED) != 0) {
    return {};
  }
  return nodes;
}

bool interleave_pages(void* data, int64_t num_bytes, const std::vector<uint64_t>& nodes) {
  return ::syscall(SYS_mbind, data, static_cast<size_t>(num_bytes), MPOL_INTERLEAVE, nodes.data(),
                   bits_of(nodes.size()), 0) == 0;
}

void spread_over_nodes(void* data, int64_t num_bytes) {
  static const std::vector<uint64_t> several = [] {
    std::vector<uint64_t> nodes = allowed_numa_nodes();
    int count = 0, mode = MPOL_DEFAULT;
    for (const uint64_t word : nodes) count += std::popcount(word);
    const bool is_told = ::syscall(SYS_get_mempolicy, &mode, nullptr, 0, nullptr, 0) != 0 || mode != MPOL_DEFAULT;
    return count > 1 && !is_told ? nodes : std::vector<uint64_t>();
  }();
  if (!several.empty()) interleave_pages(data, num_bytes, several);  // advice only
}

}  // namespace fathom
