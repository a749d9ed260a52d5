#include "base/numa.h"

#include <gtest/gtest.h>
#include <linux/mempolicy.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>

namespace fathom {
namespace {

/// Untouched memory.
class Pages {
 public:
  static constexpr size_t kBytes = 1 << 20;
  Pages() : data_(::mmap(nullptr, kBytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0)) {}
  Pages(const Pages&) = delete;
  Pages& operator=(const Pages&) = delete;
  ~Pages() { ::munmap(data_, kBytes); }
  void* data() const { return data_; }
  int policy() const {
    int mode = -1;
    ::syscall(SYS_get_mempolicy, &mode, nullptr, 0, data_, MPOL_F_ADDR);
    return mode;
  }

 private:
  void* data_;
};

/// Whether this kernel and container answer at all: then the nodes are told.
bool answers() {
  int mode = 0;
  return ::syscall(SYS_get_mempolicy, &mode, nullptr, 0, nullptr, 0) == 0;
}

TEST(Numa, TheProcessHasANodeWhereTheKernelTells) {
  const auto nodes = allowed_numa_nodes();
  const bool has_one = std::any_of(nodes.begin(), nodes.end(), [](uint64_t word) { return word != 0; });
  EXPECT_EQ(has_one, answers());
}

TEST(Numa, PagesAreDealtOutAndCanBeUsed) {
  const Pages pages;
  const auto nodes = allowed_numa_nodes();
  if (!interleave_pages(pages.data(), Pages::kBytes, nodes)) {
    EXPECT_TRUE(errno == EPERM || errno == ENOSYS) << std::strerror(errno);  // a container may forbid it
  } else {
    EXPECT_EQ(pages.policy(), MPOL_INTERLEAVE);
  }
  std::memset(pages.data(), 1, Pages::kBytes);
}

TEST(Numa, SpreadingNeverFails) {
  const Pages pages;
  spread_over_nodes(pages.data(), Pages::kBytes);
  std::memset(pages.data(), 1, Pages::kBytes);
  int count = 0;
  for (uint64_t word : allowed_numa_nodes()) count += __builtin_popcountll(word);
  if (answers() && count == 1) EXPECT_EQ(pages.policy(), MPOL_DEFAULT) << "one node: nothing to deal out";
}

}  // namespace
}  // namespace fathom
