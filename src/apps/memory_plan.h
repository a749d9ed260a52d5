// What --max-memory buys: the weights that every token needs, the cache of latents, room to compute in, and as many
// experts as fit into the rest.
#pragma once

#include <cstdint>

#include "apps/session.h"
#include "model/prepared_file.h"
#include "model/quant_policy.h"
#include "model/stream_experts.h"

namespace fathom::apps {

/// Where files of prepared weights or experts are kept: the directory that was named, else fathom/ in the user's cache
/// directory. Error: the system knows none.
Result<Path> prepared_directory(const std::string& named, PreparedKind kind);

/// What a step of `chunk` tokens computes in, from above: rows of the residual stream and their copies, queries, keys
/// and values, the rows of chosen experts and of a dense feed-forward.
int64_t working_bytes(const ModelConfig& config, int64_t chunk);

struct MemoryPlan {
  int64_t usable_bytes = 0;    // of --max-memory, and never more than there is
  int64_t resident_bytes = 0;  // weights that stay, and what a step computes in
  int64_t free_bytes = 0;      // for cache and experts
  int64_t expert_bytes = 0;    // of all experts
  int64_t least_slots = 0;     // a token's choice
  ExpertFile file;

  /// Experts in memory beside a cache of this size; 0: all of them fit, there is nothing to read. Error: not even a
  /// token's choice fits; it says how much would.
  Result<int64_t> slots(int64_t cache_bytes) const;
};

/// Errors: --max-memory is no amount; a model whose experts cannot be read from a file (model/stream_experts); no
/// directory for them is known.
Result<MemoryPlan> plan_memory(const Model& model, const QuantPolicy& policy, Precision precision,
                               const ComputeOptions& options);

}  // namespace fathom::apps
