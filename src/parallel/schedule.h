// Schedule: what every rank of a pipeline does, in order, as data. A schedule is printed, drawn, timed
// (sim/pipeline_sim) and checked for deadlock without a network; whoever executes it walks the same lists.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"

namespace fathom {

/// The work on one micro-batch at one stage.
enum class Op : uint8_t {
  kForward,         // F
  kBackward,        // B: input and weight gradients together
  kBackwardInput,   // I: the input gradient alone; its W follows later
  kBackwardWeight,  // W: the weight gradient that an I left behind
};

/// One op of one micro-batch. `stream` counts the directions in which micro-batches enter the pipeline (DualPipe has
/// two, every other schedule one), `micro_batch` counts within its stream.
struct Chunk {
  Op op = Op::kForward;
  int stream = 0;
  int stage = 0;
  int micro_batch = 0;

  bool operator==(const Chunk&) const = default;
};

/// One entry of a rank's list: a chunk, or a forward and a backward whose computation and communication overlap (F&B).
struct Instruction {
  std::vector<Chunk> chunks;  // 1 or 2; of 2 the forward is first

  bool is_pair() const { return chunks.size() == 2; }
  bool operator==(const Instruction&) const = default;
};

struct Schedule {
  std::string name;                             // "1f1b", "zb1p", "dualpipe", "dualpipev"
  int num_stages = 0;                           // stages that a micro-batch passes
  std::vector<int> micro_batches;               // per stream
  std::vector<std::vector<int>> rank_of;        // [stream][stage]: who holds it
  std::vector<std::vector<Instruction>> ranks;  // [rank]: its list
  std::vector<int> live_bound;                  // [rank]: most micro-batches whose activations it may hold at once

  int num_ranks() const { return static_cast<int>(ranks.size()); }
  int num_streams() const { return static_cast<int>(micro_batches.size()); }
  int num_micro_batches() const;
};

/// The generators' bounds: more is refused.
inline constexpr int kMaxPipelineRanks = 1024;
inline constexpr int kMaxMicroBatches = 1 << 16;
inline constexpr int64_t kMaxScheduleChunks = int64_t{1} << 20;

/// 1F1B (PipeDream-Flush, Megatron): rank r runs min(P - 1 - r, M) forwards, then one forward and one backward in turn,
/// then the remaining backwards. Bubble (P - 1)(F + B); rank r holds at most P - r activations. Errors: sizes out of
/// range.
Result<Schedule> make_1f1b(int num_ranks, int num_micro_batches);

/// ZB1P (ZB-H1 of "Zero Bubble Pipeline Parallelism", arXiv 2401.10241): 1F1B whose backward leaves its weight gradient
/// behind; rank r runs one W after an I once more than r of them wait, and one after each I at the end. Bubble
/// (P - 1)(F + B - 2W) for M >= P; every rank holds at most P activations (until their W). Errors: sizes out of range.
Result<Schedule> make_zb1p(int num_ranks, int num_micro_batches);

/// The schedule of that name. Errors: an unknown name; what the generator refuses (parallel/dualpipe.h).
Result<Schedule> make_schedule(std::string_view name, int num_ranks, int num_micro_batches);

/// Whether sizes are within the bounds above; `name` starts the message.
Status check_pipeline_size(std::string_view name, int num_ranks, int num_micro_batches);

/// "F3", "Ib0": the op, the stream or (where a rank holds several stages of one stream) the leg as a letter, the
/// micro-batch. A pair is "Fa3&Bb1".
std::string label(const Schedule& schedule, const Chunk& chunk);
std::string label(const Schedule& schedule, const Instruction& instruction);

/// One line per rank: "rank 0: Fa0 Fa1 ...".
std::string list_text(const Schedule& schedule);

/// What the input of a chunk is: the chunk that must have ended, if there is one (the first stage's forward has none),
/// and the rank that ran it.
struct Dependency {
  bool exists = false;
  Chunk chunk;  // of a backward its op is kBackward also where the schedule split it
  int rank = 0;
};
Dependency dependency_of(const Schedule& schedule, const Chunk& chunk);

/// Most micro-batches whose activations `rank` holds at once: from the start of F to the end of its B or W.
int max_live(const Schedule& schedule, int rank);

/// Proves a schedule: every (stream, stage, micro-batch) has one F and either one B or one I and one W, on the rank
/// that holds the stage and in that order; micro-batches pass every boundary in one order (so that a link may be a
/// queue); nobody holds more than its live_bound; the lists run to their end, also when a send waits for its receiver
/// (a rank posts the receives of its next instruction together with the sends of the last one). The error names the
/// rank, the instruction and what it lacks.
Status check_schedule(const Schedule& schedule);

}  // namespace fathom
