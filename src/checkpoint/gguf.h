// GGUF (versions 2 and 3): the file format of ggml's models: metadata as typed key/value pairs, the list of tensors,
// and aligned data. This reader trusts nothing in the header and maps the data; what the tensors' blocks mean is
// checkpoint/gguf_blocks, what the keys mean is the caller's business. A model
// of one or several files is checkpoint/gguf_model.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <unordered_map>
#include <utility>
#include <variant>
#include <vector>

#include "base/result.h"
#include "checkpoint/gguf_blocks.h"

namespace fathom {

/// Types of metadata values by their number in the file.
enum class GgufKind : uint32_t {
  kU8 = 0,
  kI8 = 1,
  kU16 = 2,
  kI16 = 3,
  kU32 = 4,
  kI32 = 5,
  kF32 = 6,
  kBool = 7,
  kString = 8,
  kArray = 9,
  kU64 = 10,
  kI64 = 11,
  kF64 = 12
};

/// An array as it lies in the file: checked when the file was parsed, decoded when it is asked for.
struct GgufArray {
  GgufKind item = GgufKind::kU8;
  uint64_t count = 0;
  std::span<const std::byte> bytes;
};

/// A metadata value. Integers of any width that fit 63 bits are int64_t; U64 above that stays uint64_t. Views point
/// into the file.
using GgufValue = std::variant<int64_t, uint64_t, double, bool, std::string_view, GgufArray>;

/// The key/value pairs of a file, with getters that name file, key and what is accepted in their errors. kNotFound for
/// a key that is absent, kCorrupt for a value of another type.
class GgufMetadata {
 public:
  using Pair = std::pair<std::string_view, GgufValue>;

  GgufMetadata() = default;
  /// Keys must differ (parse_gguf has seen to that).
  GgufMetadata(std::vector<Pair> pairs, std::string where);

  const std::vector<Pair>& pairs() const { return pairs_; }
  const std::string& where() const { return where_; }
  const GgufValue* find(std::string_view key) const;
  bool has(std::string_view key) const { return find(key) != nullptr; }

  Result<int64_t> integer(std::string_view key) const;
  /// A float or an integer. An F32 becomes the shortest decimal that rounds to it: 1e-6f is 0.000001, which is what
  /// its writer meant and what config.json says.
  Result<double> number(std::string_view key) const;
  Result<bool> boolean(std::string_view key) const;
  Result<std::string_view> text(std::string_view key) const;
  Result<std::vector<std::string_view>> texts(std::string_view key) const;
  Result<std::vector<int64_t>> integers(std::string_view key) const;

 private:
  Error wrong_kind(std::string_view key, std::string_view accepted) const;

  std::vector<Pair> pairs_;
  std::unordered_map<std::string_view, size_t> index_;
  std::string where_;
};

/// A tensor inside a GGUF file. `shape` is row-major, the innermost axis last (the reverse of the file's order), so a
/// matrix is [out, in] as in Hugging Face files. `bytes` is its data in the map: rows of whole blocks.
struct GgufTensor {
  std::string name;
  GgmlType type = GgmlType::kF32;
  std::vector<int64_t> shape;
  std::span<const std::byte> bytes;

  int64_t row_bytes() const { return shape.back() / info_of(type).block_length * info_of(type).block_bytes; }
};

struct GgufContent {
  GgufMetadata metadata;
  std::vector<GgufTensor> tensors;  // in the order of their data
};

/// Reads one GGUF file from memory; the result points into `bytes`. `where` names the source in errors. Little-endian
/// files of version 2 or 3. Every count and length is compared with the bytes that are left before it is used; arrays
/// nest at most 4 deep. Errors (kCorrupt; kUnsupported for a version or a tensor type that fathom does not know) name
/// the key or the tensor: names twice, rows that are no whole blocks, sizes that overflow, data outside of the file,
/// misaligned, or shared by two tensors.
Result<GgufContent> parse_gguf(std::span<const std::byte> bytes, std::string_view where);

}  // namespace fathom
