// The two things that fathom bench measures.
#pragma once

#include "apps/verbs.h"

namespace fathom::apps {

/// Prompts and generation of a model, as lines that carry their share of the machine's limits. 1 when --fail-below
/// found a slower line, else 0.
Result<int> bench_model(const BenchOptions& options);

/// Steps of a preset: forward, backward, clipping and update, all of it.
Status bench_training(const BenchOptions& options);

}  // namespace fathom::apps
