#include "checkpoint/gguf_blocks.h"

#include <algorithm>
#include <array>
#include <bit>
#include <cstring>

#include "base/check.h"
#include "numerics/blocks.h"

namespace fathom {
namespace {

using T = GgmlType;
constexpr auto kTypes = std::to_array<GgmlTypeInfo>({
    {T::kF32, "F32", 1, 4, true},
    {T::kF16, "F16", 1, 2, true},
    {T::kQ4_0, "Q4_0", 32, 18, true},
    {T::kQ4_1, "Q4_1", 32, 20, true},
    {T::kQ5_0, "Q5_0", 32, 22, true},
    {T::kQ5_1, "Q5_1", 32, 24, true},
    {T::kQ8_0, "Q8_0", 32, 34, true},
    {T::kQ8_1, "Q8_1", 32, 36, false},
    {T::kQ2_K, "Q2_K", 256, 84, true},
    {T::kQ3_K, "Q3_K", 256, 110, true},
    {T::kQ4_K, "Q4_K", 256, 144, true},
    {T::kQ5_K, "Q5_K", 256, 176, true},
    {T::kQ6_K, "Q6_K", 256, 210, true},
    {T::kQ8_K, "Q8_K", 256, 292, false},
    {T::kIQ2_XXS, "IQ2_XXS", 256, 66, false},
    {T::kIQ2_XS, "IQ2_XS", 256, 74, false},
    {T::kIQ3_XXS, "IQ3_XXS", 256, 98, false},
    {T::kIQ1_S, "IQ1_S", 256, 50, false},
    {T::kIQ4_NL, "IQ4_NL", 32, 18, true},
    {T::kIQ3_S, "IQ3_S", 256, 110, false},
    {T::kIQ2_S, "IQ2_S", 256, 82, false},
    {T::kIQ4_XS, "IQ4_XS", 256, 136, true},
    {T::kI8, "I8", 1, 1, false},
    {T::kI16, "I16", 1, 2, false},
    {T::kI32, "I32", 1, 4, false},
    {T::kI64, "I64", 1, 8, false},
    {T::kF64, "F64", 1, 8, false},
    {T::kIQ1_M, "IQ1_M", 256, 56, false},
    {T::kBF16, "BF16", 1, 2, true},
    {T::kTQ1_0, "TQ1_0", 256, 54, false},
    {T::kTQ2_0, "TQ2_0", 256, 66, false},
    {T::kMXFP4, "MXFP4", 32, 17, true},
});

constexpr int64_t kSmall = 32;  // numbers in a block of the simple types

// The parts of one block, read in file order.
class Reader {
 public:
  explicit Reader(const std::byte* at) : at_(reinterpret_cast<const uint8_t*>(at)) {}

  float half() {
    f16 v;
    std::memcpy(&v.bits, at_, sizeof v.bits);
    at_ += sizeof v.bits;
    return to_float(v);
  }
  uint32_t word() {
    uint32_t v = 0;
    std::memcpy(&v, at_, sizeof v);
    at_ += sizeof v;
    return v;
  }
  const uint8_t* bytes(int64_t count) {
    const uint8_t* here = at_;
    at_ += count;
    return here;
  }

