// Dataset: turns token shards into training samples. Which tokens sample i holds is a pure function of (shards,
// weights, seed, sequence length, i): the cursor of a training run is one integer, and ranks and micro-batches may cut
// the stream of samples as they like.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "train/shard.h"

namespace fathom {

/// Packed tokens for the model: [T] = `count` samples of `sequence_length` tokens, end to end.
struct Microbatch {
  std::vector<int32_t> tokens;
  /// The next token of the same document; -1 where there is none or the loss mask excludes it. It may lie just past
  /// the sample's end, so no token of a document is lost as a target.
  std::vector<int32_t> targets;
  /// The next token of the same document whatever the mask says, -1 where there is none: what an MTP module embeds.
  std::vector<int32_t> next_tokens;
  /// Position of each token inside its piece of a document: rotary position, and 0 where attention starts anew.
  std::vector<int32_t> positions;
  /// Where each piece begins, then T: attention of a token reaches back to the last offset at or before it.
  std::vector<int64_t> document_offsets;
};

struct DatasetSource {
  Path path;
  /// Relative share of the samples; 0 = in proportion to the number of samples (only if it is 0 for all sources).
  double weight = 0;
};

struct DatasetOptions {
  int64_t sequence_length = 0;
  uint64_t seed = 0;
  /// false: every shard in its order, for validation (samples 0 .. num_samples()-1 of one source are then one pass,
  /// without the last num_tokens % sequence_length tokens).
  bool shuffle = true;
};

class Dataset {
 public:
  /// Sources share the samples in blocks of this many: the resolution of the weights. Within a block several sources
  /// are mixed by a permutation, so the end of one source's epoch and the start of its next may overlap inside one
  /// block; a single source has exact epochs.
  static constexpr int64_t kBlock = 1024;

  /// Opens and verifies all shards. Errors: no source; a shard of another vocabulary or tokenizer than the first; fewer
  /// tokens than one sequence; a weight that is negative, not finite, or below 1/1024 of their sum.
  static Result<Dataset> open(std::span<const DatasetSource> sources, const DatasetOptions& options);

  /// Samples in one pass over all sources.
  int64_t num_samples() const;
  int64_t num_samples(size_t source) const { return sources_[source].num_samples; }
  const ShardInfo& shard_info(size_t source) const { return sources_[source].shard.info(); }

  /// Where global sample `index` >= 0 comes from: its source and first token. Beyond one pass a source starts its next
  /// epoch with a new order and a new offset of the cuts.
  struct Place {
    size_t source = 0;
    int64_t first_token = 0;
  };
  Place locate(int64_t index) const;

  /// Replaces `out` by the samples [begin, begin + count).
  void fill(int64_t begin, int64_t count, Microbatch* out) const;

 private:
  struct Source {
    Shard shard;
    int64_t num_samples = 0;
    int64_t quota = 0;  // samples in each block; 0 < quota, the sum is kBlock
  };

  explicit Dataset(const DatasetOptions& options) : options_(options) {}
  Status set_quotas(std::span<const DatasetSource> sources);
  void append_sample(const Place& place, Microbatch* out) const;

  DatasetOptions options_;
  std::vector<Source> sources_;
};

}  // namespace fathom
