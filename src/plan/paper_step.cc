#include <algorithm>
#include <cstdlib>
#include <numeric>

#include "plan/paper_rows.h"
#include "plan/search.h"
#include "sim/pipeline_sim.h"

namespace fathom::paper {
namespace {

constexpr int kMicroBatches = 120;
constexpr int64_t kStages = 16, kExpert = 64, kSequenceTokens = 4096, kSequences = 15360;

// Of rank 0: what table 4 prints, the table not saying whose it is.
struct Parts {
  double forward = 0, backward = 0, weight = 0, pairs = 0;
};

Parts parts_of(const Schedule& schedule, const ChunkTimes& times) {
  Parts out;
  for (const Instruction& instruction : schedule.ranks[0]) {
    const Op op = instruction.chunks[0].op;
    if (instruction.is_pair()) {
      out.pairs += times.pair;
    } else if (op == Op::kForward) {
      out.forward += times.forward;
    } else if (op == Op::kBackward) {
      out.backward += times.backward();
    } else if (op == Op::kBackwardInput) {
      out.backward += times.backward_input;
    } else {
      out.weight += times.backward_weight;
    }
  }
  return out;
}

// DualPipe pipelines that `gpus` make up, each with a step's sequences in equal parts.
Result<int64_t> pipelines_of(int64_t gpus, int64_t stages) {
  const auto divides = [&](int64_t pipelines) {
    const int64_t each = kSequences / pipelines;
    return kSequences % pipelines == 0 && each % 2 == 0 && each >= 2 * stages && each <= kMaxMicroBatches;
  };
  if (gpus % stages == 0 && divides(gpus / stages)) return gpus / stages;
  int64_t nearest = 0;
  for (int64_t pipelines = 1; pipelines <= kSequences; ++pipelines) {
    if (divides(pipelines) && (nearest == 0 || std::abs(pipelines * stages - gpus) < std::abs(nearest * stages - gpus)))
      nearest = pipelines;
  }
  return invalid("training.gpus is " + std::to_string(gpus) + "; a step's " + std::to_string(kSequences) +
                 " sequences do not spread evenly over pipelines of " + std::to_string(stages) +
                 " GPUs; the nearest number that works: " + std::to_string(nearest * stages));
}

}  // namespace

// Nothing of table 4 goes in: FLOPs at the utilisation that the published profile shows, and links as measured.
Status add_step_parts(const PaperInput& in, const CountedModel& v3, Figures& out) {
  const auto h = h800_of(in);
  if (!h) return h.error();
  // Another model may have fewer layers, or experts that 64 ranks do not divide.
  const int64_t layers = in.v3.num_hidden_layers, experts = in.v3.n_routed_experts;
  if (layers < 2) return invalid("model.num_hidden_layers is 1; table 4's pipeline needs 2 or more");
  const int64_t stages = std::min<int64_t>(kStages, layers / 2 * 2);
  const auto pipelines = pipelines_of(in.num_gpus, stages);
  if (!pipelines) return pipelines.error();
  const int64_t micro_batches = kSequences / *pipelines;  // fewer GPUs: longer steps
  const auto schedule = make_schedule("dualpipe", static_cast<int>(stages), static_cast<int>(micro_batches));
  if (!schedule) return schedule.error();
  PlanSettings s;
  s.search.utilisation = 0.52;
  s.training.sequence_tokens = kSequenceTokens;
  const TrainingLayout layout{.pipeline = stages,
                              .expert = experts > 0 ? std::gcd(std::gcd(kExpert, experts), *pipelines) : 1,
                              .data = *pipelines,
                              .schedule = "dualpipe",
                              .micro_batch_tokens = kSequenceTokens,
                              .num_micro_batches = micro_batches};
  const auto timed = time_training(v3, *h, s, layout);
  Hardware at_once = *h;  // links that take no time: computation alone
  at_once.nic_effective_gbps = at_once.scale_up_effective_gbps = 1e12;
  const auto alone = time_training(v3, at_once, s, layout);
  if (!timed) return timed.error();
  if (!alone) return alone.error();
  const Parts whole = parts_of(*schedule, timed->times), computed = parts_of(*schedule, alone->times);
  const std::string of_rank = "of rank 0's lone chunks: ", products = "FLOPs / (0.52 * BF16 peak)";
  const std::string range =
      "nothing of the table goes in; it lies between computation alone and an exchange that nothing hides, and does "
      "not "
      "say whose chunks it has";
  const std::string again =
      "nothing of the table goes in; up-projections and SwiGLU, computed again in backward, and all that is no product "
      "are not counted";
  const struct {
    const char* name;
    double published, ours;
    std::string formula;
    Agreement agreement;
    std::string note;
    const char* source = kPaper;
  } rows[] = {
      {"1F, computation alone", 1.13, computed.forward, of_rank + products, Agreement::kAtMost, range},
      {"1F, exchange exposed", 1.13, whole.forward, of_rank + products + " + exchange", Agreement::kAtLeast, range},
      {"1B, computation alone", 1.99, computed.backward, of_rank + products, Agreement::kAtMost, range},
      {"1B, exchange exposed", 1.99, whole.backward, of_rank + products + " + exchange", Agreement::kAtLeast, range},
      {"1W, from FLOPs", 0.48, whole.weight, of_rank + products, Agreement::kEstimate,
       "nothing of the table goes in; products of weight gradients are faster than the mean of all"},
      {"1F1B, from FLOPs", 13.95, whole.pairs, "of rank 0's F&B: max(" + products + ", exchange)", Agreement::kEstimate,
       again},
      {"an F&B pair, from FLOPs", 0.129, timed->times.pair, "max(" + products + ", exchange)", Agreement::kEstimate,
       "published: DeepSeek's profile of training, with 4 MoE layers; a stage has 3.8 layers", kProfile},
      {"time per step, from FLOPs", 19.926, timed->step_s, "the schedule, timed, + reduction of gradients",
       Agreement::kEstimate, again}};
  for (const auto& row : rows) {
    const double tolerance = row.agreement == Agreement::kEstimate ? 0.25 : 0;
    out.push_back({"table 4",
                   row.published,
                   {row.name, row.ours, "s", row.formula, row.source},
                   row.agreement,
                   tolerance,
                   row.note});
  }
  return {};
}

Status add_schedules(Figures& out) {
  const ChunkTimes alike{1, 1, 1, 2.7};
  const struct {
    const char* name;
    const char* title;
    double bubble;  // of the published formula
    double live, copies, devices;
    const char* formula;
  } rows[] = {{"1f1b", "1F1B", 15 * 3.0, 16, 1, 16, "(PP - 1)(F + B)"},
              {"zb1p", "ZB1P", 15 * 1.0, 16, 1, 16, "(PP - 1)(F + B - 2W)"},
              {"dualpipe", "DualPipe", 7 * (2.7 + 2 - 3), 17, 2, 16, "(PP / 2 - 1)(F&B + B - 3W)"},
              {"dualpipev", "DualPipeV", 7 * (2.7 + 2 - 3), 17, 2, 8, "(PP / 2 - 1)(F&B + B - 3W)"}};
  const std::string note = "F = I = W = 1, F&B = 2.7, 16 stages, 120 micro-batches";
  for (const auto& row : rows) {
    const auto schedule = make_schedule(row.name, static_cast<int>(row.devices), kMicroBatches);
    if (!schedule) return schedule.error();
    const auto run = simulate_pipeline(*schedule, {alike, 0, {}});
    if (!run) return run.error();
    double idle = 0;
    int live = 0;
    for (int rank = 0; rank < schedule->num_ranks(); ++rank) {
      idle = std::max(idle, run->idle(rank));
      live = std::max(live, max_live(*schedule, rank));
    }
    const std::string title = row.title;
    out.push_back({"README of DualPipe",
                   row.bubble,
                   {"bubble, " + title, idle, "",
                    "longest wait of a rank, simulated; published: " + std::string(row.formula), kDualPipe},
                   Agreement::kWithin,
                   1e-9,
                   note});
    out.push_back({"README of DualPipe",
                   row.live,
                   {"activations per device, " + title, static_cast<double>(live), "",
                    "most micro-batches alive on a rank, counted", kDualPipe},
                   Agreement::kExact,
                   0,
                   note});
  }
  return {};
}

}  // namespace fathom::paper
