#include "checkpoint/gguf.h"

#include <algorithm>
#include <array>
#include <bit>
#include <charconv>
#include <cstring>
#include <limits>
#include <unordered_set>

#include "base/check.h"
#include "base/git_lfs.h"
#include "checkpoint/safetensors.h"

namespace fathom {
namespace {

static_assert(std::endian::native == std::endian::little, "GGUF data is little-endian");

constexpr std::string_view kMagic = "GGUF";
constexpr uint64_t kDefaultAlignment = 32;
constexpr uint64_t kMaxAlignment = uint64_t{1} << 20;
constexpr uint32_t kMaxDimensions = 4;
constexpr int kMaxArrayDepth = 4;
// Far above every released model; they bound memory where a huge file could back up any count.
constexpr uint64_t kMaxEntries = uint64_t{1} << 20;  // metadata keys; tensors
constexpr uint64_t kMaxItems = uint64_t{1} << 26;    // of one array
// Bytes that the smallest entries need: counts above what is left of the file are refused before anything is reserved.
constexpr uint64_t kMinPairBytes = 8 + 4 + 1;
constexpr uint64_t kMinTensorBytes = 8 + 4 + 8 + 4 + 8;

/// Bytes of a scalar; 0 for strings and arrays, nullopt for a number that is no type.
std::optional<uint64_t> scalar_bytes(uint32_t kind) {
  switch (static_cast<GgufKind>(kind)) {
    case GgufKind::kU8:
    case GgufKind::kI8:
    case GgufKind::kBool: return 1;
    case GgufKind::kU16:
    case GgufKind::kI16: return 2;
    case GgufKind::kU32:
    case GgufKind::kI32:
    case GgufKind::kF32: return 4;
    case GgufKind::kU64:
    case GgufKind::kI64:
    case GgufKind::kF64: return 8;
    case GgufKind::kString:
    case GgufKind::kArray: return 0;
  }
  return std::nullopt;
}

std::string_view kind_name(GgufKind kind) {
  constexpr std::array<std::string_view, 13> kNames = {"U8",   "I8",     "U16",   "I16", "U32", "I32", "F32",
                                                       "bool", "string", "array", "U64", "I64", "F64"};
  return kNames[static_cast<size_t>(kind)];
}

template <class Element>
Element load(const std::byte* at) {
  Element v;
  std::memcpy(&v, at, sizeof v);
  return v;
}

GgufValue load_scalar(GgufKind kind, const std::byte* at) {
  switch (kind) {
    case GgufKind::kU8: return int64_t{load<uint8_t>(at)};
    case GgufKind::kI8: return int64_t{load<int8_t>(at)};
    case GgufKind::kU16: return int64_t{load<uint16_t>(at)};
    case GgufKind::kI16: return int64_t{load<int16_t>(at)};
    case GgufKind::kU32: return int64_t{load<uint32_t>(at)};
    case GgufKind::kI32: return int64_t{load<int32_t>(at)};
    case GgufKind::kI64: return load<int64_t>(at);
    case GgufKind::kU64: {
      const auto v = load<uint64_t>(at);
      if (v > static_cast<uint64_t>(std::numeric_limits<int64_t>::max())) return v;
      return static_cast<int64_t>(v);
    }
    case GgufKind::kF32: {
      // Through the shortest decimal; see GgufMetadata::number.
      const auto v = load<float>(at);
      std::array<char, 64> text{};
      const auto end = std::to_chars(text.data(), text.data() + text.size(), v).ptr;
      double decimal = v;
      std::from_chars(text.data(), end, decimal);
      return decimal;
    }
    case GgufKind::kF64: return load<double>(at);
    case GgufKind::kBool: return load<uint8_t>(at) != 0;
    case GgufKind::kString:
    case GgufKind::kArray: break;
  }
  check(false, "strings and arrays are no scalars");
  return {};
}

/// Takes values off the front of a file; every function fails, and says where, when the bytes run out.
class Cursor {
 public:
  Cursor(std::span<const std::byte> bytes, std::string where) : bytes_(bytes), where_(std::move(where)) {}

  uint64_t left() const { return bytes_.size() - at_; }
  size_t at() const { return at_; }

