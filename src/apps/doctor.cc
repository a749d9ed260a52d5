// fathom doctor: what this machine is to fathom, what it reaches, and what holds it back with the command that mends
// it. Facts are base/machine's, figures kernels/limits': those of fathom bench. A fact that the system does not tell is
// absent; nothing here fails but a flag.
#include <sys/resource.h>

#include <algorithm>
#include <cstdio>
#include <cstdlib>

#include "apps/build_info.h"
#include "apps/console.h"
#include "apps/verbs.h"
#include "base/machine.h"
#include "kernels/limits.h"
#include "kernels/registry.h"
#include "sim/simgrid_engine.h"

namespace fathom::apps {
namespace {

/// What holds the machine back, and what to type. Without a command there is nothing to be done about it from here.
struct Finding {
  std::string what;
  std::string command;
};

std::optional<int64_t> soft_limit(int resource) {
  rlimit limit{};
  if (::getrlimit(static_cast<__rlimit_resource_t>(resource), &limit) != 0 || limit.rlim_cur == RLIM_INFINITY)
    return {};
  return static_cast<int64_t>(std::min<rlim_t>(limit.rlim_cur, INT64_MAX));
}

/// The kernels and why they: "" and an error of the name that was asked for when it cannot be had.
struct Choice {
  std::vector<std::string> levels;  // that this machine runs, slowest first
  std::string forced;               // by the flag or the environment; empty: by neither
  std::string source;               // "--kernels" or "FATHOM_KERNELS"
  std::string chosen;
  std::string error;
};

Choice choose_kernels(const ComputeOptions& options) {
  Choice out;
  out.levels = available_kernels();
  out.levels.erase(out.levels.begin(), out.levels.begin() + 2);  // "ref" and "cpu"
  const char* variable = std::getenv("FATHOM_KERNELS");
  if (!options.kernels.empty()) {
    out.forced = options.kernels;
    out.source = variable != nullptr && out.forced == variable ? "FATHOM_KERNELS" : "--kernels";
  }
  out.chosen = out.levels.back();
  if (out.forced.empty() || out.forced == "cpu") return out;
  ThreadPool one(1);
  if (const auto kernels = make_kernels(out.forced, one)) {
    out.chosen = out.forced;
  } else {
    out.error = kernels.error().text;
  }
  return out;
}

std::vector<Finding> findings_of(const Machine& machine, const Choice& kernels) {
  std::vector<Finding> out;
  if (!kernels.error.empty()) {
    out.push_back({kernels.source + ": " + kernels.error, "unset FATHOM_KERNELS"});
  } else if (!kernels.forced.empty() && kernels.source == "FATHOM_KERNELS" && kernels.chosen != kernels.levels.back()) {
    out.push_back(
        {"FATHOM_KERNELS=" + kernels.forced + " forces kernels; this machine's best are " + kernels.levels.back(),
         "unset FATHOM_KERNELS"});
  }
#if defined(__x86_64__)
  if (!machine.features.avx2 || !machine.features.fma || !machine.features.f16c) {
    out.push_back(
        {"the processor, or the virtual machine, has no AVX2 with FMA and F16C: the generic kernels run, many "
         "times slower; in a virtual machine, give it the host's processor (QEMU: -cpu host)",
         ""});
  }
#endif
  if (machine.transparent_huge_pages == "never") {
    out.push_back({"transparent huge pages are off: reading weights walks 512 times as many page table entries",
                   "echo madvise | sudo tee /sys/kernel/mm/transparent_hugepage/enabled"});
  }
  if (!machine.cpu_governor.empty() && machine.cpu_governor != "performance" && machine.cpu_governor != "schedutil" &&
      machine.cpu_governor != "ondemand") {
    out.push_back({"the frequency governor is " + machine.cpu_governor,
                   "echo performance | sudo tee /sys/devices/system/cpu/cpu*/cpufreq/scaling_governor"});
  }
  if (machine.num_numa_nodes > 1) {
    out.push_back(
        {"memory has " + std::to_string(machine.num_numa_nodes) +
             " NUMA nodes: weights in memory are spread over all, mapped files (--in-place, --keep-prepared) are not",
         "numactl --interleave=all fathom ..."});
  }
  if (machine.num_online_cpus > machine.num_affinity_cpus) {
    out.push_back({"this process may use " + std::to_string(machine.num_affinity_cpus) + " of the " +
                       std::to_string(machine.num_online_cpus) + " CPUs that are online (its affinity)",
                   "taskset -c 0-" + std::to_string(machine.num_online_cpus - 1) + " fathom ..."});
  }
  if (machine.cpu_quota && *machine.cpu_quota < machine.num_affinity_cpus) {
    char text[160];
    std::snprintf(text, sizeof(text), "the cgroup grants %.2f of %d CPUs: fathom starts %d threads", *machine.cpu_quota,
                  machine.num_affinity_cpus, machine.num_usable_cpus);
    out.push_back({text, "docker update --cpus " + std::to_string(machine.num_affinity_cpus) +
                             " CONTAINER, or systemctl set-property UNIT CPUQuota="});
  }
  if (machine.memory_limit_bytes) {
    out.push_back({"the cgroup limits memory to " + bytes_text(*machine.memory_limit_bytes) +
                       "; page cache of mapped weights counts against it",
                   "docker update --memory SIZE CONTAINER, or systemctl set-property UNIT MemoryMax="});
  }
  if (const auto address_space = soft_limit(RLIMIT_AS)) {
    out.push_back({"the address space is limited to " + bytes_text(*address_space) +
                       "; weights are mapped and need as much as their files",
                   "ulimit -v unlimited"});
  }
  rlimit files{};
  constexpr rlim_t kFewFiles = 4096;
  if (::getrlimit(RLIMIT_NOFILE, &files) == 0 && files.rlim_max < kFewFiles) {
    out.push_back({"open files are limited to " + std::to_string(files.rlim_max) + ": fathom serve holds one a client",
                   "prlimit --nofile=65536:65536 fathom serve ..."});
  }
  if (!machine.nvidia_gpus.empty()) {
    out.push_back({"there is a GPU that fathom does not use: it computes on the CPU", ""});
  }
  return out;
}

/// Nothing when it was not wanted, or when the address space is too small to fill a block that no cache holds.
std::optional<MachineLimits> measure(const DoctorOptions& options, const Machine& machine, const Choice& kernels) {
  if (options.no_measure) return {};
  LimitsOptions limits{.read_bytes = default_read_bytes(machine), .num_rounds = 3};
  if (const auto address_space = soft_limit(RLIMIT_AS); address_space && *address_space < 8 * limits.read_bytes)
    return {};
  ComputeOptions compute_options = options.compute;
  compute_options.kernels = kernels.chosen;
  const auto compute = make_compute(compute_options);
  if (!compute) return {};
  return measure_limits(compute->kernels->name(), *compute->pool, limits);
}

template <class T>
Json json_or_null(const std::optional<T>& value) {
  return value ? Json(*value) : Json();
}
Json text_or_null(const std::string& text) { return text.empty() ? Json() : Json(text); }

Json list_of(const std::vector<std::string>& texts) {
  Json list = Json::array();
  for (const std::string& text : texts) list.push(text);
  return list;
}

Json report_of(const Machine& machine, bool simgrid, const Choice& kernels, const std::optional<MachineLimits>& limits,
               const std::vector<Finding>& findings) {
  const BuildInfo& info = build_info();
  Json libraries = Json::object(), mend = Json::array();
  for (const auto& [name, version] : library_versions()) libraries.set(name, version);
  for (const Finding& finding : findings) {
    mend.push(Json::object().set("what", finding.what).set("command", text_or_null(finding.command)));
  }
  Json report = Json::object();
  report.set("fathom", Json::object()
                           .set("version", info.version)
                           .set("commit", info.commit)
                           .set("compiler", info.compiler)
                           .set("build", info.build)
                           .set("libraries", std::move(libraries))
                           .set("optional", Json::object().set("SimGrid", simgrid)));
  report.set("kernel", text_or_null(machine.kernel_release));
  report.set("cpu", Json::object()
                        .set("model", text_or_null(machine.cpu_model))
                        .set("features", to_string(machine.features))
                        .set("online", machine.num_online_cpus > 0 ? Json(machine.num_online_cpus) : Json())
                        .set("affinity", machine.num_affinity_cpus)
                        .set("quota", json_or_null(machine.cpu_quota))
                        .set("usable", machine.num_usable_cpus)
                        .set("governor", text_or_null(machine.cpu_governor))
                        .set("numa_nodes", machine.num_numa_nodes > 0 ? Json(machine.num_numa_nodes) : Json()));
  report.set("kernels", Json::object()
                            .set("chosen", kernels.chosen)
                            .set("available", list_of(kernels.levels))
                            .set("forced", text_or_null(kernels.forced))
                            .set("forced_by", text_or_null(kernels.source)));
  report.set("memory", Json::object()
                           .set("total_bytes", json_or_null(machine.memory_total_bytes))
                           .set("available_bytes", json_or_null(machine.memory_available_bytes))
                           .set("cgroup_limit_bytes", json_or_null(machine.memory_limit_bytes))
                           .set("transparent_huge_pages", text_or_null(machine.transparent_huge_pages))
                           .set("huge_page_bytes", json_or_null(machine.huge_page_bytes))
                           .set("huge_pages_free", machine.num_huge_pages_free));
  report.set("limits", Json::object()
                           .set("locked_memory_bytes", json_or_null(soft_limit(RLIMIT_MEMLOCK)))
                           .set("address_space_bytes", json_or_null(soft_limit(RLIMIT_AS)))
                           .set("open_files", json_or_null(soft_limit(RLIMIT_NOFILE))));
  report.set("gpus", list_of(machine.nvidia_gpus));
  report.set("measured", !limits ? Json()
                                 : Json::object()
                                       .set("level", limits->level)
                                       .set("threads", limits->num_threads)
                                       .set("read_bytes_per_s", limits->read_bytes_per_s)
                                       .set("f32_ops_per_s", limits->f32_ops_per_s)
                                       .set("bf16_ops_per_s", limits->bf16_ops_per_s)
                                       .set("int8_ops_per_s", limits->int8_ops_per_s));
  report.set("findings", std::move(mend));
  return report;
}

void row(const char* name, const std::string& text) { std::printf("  %-18s %s\n", name, text.c_str()); }

std::string told(const std::string& text) { return text.empty() ? "not told" : text; }
std::string told(const std::optional<int64_t>& bytes) { return bytes ? bytes_text(*bytes) : "not told"; }
std::string limit_text(const std::optional<int64_t>& bytes) { return bytes ? bytes_text(*bytes) : "unlimited"; }

std::string joined(const std::vector<std::string>& texts, const char* between) {
  std::string out;
  for (const std::string& text : texts) out += (out.empty() ? "" : between) + text;
  return out;
}

std::string rate_text(double per_second, const char* unit) {
  char text[64];
  std::snprintf(text, sizeof(text), "%.1f %s", per_second * 1e-9, unit);
  return per_second > 0 ? text : "none";
}

void print_text(const Machine& machine, bool simgrid, const Choice& kernels, const std::optional<MachineLimits>& limits,
                const std::vector<Finding>& findings) {
  std::printf("%s\n", version_text().c_str());
  row("processor", told(machine.cpu_model));
  row("features", told(to_string(machine.features)));
  std::string cpus = std::to_string(machine.num_usable_cpus) + " usable";
  if (machine.num_online_cpus > 0) cpus += " of " + std::to_string(machine.num_online_cpus);
  if (machine.num_numa_nodes > 0) cpus += ", " + std::to_string(machine.num_numa_nodes) + " NUMA node(s)";
  if (!machine.cpu_governor.empty()) cpus += ", governor " + machine.cpu_governor;
  row("CPUs", cpus);
  row("kernels", kernels.chosen + " of " + joined(kernels.levels, ", ") +
                     (kernels.forced.empty() ? "" : " (" + kernels.source + "=" + kernels.forced + ")"));
  row("memory", told(machine.memory_available_bytes) + " available of " + told(machine.memory_total_bytes) +
                    (machine.memory_limit_bytes ? ", which the cgroup limits" : ""));
  row("huge pages", "transparent: " + told(machine.transparent_huge_pages) + "; " +
                        std::to_string(machine.num_huge_pages_free) + " free of " + told(machine.huge_page_bytes));
  const auto files = soft_limit(RLIMIT_NOFILE);
  row("limits", "locked memory " + limit_text(soft_limit(RLIMIT_MEMLOCK)) + ", address space " +
                    limit_text(soft_limit(RLIMIT_AS)) + ", open files " +
                    (files ? std::to_string(*files) : "unlimited"));
  row("GPU", machine.nvidia_gpus.empty() ? "none" : joined(machine.nvidia_gpus, ", "));
  std::string libraries;
  for (const auto& [name, version] : library_versions()) {
    libraries += (libraries.empty() ? "" : ", ") + name + " " + version;
  }
  row("libraries", libraries);
  row("optional", std::string("SimGrid 3.32, for fathom simulate --engine simgrid: ") +
                      (simgrid ? "there" : "absent; sudo apt-get install libsimgrid3.32"));
  row("operating system", "Linux " + told(machine.kernel_release));
  if (limits) {
    row("reading memory",
        rate_text(limits->read_bytes_per_s, "GB/s") + " with " + std::to_string(limits->num_threads) + " thread(s)");
    row("dot products", "FP32 " + rate_text(limits->f32_ops_per_s, "GFLOP/s") + ", BF16 " +
                            rate_text(limits->bf16_ops_per_s, "GFLOP/s") + ", INT8 " +
                            rate_text(limits->int8_ops_per_s, "GOP/s") + " (" + limits->level + ")");
  } else {
    row("reading memory", "not measured");
  }
  if (findings.empty()) {
    std::printf("nothing to mend\n");
    return;
  }
  std::printf("to mend:\n");
  for (const Finding& finding : findings) {
    std::printf("  - %s\n", finding.what.c_str());
    if (!finding.command.empty()) std::printf("      %s\n", finding.command.c_str());
  }
}

}  // namespace

Status doctor(const DoctorOptions& options) {
  const Machine machine = inspect_machine();
  const bool simgrid = has_simgrid();  // before there are threads
  const Choice kernels = choose_kernels(options.compute);
  if (kernels.source == "--kernels" && !kernels.error.empty()) return invalid(kernels.error);
  const auto limits = measure(options, machine, kernels);
  const std::vector<Finding> findings = findings_of(machine, kernels);
  if (options.json) {
    std::printf("%s\n", report_of(machine, simgrid, kernels, limits, findings).dump(2).c_str());
  } else {
    print_text(machine, simgrid, kernels, limits, findings);
  }
  return {};
}

}  // namespace fathom::apps
