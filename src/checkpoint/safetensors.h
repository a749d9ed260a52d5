// Safetensors: the file format of Hugging Face weights (8-byte header length, JSON header, raw little-endian data).
// This reader trusts nothing in the header and maps the data; the writer streams tensors into an atomic file.
// Directories of such files are checkpoint/hf_index.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <mutex>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <unordered_map>
#include <utility>
#include <vector>

#include "base/file.h"
#include "base/result.h"
#include "tensor/storage.h"
#include "tensor/tensor.h"

namespace fathom {

/// The largest JSON header that a reader accepts (the limit of the reference implementation).
inline constexpr int64_t kMaxSafetensorsHeaderBytes = 100'000'000;

/// `__metadata__`: free text pairs, in file order.
using SafetensorsMetadata = std::vector<std::pair<std::string, std::string>>;

/// A tensor that a file will hold.
struct TensorDecl {
  std::string name;
  DType dtype = DType::kF32;
  std::vector<int64_t> shape;  // empty: a scalar
};

/// A tensor inside a safetensors file. `bytes` is its data in the map (or in the buffer that was parsed):
/// little-endian, row-major, and not necessarily aligned for the dtype; use SafetensorsFile::tensor() for typed access.
struct StoredTensor {
  std::string name;
  DType dtype = DType::kF32;
  std::vector<int64_t> shape;
  std::span<const std::byte> bytes;

  bool is_aligned() const {
    const int64_t size = size_of(dtype);  // 0 of what is packed in bytes
    return size <= 1 || reinterpret_cast<uintptr_t>(bytes.data()) % static_cast<uintptr_t>(size) == 0;
  }
};

/// Bytes of a tensor: the product of `shape` times the element size. nullopt when a dimension is negative or the
/// product does not fit in 63 bits.
std::optional<int64_t> tensor_bytes(DType dtype, std::span<const int64_t> shape);

/// Whether tensors can be written together. Errors: a name that is empty, not printable ASCII, "__metadata__" or
/// declared twice; a negative shape; sizes that overflow, alone or in sum. `where` names the target in errors.
Status check_declarations(std::span<const TensorDecl> tensors, std::string_view where);

/// What a safetensors header says: the tensors in the order of their data.
struct SafetensorsContent {
  std::vector<StoredTensor> tensors;
  SafetensorsMetadata metadata;
};

/// Reads the safetensors format from memory; the result points into `bytes`. `where` names the source in errors.
/// Strict: known dtypes only; shape, dtype and byte range must agree; the ranges must cover the data exactly, without
/// overlaps, holes or trailing bytes. Errors: kCorrupt, or kUnsupported for a dtype that fathom does not have.
Result<SafetensorsContent> parse_safetensors(std::span<const std::byte> bytes, std::string_view where);

/// A mapped safetensors file. Cheap to copy; the map lives as long as the last copy, and so must whoever uses the data.
/// Thread-safe.
class SafetensorsFile {
 public:
  /// Maps and checks the file (see parse_safetensors).
  static Result<SafetensorsFile> open(const Path& path);

  const Path& path() const { return state_->file.path(); }
  /// All tensors in the order of their data.
  const std::vector<StoredTensor>& tensors() const { return state_->content.tensors; }
  const SafetensorsMetadata& metadata() const { return state_->content.metadata; }

  /// The tensor of that name, or nullptr.
  const StoredTensor* find(std::string_view name) const;

  /// A read-only Tensor over the data (the map is not writable; writing faults). Data that its writer left misaligned
  /// is copied once, on first use, and kept as long as the file: the pointer is always aligned for the dtype. Errors:
  /// kNotFound; kUnsupported for rank 0 or more than Tensor::kMaxRank.
  Result<Tensor> tensor(std::string_view name) const;

 private:
  struct State {
    MappedFile file;
    SafetensorsContent content;
    std::unordered_map<std::string_view, const StoredTensor*> by_name;  // into content
    std::mutex copies_mutex;
    std::unordered_map<const StoredTensor*, Storage> aligned_copies;
  };
  explicit SafetensorsFile(std::shared_ptr<State> state) : state_(std::move(state)) {}
  std::shared_ptr<State> state_;
};

/// Writes one safetensors file as a stream. All tensors are declared first; their bytes follow in declared order, in
/// pieces of any size. The same declarations and bytes always give the same file, whose data starts at a multiple of 8.
/// The file appears under its name only after commit().
class SafetensorsWriter {
 public:
  /// Errors: those of check_declarations; a header beyond kMaxSafetensorsHeaderBytes; the file cannot be created.
  static Result<SafetensorsWriter> create(const Path& path, std::vector<TensorDecl> tensors,
                                          const SafetensorsMetadata& metadata = {});

  /// Appends bytes to `name`, which must be the first declared tensor that is not complete (check() otherwise, and when
  /// it would overflow). A tensor without elements is completed by an empty append.
  Status append(std::string_view name, std::span<const std::byte> bytes);
  Status append(std::string_view name, const Tensor& contiguous);

  /// Makes the file visible; every declared tensor must be complete (check() otherwise).
  Status commit();

 private:
  SafetensorsWriter(AtomicFile file, std::vector<TensorDecl> tensors)
      : file_(std::move(file)), tensors_(std::move(tensors)) {}
  AtomicFile file_;
  std::vector<TensorDecl> tensors_;
  size_t current_ = 0;
  int64_t written_bytes_ = 0;  // of tensors_[current_]
};

/// "[2, 3]", for an error message.
std::string shape_text(std::span<const int64_t> shape);
/// `name` as a JSON string for an error message: quoted, control characters escaped, cut after 200 bytes.
std::string in_quotes(std::string_view name);

}  // namespace fathom
