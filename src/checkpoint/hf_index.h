// Checkpoint: the weights of a Hugging Face model directory, one model.safetensors or many shards with
// model.safetensors.index.json, seen as one set of named tensors. Writing one is checkpoint/checkpoint_writer.
#pragma once

#include <cstdint>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "base/file.h"
#include "base/result.h"
#include "checkpoint/safetensors.h"

namespace fathom {

inline constexpr std::string_view kSingleFileName = "model.safetensors";
inline constexpr std::string_view kIndexFileName = "model.safetensors.index.json";

/// The tensors of a model directory, mapped. Cheap to copy; the maps live as long as the last copy. Thread-safe.
class Checkpoint {
 public:
  /// Maps and checks every shard. Symbolic links are followed (the Hugging Face cache consists of them).
  /// Errors: no weights; both a single file and an index; a shard that is missing, broken or has a name that is not a
  /// plain file name; a tensor that the index lists and its shard lacks, or that a shard holds and the index does not
  /// list. The index's metadata (total_size) is not compared with anything: released ones are not reliable.
  static Result<Checkpoint> open(const Path& model_dir);

  const Path& model_dir() const { return model_dir_; }
  /// The shards in the order of their names.
  const std::vector<SafetensorsFile>& shards() const { return shards_; }

  /// The tensor of that name, or nullptr.
  const StoredTensor* find(std::string_view name) const;
  /// A read-only, aligned Tensor (SafetensorsFile::tensor). Errors: kNotFound, kUnsupported rank.
  Result<Tensor> tensor(std::string_view name) const;
  /// All names: shard by shard, in the order of their data. The views live as long as this checkpoint.
  std::vector<std::string_view> names() const;
  int64_t num_tensors() const { return static_cast<int64_t>(shard_of_.size()); }
  /// Bytes of all tensors.
  int64_t total_bytes() const { return total_bytes_; }

 private:
  void add_shard(SafetensorsFile shard);

  Path model_dir_;
  std::vector<SafetensorsFile> shards_;
  std::unordered_map<std::string_view, size_t> shard_of_;  // keys point into the shards, which are shared
  int64_t total_bytes_ = 0;
};

}  // namespace fathom
