// Paper: every figure of the DeepSeek-V3 system's publications that a formula gives, beside what ours gives, and why
// they differ where they do.
#pragma once

#include <string>
#include <vector>

#include "base/figure.h"
#include "base/result.h"
#include "model/config.h"
#include "plan/footprint.h"

namespace fathom {

/// What the published figures depend on. Changing a value changes every figure that follows from it.
struct PaperInput {
  ModelConfig v3, v2;
  DenseShape qwen, llama;
  int64_t radix = 64;
  int64_t planes = 8;
  double nic_gbps = 50;                               // one 400G port
  double nic_effective_gbps = 40, nvlink_gbps = 160;  // of H800, as section 4.3 takes them
  double scale_up_gbps = 900;                         // GB200 NVL72, one direction
  double peak_tflops = 989.4;                         // BF16, H800
  int64_t num_gpus = 2048;
  double step_s = 19.926, step_mrft_s = 19.946;  // table 4
};

/// The values of the publications.
PaperInput paper_input();

enum class Agreement {
  kExact,      // equal as printed
  kWithin,     // within `tolerance`
  kRetelling,  // `published` is a popular retelling that is wrong; ours is what the sources say
};

struct PaperFigure {
  std::string where;  // "table 1"
  double published = 0;
  Figure ours;
  Agreement agreement = Agreement::kWithin;
  double tolerance = 0;  // relative; of kWithin
  std::string note;      // why they differ, or what the figure rests on

  /// ours / published - 1.
  double difference() const { return ours.value / published - 1; }
  /// Whether ours is what `agreement` says (a retelling differs by more than 1 %).
  bool holds() const;
};

/// All of them, in the order of the paper. Errors: an input that no fabric or layout has.
Result<std::vector<PaperFigure>> paper_figures(const PaperInput& input = paper_input());

}  // namespace fathom
