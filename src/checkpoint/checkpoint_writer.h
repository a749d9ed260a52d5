// CheckpointWriter: writes a model directory that Hugging Face tools and checkpoint/hf_index read: one file or shards
// with an index, plus small text files. The directory appears as a whole.
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/file.h"
#include "base/result.h"
#include "checkpoint/safetensors.h"

namespace fathom {

struct CheckpointWriterOptions {
  int64_t max_shard_bytes = 5'000'000'000;  // a larger tensor gets a shard of its own
  bool overwrite = false;                   // replace an existing checkpoint of that name
  /// Not empty: the writing can be resumed. It says everything that the content follows from (sources, settings); a
  /// NAME.partial that another text began is refused.
  std::string resume_identity = {};
};

/// Everything goes to NAME.partial beside the target; commit() syncs it and renames it to NAME. Destroyed without a
/// commit it leaves nothing behind; with resume_identity it leaves the shards that are complete, and the next writer of
/// the same identity goes on behind them. It holds a lock in NAME.partial, so that there is only one writer, and what a
/// killed one left there is known as such and removed by the next. When an existing directory is replaced, it is moved
/// to NAME.replaced first and deleted last: a crash in between leaves one complete directory under each of the two
/// other names.
class CheckpointWriter {
 public:
  /// Tensors are laid out in the given order. Errors: a bad declaration (check_declarations); max_shard_bytes
  /// below 1; those of check_target; another writer is at NAME.partial; with resume_identity, another one has begun it.
  static Result<CheckpointWriter> create(const Path& model_dir, std::vector<TensorDecl> tensors,
                                         const CheckpointWriterOptions& options = {});
  /// Whether create() would find a place to write; nothing is made. Errors: the target exists and overwrite
  /// is off, or it is something that is not a checkpoint directory; NAME.partial is none of this writer's and overwrite
  /// is off, or holds directories; NAME.replaced exists and NAME does not (a crash in between: it is the only good
  /// copy).
  static Status check_target(const Path& model_dir, bool overwrite = false);
  CheckpointWriter(CheckpointWriter&& other) noexcept;
  CheckpointWriter& operator=(CheckpointWriter&&) = delete;
  ~CheckpointWriter();

  /// Declared tensors, from the first on, that an interrupted writer has written: they are not to be appended.
  size_t num_resumed() const { return num_resumed_; }

  /// Appends bytes in declared order (SafetensorsWriter::append).
  Status append(std::string_view name, std::span<const std::byte> bytes);
  Status append(std::string_view name, const Tensor& contiguous);

  /// Adds a text file ("config.json"); `file_name` is a plain name.
  Status add_file(std::string_view file_name, std::string_view text);

  /// Writes the index (when there are several shards) and makes the directory visible. Every tensor must be complete.
  Status commit();

 private:
  struct Shard {
    std::vector<TensorDecl> tensors;
    int64_t num_bytes = 0;
  };
  static std::vector<Shard> cut_into_shards(std::vector<TensorDecl> tensors, int64_t max_shard_bytes);
  CheckpointWriter(Path target, Path partial, std::vector<Shard> shards, bool overwrite)
      : target_(std::move(target)), partial_(std::move(partial)), shards_(std::move(shards)), overwrite_(overwrite) {}
  Status finish_shard();
  Status take_partial(const std::string& identity);
  Status write_index() const;
  std::string shard_name(size_t shard) const;

  Path target_;
  Path partial_;  // empty once moved from or committed
  std::vector<Shard> shards_;
  bool overwrite_ = false;
  bool keeps_shards_ = false;  // it can be resumed
  std::optional<FileLock> lock_;
  size_t num_resumed_ = 0;
  size_t shard_ = 0;           // the shard being written
  size_t tensor_ = 0;          // in that shard
  int64_t written_bytes_ = 0;  // of that tensor
  std::optional<SafetensorsWriter> file_;
};

}  // namespace fathom
