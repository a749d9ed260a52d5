// DualPipe and DualPipeV: pipelines in which forward and backward chunks of different micro-batches overlap, so that
// the all-to-all of one hides behind the computation of the other (V3 report section 3.2.1, DeepSeek's DualPipe).
#pragma once

#include "base/result.h"
#include "parallel/schedule.h"

namespace fathom {

/// DualPipe: rank r of P holds stage r of stream a, which enters at rank 0, and stage P - 1 - r of stream b, which
/// enters at rank P - 1; each stream has M/2 micro-batches. Bubble (P/2 - 1)(F&B + B - 3W), parameters twice, at most P
/// + 1 live activations per rank. Errors: P or M odd, M < 2P, sizes out of range.
Result<Schedule> make_dualpipe(int num_ranks, int num_micro_batches);

/// DualPipeV: one stream goes down the ranks and back up: rank r of P holds stages r (leg a) and 2P - 1 - r (leg b).
/// The same eight steps, the bubble of DualPipe with 2P stages, at most 2P + 1 live activations per rank. Errors: M <
/// 2P, sizes out of range.
Result<Schedule> make_dualpipev(int num_ranks, int num_micro_batches);

}  // namespace fathom
