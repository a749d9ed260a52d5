// The order of samples and their cutting out of shards.
#include "train/dataset.h"

#include <algorithm>
#include <cmath>
#include <numeric>
#include <utility>

#include "base/check.h"
#include "base/rng.h"
#include "train/permutation.h"

namespace fathom {
namespace {

// Streams of the seed: the high bits say whose permutation it is (0: the blocks, s + 1: source s), the low 40 bits
// count.
constexpr int kCounterBits = 40;

uint64_t stream_id(uint64_t owner, int64_t counter) {
  check(counter >= 0 && counter < int64_t{1} << kCounterBits, "an epoch or block number has at most 40 bits");
  return owner << kCounterBits | static_cast<uint64_t>(counter);
}

}  // namespace

Result<Dataset> Dataset::open(std::span<const DatasetSource> sources, const DatasetOptions& options) {
  if (sources.empty()) return invalid("a dataset needs at least one shard");
  if (options.sequence_length < 1) {
    return invalid("sequence_length " + std::to_string(options.sequence_length) +
                   " is not accepted: it must be at least 1");
  }
  Dataset dataset(options);
  for (const DatasetSource& source : sources) {
    auto shard = Shard::open(source.path);
    if (!shard) return shard.error();
    const ShardInfo& info = shard->info();
    if (!dataset.sources_.empty()) {
      const ShardInfo& first = dataset.sources_.front().shard.info();
      if (info.vocab_size != first.vocab_size || info.tokenizer_hash != first.tokenizer_hash) {
        return invalid(source.path.string() + ": made with another tokenizer than " + sources[0].path.string() +
                       "; pack both with the same one");
      }
    }
    if (info.num_tokens < options.sequence_length) {
      return invalid(source.path.string() + ": " + std::to_string(info.num_tokens) +
                     " tokens are fewer than one sequence of " + std::to_string(options.sequence_length));
    }
    // Up to sequence_length - 1 tokens are left over, so that the cuts can move from epoch to epoch.
    const int64_t slack = options.shuffle ? options.sequence_length - 1 : 0;
    const int64_t num_samples = std::max<int64_t>(1, (info.num_tokens - slack) / options.sequence_length);
    dataset.sources_.push_back({*std::move(shard), num_samples, 0});
  }
  if (Status status = dataset.set_quotas(sources); !status) return status.error();
  return dataset;
}

Status Dataset::set_quotas(std::span<const DatasetSource> sources) {
  const bool by_size = std::all_of(sources.begin(), sources.end(), [](const auto& s) { return s.weight == 0; });
  std::vector<double> shares;
  for (size_t s = 0; s < sources.size(); ++s) {
    const double weight = by_size ? static_cast<double>(sources_[s].num_samples) : sources[s].weight;
    if (!std::isfinite(weight) || weight <= 0 || weight > 1e15) {
      return invalid(sources[s].path.string() + ": weight " + std::to_string(weight) +
                     " is not accepted: weights are positive numbers up to 1e15, or 0 for all sources");
    }
    shares.push_back(weight);
  }
  const double sum = std::accumulate(shares.begin(), shares.end(), 0.0);
  int64_t given = 0;
  for (size_t s = 0; s < shares.size(); ++s) {
    shares[s] *= static_cast<double>(kBlock) / sum;
    sources_[s].quota = static_cast<int64_t>(shares[s]);
    given += sources_[s].quota;
  }
  // Largest remainders get what rounding down left over; equal remainders in the order of the sources.
  std::vector<size_t> order(shares.size());
  std::iota(order.begin(), order.end(), size_t{0});
  const auto remainder = [&](size_t i) { return shares[i] - static_cast<double>(sources_[i].quota); };
  std::sort(order.begin(), order.end(),
            [&](size_t a, size_t b) { return remainder(a) != remainder(b) ? remainder(a) > remainder(b) : a < b; });
  for (size_t i = 0; given < kBlock; ++given, i = (i + 1) % order.size()) ++sources_[order[i]].quota;
  for (size_t s = 0; s < shares.size(); ++s) {
    if (sources_[s].quota < 1) {
      return invalid(sources[s].path.string() + ": its weight is below 1/" + std::to_string(kBlock) +
                     " of all weights; raise it or leave the shard out");
    }
  }
  return {};
}

int64_t Dataset::num_samples() const {
  int64_t sum = 0;
  for (const Source& source : sources_) sum += source.num_samples;
  return sum;
}

Dataset::Place Dataset::locate(int64_t index) const {
  check(index >= 0, "sample indexes count from 0");
  // Which source, and how many samples of it came before: every block of kBlock samples gives each source its quota.
  const int64_t block = index / kBlock;
  int64_t slot = index % kBlock;
  if (options_.shuffle && sources_.size() > 1) {
    const Permutation permutation(kBlock, options_.seed, stream_id(0, block));
    slot = static_cast<int64_t>(permutation(static_cast<uint64_t>(slot)));
  }
  size_t s = 0;
  while (slot >= sources_[s].quota) slot -= sources_[s++].quota;
  const Source& source = sources_[s];
  const int64_t ordinal = block * source.quota + slot;

  const int64_t epoch = ordinal / source.num_samples;
  int64_t sample = ordinal % source.num_samples;
  int64_t offset = 0;
  if (options_.shuffle) {
    const uint64_t stream = stream_id(s + 1, epoch);
    const Permutation permutation(static_cast<uint64_t>(source.num_samples), options_.seed, stream);
    sample = static_cast<int64_t>(permutation(static_cast<uint64_t>(sample)));
    const int64_t spare = source.shard.info().num_tokens - source.num_samples * options_.sequence_length;
    const uint64_t choices = static_cast<uint64_t>(std::min(spare, options_.sequence_length - 1)) + 1;
    offset = static_cast<int64_t>(Rng(options_.seed, stream_of("dataset.offset")).below(stream, choices));
  }
  return {s, offset + sample * options_.sequence_length};
}

void Dataset::fill(int64_t begin, int64_t count, Microbatch* out) const {
  check(begin >= 0 && count >= 0, "a range of samples");
  *out = {};
  const size_t num_tokens = static_cast<size_t>(count * options_.sequence_length);
  out->tokens.reserve(num_tokens);
  out->targets.reserve(num_tokens);
  out->next_tokens.reserve(num_tokens);
  out->positions.reserve(num_tokens);
  for (int64_t i = 0; i < count; ++i) append_sample(locate(begin + i), out);
  out->document_offsets.push_back(static_cast<int64_t>(out->tokens.size()));
}

void Dataset::append_sample(const Place& place, Microbatch* out) const {
  const Shard& shard = sources_[place.source].shard;
  int64_t document = shard.document_of(place.first_token);
  int64_t document_end = shard.document_end(document);
  int32_t position = 0;
  for (int64_t i = place.first_token; i < place.first_token + options_.sequence_length; ++i) {
    if (i == document_end) {
      document_end = shard.document_end(++document);
      position = 0;
    }
    if (position == 0) out->document_offsets.push_back(static_cast<int64_t>(out->tokens.size()));
    const int32_t next = i + 1 < document_end ? shard.token(i + 1) : -1;
    out->tokens.push_back(shard.token(i));
    out->targets.push_back(next >= 0 && shard.in_loss(i + 1) ? next : -1);
    out->next_tokens.push_back(next);
    out->positions.push_back(position++);
  }
}

}  // namespace fathom
