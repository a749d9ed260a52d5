// MachinePlan: whether a checkpoint runs on the machine at hand, and how fast at best: memory of loading as generate
// does it, and bounds of prefill and decode from measured limits.
#pragma once

#include <string>
#include <vector>

#include "base/result.h"
#include "plan/answers.h"
#include "plan/settings.h"

namespace fathom::apps {

/// Groups "machine", "memory" and "speed" of the model in settings.machine's format. The checkpoint is mapped, not
/// read; the limits are measured for about half a second. Memory: what this process holds with model and tokenizer open
/// (measured), plus the weights as prepare_weights leaves them (the embedding stays in the file, pages around its rows
/// come with the tokens that use them), plus the largest matrix once more while it is packed. Speed: read bandwidth
/// over the bytes of a decode step, the peak of the dot product over the operations of a prompt; attention between
/// tokens is not counted, so these are bounds from above. Errors: no such model; a broken one; an unknown format; a
/// context that the model does not have.
Result<std::vector<FigureGroup>> plan_this_machine(const std::string& model, const PlanSettings& settings);

}  // namespace fathom::apps
