#include "numerics/panels.h"

#include <algorithm>
#include <cmath>
#include <cstring>

#include "base/check.h"
#include "numerics/blocks.h"
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

// Groups lie in spans of two: a line of scales, then the codes of one and of the other. Lengths in bytes.
constexpr int64_t kLine = 64;
constexpr int64_t kSpanDepth = 2 * kGroupSize;  // k
constexpr int64_t group_bytes(GroupFormat f) { return kGroupSize * kPanelColumns * bits_of(f) / 8; }
constexpr int64_t span_bytes(GroupFormat f) { return kLine + 2 * group_bytes(f); }
int64_t num_spans(const Weight& w) { return (w.in_features() + kSpanDepth - 1) / kSpanDepth; }
constexpr int64_t kSpansOfSuperBlock = kSuperBlockGroups / 2;

// Where things of column n are in a panel.
constexpr int64_t span_at(GroupFormat f, int64_t group) {
  const int64_t super_lines = has_super_blocks(f) ? group / kSuperBlockGroups + 1 : 0;
  return group / 2 * span_bytes(f) + super_lines * kLine;
}
constexpr int64_t super_scale_at(GroupFormat f, int64_t n, int64_t group) {
  return group / kSuperBlockGroups * (kSpansOfSuperBlock * span_bytes(f) + kLine) + 2 * n;
}
constexpr int64_t scale_at(GroupFormat f, int64_t n, int64_t group) {
  return span_at(f, group) + (group % 2 * kPanelColumns + n) * 2;
}
constexpr int64_t factor_at(GroupFormat f, int64_t n, int64_t group, int64_t which) {
  return span_at(f, group) + (group % 2 * 2 + which) * kPanelColumns + n;
}
/// Codes of four k, or the halves of eight; the next ones are a line further.
constexpr int64_t quad_at(GroupFormat f, int64_t n, int64_t group, int64_t quad) {
  const int64_t line = f == GroupFormat::kInt8 ? quad : quad / 2;
  return span_at(f, group) + kLine + group % 2 * group_bytes(f) + line * kLine + 4 * n;
}
/// The fifth, or fifth and sixth, bits of the codes of quads: of how many in a byte, and where.
struct HighBits {
  GroupFormat format;
  int width = 0;  // bits of a code
  int64_t quads = 1;
  constexpr explicit HighBits(GroupFormat f) : format(f), width(std::max(bits_of(f) - 4, 0) % 4) {
    if (width > 0) quads = 8 / width;
  }
  constexpr int64_t at(int64_t n, int64_t group, int64_t quad) const {
    constexpr int64_t kNibbleLines = 4;
    return quad_at(format, n, group, 0) + (kNibbleLines + quad / quads) * kLine;
  }
  constexpr int shift(int64_t quad) const { return static_cast<int>(quad % quads) * width; }
};
constexpr int64_t kQuads = kGroupSize / 4;

/// An E8M0 scale, halved, as BF16: numbers down to 2^-133 are there, of which 2^-128 is the least.
uint16_t halved_bf16(uint16_t e8m0_bits) {
  return to_bf16(to_float(e8m0{static_cast<uint8_t>(e8m0_bits)}) * 0.5f).bits;
}
/// The reverse.
uint16_t e8m0_of_halved(uint16_t bf16_bits) {
  const float scale = to_float(bf16{bf16_bits}) * 2;
  if (std::isnan(scale)) return 0xFF;
  return static_cast<uint16_t>(std::ilogb(scale) + 127);
}

