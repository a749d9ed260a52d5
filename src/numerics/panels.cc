#include "numerics/panels.h"

#include <algorithm>
#include <cstring>

#include "base/check.h"
#include "numerics/decode.h"
#include "numerics/fp8.h"

namespace fathom {
namespace {

int64_t padded(int64_t k) { return num_groups(k) * kGroupSize; }

Weight shape_of(DType dtype, GroupFormat format, int64_t n, int64_t k) {
  Weight w;
  w.codes = Tensor::contiguous(nullptr, dtype, {n, k});
  w.groups = format;
  w.layout = WeightLayout::kPanels;
  return w;
}

const uint8_t* panel_with(const Weight& w, int64_t n) {
  return static_cast<const uint8_t*>(w.codes.data) + n / kPanelColumns * panel_bytes(w);
}

// Where the number of column n and row k of a panel is.
int64_t pair_at(int64_t n, int64_t k) { return (k / 2 * kPanelColumns + n) * 2 + k % 2; }
bool is_high_nibble(int64_t k) { return k % 8 >= 4; }

constexpr int64_t kSpanDepth = 2 * kGroupSize;  // k whose scales are a line of memory, before their codes
constexpr int64_t kSpanScaleBytes = 2 * kPanelColumns * 2;
int64_t span_bytes(const Weight& w) { return kSpanScaleBytes + bytes_of(w.codes.dtype, kSpanDepth * kPanelColumns); }
int64_t num_spans(const Weight& w) { return (w.in_features() + kSpanDepth - 1) / kSpanDepth; }
/// The byte of the code of column n and row k.
int64_t code_at(const Weight& w, int64_t n, int64_t k) {
  const int64_t of_byte = w.groups == GroupFormat::kInt8 ? 4 : 8;
  return k / kSpanDepth * span_bytes(w) + kSpanScaleBytes + (k % kSpanDepth / of_byte * kPanelColumns + n) * 4 + k % 4;
}
int64_t scale_at(const Weight& w, int64_t n, int64_t group) {
  return group / 2 * span_bytes(w) + (group % 2 * kPanelColumns + n) * 2;
}

/// An E8M0 scale, halved, as BF16: numbers down to 2^-133 are there, of which 2^-128 is the least.
uint16_t halved_bf16(uint16_t e8m0_bits) {
  return to_bf16(to_float(e8m0{static_cast<uint8_t>(e8m0_bits)}) * 0.5f).bits;
}

/// One group in blocks: its scale, the codes one a byte.
uint16_t codes_of_block(const Weight& w, int64_t n, int64_t group, uint8_t* codes) {
  const int64_t bytes = block_bytes(w.groups);
  const auto* block = static_cast<const uint8_t*>(w.codes.data) + (n * num_groups(w.in_features()) + group) * bytes;
  const int64_t scale_bytes = w.groups == GroupFormat::kMxfp4 ? 1 : 2;
  uint16_t scale = 0;
  std::memcpy(&scale, block, static_cast<size_t>(scale_bytes));
  const uint8_t* at = block + scale_bytes;
  if (w.groups == GroupFormat::kInt8) {
    std::memcpy(codes, at, kGroupSize);
  } else {
    for (int64_t i = 0; i < kGroupSize / 2; ++i) {
      codes[i] = at[i] & 15;
      codes[i + kGroupSize / 2] = at[i] >> 4;
    }
  }
  return scale;
}

float scale_of_bits(GroupFormat format, uint16_t bits) {
  if (format == GroupFormat::kMxfp4) return to_float(e8m0{static_cast<uint8_t>(bits)}) * 0.5f;
  return to_float(f16{bits});
}

/// Codes one a byte and scales of groups [group, group + count) of row n: taken as they are, or made from the numbers.
bool group_codes(const Weight& from, int64_t n, int64_t group, int64_t count, GroupFormat format, float* numbers,
                 uint8_t* codes, uint16_t* scales) {
  const int64_t k = group * kGroupSize, length = count * kGroupSize;
  if (from.groups != format) {
    const int64_t there = std::min(length, from.in_features() - k);
    std::fill_n(numbers, length, 0.0f);
    decode_row(from, n, k, k + there, numbers);
    return quantize_groups(numbers, count, format, codes, scales);
  }
  if (from.layout == WeightLayout::kBlocks) {
    for (int64_t g = 0; g < count; ++g) scales[g] = codes_of_block(from, n, group + g, codes + g * kGroupSize);
    return true;
  }
  for (int64_t g = 0; g < count; ++g) {
    const int64_t at = n * from.scales.stride(0) + group + g;
    scales[g] =
        format == GroupFormat::kMxfp4 ? from.scales.ptr<const e8m0>()[at].bits : from.scales.ptr<const f16>()[at].bits;
  }
  const int64_t first = n * from.codes.stride(0) + k;
  const auto* bytes = static_cast<const uint8_t*>(from.codes.data);
  if (format == GroupFormat::kInt8) {
    std::memcpy(codes, bytes + first, static_cast<size_t>(length));
  } else {
    for (int64_t i = 0; i < length; ++i) {
      const uint8_t both = bytes[(first + i) / 2];
      codes[i] = i % 2 == 0 ? both & 15 : both >> 4;
    }
  }
  return true;
}

bool pack_groups(const Weight& from, int64_t first, int64_t columns, const Weight& to, uint8_t* out) {
  constexpr int64_t kGroups = 16;  // of a row at a time
  float numbers[kGroups * kGroupSize];
  uint8_t codes[kGroups * kGroupSize];
  uint16_t scales[kGroups];
  const int64_t groups = num_groups(to.in_features());
  const bool is_int8 = to.groups == GroupFormat::kInt8;
  for (int64_t span = 0; span < num_spans(to); ++span) {
    uint8_t* at = out + span * span_bytes(to);
    std::memset(at, 0, kSpanScaleBytes);
    std::memset(at + kSpanScaleBytes, is_int8 ? 128 : 0, static_cast<size_t>(span_bytes(to) - kSpanScaleBytes));
  }
  bool all = true;
  for (int64_t n = 0; n < columns; ++n) {
    for (int64_t g0 = 0; g0 < groups; g0 += kGroups) {
      const int64_t count = std::min(kGroups, groups - g0), k0 = g0 * kGroupSize;
      all &= group_codes(from, first + n, g0, count, to.groups, numbers, codes, scales);
      for (int64_t g = 0; g < count; ++g) {
        const uint16_t scale = to.groups == GroupFormat::kMxfp4 ? halved_bf16(scales[g]) : scales[g];
        std::memcpy(out + scale_at(to, n, g0 + g), &scale, sizeof(scale));
      }
      for (int64_t k = 0; k < count * kGroupSize; k += is_int8 ? 4 : 8) {  // four bytes of the panel at a time
        uint32_t quad, high = 0;
        std::memcpy(&quad, codes + k, sizeof(quad));
        if (!is_int8) std::memcpy(&high, codes + k + 4, sizeof(high));
        quad = is_int8 ? quad ^ 0x80808080u : quad | high << 4;
        std::memcpy(out + code_at(to, n, k0 + k), &quad, sizeof(quad));
      }
    }
  }
  return all;
}

/// Numbers [k0, k0 + count) of row n, k0 even.
template <class T>
void pack_pairs(const T* row, int64_t n, int64_t k0, int64_t count, T* out) {
  for (int64_t k = 0; k + 1 < count; k += 2) std::memcpy(out + pair_at(n, k0 + k), row + k, 2 * sizeof(T));
  if (count % 2 != 0) out[pair_at(n, k0 + count - 1)] = row[count - 1];
}

void pack_bf16_row(const Weight& from, int64_t row, int64_t n, uint16_t* out) {
  const int64_t width = from.in_features();
  if (from.groups == GroupFormat::kNone && from.codes.dtype == DType::kBF16) {
    pack_pairs(static_cast<const uint16_t*>(from.codes.data) + row * from.codes.stride(0), n, 0, width, out);
    return;
  }
  constexpr int64_t kChunk = 512;
  float wide[kChunk];
  uint16_t rounded[kChunk];
  for (int64_t k = 0; k < width; k += kChunk) {
    const int64_t count = std::min(kChunk, width - k);
    decode_row(from, row, k, k + count, wide);
    for (int64_t i = 0; i < count; ++i) rounded[i] = to_bf16(wide[i]).bits;
    pack_pairs(rounded, n, k, count, out);
  }
}

}  // namespace

Weight panels_of(DType dtype, int64_t n, int64_t k) {
  check(dtype == DType::kBF16 || dtype == DType::kE4M3, "panels are of BF16, E4M3 or integer groups");
  return shape_of(dtype, GroupFormat::kNone, n, k);
}

Weight panels_of(GroupFormat format, int64_t n, int64_t k) {
  check(format != GroupFormat::kNone, "a format of groups");
  return shape_of(format == GroupFormat::kInt8 ? DType::kI8 : DType::kU4, format, n, k);
}

int64_t block_bytes(GroupFormat format) {
  check(format != GroupFormat::kNone, "a format of groups");
  return format == GroupFormat::kInt8 ? 34 : format == GroupFormat::kMxfp4 ? 17 : 18;
}

Weight blocks_of(GroupFormat format, int64_t n, int64_t k, const std::byte* blocks) {
  check(k % kGroupSize == 0, "rows in blocks are whole blocks");
  Weight w = panels_of(format, n, k);
  w.layout = WeightLayout::kBlocks;
  // Read-only in truth: Tensor has one pointer type.
  w.codes.data = const_cast<std::byte*>(blocks);
  return w;
}

int64_t panel_bytes(const Weight& w) {
  if (w.groups != GroupFormat::kNone) return num_spans(w) * span_bytes(w);
  return bytes_of(w.codes.dtype, padded(w.in_features()) * kPanelColumns);
}

int64_t code_bytes(const Weight& w) {
  if (w.layout == WeightLayout::kPanels) return num_panels(w.out_features()) * panel_bytes(w);
  if (w.layout == WeightLayout::kBlocks) return w.out_features() * num_groups(w.in_features()) * block_bytes(w.groups);
  if (w.groups != GroupFormat::kNone) return w.out_features() * bytes_of(w.codes.dtype, w.codes.stride(0));
  return w.codes.num_bytes();
}

int64_t weight_bytes(const Weight& w) { return code_bytes(w) + (w.scales.rank > 0 ? w.scales.num_bytes() : 0); }

CodesOfGroup codes_of_group(const Weight& w, int64_t n, int64_t group) {
  CodesOfGroup out;
  if (w.layout == WeightLayout::kBlocks) {
    uint8_t codes[kGroupSize];
    out.scale = scale_of_bits(w.groups, codes_of_block(w, n, group, codes));
    for (size_t i = 0; i < kGroupSize; ++i) {
      out.values[i] = w.groups == GroupFormat::kInt8 ? static_cast<int8_t>(codes[i]) : code_values(w.groups)[codes[i]];
    }
    return out;
  }
  const bool in_panels = w.layout == WeightLayout::kPanels;
  const auto* codes = in_panels ? panel_with(w, n) : static_cast<const uint8_t*>(w.codes.data);
  const int64_t column = n % kPanelColumns;
  if (in_panels) {
    uint16_t bits;
    std::memcpy(&bits, codes + scale_at(w, column, group), sizeof(bits));
    out.scale = w.groups == GroupFormat::kMxfp4 ? to_float(bf16{bits}) : to_float(f16{bits});
  } else {
    out.scale = group_scale(w, n, group);
  }
  const int64_t begin = group * kGroupSize, count = std::min(kGroupSize, w.in_features() - begin);
  for (int64_t i = 0; i < count; ++i) {
    const int64_t k = begin + i, at = n * w.codes.stride(0) + k;
    int value = 0;
    if (w.groups == GroupFormat::kInt8) {
      value = in_panels ? codes[code_at(w, column, k)] - 128 : static_cast<int8_t>(codes[at]);
    } else {
      const uint8_t both = codes[in_panels ? code_at(w, column, k) : at / 2];
      const bool high = in_panels ? is_high_nibble(k) : at % 2 != 0;
      value = code_values(w.groups)[high ? both >> 4 : both & 15];
    }
    out.values[static_cast<size_t>(i)] = static_cast<int8_t>(value);
  }
  return out;
}

float panel_at(const Weight& w, int64_t n, int64_t k) {
  const uint8_t* codes = panel_with(w, n);
  const int64_t column = n % kPanelColumns;
  if (w.codes.dtype == DType::kBF16) return to_float(reinterpret_cast<const bf16*>(codes)[pair_at(column, k)]);
  if (w.codes.dtype == DType::kE4M3) {
    const float scale = w.scales.ptr<const float>()[n / kScaleBlock * w.scales.stride(0) + k / kScaleBlock];
    return to_float(e4m3{codes[pair_at(column, k)]}) * scale;
  }
  const CodesOfGroup group = codes_of_group(w, n, k / kGroupSize);
  return static_cast<float>(group.values[static_cast<size_t>(k % kGroupSize)]) * group.scale;
}

bool pack_panel(const Weight& from, int64_t p, const Weight& to) {
  check(from.layout != WeightLayout::kPanels && to.layout == WeightLayout::kPanels, "panels are made from rows");
  check(from.out_features() == to.out_features() && from.in_features() == to.in_features(), "one shape");
  const int64_t first = p * kPanelColumns, columns = std::min(kPanelColumns, to.out_features() - first);
  const int64_t width = to.in_features();
  auto* out = static_cast<uint8_t*>(to.codes.data) + p * panel_bytes(to);
  if (to.groups != GroupFormat::kNone) return pack_groups(from, first, columns, to, out);
  if (columns < kPanelColumns || width % kGroupSize != 0) std::memset(out, 0, static_cast<size_t>(panel_bytes(to)));
  for (int64_t n = 0; n < columns; ++n) {
    if (to.codes.dtype == DType::kE4M3) {
      check(from.codes.dtype == DType::kE4M3, "E4M3 panels come from E4M3");
      pack_pairs(static_cast<const uint8_t*>(from.codes.data) + (first + n) * from.codes.stride(0), n, 0, width, out);
    } else {
      pack_bf16_row(from, first + n, n, reinterpret_cast<uint16_t*>(out));
    }
  }
  return true;
}

}  // namespace fathom
