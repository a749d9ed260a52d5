// GgufBuilder: writes GGUF files for tests, byte by byte from the format's description and without the reader's types.
#pragma once

#include <cstdint>
#include <cstring>
#include <string>
#include <string_view>
#include <vector>

namespace fathom::testing {

class GgufBuilder {
 public:
  // Value types of metadata.
  enum Kind : uint32_t { kU8, kI8, kU16, kI16, kU32, kI32, kF32, kBool, kString, kArray, kU64, kI64, kF64 };

  uint32_t version = 3;
  uint64_t alignment = 32;

  static std::string raw(const void* data, size_t size) { return {static_cast<const char*>(data), size}; }
  template <class Element>
  static std::string raw(Element v) {
    return raw(&v, sizeof v);
  }
  static std::string text_bytes(std::string_view text) {
    return raw(static_cast<uint64_t>(text.size())) + std::string(text);
  }

  /// A pair with its value already in bytes.
  GgufBuilder& pair(std::string_view key, uint32_t kind, const std::string& value) {
    pairs_.push_back(text_bytes(key) + raw(kind) + value);
    return *this;
  }
  GgufBuilder& integer(std::string_view key, uint32_t v) { return pair(key, kU32, raw(v)); }
  GgufBuilder& number(std::string_view key, float v) { return pair(key, kF32, raw(v)); }
  GgufBuilder& boolean(std::string_view key, bool v) { return pair(key, kBool, raw(static_cast<uint8_t>(v))); }
  GgufBuilder& text(std::string_view key, std::string_view v) { return pair(key, kString, text_bytes(v)); }
  GgufBuilder& texts(std::string_view key, const std::vector<std::string>& items) {
    std::string value = raw(uint32_t{kString}) + raw(static_cast<uint64_t>(items.size()));
    for (const std::string& item : items) value += text_bytes(item);
    return pair(key, kArray, value);
  }
  GgufBuilder& integers(std::string_view key, const std::vector<int32_t>& items) {
    return pair(key, kArray,
                raw(uint32_t{kI32}) + raw(static_cast<uint64_t>(items.size())) + raw(items.data(), items.size() * 4));
  }

  /// A tensor with `shape` outermost first, as Hugging Face writes it; the file has the reverse.
  GgufBuilder& tensor(std::string_view name, uint32_t type, const std::vector<int64_t>& shape, std::string data) {
    const uint64_t offset = data_.size();
    data_ += data;
    data_.resize((data_.size() + alignment - 1) / alignment * alignment);
    return tensor_at(name, type, shape, offset);
  }
  /// A tensor entry that points anywhere.
  GgufBuilder& tensor_at(std::string_view name, uint32_t type, const std::vector<int64_t>& shape, uint64_t offset) {
    std::string entry = text_bytes(name) + raw(static_cast<uint32_t>(shape.size()));
    for (size_t d = shape.size(); d-- > 0;) entry += raw(static_cast<uint64_t>(shape[d]));
    entries_.push_back(entry + raw(type) + raw(offset));
    return *this;
  }

  /// The file. Counts may be lied about.
  std::string build() const { return build(entries_.size(), pairs_.size()); }
  std::string build(uint64_t num_tensors, uint64_t num_pairs) const {
    std::string file = "GGUF" + raw(version) + raw(num_tensors) + raw(num_pairs);
    for (const std::string& pair : pairs_) file += pair;
    for (const std::string& entry : entries_) file += entry;
    if (!entries_.empty()) file.resize((file.size() + alignment - 1) / alignment * alignment);
    return file + data_;
  }

 private:
  std::vector<std::string> pairs_;
  std::vector<std::string> entries_;
  std::string data_;
};

}  // namespace fathom::testing