template <GroupFormat kFormat>
void write_group(uint8_t* panel, int64_t n, int64_t g, const StoredGroup& group) {
  if constexpr (has_super_blocks(kFormat)) {
    std::memcpy(panel + super_scale_at(kFormat, n, g), &group.scale, sizeof(group.scale));
    std::memcpy(panel + super_scale_at(kFormat, n + kPanelColumns, g), &group.offset, sizeof(group.offset));
    for (int64_t i = 0; i < 2; ++i) panel[factor_at(kFormat, n, g, i)] = group.factors[static_cast<size_t>(i)];
  } else {
    const uint16_t scale = kFormat == GroupFormat::kMxfp4 ? halved_bf16(group.scale) : group.scale;
    std::memcpy(panel + scale_at(kFormat, n, g), &scale, sizeof(scale));
  }
  // Four codes at a time.
  const auto quad_of = [&](int64_t quad) {
    uint32_t four;
    std::memcpy(&four, group.codes.data() + 4 * quad, sizeof(four));
    return four;
  };
  uint8_t* const codes = panel + quad_at(kFormat, n, g, 0);
  if constexpr (kFormat == GroupFormat::kInt8) {
    for (int64_t j = 0; j < kQuads; ++j) {
      const uint32_t four = quad_of(j) ^ 0x80808080u;
      std::memcpy(codes + j * kLine, &four, sizeof(four));
    }
    return;
  }
  for (int64_t j = 0; j < kQuads; j += 2) {
    const uint32_t eight = (quad_of(j) & 0x0F0F0F0Fu) | (quad_of(j + 1) & 0x0F0F0F0Fu) << 4;
    std::memcpy(codes + j / 2 * kLine, &eight, sizeof(eight));
  }
  constexpr HighBits kHigh(kFormat);
  if constexpr (kHigh.width == 0) return;
  uint8_t* const high_codes = panel + kHigh.at(n, g, 0);
  for (int64_t j = 0; j < kQuads; j += kHigh.quads) {
    uint32_t bits = 0;
    for (int64_t i = 0; i < kHigh.quads; ++i) bits |= (quad_of(j + i) >> 4 & 0x03030303u) << kHigh.shift(i);
    std::memcpy(high_codes + j / kHigh.quads * kLine, &bits, sizeof(bits));
  }
}

StoredGroup read_group(const Weight& w, const uint8_t* panel, int64_t n, int64_t g) {
  StoredGroup group;
  if (has_super_blocks(w.groups)) {
    std::memcpy(&group.scale, panel + super_scale_at(w.groups, n, g), sizeof(group.scale));
    std::memcpy(&group.offset, panel + super_scale_at(w.groups, n + kPanelColumns, g), sizeof(group.offset));
    for (int64_t i = 0; i < 2; ++i) group.factors[static_cast<size_t>(i)] = panel[factor_at(w.groups, n, g, i)];
  } else {
    std::memcpy(&group.scale, panel + scale_at(w.groups, n, g), sizeof(group.scale));
    if (w.groups == GroupFormat::kMxfp4) group.scale = e8m0_of_halved(group.scale);
  }
  const HighBits high(w.groups);
  for (int64_t i = 0; i < kGroupSize; ++i) {
    const int64_t quad = i / 4;
    const uint8_t byte = panel[quad_at(w.groups, n, g, quad) + i % 4];
    int code = byte ^ 0x80;
    if (w.groups != GroupFormat::kInt8) {
      code = quad % 2 == 0 ? byte & 15 : byte >> 4;
      if (high.width > 0) {
        const int bits = panel[high.at(n, g, quad) + i % 4] >> high.shift(quad) & ((1 << high.width) - 1);
        code |= bits << 4;
      }
    }
    group.codes[static_cast<size_t>(i)] = static_cast<uint8_t>(code);
  }
  return group;
}

/// Groups [first, first + count) of row n in `format`: taken as they are, or made from the numbers.
bool groups_for(const Weight& from, int64_t n, int64_t first, int64_t count, GroupFormat format, StoredGroup* out) {
  if (from.groups == format) {
    if (from.layout == WeightLayout::kRows) {
      read_groups(from, n, first, count, out);
    } else {
      for (int64_t g = 0; g < count; ++g) out[g] = stored_group(from, n, first + g);
    }
    return true;
  }
  bool all = true;
  const int64_t width = from.in_features();
  for (int64_t g = 0; g < count; ++g) {
    float numbers[kGroupSize] = {};
    const int64_t k = (first + g) * kGroupSize;
    decode_row(from, n, k, std::min(k + kGroupSize, width), numbers);
    all &= quantize_groups(numbers, 1, format, out[g].codes.data(), &out[g].scale);
  }
  return all;
}

