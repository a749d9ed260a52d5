#include "checkpoint/safetensors.h"

#include <algorithm>
#include <bit>
#include <cstring>
#include <unordered_set>

#include "base/git_lfs.h"
#include "base/json.h"

namespace fathom {
namespace {

static_assert(std::endian::native == std::endian::little, "safetensors data is little-endian");

constexpr size_t kLengthBytes = 8;
constexpr std::string_view kMetadataKey = "__metadata__";
constexpr size_t kMaxShapeRank = 64;

// One header entry on its way into the content: where its bytes lie in the data section.
struct Placed {
  StoredTensor tensor;
  int64_t begin = 0;
  int64_t end = 0;
};

// Checks the entry of one tensor by itself; its byte range is compared with its neighbours later.
Result<Placed> parse_entry(const std::string& name, const Json& entry, int64_t data_bytes, const std::string& where) {
  const std::string at = where + ": tensor " + in_quotes(name) + ": ";
  if (!entry.is_object()) return corrupt(at + "expected an object, found " + std::string(entry.kind()));
  const Json* dtype = nullptr;
  const Json* shape = nullptr;
  const Json* offsets = nullptr;
  for (const auto& [key, value] : entry.members()) {
    if (key == "dtype") {
      dtype = &value;
    } else if (key == "shape") {
      shape = &value;
    } else if (key == "data_offsets") {
      offsets = &value;
    } else {
      return corrupt(at + "unknown key " + in_quotes(key) + "; accepted: dtype, shape, data_offsets");
    }
  }
  if (!dtype || !dtype->is_string()) return corrupt(at + "\"dtype\" must be a string");
  if (!shape || !shape->is_array()) return corrupt(at + "\"shape\" must be an array of integers");
  if (!offsets || !offsets->is_array() || offsets->items().size() != 2 || !offsets->items()[0].is_int() ||
      !offsets->items()[1].is_int()) {
    return corrupt(at + "\"data_offsets\" must be two integers");
  }

  Placed out;
  out.tensor.name = name;
  const auto known = dtype_from_name(dtype->as_string());
  if (!known) {
    return unsupported(at + "dtype " + in_quotes(dtype->as_string()) +
                       " is not supported; accepted: F64, F32, F16, BF16, F8_E4M3, F8_E8M0, I64, I32, I8, U8");
  }
  out.tensor.dtype = *known;
  if (shape->items().size() > kMaxShapeRank) {
    return corrupt(at + "shape has " + std::to_string(shape->items().size()) + " dimensions, more than the accepted " +
                   std::to_string(kMaxShapeRank));
  }
  for (const Json& extent : shape->items()) {
    if (!extent.is_int()) return corrupt(at + "\"shape\" must be an array of integers");
    out.tensor.shape.push_back(extent.as_int());
  }
  const auto bytes = tensor_bytes(*known, out.tensor.shape);
  if (!bytes) return corrupt(at + "shape " + shape_text(out.tensor.shape) + " is negative or overflows");
  out.begin = offsets->items()[0].as_int();
  out.end = offsets->items()[1].as_int();
  const std::string range = "data_offsets [" + std::to_string(out.begin) + ", " + std::to_string(out.end) + "]";
  if (out.begin < 0 || out.end < out.begin || out.end > data_bytes) {
    return corrupt(at + range + " do not lie inside the " + std::to_string(data_bytes) + " bytes of data");
  }
  if (out.end - out.begin != *bytes) {
    return corrupt(at + range + " hold " + std::to_string(out.end - out.begin) + " bytes, but " +
                   std::string(name_of(*known)) + " " + shape_text(out.tensor.shape) + " needs " +
                   std::to_string(*bytes));
  }
  return out;
}

Status read_metadata(const Json& json, const std::string& where, SafetensorsMetadata* metadata) {
  if (!json.is_object()) return corrupt(where + ": __metadata__ must be an object of strings");
  for (const auto& [key, value] : json.members()) {
    if (!value.is_string()) return corrupt(where + ": __metadata__ " + in_quotes(key) + " must be a string");
    metadata->emplace_back(key, value.as_string());
  }
  return {};
}

// The data section must be the concatenation of the tensors: sorts them by offset and finds gaps and overlaps.
Status check_layout(std::vector<Placed>* placed, int64_t data_bytes, const std::string& where) {
  std::sort(placed->begin(), placed->end(), [](const Placed& a, const Placed& b) {
    if (a.begin != b.begin) return a.begin < b.begin;
    if (a.end != b.end) return a.end < b.end;
    return a.tensor.name < b.tensor.name;  // empty tensors share a place
  });
  int64_t covered = 0;
  for (const Placed& p : *placed) {
    if (p.begin != covered) {
      return corrupt(where + ": tensor " + in_quotes(p.tensor.name) + " begins at byte " + std::to_string(p.begin) +
                     " of the data, but the tensors before it end at " + std::to_string(covered) +
                     (p.begin < covered ? " (overlap)" : " (hole)"));
    }
    covered = p.end;
  }
  if (covered != data_bytes) {
    return corrupt(where + ": " + std::to_string(data_bytes - covered) + " bytes after the last tensor");
  }
  return {};
}

Result<std::string> header_text(const std::vector<TensorDecl>& tensors, const SafetensorsMetadata& metadata,
                                const std::string& where) {
  Json header = Json::object();
  // Members are appended directly: Json::set() searches, which is quadratic in the number of tensors.
  if (!metadata.empty()) {
    Json pairs = Json::object();
    for (const auto& [key, value] : metadata) pairs.set(key, value);
    header.members().emplace_back(std::string(kMetadataKey), std::move(pairs));
  }
  int64_t offset = 0;
  for (const TensorDecl& t : tensors) {
    const int64_t bytes = *tensor_bytes(t.dtype, t.shape);
    Json shape = Json::array();
    for (int64_t extent : t.shape) shape.push(extent);
    Json entry = Json::object();
    entry.set("dtype", name_of(t.dtype));
    entry.set("shape", std::move(shape));
    entry.set("data_offsets", Json::Array{offset, offset + bytes});
    header.members().emplace_back(t.name, std::move(entry));
    offset += bytes;
  }
  std::string text = header.dump();
  text.append((kLengthBytes - text.size() % kLengthBytes) % kLengthBytes, ' ');
  if (text.size() > static_cast<size_t>(kMaxSafetensorsHeaderBytes)) {
    return invalid(where + ": a header of " + std::to_string(text.size()) + " bytes is more than the accepted " +
                   std::to_string(kMaxSafetensorsHeaderBytes) + "; write smaller shards");
  }
  return text;
}

}  // namespace

std::string shape_text(std::span<const int64_t> shape) {
  std::string text = "[";
  for (size_t a = 0; a < std::min(shape.size(), kMaxShapeRank); ++a) {
    text += (a ? ", " : "") + std::to_string(shape[a]);
  }
  return text + "]";
}

std::string in_quotes(std::string_view name) {
  constexpr size_t kMaxShown = 200;
  std::string text = Json(name.substr(0, kMaxShown)).dump();
  if (name.size() > kMaxShown) text += "...";
  return text;
}

std::optional<int64_t> tensor_bytes(DType dtype, std::span<const int64_t> shape) {
  // A zero dimension makes the product zero whatever the others are; each of them must still be a size.
  int64_t bytes = size_of(dtype);
  bool overflows = false;
  bool is_empty = false;
  for (int64_t extent : shape) {
    if (extent < 0) return std::nullopt;
    if (extent == 0) {
      is_empty = true;
    } else if (__builtin_mul_overflow(bytes, extent, &bytes)) {
      overflows = true;
      bytes = 1;
    }
  }
  if (overflows) return std::nullopt;
  return is_empty ? 0 : bytes;
}

Status check_declarations(std::span<const TensorDecl> tensors, std::string_view where) {
  std::unordered_set<std::string_view> seen;
  int64_t total_bytes = 0;
  for (const TensorDecl& t : tensors) {
    const std::string at = std::string(where) + ": tensor " + in_quotes(t.name) + ": ";
    const bool is_printable = std::all_of(t.name.begin(), t.name.end(), [](char c) { return c >= 0x20 && c <= 0x7e; });
    if (t.name.empty() || !is_printable || t.name == kMetadataKey) {
      return invalid(at + "not a name to write; use printable ASCII other than __metadata__");
    }
    if (!seen.insert(t.name).second) return invalid(at + "declared twice");
    const auto bytes = tensor_bytes(t.dtype, t.shape);
    if (!bytes) return invalid(at + "shape " + shape_text(t.shape) + " is not a size");
    if (__builtin_add_overflow(total_bytes, *bytes, &total_bytes)) {
      return invalid(at + "the tensors up to here overflow a file");
    }
  }
  return {};
}

Result<SafetensorsContent> parse_safetensors(std::span<const std::byte> bytes, std::string_view source) {
  const std::string where(source);
  if (is_git_lfs_pointer({reinterpret_cast<const char*>(bytes.data()), bytes.size()}))
    return git_lfs_pointer_error(where);
  if (bytes.size() < kLengthBytes) {
    return corrupt(where + ": " + std::to_string(bytes.size()) + " bytes are too few for a safetensors file");
  }
  uint64_t header_bytes = 0;
  std::memcpy(&header_bytes, bytes.data(), kLengthBytes);
  if (header_bytes > static_cast<uint64_t>(kMaxSafetensorsHeaderBytes)) {
    return corrupt(where + ": header length " + std::to_string(header_bytes) + " is more than the accepted " +
                   std::to_string(kMaxSafetensorsHeaderBytes) + "; is this a safetensors file?");
  }
  if (header_bytes > bytes.size() - kLengthBytes) {
    return corrupt(where + ": header length " + std::to_string(header_bytes) + " is longer than the file (" +
                   std::to_string(bytes.size()) + " bytes); is the download complete?");
  }
  const auto text = bytes.subspan(kLengthBytes, static_cast<size_t>(header_bytes));
  const auto data = bytes.subspan(kLengthBytes + static_cast<size_t>(header_bytes));
  const auto header = Json::parse({reinterpret_cast<const char*>(text.data()), text.size()}, where + ": header");
  if (!header) return header.error();
  if (!header->is_object()) {
    return corrupt(where + ": the header must be an object, found " + std::string(header->kind()));
  }

  SafetensorsContent content;
  std::vector<Placed> placed;
  const auto data_bytes = static_cast<int64_t>(data.size());
  for (const auto& [name, entry] : header->members()) {
    if (name == kMetadataKey) {
      if (auto s = read_metadata(entry, where, &content.metadata); !s) return s.error();
      continue;
    }
    auto one = parse_entry(name, entry, data_bytes, where);
    if (!one) return one.error();
    placed.push_back(std::move(*one));
  }
  if (auto s = check_layout(&placed, data_bytes, where); !s) return s.error();
  content.tensors.reserve(placed.size());
  for (Placed& p : placed) {
    p.tensor.bytes = data.subspan(static_cast<size_t>(p.begin), static_cast<size_t>(p.end - p.begin));
    content.tensors.push_back(std::move(p.tensor));
  }
  return content;
}

Result<SafetensorsFile> SafetensorsFile::open(const Path& path) {
  auto file = MappedFile::open(path);
  if (!file) return file.error();
  auto content = parse_safetensors(file->bytes(), path.string());
  if (!content) return content.error();
  auto state = std::make_shared<State>();
  state->file = std::move(*file);
  state->content = std::move(*content);
  state->by_name.reserve(state->content.tensors.size());
  for (const StoredTensor& t : state->content.tensors) state->by_name.emplace(t.name, &t);
  return SafetensorsFile(std::move(state));
}

const StoredTensor* SafetensorsFile::find(std::string_view name) const {
  const auto it = state_->by_name.find(name);
  return it == state_->by_name.end() ? nullptr : it->second;
}

Result<Tensor> SafetensorsFile::tensor(std::string_view name) const {
  const StoredTensor* stored = find(name);
  if (!stored) return not_found(path().string() + ": no tensor " + in_quotes(name));
  const auto& shape = stored->shape;
  if (shape.empty() || shape.size() > static_cast<size_t>(Tensor::kMaxRank)) {
    return unsupported(path().string() + ": tensor " + in_quotes(name) + " has shape " + shape_text(shape) +
                       "; usable are 1 to " + std::to_string(Tensor::kMaxRank) + " dimensions");
  }
  const void* data = stored->bytes.data();
  if (stored->bytes.empty()) {
    data = state_->file.bytes().data();  // nothing to read: any aligned, valid pointer
  } else if (!stored->is_aligned()) {
    const std::lock_guard lock(state_->copies_mutex);
    auto& copy = state_->aligned_copies[stored];
    if (!copy.data()) {
      copy = Storage(static_cast<int64_t>(stored->bytes.size()));
      std::memcpy(copy.data(), stored->bytes.data(), stored->bytes.size());
    }
    data = copy.data();
  }
  void* writable = const_cast<void*>(data);  // Tensor has one pointer type; the map itself stays read-only
  switch (shape.size()) {
    case 1: return Tensor::contiguous(writable, stored->dtype, {shape[0]});
    case 2: return Tensor::contiguous(writable, stored->dtype, {shape[0], shape[1]});
    default: return Tensor::contiguous(writable, stored->dtype, {shape[0], shape[1], shape[2]});
  }
}

Result<SafetensorsWriter> SafetensorsWriter::create(const Path& path, std::vector<TensorDecl> tensors,
                                                    const SafetensorsMetadata& metadata) {
  if (auto s = check_declarations(tensors, path.string()); !s) return s.error();
  const auto header = header_text(tensors, metadata, path.string());
  if (!header) return header.error();
  auto file = AtomicFile::create(path);
  if (!file) return file.error();
  const uint64_t header_bytes = header->size();
  if (auto s = file->write(&header_bytes, kLengthBytes); !s) return s.error();
  if (auto s = file->write(*header); !s) return s.error();
  return SafetensorsWriter(std::move(*file), std::move(tensors));
}

Status SafetensorsWriter::append(std::string_view name, std::span<const std::byte> bytes) {
  check(current_ < tensors_.size() && tensors_[current_].name == name, "tensors are written in declared order");
  const TensorDecl& decl = tensors_[current_];
  const int64_t wanted = *tensor_bytes(decl.dtype, decl.shape);
  check(static_cast<int64_t>(bytes.size()) <= wanted - written_bytes_, "bytes fit the declared tensor");
  if (auto s = file_.write(bytes.data(), bytes.size()); !s) return s;
  written_bytes_ += static_cast<int64_t>(bytes.size());
  if (written_bytes_ == wanted) {
    ++current_;
    written_bytes_ = 0;
  }
  return {};
}

Status SafetensorsWriter::append(std::string_view name, const Tensor& contiguous) {
  check(contiguous.is_contiguous(), "a tensor to write is contiguous");
  return append(name, {static_cast<const std::byte*>(contiguous.data), static_cast<size_t>(contiguous.num_bytes())});
}

Status SafetensorsWriter::commit() {
  check(current_ == tensors_.size(), "every declared tensor was written");
  return file_.commit();
}

}  // namespace fathom
