// Synth: seeded synthetic training documents for the demo model (`fathom data synth`): micro-stories, worked
// arithmetic, key-value recall and small chats. Document i is a pure function of (options, i).
#pragma once

#include <array>
#include <cstdint>
#include <string_view>

#include "base/file.h"
#include "base/progress.h"
#include "base/result.h"
#include "train/document.h"

namespace fathom {

enum class SynthKind { kStory, kArithmetic, kRecall, kChat };
inline constexpr size_t kNumSynthKinds = 4;

/// "story", "arithmetic", "recall", "chat".
std::string_view to_string(SynthKind kind);

/// Relative shares of the documents (not of the bytes; see SynthReport for those).
struct SynthMixture {
  double story = 1;
  double arithmetic = 4;
  double recall = 2;
  double chat = 3;
};

struct SynthOptions {
  uint64_t seed = 0;
  /// Exactly one of these two is positive. With num_bytes, the document that reaches it is the last.
  int64_t num_documents = 0;
  int64_t num_bytes = 0;
  SynthMixture mixture;
};

struct SynthReport {
  std::array<int64_t, kNumSynthKinds> documents{};
  std::array<int64_t, kNumSynthKinds> bytes{};  // of JSON lines
};

struct SynthDocument {
  SynthKind kind = SynthKind::kStory;
  Document document;
};

/// The kinds' weights must be finite, not negative, and not all zero; and see num_documents.
Status validate(const SynthOptions& options);

/// Document `index` of the stream. The options must be valid.
SynthDocument synth_document(const SynthOptions& options, uint64_t index);

/// Writes the documents as JSON lines (document.h). The caller commits the file.
Result<SynthReport> write_synth(const SynthOptions& options, AtomicFile& file, Progress& progress);

}  // namespace fathom
