// PreparedFile: a file of matrices as products read them, made once from a checkpoint and used at later starts. It says
// at its head what it was made of, in full, and its name is a hash of that: a stale or foreign file is not taken for
// it.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

#include "base/file.h"
#include "base/progress.h"
#include "base/result.h"
#include "model/model.h"

namespace fathom {

/// What a file holds: "experts" or "weights", its extension and what messages call it; and the flag of its directory.
struct PreparedKind {
  std::string_view name;
  std::string_view flag;
};
inline constexpr PreparedKind kPreparedExperts{"experts", "--expert-dir"};
inline constexpr PreparedKind kPreparedWeights{"weights", "--prepared-dir"};

/// What a matrix is and what it becomes, as a word of a layout.
std::string form_text(const Weight& from, const Weight& target);

class PreparedFile {
 public:
  /// The file below `directory` for these files of the model (path, size, time of change) and this layout: text that
  /// changes whenever the bytes behind the head would. Nothing is written. Errors: a model that was not read from
  /// files; one of them is gone.
  static Result<PreparedFile> of(PreparedKind kind, const Model& model, std::string_view layout, int64_t content_bytes,
                                 const Path& directory);

  const Path& path() const { return path_; }
  /// Where the content begins: a multiple of DirectFile::kAlignment.
  int64_t head_bytes() const { return static_cast<int64_t>(head_.size()); }
  int64_t num_bytes() const { return head_bytes() + content_bytes_; }

  /// Whether it is there, whole, and says what this model would write.
  bool is_there() const;
  /// Waits while another process makes it. Nothing: it is there. A lock: it is to be made by the caller, who holds the
  /// lock meanwhile. Errors: the directory cannot be made or written; cancelled.
  Result<std::optional<FileLock>> claim(Progress& progress) const;
  /// The file with its head, for the content to be written behind and committed. Errors: no room, told before anything
  /// is written; the directory cannot be written.
  Result<AtomicFile> create() const;
  /// The file in memory, read only; its content is `content(map)`. Error: it is not there.
  Result<MappedFile> map() const;
  std::byte* content(const MappedFile& map) const;

 private:
  PreparedFile(PreparedKind kind, std::string head, int64_t content_bytes, Path path)
      : kind_(kind), head_(std::move(head)), content_bytes_(content_bytes), path_(std::move(path)) {}
  PreparedKind kind_;
  std::string head_;  // filled up to a block
  int64_t content_bytes_ = 0;
  Path path_;
};

}  // namespace fathom