  template <class Element>
  Result<Element> take(std::string_view what) {
    if (left() < sizeof(Element)) return ends(what);
    const auto v = load<Element>(bytes_.data() + at_);
    at_ += sizeof(Element);
    return v;
  }
  Result<std::span<const std::byte>> take_bytes(uint64_t count, std::string_view what) {
    if (left() < count) return ends(what);
    const auto bytes = bytes_.subspan(at_, static_cast<size_t>(count));
    at_ += static_cast<size_t>(count);
    return bytes;
  }
  Result<std::string_view> take_string(std::string_view what) {
    const auto length = take<uint64_t>(what);
    if (!length) return length.error();
    if (*length > left()) {
      return corrupt(where_ + ": " + std::string(what) + " is " + std::to_string(*length) + " bytes long, but only " +
                     std::to_string(left()) + " are left in the file");
    }
    const auto bytes = take_bytes(*length, what);
    return std::string_view(reinterpret_cast<const char*>(bytes->data()), bytes->size());
  }

  /// Moves behind the items of an array and returns them.
  Result<GgufArray> take_array(std::string_view what, int depth) {
    const auto item = take<uint32_t>(what);
    if (!item) return item.error();
    const auto count = take<uint64_t>(what);
    if (!count) return count.error();
    const auto item_bytes = scalar_bytes(*item);
    if (!item_bytes) return unknown_kind(what, *item);
    GgufArray array{static_cast<GgufKind>(*item), *count, {}};
    const size_t begin = at_;
    // A string or an array has a length of 8 bytes at least, so no count exceeds what is left.
    if (*count > left() / std::max<uint64_t>(*item_bytes, *item_bytes == 0 ? 8 : 1)) {
      return corrupt(where_ + ": " + std::string(what) + " has " + std::to_string(*count) + " items of type " +
                     std::string(kind_name(array.item)) + ", more than the " + std::to_string(left()) +
                     " bytes that are left in the file hold");
    }
    if (*count > kMaxItems) {
      return corrupt(where_ + ": " + std::string(what) + " has " + std::to_string(*count) +
                     " items; accepted: at most " + std::to_string(kMaxItems));
    }
    if (*item_bytes > 0) {
      at_ += static_cast<size_t>(*count * *item_bytes);
    } else if (array.item == GgufKind::kArray && depth + 1 >= kMaxArrayDepth) {
      return unsupported(where_ + ": " + std::string(what) + " nests arrays more than " +
                         std::to_string(kMaxArrayDepth) + " deep");
    } else {
      for (uint64_t i = 0; i < *count; ++i) {
        if (array.item == GgufKind::kString) {
          if (const auto s = take_string(what); !s) return s.error();
        } else if (const auto a = take_array(what, depth + 1); !a) {
          return a.error();
        }
      }
    }
    array.bytes = bytes_.subspan(begin, at_ - begin);
    return array;
  }

  Result<GgufValue> take_value(std::string_view what) {
    const auto kind = take<uint32_t>(what);
    if (!kind) return kind.error();
    const auto size = scalar_bytes(*kind);
    if (!size) return unknown_kind(what, *kind);
    if (*size > 0) {
      const auto bytes = take_bytes(*size, what);
      if (!bytes) return bytes.error();
      return load_scalar(static_cast<GgufKind>(*kind), bytes->data());
    }
    if (static_cast<GgufKind>(*kind) == GgufKind::kString) {
      const auto text = take_string(what);
      if (!text) return text.error();
      return GgufValue(*text);
    }
    const auto array = take_array(what, 0);
    if (!array) return array.error();
    return GgufValue(*array);
  }

  Error ends(std::string_view what) const {
    return corrupt(where_ + ": the file ends inside " + std::string(what) + "; is the download complete?");
  }

 private:
  Error unknown_kind(std::string_view what, uint32_t kind) const {
    return corrupt(where_ + ": " + std::string(what) + " has the unknown value type " + std::to_string(kind));
  }