 private:
  const uint8_t* at_;
};

int low(uint8_t byte) { return byte & 15; }
int high(uint8_t byte) { return byte >> 4; }

// Two codes of four bits per byte: the low ones are the first half of the numbers, the high ones the second.
template <class Value>
void decode_nibbles(const uint8_t* codes, int64_t count, float* out, Value&& value) {
  for (int64_t j = 0; j < count / 2; ++j) {
    out[j] = value(low(codes[j]), j);
    out[j + count / 2] = value(high(codes[j]), j + count / 2);
  }
}

void decode_q4_1(Reader r, float* out) {
  const float scale = r.half();
  const float offset = r.half();
  decode_nibbles(r.bytes(16), kSmall, out, [&](int q, int64_t) { return scale * static_cast<float>(q) + offset; });
}

// The fifth bits of all 32 codes are one word.
int with_fifth_bit(int q, uint32_t fifth, int64_t i) { return q | static_cast<int>((fifth >> i) & 1) << 4; }

void decode_q5_1(Reader r, float* out) {
  const float scale = r.half();
  const float offset = r.half();
  const uint32_t fifth = r.word();
  decode_nibbles(r.bytes(16), kSmall, out,
                 [&](int q, int64_t i) { return scale * static_cast<float>(with_fifth_bit(q, fifth, i)) + offset; });
}

// The order of two-bit codes in Q2_K and Q3_K: 32 bytes hold 128 numbers, four planes of 32 pairs of bits. visit(i,
// byte index in 0..31 of its half, half 0 or 1, plane 0..3, code).
template <class Visit>
void visit_pairs(const uint8_t* codes, Visit&& visit) {
  for (int64_t half = 0; half < 2; ++half) {
    for (int plane = 0; plane < 4; ++plane) {
      for (int64_t l = 0; l < 32; ++l) {
        visit(half * 128 + plane * 32 + l, l, half, plane, (codes[half * 32 + l] >> (2 * plane)) & 3);
      }
    }
  }
}

void decode_q2_k(Reader r, float* out) {
  const uint8_t* scales = r.bytes(16);  // per 16 numbers: scale in the low half, offset in the high half
  const uint8_t* codes = r.bytes(64);
  const float scale = r.half();
  const float offset = r.half();
  visit_pairs(codes, [&](int64_t i, int64_t, int64_t, int, int q) {
    const uint8_t sub = scales[i / 16];
    out[i] = scale * static_cast<float>(low(sub) * q) - offset * static_cast<float>(high(sub));
  });
}

void decode_q3_k(Reader r, float* out) {
  const uint8_t* third_bits = r.bytes(32);  // bit 4 * half + plane of byte l
  const uint8_t* codes = r.bytes(64);
  const uint8_t* packed = r.bytes(12);
  const float scale = r.half();
  std::array<int, 16> scales{};  // six bits each: four in the first eight bytes, two in the last four
  for (size_t k = 0; k < 16; ++k) {
    const int low_part = k < 8 ? low(packed[k]) : high(packed[k - 8]);
    const int high_part = (packed[8 + k % 4] >> (2 * (k / 4))) & 3;
    scales[k] = (low_part | high_part << 4) - 32;
  }
  visit_pairs(codes, [&](int64_t i, int64_t l, int64_t half, int plane, int q) {
    const int third = (third_bits[l] >> (4 * half + plane)) & 1;
    out[i] = scale * static_cast<float>(scales[static_cast<size_t>(i / 16)] * (q + 4 * third - 4));
  });
}

using DecodeBlock = void (*)(Reader, float*);

DecodeBlock decoder_of(GgmlType type) {
  switch (type) {
    case T::kQ4_1: return decode_q4_1;
    case T::kQ5_1: return decode_q5_1;
    case T::kQ2_K: return decode_q2_k;
    case T::kQ3_K: return decode_q3_k;
    default: return nullptr;
  }
}

template <class Element>
void widen(const std::byte* from, int64_t count, float* out) {
  for (int64_t i = 0; i < count; ++i) {
    Element v;
    std::memcpy(&v, from + i * static_cast<int64_t>(sizeof v), sizeof v);
    out[i] = to_float(v);
  }
}

}  // namespace

const GgmlTypeInfo* find_ggml_type(uint32_t number) {
  const auto found = std::find_if(kTypes.begin(), kTypes.end(),
                                  [&](const GgmlTypeInfo& info) { return static_cast<uint32_t>(info.type) == number; });
  return found == kTypes.end() ? nullptr : &*found;
}

const GgmlTypeInfo& info_of(GgmlType type) {
  const GgmlTypeInfo* info = find_ggml_type(static_cast<uint32_t>(type));
  check(info != nullptr, "every enumerator has a row in the table of types");
  return *info;
}

std::optional<DType> plain_dtype(GgmlType type) {
  if (type == T::kF32) return DType::kF32;
  if (type == T::kF16) return DType::kF16;
  if (type == T::kBF16) return DType::kBF16;
  return std::nullopt;
}

GroupFormat group_format(GgmlType type) {
  switch (type) {
    case T::kQ8_0: return GroupFormat::kInt8;
    case T::kQ4_0: return GroupFormat::kInt4;
    case T::kIQ4_NL: return GroupFormat::kIq4Nl;
    case T::kMXFP4: return GroupFormat::kMxfp4;
    case T::kQ5_0: return GroupFormat::kQ5_0;
    case T::kQ4_K: return GroupFormat::kQ4K;
    case T::kQ5_K: return GroupFormat::kQ5K;
    case T::kQ6_K: return GroupFormat::kQ6K;
    case T::kIQ4_XS: return GroupFormat::kIq4Xs;
    default: return GroupFormat::kNone;
  }
}

std::string decodable_ggml_types() {
  std::string names;
  for (const GgmlTypeInfo& info : kTypes) {
    if (info.decodable) names.append(names.empty() ? "" : ", ").append(info.name);
  }
  return names;
}

void decode_blocks(GgmlType type, const std::byte* blocks, int64_t num_blocks, float* out) {
  switch (type) {
    case T::kF32: std::memcpy(out, blocks, static_cast<size_t>(num_blocks) * sizeof(float)); return;
    case T::kF16: return widen<f16>(blocks, num_blocks, out);
    case T::kBF16: return widen<bf16>(blocks, num_blocks, out);
    default: break;
  }
  const GgmlTypeInfo& info = info_of(type);
  if (const GroupFormat format = group_format(type); format != GroupFormat::kNone) {
    for (int64_t g = 0; g < num_blocks * info.block_length / kGroupSize; ++g) {
      const GroupValues values = values_of(format, group_in_blocks(format, blocks, g));
      for (int64_t i = 0; i < kGroupSize; ++i) out[g * kGroupSize + i] = values.at(i);
    }
    return;
  }
  const DecodeBlock decode = decoder_of(type);
  check(decode != nullptr, "the type of the blocks is decodable");
  for (int64_t b = 0; b < num_blocks; ++b) decode(Reader(blocks + b * info.block_bytes), out + b * info.block_length);
}

}  // namespace fathom
