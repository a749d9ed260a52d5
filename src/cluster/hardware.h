// Hardware: what one accelerator and its links can do, as published or measured, each fact with its source.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "base/figure.h"
#include "base/result.h"

namespace fathom {

/// Figures of one GPU in its node. Bandwidths are of one direction; GB = 1e9 bytes. A fact that does not apply is 0.
struct Hardware {
  std::string name;          // "h800"
  int gpus_per_node = 8;     // GPUs that reach each other without a network
  double memory_gb = 0;      // HBM
  double memory_gbps = 0;    // HBM, GB/s
  double bf16_tflops = 0;    // dense
  double fp8_tflops = 0;     // dense
  double scale_up_gbps = 0;  // NVLink, line rate
  double scale_up_effective_gbps = 0;
  double nic_gbps = 0;  // of one GPU, GB/s, line rate
  double nic_effective_gbps = 0;
  double power_w = 0;         // of the GPU alone
  std::vector<Figure> facts;  // the same, with sources

  /// Changes one figure by its name ("nic_gbps", ...); the changed fact's source becomes "given". Errors: an unknown
  /// name (all are listed); a value that is not finite or not above 0.
  Status set(std::string_view fact, double value);
};

/// Names of the presets.
std::vector<std::string> hardware_names();

/// The preset of that name. Error: unknown, with the known ones.
Result<Hardware> find_hardware(std::string_view name);

/// CPU-side end-to-end latency of a 64-byte message, microseconds (arXiv 2505.09343, table 5).
struct LinkLatency {
  std::string_view link;
  double same_leaf_us;
  double cross_leaf_us;  // 0: there are no leaves
};
inline constexpr LinkLatency kLatencies[] = {{"RoCE", 3.6, 5.6}, {"InfiniBand", 2.8, 3.7}, {"NVLink", 3.33, 0}};

/// Latency over `num_switches` switches: one switch is "same leaf", three are "cross leaf" (up, spine, down), so each
/// more costs half of the difference. num_switches >= 1.
double latency_us(const LinkLatency& link, int num_switches);

}  // namespace fathom
