// The mixture of the generators and its file.
#include "train/synth.h"

#include <cmath>
#include <string>

#include "base/check.h"
#include "base/rng.h"
#include "train/arithmetic.h"
#include "train/synth_kinds.h"

namespace fathom {
namespace {

std::array<double, kNumSynthKinds> weights(const SynthMixture& m) { return {m.story, m.arithmetic, m.recall, m.chat}; }

SynthKind choose_kind(const SynthMixture& mixture, double uniform) {
  const auto shares = weights(mixture);
  double sum = 0;
  for (double share : shares) sum += share;
  size_t last = 0;
  double left = uniform * sum;
  for (size_t kind = 0; kind < kNumSynthKinds; ++kind) {
    if (shares[kind] <= 0) continue;
    last = kind;
    if (left < shares[kind]) break;
    left -= shares[kind];
  }
  return static_cast<SynthKind>(last);
}

}  // namespace

std::string_view to_string(SynthKind kind) {
  constexpr std::array<std::string_view, kNumSynthKinds> kNames{"story", "arithmetic", "recall", "chat"};
  return kNames[static_cast<size_t>(kind)];
}

Status validate(const SynthOptions& options) {
  if (options.num_documents < 0 || options.num_bytes < 0 || (options.num_documents > 0) == (options.num_bytes > 0)) {
    return invalid(
        "data synth needs exactly one of a number of documents and a number of bytes, and it must be positive");
  }
  const auto shares = weights(options.mixture);
  double sum = 0;
  for (size_t kind = 0; kind < kNumSynthKinds; ++kind) {
    if (!(shares[kind] >= 0 && shares[kind] <= 1e15)) {
      return invalid("mixture weight " + std::to_string(shares[kind]) + " of " +
                     std::string(to_string(static_cast<SynthKind>(kind))) + " is not accepted: it must be 0 to 1e15");
    }
    sum += shares[kind];
  }
  if (!(sum > 0)) return invalid("all mixture weights are 0; give at least one kind of document a weight");
  return {};
}

SynthDocument synth_document(const SynthOptions& options, uint64_t index) {
  SequentialRng rng(options.seed, stream_of("synth.document") ^ index);
  const SynthKind kind = choose_kind(options.mixture, rng.uniform());
  switch (kind) {
    case SynthKind::kStory: return {kind, story_document(rng)};
    case SynthKind::kArithmetic: return {kind, arithmetic_document(rng)};
    case SynthKind::kRecall: return {kind, recall_document(rng)};
    case SynthKind::kChat: return {kind, chat_document(rng)};
  }
  check(false, "every kind has a generator");
  return {};
}

Result<SynthReport> write_synth(const SynthOptions& options, AtomicFile& file, Progress& progress) {
  if (Status status = validate(options); !status) return status.error();
  SynthReport report;
  int64_t bytes = 0;
  const bool by_count = options.num_documents > 0;
  for (int64_t i = 0; by_count ? i < options.num_documents : bytes < options.num_bytes; ++i) {
    if (i % 256 == 0) {
      if (progress.stop_requested()) return cancelled("data synth was stopped; nothing was written");
      by_count ? progress.update("documents", i, options.num_documents, "")
               : progress.update("documents", bytes, options.num_bytes, "");
    }
    const SynthDocument made = synth_document(options, static_cast<uint64_t>(i));
    const std::string line = document_to_json_line(made.document) + "\n";
    if (Status status = file.write(line); !status) return status.error();
    bytes += static_cast<int64_t>(line.size());
    ++report.documents[static_cast<size_t>(made.kind)];
    report.bytes[static_cast<size_t>(made.kind)] += static_cast<int64_t>(line.size());
  }
  return report;
}

}  // namespace fathom
