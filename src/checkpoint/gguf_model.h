// GgufModel: a model in one GGUF file or in a split set of them, mapped and seen as one set of named tensors.
#pragma once

#include <memory>
#include <optional>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "base/file.h"
#include "base/result.h"
#include "checkpoint/gguf.h"

namespace fathom {

/// A model in one GGUF file or in NAME-00001-of-0000N.gguf and its siblings, mapped. Cheap to copy; the maps live as
/// long as the last copy. Thread-safe.
class GgufModel {
 public:
  /// Maps and checks the file and, for the first of a split model, all others (split.no, split.count and
  /// split.tensors.count must fit). Errors: those of parse_gguf; a part that is not the first (names the first); a part
  /// that is missing or belongs to another split; a tensor in two parts.
  static Result<GgufModel> open(const Path& path);

  const Path& path() const { return state_->path; }
  /// All parts, the first first.
  const std::vector<MappedFile>& files() const { return state_->files; }
  /// Of the first file.
  const GgufMetadata& metadata() const { return state_->parts.front().metadata; }
  /// All tensors: part by part, in the order of their data.
  const std::vector<const GgufTensor*>& tensors() const { return state_->tensors; }
  /// The tensor of that name, or nullptr.
  const GgufTensor* find(std::string_view name) const;

 private:
  struct State {
    Path path;
    std::vector<MappedFile> files;
    std::vector<GgufContent> parts;
    std::vector<const GgufTensor*> tensors;
    std::unordered_map<std::string_view, const GgufTensor*> by_name;
  };
  explicit GgufModel(std::shared_ptr<const State> state) : state_(std::move(state)) {}
  std::shared_ptr<const State> state_;
};

/// The GGUF file that a model path means: the path itself when it is a *.gguf file; in a directory without config.json
/// the only *.gguf (or the first part of the only split model). nullopt for any other path. Errors: a directory with
/// several models.
Result<std::optional<Path>> find_gguf(const Path& model);

}  // namespace fathom
