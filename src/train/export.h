// Export: the trained model as a Hugging Face directory, from the FP32 masters.
#pragma once

#include <string_view>

#include "base/file.h"
#include "base/result.h"
#include "train/parameters.h"

namespace fathom {

/// kBF16: everything BF16. kF32: the masters as they are. kFp8: projections as E4M3 with one FP32 scale per 128x128
/// block (NAME_scale_inv); embedding, head, norms, router and eh_proj BF16. Router biases are FP32 in all of them.
enum class ExportFormat { kBF16, kF32, kFp8 };

/// "bf16", "f32" or "fp8".
Result<ExportFormat> export_format_from(std::string_view name);

struct ExportOptions {
  ExportFormat format = ExportFormat::kBF16;
  /// Its tokenizer.json (required), tokenizer_config.json, special_tokens_map.json and chat_template.jinja (where they
  /// exist) are copied; empty: no tokenizer.
  Path tokenizer_directory;
};

/// Writes model.safetensors (or shards), config.json, generation_config.json and the tokenizer's files to `directory`,
/// which must not exist. MTP modules are written without their copies of embedding and head. Errors: those of
/// CheckpointWriter; no tokenizer.json in the tokenizer directory.
Status export_model(const Parameters& parameters, const Path& directory, const ExportOptions& options);

}  // namespace fathom
