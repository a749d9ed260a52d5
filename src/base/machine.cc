#include "base/machine.h"

#include <fcntl.h>
#include <sched.h>
#include <unistd.h>

#include <algorithm>
#include <charconv>
#include <cmath>
#include <string_view>

#if defined(__x86_64__)
#include <cpuid.h>
#endif

namespace fathom {
namespace {

constexpr size_t kMaxFactBytes = size_t{1} << 18;

// A file of /proc or /sys: its size is told as 0, so it is read until its end (or our bound). Empty when absent.
std::string read_pseudo_file(const Path& path) {
  std::string text;
  const int fd = ::open(path.c_str(), O_RDONLY | O_CLOEXEC);
  if (fd < 0) return text;
  char buffer[4096];
  while (text.size() < kMaxFactBytes) {
    const ssize_t got = ::read(fd, buffer, sizeof(buffer));
    if (got <= 0) break;
    text.append(buffer, static_cast<size_t>(got));
  }
  ::close(fd);
  return text;
}

std::string_view trim(std::string_view text) {
  constexpr std::string_view kBlank = " \t\r\n";
  const size_t first = text.find_first_not_of(kBlank);
  if (first == std::string_view::npos) return {};
  return text.substr(first, text.find_last_not_of(kBlank) - first + 1);
}

std::vector<std::string_view> split(std::string_view text, char separator) {
  std::vector<std::string_view> parts;
  for (;;) {
    const size_t at = text.find(separator);
    parts.push_back(text.substr(0, at));
    if (at == std::string_view::npos) return parts;
    text.remove_prefix(at + 1);
  }
}

// The number that `text` starts with ("32K" gives 32), if it starts with one.
std::optional<int64_t> leading_number(std::string_view text) {
  text = trim(text);
  int64_t value = 0;
  if (std::from_chars(text.data(), text.data() + text.size(), value).ec != std::errc()) return std::nullopt;
  return value;
}

// The value of "name: value" or "name value" lines.
std::optional<std::string_view> value_of(std::string_view text, std::string_view name) {
  for (const std::string_view line : split(text, '\n')) {
    if (!line.starts_with(name)) continue;
    const std::string_view rest = line.substr(name.size());
    const size_t at = rest.find_first_not_of(" \t:");
    if (at == 0 || at == std::string_view::npos) continue;
    return trim(rest.substr(at));
  }
  return std::nullopt;
}

std::optional<int64_t> number_of(std::string_view text, std::string_view name) {
  const auto value = value_of(text, name);
  return value ? leading_number(*value) : std::nullopt;
}

// "Name:   123 kB" of /proc/meminfo.
std::optional<int64_t> kib_of(std::string_view text, std::string_view name) {
  const auto kib = number_of(text, name);
  if (!kib || *kib < 0 || *kib > INT64_MAX / 1024) return std::nullopt;
  return *kib * 1024;
}

// The directories of this process's cgroup in the hierarchy mounted at `mount`, innermost first. Every ancestor may set
// a limit. In a container the path may name directories of the host that are not there; reading those gives nothing.
std::vector<Path> cgroup_chain(const Path& mount, std::string_view cgroup) {
  std::vector<Path> chain;
  Path relative = Path(cgroup).relative_path().lexically_normal();
  while (!relative.empty() && relative != "." && *relative.begin() != ".." && chain.size() < 64) {
    chain.push_back(mount / relative);
    relative = relative.parent_path();
  }
  chain.push_back(mount);
  return chain;
}

// The cgroup path of a controller in /proc/self/cgroup ("4:memory:/a/b", or "0::/a/b" for version 2: empty name).
std::optional<std::string> cgroup_of(std::string_view cgroups, std::string_view controller) {
  for (const std::string_view line : split(cgroups, '\n')) {
    const size_t first = line.find(':');
    const size_t second = first == std::string_view::npos ? first : line.find(':', first + 1);
    if (second == std::string_view::npos) continue;
    const auto names = split(line.substr(first + 1, second - first - 1), ',');
    if (std::find(names.begin(), names.end(), controller) != names.end()) return std::string(line.substr(second + 1));
  }
  return std::nullopt;
}

template <class T>
void lower(std::optional<T>& value, T candidate) {
  if (!value || candidate < *value) value = candidate;
}

// The tightest CPU quota of both cgroup versions, in CPUs.
std::optional<double> read_cpu_quota(const Path& root, std::string_view cgroups) {
  const Path mount = root / "sys/fs/cgroup";
  std::optional<double> quota;
  if (const auto path = cgroup_of(cgroups, "")) {
    for (const Path& dir : cgroup_chain(mount, *path)) {
      const std::string text = read_pseudo_file(dir / "cpu.max");  // "max 100000" or "150000 100000"
      const auto parts = split(trim(text), ' ');
      if (parts.size() != 2) continue;
      const auto limit = leading_number(parts[0]), period = leading_number(parts[1]);
      if (limit && period && *limit > 0 && *period > 0) {
        lower(quota, static_cast<double>(*limit) / static_cast<double>(*period));
      }
    }
  }
  if (const auto path = cgroup_of(cgroups, "cpu")) {
    for (const Path& dir : cgroup_chain(mount / "cpu", *path)) {
      const auto limit = leading_number(read_pseudo_file(dir / "cpu.cfs_quota_us"));  // -1: none
      const auto period = leading_number(read_pseudo_file(dir / "cpu.cfs_period_us"));
      if (limit && period && *limit > 0 && *period > 0) {
        lower(quota, static_cast<double>(*limit) / static_cast<double>(*period));
      }
    }
  }
  return quota;
}

struct MemoryLimit {
  std::optional<int64_t> limit_bytes;
  std::optional<int64_t> left_bytes;  // below the limit of the tightest level
};

// Page cache counts against a cgroup's limit but is given back under pressure (a memory-mapped checkpoint lives there).
void read_memory_level(const Path& dir, const char* limit_name, const char* usage_name, const char* cache_name,
                       MemoryLimit& out) {
  const auto limit = leading_number(read_pseudo_file(dir / limit_name));  // "max": none
  if (!limit || *limit < 0) return;
  lower(out.limit_bytes, *limit);
  const auto usage = leading_number(read_pseudo_file(dir / usage_name));
  if (!usage) return;
  const int64_t cache = number_of(read_pseudo_file(dir / "memory.stat"), cache_name).value_or(0);
  lower(out.left_bytes, std::clamp<int64_t>(*limit - *usage + std::min(cache, *usage), 0, *limit));
}

MemoryLimit read_memory_limit(const Path& root, std::string_view cgroups) {
  const Path mount = root / "sys/fs/cgroup";
  MemoryLimit out;
  if (const auto path = cgroup_of(cgroups, "")) {
    for (const Path& dir : cgroup_chain(mount, *path)) {
      read_memory_level(dir, "memory.max", "memory.current", "inactive_file", out);
    }
  }
  if (const auto path = cgroup_of(cgroups, "memory")) {
    for (const Path& dir : cgroup_chain(mount / "memory", *path)) {
      read_memory_level(dir, "memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file", out);
    }
  }
  return out;
}

// CPUs in a list such as "0-3,8".
int count_cpu_list(std::string_view text) {
  int64_t count = 0;
  for (const std::string_view part : split(trim(text), ',')) {
    const auto first = leading_number(part);
    if (!first) return 0;
    const size_t dash = part.find('-');
    const auto last = dash == std::string_view::npos ? first : leading_number(part.substr(dash + 1));
    if (!last || *last < *first || *last > 1'000'000) return 0;
    count += *last - *first + 1;
  }
  return static_cast<int>(count);
}

std::vector<CpuCache> read_caches(const Path& root) {
  std::vector<CpuCache> caches;
  for (int i = 0; i < 16; ++i) {
    const Path dir = root / "sys/devices/system/cpu/cpu0/cache" / ("index" + std::to_string(i));
    const auto level = leading_number(read_pseudo_file(dir / "level"));
    if (!level) break;
    const std::string size = read_pseudo_file(dir / "size");  // "32K", "1024K", "36M"
    const auto number = leading_number(size);
    if (!number || *number < 0 || *number > (int64_t{1} << 32)) continue;
    const char unit = trim(size).back();
    const int64_t scale = unit == 'K' ? 1 << 10 : unit == 'M' ? 1 << 20 : 1;
    caches.push_back({static_cast<int>(*level), std::string(trim(read_pseudo_file(dir / "type"))), *number * scale,
                      count_cpu_list(read_pseudo_file(dir / "shared_cpu_list"))});
  }
  return caches;
}

// The chosen word of "always [madvise] never".
std::string bracketed(std::string_view text) {
  const size_t open = text.find('[');
  const size_t close = text.find(']');
  if (open == std::string_view::npos || close == std::string_view::npos || close < open) return {};
  return std::string(text.substr(open + 1, close - open - 1));
}

// The models that NVIDIA's driver lists, in the order of their bus addresses.
std::vector<std::string> read_nvidia_gpus(const Path& root) {
  std::vector<Path> devices;
  std::error_code error;
  constexpr size_t kMost = 1024;
  for (std::filesystem::directory_iterator it(root / "proc/driver/nvidia/gpus", error), end;
       !error && it != end && devices.size() < kMost; it.increment(error)) {
    devices.push_back(it->path());
  }
  std::sort(devices.begin(), devices.end());
  std::vector<std::string> models;
  for (const Path& device : devices) {
    const std::string text = read_pseudo_file(device / "information");
    models.emplace_back(value_of(text, "Model").value_or("unknown model"));
  }
  return models;
}

#if defined(__x86_64__)
// XCR0: the register sets that the operating system saves. Only valid when cpuid reports OSXSAVE.
uint64_t saved_register_sets() {
  uint32_t low = 0, high = 0;
  __asm__ volatile("xgetbv" : "=a"(low), "=d"(high) : "c"(0));
  return uint64_t{high} << 32 | low;
}
#endif

}  // namespace

CpuFeatures detect_cpu_features() {
  CpuFeatures out;
#if defined(__x86_64__)
  const auto bit = [](unsigned value, int index) { return (value >> index & 1) != 0; };
  unsigned a = 0, b = 0, c = 0, d = 0;
  if (!__get_cpuid(1, &a, &b, &c, &d) || !bit(c, 27)) return out;  // OSXSAVE
  const uint64_t saved = saved_register_sets();
  const bool os_avx = (saved & 0x6) == 0x6;       // XMM, YMM
  const bool os_avx512 = (saved & 0xE6) == 0xE6;  // and the mask registers, the upper halves, ZMM16-31
  if (!os_avx || !bit(c, 28)) return out;         // AVX
  out.fma = bit(c, 12);
  out.f16c = bit(c, 29);
  if (!__get_cpuid_count(7, 0, &a, &b, &c, &d)) return out;
  const unsigned num_subleaves = a;
  out.avx2 = bit(b, 5);
  out.avx512f = os_avx512 && bit(b, 16);
  if (!out.avx512f) return out;
  out.avx512dq = bit(b, 17);
  out.avx512bw = bit(b, 30);
  out.avx512vl = bit(b, 31);
  out.avx512_vbmi = bit(c, 1);
  out.avx512_vnni = bit(c, 11);
  const bool os_amx = (saved & 0x60000) == 0x60000;  // tile configuration and tile data
  out.amx_bf16 = os_amx && bit(d, 22);
  out.amx_tile = os_amx && bit(d, 24);
  out.amx_int8 = os_amx && bit(d, 25);
  if (num_subleaves >= 1 && __get_cpuid_count(7, 1, &a, &b, &c, &d)) out.avx512_bf16 = bit(a, 5);
#endif
  return out;
}

std::string to_string(const CpuFeatures& features) {
  std::string out;
  const auto add = [&out](bool present, const char* name) {
    if (!present) return;
    if (!out.empty()) out += ' ';
    out += name;
  };
  add(features.avx2, "avx2");
  add(features.fma, "fma");
  add(features.f16c, "f16c");
  add(features.avx512f, "avx512f");
  add(features.avx512bw, "avx512bw");
  add(features.avx512dq, "avx512dq");
  add(features.avx512vl, "avx512vl");
  add(features.avx512_vbmi, "avx512_vbmi");
  add(features.avx512_bf16, "avx512_bf16");
  add(features.avx512_vnni, "avx512_vnni");
  add(features.amx_tile, "amx_tile");
  add(features.amx_bf16, "amx_bf16");
  add(features.amx_int8, "amx_int8");
  return out;
}

int count_affinity_cpus() {
  // The kernel refuses a mask smaller than its own, and does not tell the size: double until it fits.
  for (size_t num_cpus = 1024; num_cpus <= size_t{1} << 16; num_cpus *= 2) {
    cpu_set_t* set = CPU_ALLOC(num_cpus);
    if (!set) return 1;
    const size_t bytes = CPU_ALLOC_SIZE(num_cpus);
    CPU_ZERO_S(bytes, set);
    const bool read = ::sched_getaffinity(0, bytes, set) == 0;
    const int count = read ? CPU_COUNT_S(bytes, set) : 0;
    CPU_FREE(set);
    if (read) return std::max(1, count);
  }
  return 1;
}

std::string bytes_text(int64_t bytes) {
  constexpr const char* kUnits[] = {"B", "KiB", "MiB", "GiB", "TiB"};
  auto value = static_cast<double>(bytes);
  size_t unit = 0;
  for (; value >= 1024 && unit + 1 < std::size(kUnits); ++unit) value /= 1024;
  char text[64];
  std::snprintf(text, sizeof(text), unit == 0 ? "%.0f %s" : "%.2f %s", value, kUnits[unit]);
  return text;
}

Result<int64_t> parse_memory(std::string_view text, std::optional<int64_t> total) {
  struct Unit {
    std::string_view name;
    double bytes;
  };
  constexpr double kKilo = 1000, kKibi = 1024;
  static constexpr Unit kUnits[] = {{"", 1},
                                    {"B", 1},
                                    {"kB", kKilo},
                                    {"KB", kKilo},
                                    {"MB", kKilo * kKilo},
                                    {"GB", kKilo * kKilo * kKilo},
                                    {"TB", kKilo * kKilo * kKilo * kKilo},
                                    {"KiB", kKibi},
                                    {"MiB", kKibi * kKibi},
                                    {"GiB", kKibi * kKibi * kKibi},
                                    {"TiB", kKibi * kKibi * kKibi * kKibi}};
  const Error wrong =
      invalid("\"" + std::string(text.substr(0, 100)) + "\" is not an amount of memory; accepted: as 8GB, 512MiB" +
              (total ? " or, of the machine's, 50%" : ""));
  double number = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), number);
  if (error != std::errc{} || !(number > 0)) return wrong;
  std::string_view unit = text.substr(static_cast<size_t>(end - text.data()));
  while (unit.starts_with(' ')) unit.remove_prefix(1);
  if (unit == "%") {
    if (number > 100 || !total) return wrong;
    return static_cast<int64_t>(number / 100 * static_cast<double>(*total));
  }
  for (const Unit& known : kUnits) {
    if (known.name != unit) continue;
    constexpr double kMost = 1e18;
    if (number * known.bytes < 1 || number * known.bytes > kMost) return wrong;
    return static_cast<int64_t>(number * known.bytes);
  }
  return wrong;
}

