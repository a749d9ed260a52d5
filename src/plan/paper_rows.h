// PaperRows: the tables and sections that plan/paper puts together, each from the inputs alone.
#pragma once

#include "cluster/hardware.h"
#include "plan/decode.h"
#include "plan/limits.h"
#include "plan/paper.h"

namespace fathom::paper {

using Figures = std::vector<PaperFigure>;

// The publications.
inline constexpr const char* kPaper = "arXiv 2505.09343";
inline constexpr const char* kReport = "arXiv 2412.19437";
inline constexpr const char* kInfra = "open-infra-index, day 6";
inline constexpr const char* kReadme = "DeepSeek-V3, README_WEIGHTS.md";
inline constexpr const char* kDualPipe = "DualPipe, README.md";
inline constexpr const char* kProfile = "DeepSeek, profile-data, train.json";
inline constexpr const char* kDeepEp = "DeepEP V1, docs/legacy.md";

// paper_model.cc: bytes, parameters and FLOPs of the models.
void add_kv_cache(const PaperInput& in, Figures& out);
void add_parameters(const PaperInput& in, Figures& out);
void add_training_cost(const PaperInput& in, Figures& out);
// paper_network.cc: fabrics, and what expert parallelism takes of their links.
Status add_networks(const PaperInput& in, Figures& out);
void add_expert_parallel_bounds(const PaperInput& in, Figures& out);
void add_deepep(const PaperInput& in, Figures& out);
// paper_fabric.cc: latencies and collectives that the paper measured, as the simulator has them.
Status add_measured_fabrics(const PaperInput& in, Figures& out);
// The bound of section 2.3.2 on a link, and its roundings.
NetworkTpot paper_tpot(const PaperInput& in, double bandwidth_gbps);
// paper_run.cc: the training run and the service.
Status add_training_run(const PaperInput& in, Figures& out);
void add_money(const PaperInput& in, Figures& out);
// paper_step.cc: the parts of a step from FLOPs and links alone, and the published forms of schedules.
Status add_step_parts(const PaperInput& in, const CountedModel& v3, Figures& out);
Status add_schedules(Figures& out);
// paper_service.cc: what the service and DeepEP's kernels reached, beside bounds.
void add_deepep_bandwidth(const PaperInput& in, Figures& out);
Status add_service(const PaperInput& in, const CountedModel& v3, Figures& out);
Status add_others(Figures& out);
// H800 with the inputs' rates.
Result<Hardware> h800_of(const PaperInput& in);
// paper_retold.cc: what is often said of this system, and what its sources say.
Status add_retellings(const PaperInput& in, Figures& out);

}  // namespace fathom::paper