template <GroupFormat kFormat>
bool pack_groups(const Weight& from, int64_t first, int64_t columns, const Weight& to, uint8_t* out) {
  constexpr int64_t kGroups = 16;  // of a row at a time: its lines stay in the first cache until all columns are there
  StoredGroup stored[kGroups];
  const int64_t groups = num_groups(to.in_features());
  if (columns < kPanelColumns || groups % 2 != 0) {  // otherwise every byte is written below
    std::memset(out, 0, static_cast<size_t>(panel_bytes(to)));
    for (int64_t g = 0; g < groups && kFormat == GroupFormat::kInt8; g += 2) {
      std::memset(out + span_at(kFormat, g) + kLine, 128, static_cast<size_t>(span_bytes(kFormat) - kLine));
    }
  }
  bool all = true;
  for (int64_t g0 = 0; g0 < groups; g0 += kGroups) {
    const int64_t count = std::min(kGroups, groups - g0);
    for (int64_t n = 0; n < columns; ++n) {
      all &= groups_for(from, first + n, g0, count, kFormat, stored);
      for (int64_t g = 0; g < count; ++g) write_group<kFormat>(out, n, g0 + g, stored[g]);
    }
  }
  return all;
}

bool pack_groups(const Weight& from, int64_t first, int64_t columns, const Weight& to, uint8_t* out) {
  using enum GroupFormat;
  switch (to.groups) {
    case kInt8: return pack_groups<kInt8>(from, first, columns, to, out);
    case kInt4: return pack_groups<kInt4>(from, first, columns, to, out);
    case kMxfp4: return pack_groups<kMxfp4>(from, first, columns, to, out);
    case kIq4Nl: return pack_groups<kIq4Nl>(from, first, columns, to, out);
    case kQ5_0: return pack_groups<kQ5_0>(from, first, columns, to, out);
    case kQ4K: return pack_groups<kQ4K>(from, first, columns, to, out);
    case kQ5K: return pack_groups<kQ5K>(from, first, columns, to, out);
    case kQ6K: return pack_groups<kQ6K>(from, first, columns, to, out);
    case kIq4Xs: return pack_groups<kIq4Xs>(from, first, columns, to, out);
    case kNone: break;
  }
  check(false, "a format of groups");
  return false;
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
  check(!has_super_blocks(format) || k % (kSuperBlockGroups * kGroupSize) == 0, "rows are whole super-blocks");
  return shape_of(codes_dtype(format), format, n, k);
}

int64_t panel_bytes(const Weight& w) {
  if (w.groups != GroupFormat::kNone)
    return span_at(w.groups, 2 * num_spans(w)) - (has_super_blocks(w.groups) ? kLine : 0);
  return bytes_of(w.codes.dtype, padded(w.in_features()) * kPanelColumns);
}

int64_t code_bytes(const Weight& w) {
  if (w.layout == WeightLayout::kPanels) return num_panels(w.out_features()) * panel_bytes(w);
  if (w.layout == WeightLayout::kBlocks) {
    return w.out_features() * num_groups(w.in_features()) / groups_of_block(w.groups) * block_bytes(w.groups);
  }
  if (w.groups != GroupFormat::kNone) return w.out_features() * bytes_of(w.codes.dtype, w.codes.stride(0));
  return w.codes.num_bytes();
}

int64_t weight_bytes(const Weight& w) { return code_bytes(w) + (w.scales.rank > 0 ? w.scales.num_bytes() : 0); }

StoredGroup stored_group(const Weight& w, int64_t n, int64_t group) {
  if (w.layout == WeightLayout::kPanels) return read_group(w, panel_with(w, n), n % kPanelColumns, group);
  if (w.layout == WeightLayout::kBlocks) {
    const int64_t groups = num_groups(w.in_features());
    return group_in_blocks(w.groups, static_cast<const std::byte*>(w.codes.data), n * groups + group);
  }
  StoredGroup out;
  read_groups(w, n, group, 1, &out);
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
  return group_values(w, n, k / kGroupSize).at(k % kGroupSize);
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