std::optional<int64_t> resident_bytes(const Path& root) {
  return kib_of(read_pseudo_file(root / "proc/self/status"), "VmRSS");
}

Machine inspect_machine(const Path& root) {
  Machine out;
  out.features = detect_cpu_features();
  out.cpu_model = std::string(value_of(read_pseudo_file(root / "proc/cpuinfo"), "model name").value_or(""));

  const std::string cgroups = read_pseudo_file(root / "proc/self/cgroup");
  out.num_affinity_cpus = count_affinity_cpus();
  out.num_usable_cpus = out.num_affinity_cpus;
  out.cpu_quota = read_cpu_quota(root, cgroups);
  if (out.cpu_quota) {
    // Whole CPUs only: a thread that is descheduled for want of quota stalls every barrier.
    const double whole = std::floor(std::min(*out.cpu_quota, static_cast<double>(out.num_affinity_cpus)));
    out.num_usable_cpus = std::max(1, static_cast<int>(whole));
  }

  const std::string meminfo = read_pseudo_file(root / "proc/meminfo");
  out.memory_total_bytes = kib_of(meminfo, "MemTotal");
  out.memory_available_bytes = kib_of(meminfo, "MemAvailable");
  const MemoryLimit limit = read_memory_limit(root, cgroups);
  // Version 1 says "no limit" with a number near 2^63: a limit above RAM is none.
  if (limit.limit_bytes && (!out.memory_total_bytes || *limit.limit_bytes < *out.memory_total_bytes)) {
    out.memory_limit_bytes = limit.limit_bytes;
    out.memory_total_bytes = limit.limit_bytes;
    if (limit.left_bytes) lower(out.memory_available_bytes, *limit.left_bytes);
  }

  out.caches = read_caches(root);
  out.huge_page_bytes = kib_of(meminfo, "Hugepagesize");
  out.num_huge_pages_free = number_of(meminfo, "HugePages_Free").value_or(0);
  out.transparent_huge_pages = bracketed(read_pseudo_file(root / "sys/kernel/mm/transparent_hugepage/enabled"));

  const Path system = root / "sys/devices/system";
  out.num_online_cpus = count_cpu_list(read_pseudo_file(system / "cpu/online"));
  out.num_numa_nodes = count_cpu_list(read_pseudo_file(system / "node/online"));  // a list of the same form
  out.cpu_governor = std::string(trim(read_pseudo_file(system / "cpu/cpu0/cpufreq/scaling_governor")));
  out.kernel_release = std::string(trim(read_pseudo_file(root / "proc/sys/kernel/osrelease")));
  out.nvidia_gpus = read_nvidia_gpus(root);
  return out;
}

}  // namespace fathom