  std::span<const std::byte> bytes_;
  std::string where_;
  size_t at_ = 0;
};

struct Counts {
  uint64_t tensors = 0;
  uint64_t pairs = 0;
};

Result<Counts> read_header(Cursor& in, const std::string& where) {
  const auto magic = in.take_bytes(kMagic.size(), "the magic bytes");
  if (!magic || std::memcmp(magic->data(), kMagic.data(), kMagic.size()) != 0) {
    return corrupt(where + ": does not begin with GGUF; is this a GGUF file?");
  }
  const auto version = in.take<uint32_t>("the version");
  if (!version) return version.error();
  if (*version != 2 && *version != 3) {
    const bool swapped = *version == 0x02000000 || *version == 0x03000000;
    return unsupported(where + ": GGUF version " + std::to_string(*version) + (swapped ? " (a big-endian file)" : "") +
                       " is not supported; accepted: 2, 3 (little-endian)");
  }
  const auto tensors = in.take<uint64_t>("the number of tensors");
  if (!tensors) return tensors.error();
  const auto pairs = in.take<uint64_t>("the number of metadata keys");
  if (!pairs) return pairs.error();
  const auto bounded = [&](uint64_t count, uint64_t min_bytes, std::string_view what) -> Status {
    const std::string found = where + ": " + std::to_string(count) + " " + std::string(what);
    if (count > in.left() / min_bytes) {
      return corrupt(found + " do not fit into the " + std::to_string(in.left()) + " bytes of the file");
    }
    if (count > kMaxEntries) return corrupt(found + "; accepted: at most " + std::to_string(kMaxEntries));
    return {};
  };
  if (auto s = bounded(*pairs, kMinPairBytes, "metadata keys"); !s) return s.error();
  if (auto s = bounded(*tensors, kMinTensorBytes, "tensors"); !s) return s.error();
  return Counts{*tensors, *pairs};
}

Result<std::vector<GgufMetadata::Pair>> read_pairs(Cursor& in, uint64_t count, const std::string& where) {
  std::vector<GgufMetadata::Pair> pairs;
  pairs.reserve(static_cast<size_t>(count));
  std::unordered_set<std::string_view> seen;
  for (uint64_t i = 0; i < count; ++i) {
    const auto key = in.take_string("the name of metadata key " + std::to_string(i));
    if (!key) return key.error();
    if (!seen.insert(*key).second) return corrupt(where + ": metadata key " + in_quotes(*key) + " is there twice");
    auto value = in.take_value("metadata key " + in_quotes(*key));
    if (!value) return value.error();
    pairs.emplace_back(*key, *std::move(value));
  }
  return pairs;
}

/// One entry of the list of tensors, its data not yet placed.
struct Entry {
  GgufTensor tensor;
  uint64_t offset = 0;
  uint64_t num_bytes = 0;
};

/// Numbers and bytes of a tensor, from its shape (outermost first). Every product is checked.
Status measure(Entry& entry, const std::string& at) {
  const GgmlTypeInfo& info = info_of(entry.tensor.type);
  int64_t numbers = 1;
  for (int64_t extent : entry.tensor.shape) {
    if (extent <= 0) return corrupt(at + "an extent of " + std::to_string(extent));
    if (__builtin_mul_overflow(numbers, extent, &numbers)) return corrupt(at + "its size overflows");
  }
  const int64_t row = entry.tensor.shape.back();
  if (row % info.block_length != 0) {
    return corrupt(at + "rows of " + std::to_string(row) + " numbers are no whole blocks of " +
                   std::to_string(info.block_length) + " (" + std::string(info.name) + ")");
  }
  int64_t bytes = 0;
  if (__builtin_mul_overflow(numbers / info.block_length, info.block_bytes, &bytes)) {
    return corrupt(at + "its size overflows");
  }
  entry.num_bytes = static_cast<uint64_t>(bytes);
  return {};
}

Result<Entry> read_entry(Cursor& in, uint64_t index, const std::string& where) {
  const auto name = in.take_string("the name of tensor " + std::to_string(index));
  if (!name) return name.error();
  const std::string what = "tensor " + in_quotes(*name);
  const std::string at = where + ": " + what + ": ";
  if (name->empty()) return corrupt(where + ": tensor " + std::to_string(index) + " has no name");
  Entry entry;
  entry.tensor.name = *name;
  const auto rank = in.take<uint32_t>(what);
  if (!rank) return rank.error();
  if (*rank == 0 || *rank > kMaxDimensions) {
    return corrupt(at + std::to_string(*rank) + " dimensions; accepted: 1 to " + std::to_string(kMaxDimensions));
  }
  for (uint32_t d = 0; d < *rank; ++d) {
    const auto extent = in.take<uint64_t>(what);
    if (!extent) return extent.error();
    if (*extent > static_cast<uint64_t>(std::numeric_limits<int64_t>::max())) {
      return corrupt(at + "an extent of " + std::to_string(*extent));
    }
    entry.tensor.shape.push_back(static_cast<int64_t>(*extent));
  }
  std::reverse(entry.tensor.shape.begin(), entry.tensor.shape.end());
  const auto type = in.take<uint32_t>(what);
  if (!type) return type.error();
  const GgmlTypeInfo* info = find_ggml_type(*type);
  if (info == nullptr) {
    return unsupported(at + "type number " + std::to_string(*type) +
                       " is unknown; accepted: " + decodable_ggml_types());
  }
  entry.tensor.type = info->type;
  const auto offset = in.take<uint64_t>(what);
  if (!offset) return offset.error();
  entry.offset = *offset;
  if (auto s = measure(entry, at); !s) return s.error();
  return entry;
}

Result<std::vector<Entry>> read_entries(Cursor& in, uint64_t count, const std::string& where) {
  std::vector<Entry> entries;
  entries.reserve(static_cast<size_t>(count));
  for (uint64_t i = 0; i < count; ++i) {
    auto entry = read_entry(in, i, where);
    if (!entry) return entry.error();
    entries.push_back(*std::move(entry));
  }
  std::unordered_set<std::string_view> seen;  // after the loop: the names do not move any more
  for (const Entry& entry : entries) {
    if (!seen.insert(entry.tensor.name).second) {
      return corrupt(where + ": tensor " + in_quotes(entry.tensor.name) + " is there twice");
    }
  }
  return entries;
}

Result<uint64_t> read_alignment(const GgufMetadata& metadata) {
  constexpr std::string_view kKey = "general.alignment";
  if (!metadata.has(kKey)) return kDefaultAlignment;
  const auto given = metadata.integer(kKey);
  if (!given) return given.error();
  if (*given < 8 || static_cast<uint64_t>(*given) > kMaxAlignment || *given % 8 != 0) {
    return corrupt(metadata.where() + ": " + std::string(kKey) + " is " + std::to_string(*given) +
                   "; accepted: multiples of 8 up to " + std::to_string(kMaxAlignment));
  }
  return static_cast<uint64_t>(*given);
}

/// Points the tensors at their bytes: inside `data`, aligned, disjoint. Sorts them by offset.
Status place(std::vector<Entry>& entries, std::span<const std::byte> data, uint64_t alignment,
             const std::string& where) {
  std::stable_sort(entries.begin(), entries.end(), [](const Entry& a, const Entry& b) { return a.offset < b.offset; });
  uint64_t covered = 0;
  for (Entry& entry : entries) {
    const std::string at = where + ": tensor " + in_quotes(entry.tensor.name) + ": ";
    if (entry.offset % alignment != 0) {
      return corrupt(at + "offset " + std::to_string(entry.offset) + " is no multiple of the alignment " +
                     std::to_string(alignment));
    }
    if (entry.offset > data.size() || entry.num_bytes > data.size() - entry.offset) {
      return corrupt(at + std::to_string(entry.num_bytes) + " bytes at offset " + std::to_string(entry.offset) +
                     " do not lie inside the " + std::to_string(data.size()) +
                     " bytes of data; is the download complete?");
    }
    if (entry.offset < covered) {
      return corrupt(at + "begins at byte " + std::to_string(entry.offset) +
                     " of the data, but the tensor before it ends at " + std::to_string(covered) + " (overlap)");
    }
    covered = entry.offset + entry.num_bytes;
    entry.tensor.bytes = data.subspan(static_cast<size_t>(entry.offset), static_cast<size_t>(entry.num_bytes));
  }
  return {};
}

}  // namespace

GgufMetadata::GgufMetadata(std::vector<Pair> pairs, std::string where)
    : pairs_(std::move(pairs)), where_(std::move(where)) {
  index_.reserve(pairs_.size());
  for (size_t i = 0; i < pairs_.size(); ++i) index_.emplace(pairs_[i].first, i);
}

const GgufValue* GgufMetadata::find(std::string_view key) const {
  const auto found = index_.find(key);
  return found == index_.end() ? nullptr : &pairs_[found->second].second;
}

Error GgufMetadata::wrong_kind(std::string_view key, std::string_view accepted) const {
  const GgufValue* value = find(key);
  if (value == nullptr) return not_found(where_ + ": metadata key " + in_quotes(key) + " is missing");
  std::string found;
  switch (value->index()) {
    case 0: found = "the integer " + std::to_string(std::get<int64_t>(*value)); break;
    case 1: found = "the integer " + std::to_string(std::get<uint64_t>(*value)); break;
    case 2: found = "the number " + std::to_string(std::get<double>(*value)); break;
    case 3: found = std::get<bool>(*value) ? "true" : "false"; break;
    case 4: found = "the text " + in_quotes(std::get<std::string_view>(*value)); break;
    default: found = "an array of " + std::string(kind_name(std::get<GgufArray>(*value).item)); break;
  }
  return corrupt(where_ + ": metadata key " + in_quotes(key) + " is " + found + "; accepted: " + std::string(accepted));
}

Result<int64_t> GgufMetadata::integer(std::string_view key) const {
  const GgufValue* value = find(key);
  if (value != nullptr && std::holds_alternative<int64_t>(*value)) return std::get<int64_t>(*value);
  return wrong_kind(key, "an integer of at most 63 bits");
}

Result<double> GgufMetadata::number(std::string_view key) const {
  const GgufValue* value = find(key);
  if (value != nullptr && std::holds_alternative<double>(*value)) return std::get<double>(*value);
  if (value != nullptr && std::holds_alternative<int64_t>(*value)) {
    return static_cast<double>(std::get<int64_t>(*value));
  }
  return wrong_kind(key, "a number");
}

Result<bool> GgufMetadata::boolean(std::string_view key) const {
  const GgufValue* value = find(key);
  if (value != nullptr && std::holds_alternative<bool>(*value)) return std::get<bool>(*value);
  return wrong_kind(key, "true, false");
}

Result<std::string_view> GgufMetadata::text(std::string_view key) const {
  const GgufValue* value = find(key);
  if (value != nullptr && std::holds_alternative<std::string_view>(*value)) return std::get<std::string_view>(*value);
  return wrong_kind(key, "a text");
}

Result<std::vector<std::string_view>> GgufMetadata::texts(std::string_view key) const {
  const GgufValue* value = find(key);
  const auto* array = value == nullptr ? nullptr : std::get_if<GgufArray>(value);
  if (array == nullptr || array->item != GgufKind::kString) return wrong_kind(key, "an array of texts");
  std::vector<std::string_view> out;
  out.reserve(static_cast<size_t>(array->count));
  Cursor in(array->bytes, where_);
  for (uint64_t i = 0; i < array->count; ++i) {
    const auto text = in.take_string(key);
    if (!text) return text.error();
    out.push_back(*text);
  }
  return out;
}

Result<std::vector<int64_t>> GgufMetadata::integers(std::string_view key) const {
  const GgufValue* value = find(key);
  const auto* array = value == nullptr ? nullptr : std::get_if<GgufArray>(value);
  constexpr std::string_view kAccepted = "an array of integers";
  if (array == nullptr) return wrong_kind(key, kAccepted);
  const uint64_t size = *scalar_bytes(static_cast<uint32_t>(array->item));
  if (size == 0) return wrong_kind(key, kAccepted);
  std::vector<int64_t> out;
  out.reserve(static_cast<size_t>(array->count));
  for (uint64_t i = 0; i < array->count; ++i) {
    const GgufValue item = load_scalar(array->item, array->bytes.data() + i * size);
    if (!std::holds_alternative<int64_t>(item)) return wrong_kind(key, kAccepted);
    out.push_back(std::get<int64_t>(item));
  }
  return out;
}

Result<GgufContent> parse_gguf(std::span<const std::byte> bytes, std::string_view source) {
  const std::string where(source);
  if (is_git_lfs_pointer({reinterpret_cast<const char*>(bytes.data()), bytes.size()}))
    return git_lfs_pointer_error(where);
  Cursor in(bytes, where);
  const auto counts = read_header(in, where);
  if (!counts) return counts.error();
  auto pairs = read_pairs(in, counts->pairs, where);
  if (!pairs) return pairs.error();
  GgufContent content;
  content.metadata = GgufMetadata(*std::move(pairs), where);
  auto entries = read_entries(in, counts->tensors, where);
  if (!entries) return entries.error();
  const auto alignment = read_alignment(content.metadata);
  if (!alignment) return alignment.error();
  // The data begins at the next multiple of the alignment; a file without tensors may end before it.
  const uint64_t padding = (*alignment - in.at() % *alignment) % *alignment;
  if (!entries->empty() && padding > in.left()) return in.ends("the padding before the data");
  const auto data = bytes.subspan(std::min(bytes.size(), in.at() + static_cast<size_t>(padding)));
  if (auto s = place(*entries, data, *alignment, where); !s) return s.error();
  content.tensors.reserve(entries->size());
  for (Entry& entry : *entries) content.tensors.push_back(std::move(entry.tensor));
  return content;
}

}  // namespace fathom
