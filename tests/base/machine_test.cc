// Machine facts, from made-up /proc and /sys trees (both cgroup versions) and from the machine that runs the test.
#include "base/machine.h"

#include <gtest/gtest.h>
#include <unistd.h>

#include <cmath>

namespace fathom {
namespace {

constexpr int64_t kGiB = int64_t{1} << 30;

class FakeMachine : public testing::Test {
 protected:
  FakeMachine() : root_(testing::TempDir() + "fathom_machine_test_" + std::to_string(::getpid())) {}
  ~FakeMachine() override { std::filesystem::remove_all(root_); }
  void put(const std::string& path, std::string_view text) {
    const Path full = root_ / path;
    std::filesystem::create_directories(full.parent_path());
    ASSERT_TRUE(write_file(full, text));
  }
  void put_meminfo() {
    put("proc/meminfo",
        "MemTotal:       67108864 kB\nMemFree:         1048576 kB\nMemAvailable:   33554432 kB\n"
        "HugePages_Total:       4\nHugePages_Free:        3\nHugepagesize:       2048 kB\n");
  }
  Path root_;
};

TEST_F(FakeMachine, ReadsModelCachesAndHugePages) {
  put_meminfo();
  put("proc/cpuinfo", "processor\t: 0\nmodel\t\t: 143\nmodel name\t: Some CPU @ 2.0GHz\n");
  put("sys/devices/system/cpu/cpu0/cache/index0/level", "1\n");
  put("sys/devices/system/cpu/cpu0/cache/index0/type", "Data\n");
  put("sys/devices/system/cpu/cpu0/cache/index0/size", "48K\n");
  put("sys/devices/system/cpu/cpu0/cache/index0/shared_cpu_list", "0,64\n");
  put("sys/devices/system/cpu/cpu0/cache/index1/level", "3\n");
  put("sys/devices/system/cpu/cpu0/cache/index1/type", "Unified\n");
  put("sys/devices/system/cpu/cpu0/cache/index1/size", "32M\n");
  put("sys/devices/system/cpu/cpu0/cache/index1/shared_cpu_list", "0-7,64-71\n");
  put("sys/kernel/mm/transparent_hugepage/enabled", "always [madvise] never\n");
  const Machine machine = inspect_machine(root_);
  EXPECT_EQ(machine.cpu_model, "Some CPU @ 2.0GHz");
  ASSERT_EQ(machine.caches.size(), 2u);
  EXPECT_EQ(machine.caches[0].type, "Data");
  EXPECT_EQ(machine.caches[0].size_bytes, 48 * 1024);
  EXPECT_EQ(machine.caches[0].num_sharing_cpus, 2);
  EXPECT_EQ(machine.caches[1].level, 3);
  EXPECT_EQ(machine.caches[1].size_bytes, 32 << 20);
  EXPECT_EQ(machine.caches[1].num_sharing_cpus, 16);
  EXPECT_EQ(machine.huge_page_bytes, 2 << 20);
  EXPECT_EQ(machine.num_huge_pages_free, 3);
  EXPECT_EQ(machine.transparent_huge_pages, "madvise");
  EXPECT_EQ(machine.memory_total_bytes, 64 * kGiB);
  EXPECT_EQ(machine.memory_available_bytes, 32 * kGiB);
  EXPECT_FALSE(machine.memory_limit_bytes);
  EXPECT_FALSE(machine.cpu_quota);
}

TEST_F(FakeMachine, TakesTheTightestLimitOfACgroupAndItsParents) {
  put_meminfo();
  put("proc/self/cgroup", "0::/outer/inner\n");
  put("sys/fs/cgroup/outer/inner/cpu.max", "max 100000\n");
  put("sys/fs/cgroup/outer/inner/memory.max", "max\n");
  put("sys/fs/cgroup/outer/cpu.max", "150000 100000\n");
  put("sys/fs/cgroup/outer/memory.max", "8589934592\n");
  put("sys/fs/cgroup/outer/memory.current", "6442450944\n");
  put("sys/fs/cgroup/outer/memory.stat", "anon 3221225472\ninactive_file 2147483648\nactive_file 1073741824\n");
  const Machine machine = inspect_machine(root_);
  EXPECT_EQ(machine.cpu_quota, 1.5);
  EXPECT_EQ(machine.num_usable_cpus, 1);
  EXPECT_EQ(machine.memory_limit_bytes, 8 * kGiB);
  EXPECT_EQ(machine.memory_total_bytes, 8 * kGiB);
  EXPECT_EQ(machine.memory_available_bytes, 4 * kGiB);
}

TEST_F(FakeMachine, ReadsVersion1LimitsAndTreatsHugeOnesAsNone) {
  put_meminfo();
  put("proc/self/cgroup", "4:memory:/docker/abc\n3:cpu,cpuacct:/docker/abc\n0::/\n");
  // Inside a container the host's path is absent and the limits lie at the mount itself.
  put("sys/fs/cgroup/cpu/cpu.cfs_quota_us", "50000\n");
  put("sys/fs/cgroup/cpu/cpu.cfs_period_us", "100000\n");
  put("sys/fs/cgroup/memory/memory.limit_in_bytes", "9223372036854771712\n");
  put("sys/fs/cgroup/memory/memory.usage_in_bytes", "1\n");
  Machine machine = inspect_machine(root_);
  EXPECT_EQ(machine.cpu_quota, 0.5);
  EXPECT_EQ(machine.num_usable_cpus, 1);
  EXPECT_FALSE(machine.memory_limit_bytes);
  EXPECT_EQ(machine.memory_total_bytes, 64 * kGiB);

  put("sys/fs/cgroup/memory/docker/abc/memory.limit_in_bytes", "2147483648\n");
  put("sys/fs/cgroup/memory/docker/abc/memory.usage_in_bytes", "1073741824\n");
  machine = inspect_machine(root_);
  EXPECT_EQ(machine.memory_total_bytes, 2 * kGiB);
  EXPECT_EQ(machine.memory_available_bytes, 1 * kGiB);
}

TEST_F(FakeMachine, ReadsNodesGovernorKernelAndGpus) {
  put("sys/devices/system/cpu/online", "0-31\n");
  put("sys/devices/system/node/online", "0-1,3\n");
  put("sys/devices/system/cpu/cpu0/cpufreq/scaling_governor", "powersave\n");
  put("proc/sys/kernel/osrelease", "6.1.0-18-amd64\n");
  put("proc/driver/nvidia/gpus/0000:c1:00.0/information", "Model: \t\t NVIDIA B\nIRQ:   \t\t 42\n");
  put("proc/driver/nvidia/gpus/0000:41:00.0/information", "Model: \t\t NVIDIA A\n");
  put("proc/driver/nvidia/gpus/0000:e1:00.0/information", "\xff\n");
  const Machine machine = inspect_machine(root_);
  EXPECT_EQ(machine.num_online_cpus, 32);
  EXPECT_EQ(machine.num_numa_nodes, 3);
  EXPECT_EQ(machine.cpu_governor, "powersave");
  EXPECT_EQ(machine.kernel_release, "6.1.0-18-amd64");
  EXPECT_EQ(machine.nvidia_gpus, (std::vector<std::string>{"NVIDIA A", "NVIDIA B", "unknown model"}));
}

TEST_F(FakeMachine, LeavesOutWhatTheSystemDoesNotTell) {
  const Machine machine = inspect_machine(root_);  // the folder does not even exist
  EXPECT_EQ(machine.num_online_cpus, 0);
  EXPECT_EQ(machine.num_numa_nodes, 0);
  EXPECT_EQ(machine.cpu_governor + machine.kernel_release, "");
  EXPECT_TRUE(machine.nvidia_gpus.empty());
  EXPECT_EQ(machine.cpu_model, "");
  EXPECT_FALSE(machine.memory_total_bytes);
  EXPECT_FALSE(machine.memory_available_bytes);
  EXPECT_TRUE(machine.caches.empty());
  EXPECT_FALSE(machine.huge_page_bytes);
  EXPECT_GE(machine.num_usable_cpus, 1);
}

TEST_F(FakeMachine, SurvivesNonsense) {
  put("proc/self/cgroup", "::::\n0::/../../etc\nx\n4:memory:\n");
  put("proc/meminfo", "MemTotal:\nMemAvailable: 99999999999999999999 kB\nHugepagesize: -5 kB\n");
  put("sys/fs/cgroup/cpu.max", "0 0\n");
  put("sys/fs/cgroup/memory.max", "-12\n");
  put("sys/devices/system/cpu/cpu0/cache/index0/level", "1\n");
  put("sys/devices/system/cpu/cpu0/cache/index0/size", "\n");
  put("sys/kernel/mm/transparent_hugepage/enabled", "] [\n");
  const Machine machine = inspect_machine(root_);
  EXPECT_FALSE(machine.memory_total_bytes);
  EXPECT_FALSE(machine.memory_limit_bytes);
  EXPECT_FALSE(machine.cpu_quota);
  EXPECT_FALSE(machine.huge_page_bytes);
  EXPECT_TRUE(machine.caches.empty());
  EXPECT_EQ(machine.transparent_huge_pages, "");
}

TEST(Machine, AgreesWithTheCompilersViewOfThisProcessor) {
  const CpuFeatures features = detect_cpu_features();
#if defined(__x86_64__)
  EXPECT_EQ(features.avx2, __builtin_cpu_supports("avx2") != 0);
  EXPECT_EQ(features.fma, __builtin_cpu_supports("fma") != 0);
  EXPECT_EQ(features.avx512f, __builtin_cpu_supports("avx512f") != 0);
  EXPECT_EQ(features.avx512bw, __builtin_cpu_supports("avx512bw") != 0);
  EXPECT_EQ(features.avx512dq, __builtin_cpu_supports("avx512dq") != 0);
  EXPECT_EQ(features.avx512vl, __builtin_cpu_supports("avx512vl") != 0);
  EXPECT_EQ(features.avx512_vbmi, __builtin_cpu_supports("avx512vbmi") != 0);
  EXPECT_EQ(features.avx512_bf16, __builtin_cpu_supports("avx512bf16") != 0);
  EXPECT_EQ(features.avx512_vnni, __builtin_cpu_supports("avx512vnni") != 0);
#else
  EXPECT_EQ(to_string(features), "");
#endif
}

TEST(Machine, KnowsThisMachine) {
  const Machine machine = inspect_machine();
  EXPECT_GE(machine.num_usable_cpus, 1);
  EXPECT_LE(machine.num_usable_cpus, machine.num_affinity_cpus);
  ASSERT_TRUE(machine.memory_total_bytes);
  ASSERT_TRUE(machine.memory_available_bytes);
  EXPECT_GT(*machine.memory_total_bytes, int64_t{64} << 20);
  EXPECT_LE(*machine.memory_available_bytes, *machine.memory_total_bytes);
}

TEST(Machine, ThisProcessHoldsWhatItHasTouched) {
  const auto before = resident_bytes();
  ASSERT_TRUE(before.has_value());
  std::vector<char> touched(64 << 20, 1);
  const auto after = resident_bytes();
  ASSERT_TRUE(after.has_value());
  EXPECT_GE(*after - *before, 60 << 20);
  EXPECT_EQ(touched.back(), 1);
  EXPECT_FALSE(resident_bytes("/nowhere").has_value());
}

TEST(Machine, NamesThePresentFeatures) {
  EXPECT_EQ(to_string(CpuFeatures()), "");
  EXPECT_EQ(to_string(CpuFeatures{.avx2 = true, .avx512_bf16 = true}), "avx2 avx512_bf16");
}

TEST(ParseMemory, ReadsAmountsAsPeopleWriteThem) {
  const auto bytes = [](std::string_view text) { return *parse_memory(text, int64_t{16'000'000'000}); };
  EXPECT_EQ(bytes("8GB"), 8'000'000'000);
  EXPECT_EQ(bytes("1.5 GiB"), int64_t{3} << 29);
  EXPECT_EQ(bytes("512MiB"), int64_t{512} << 20);
  EXPECT_EQ(bytes("123456"), 123456);
  EXPECT_EQ(bytes("50%"), 8'000'000'000);
  EXPECT_EQ(bytes("100 %"), 16'000'000'000);
}

TEST(ParseMemory, NamesWhatIsNoAmount) {
  for (const char* text :
       {"", "GB", "-1GB", "0", "0%", "101%", "8XB", "8GB ", "nan", "inf", "1e30GB", "0.1B", "8GB8"}) {
    const auto parsed = parse_memory(text, int64_t{1} << 34);
    ASSERT_FALSE(parsed) << text << " is " << *parsed;
    EXPECT_NE(parsed.error().text.find("\"" + std::string(text) + "\""), std::string::npos) << parsed.error().text;
  }
  EXPECT_FALSE(parse_memory("50%", std::nullopt)) << "of what?";
}

}  // namespace
}  // namespace fathom
