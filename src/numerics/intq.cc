#include "numerics/intq.h"

#include <algorithm>
#include <bit>
#include <cmath>
#include <limits>

#include "base/check.h"

namespace fathom {
namespace {

constexpr std::array<int8_t, 16> kIq4NlValues = {-127, -104, -83, -65, -49, -35, -22, -10,
                                                 1,    13,   25,  38,  53,  69,  89,  113};
constexpr std::array<int8_t, 16> kMxfp4Values = {0, 1, 2, 3, 4, 6, 8, 12, 0, -1, -2, -3, -4, -6, -8, -12};

constexpr std::array<int8_t, 16> whole_numbers_from(int first) {
  std::array<int8_t, 16> out{};
  for (size_t i = 0; i < out.size(); ++i) out[i] = static_cast<int8_t>(first + static_cast<int>(i));
  return out;
}
constexpr std::array<int8_t, 16> kInt4Values = whole_numbers_from(-8), kFromZero = whole_numbers_from(0),
                                 kFrom16 = whole_numbers_from(-16), kFrom32 = whole_numbers_from(-32);

constexpr float kInfinity = std::numeric_limits<float>::infinity();
// Loops over 16 numbers at a time, so that a compiler makes vectors of them; sums have the order of the lanes.
constexpr int kLanes = 16;

/// The nearest integer, ties to even; |v| < 2^22.
float nearest(float v) { return (v + 0x1.8p23f) - 0x1.8p23f; }
float clamp(float v, float low, float high) { return v < low ? low : v > high ? high : v; }

/// The largest magnitude; infinity if there is a NaN.
float largest_magnitude(const float* x) {
  float lanes[kLanes] = {};
  for (int i = 0; i < kGroupSize; i += kLanes) {
    for (int l = 0; l < kLanes; ++l) {
      const float a = std::fabs(x[i + l]), magnitude = a < kInfinity ? a : kInfinity;
      lanes[l] = magnitude > lanes[l] ? magnitude : lanes[l];
    }
  }
  return *std::max_element(lanes, lanes + kLanes);
}

float sum_of(const float (&lanes)[kLanes]) {
  float total = 0;
  for (float v : lanes) total += v;
  return total;
}

bool encode_int8(const float* x, uint8_t* codes, uint16_t& scale_bits) {
  const f16 scale = to_f16(largest_magnitude(x) / 127);
  scale_bits = scale.bits;
  if (!std::isfinite(to_float(scale))) {
    std::fill_n(codes, kGroupSize, uint8_t{0});
    return false;
  }
  const float inverse = to_float(scale) > 0 ? 1 / to_float(scale) : 0;
  for (int i = 0; i < kGroupSize; ++i) {
    codes[i] = static_cast<uint8_t>(static_cast<int8_t>(nearest(clamp(x[i] * inverse, -127, 127))));
  }
  return true;
}

/// The codes of x / scale in a sorted table: how many of the midpoints between neighbours lie below.
void encode_sorted(const float* x, float inverse, const std::array<int8_t, 16>& values, uint8_t* codes) {
  for (int i = 0; i < kGroupSize; ++i) {
    const float v = x[i] * inverse;
    int code = 0;
    for (size_t c = 0; c + 1 < values.size(); ++c) code += v > 0.5f * static_cast<float>(values[c] + values[c + 1]);
    codes[i] = static_cast<uint8_t>(code);
  }
}
/// INT4's table is the integers: rounding finds the code.
void encode_int4(const float* x, float inverse, uint8_t* codes) {
  for (int i = 0; i < kGroupSize; ++i) {
    codes[i] = static_cast<uint8_t>(static_cast<int>(nearest(clamp(x[i] * inverse, -8, 7))) + 8);
  }
}

/// The scale s that makes sum (x - s q)^2 least for given q is <x, q> / <q, q>; what it leaves of <x, x> shrinks as
/// <x, q>^2 / <q, q> grows, so candidates are compared by that.
bool encode_four_bit(const float* x, GroupFormat format, uint8_t* codes, uint16_t& scale_bits) {
  const auto& values = code_values(format);
  const auto encode = [&](float inverse, uint8_t* out) {
    format == GroupFormat::kInt4 ? encode_int4(x, inverse, out) : encode_sorted(x, inverse, values, out);
  };
  float largest = 0;  // with its sign: the table's longer end goes there
  bool finite = true;
  for (int i = 0; i < kGroupSize; ++i) {
    finite &= std::isfinite(x[i]);
    if (std::fabs(x[i]) > std::fabs(largest)) largest = x[i];
  }
  float best_gain = -1, best_scale = finite ? 0 : kInfinity;
  for (int c = -6; c < 6 && largest != 0 && finite; ++c) {
    const float inverse = static_cast<float>(values.front()) * (1 + 0.02f * static_cast<float>(c)) / largest;
    if (!std::isfinite(inverse)) continue;  // the largest is a subnormal number: zeros represent it
    uint8_t trial[kGroupSize];
    encode(inverse, trial);
    float xq[kLanes] = {}, qq[kLanes] = {};
    for (int i = 0; i < kGroupSize; i += kLanes) {
      for (int l = 0; l < kLanes; ++l) {
        const float q = values[trial[i + l]];
        xq[l] += x[i + l] * q;
        qq[l] += q * q;
      }
    }
    const float dot = sum_of(xq), norm = sum_of(qq);
    const float gain = norm > 0 ? dot * dot / norm : 0;
    if (gain > best_gain) {
      best_gain = gain;
      best_scale = norm > 0 ? dot / norm : 0;
    }
  }
  const f16 scale = to_f16(best_scale);
  scale_bits = scale.bits;
  if (!std::isfinite(to_float(scale))) {
    std::fill_n(codes, kGroupSize, uint8_t{0});
    return false;
  }
  encode(to_float(scale) != 0 ? 1 / to_float(scale) : 0, codes);
  return true;
}

bool encode_mxfp4(const float* x, uint8_t* codes, uint16_t& scale_bits) {
  const float largest = largest_magnitude(x);
  const bool finite = largest < kInfinity;
  // floor(log2) is the exponent field; the largest E2M1 number is 6 = 1.5 * 2^2.
  const int exponent = static_cast<int>(std::bit_cast<uint32_t>(largest) >> 23);  // biased by 127; 0: subnormal or 0
  const int scale = finite ? std::max(exponent - 2, 0) : 0xFF;
  scale_bits = static_cast<uint16_t>(scale);
  const float factor = to_float(e8m0{static_cast<uint8_t>(scale)});
  for (int i = 0; i < kGroupSize; ++i) {
    // Nearest of 0 .5 1 1.5 2 3 4 6, ties to the even code: between 2 and 4 steps are of 1, above of 2.
    const float v = finite ? std::fabs(x[i]) / factor : 0;
    float twice = v < 2 ? nearest(2 * v) : v < 4 ? 2 * nearest(v) : v < 8 ? 4 * nearest(v / 2) : 12;
    twice = twice > 12 ? 12 : twice;
    const int code = twice <= 4 ? static_cast<int>(twice) : twice <= 6 ? 5 : twice <= 8 ? 6 : 7;
    codes[i] = static_cast<uint8_t>(code | (std::signbit(x[i]) ? 8 : 0));
  }
  return finite;
}

}  // namespace

const std::array<int8_t, 16>& code_values(GroupFormat format) {
  switch (format) {
    case GroupFormat::kInt4: return kInt4Values;
    case GroupFormat::kIq4Nl:
    case GroupFormat::kIq4Xs: return kIq4NlValues;
    case GroupFormat::kMxfp4: return kMxfp4Values;
    case GroupFormat::kQ5_0: return kFrom16;
    case GroupFormat::kQ4K:
    case GroupFormat::kQ5K: return kFromZero;
    case GroupFormat::kQ6K: return kFrom32;
    case GroupFormat::kNone:
    case GroupFormat::kInt8: break;
  }
  check(false, "INT8 has no table");
  return kFromZero;
}

GroupValues values_of(GroupFormat format, const StoredGroup& group) {
  GroupValues out;
  if (format == GroupFormat::kInt8) {
    std::copy(group.codes.begin(), group.codes.end(), out.values.begin());
  } else {
    const auto& table = code_values(format);
    for (size_t i = 0; i < group.codes.size(); ++i) {
      out.values[i] = static_cast<int8_t>(table[group.codes[i] & 15] + (group.codes[i] & 0xF0));
    }
  }
  if (format == GroupFormat::kMxfp4) {
    out.scales.fill(to_float(e8m0{static_cast<uint8_t>(group.scale)}) * 0.5f);
    return out;
  }
  const float scale = to_float(f16{group.scale});
  out.scales.fill(scale);
  if (has_offsets(format)) {
    out.scales.fill(scale * group.factors[0]);
    out.offset = to_float(f16{group.offset}) * group.factors[1];
  } else if (has_half_scales(format)) {
    for (size_t half = 0; half < 2; ++half) out.scales[half] = scale * static_cast<int8_t>(group.factors[half]);
  }
  return out;
}

void read_groups(const Weight& w, int64_t n, int64_t first, int64_t count, StoredGroup* out) {
  const auto* bytes = static_cast<const uint8_t*>(w.codes.data);
  for (int64_t g = 0; g < count; ++g) {
    StoredGroup& group = out[g];
    const int64_t at = n * w.scales.stride(0) + first + g;
    group.scale =
        w.groups == GroupFormat::kMxfp4 ? w.scales.ptr<const e8m0>()[at].bits : w.scales.ptr<const f16>()[at].bits;
    const int64_t code = n * w.codes.stride(0) + (first + g) * kGroupSize;
    if (w.groups == GroupFormat::kInt8) {
      std::copy_n(bytes + code, kGroupSize, group.codes.begin());
      continue;
    }
    for (int64_t i = 0; i < kGroupSize; i += 2) {
      const uint8_t both = bytes[(code + i) / 2];
      group.codes[static_cast<size_t>(i)] = both & 15;
      group.codes[static_cast<size_t>(i) + 1] = both >> 4;
    }
  }
}

float group_scale(const Weight& w, int64_t n, int64_t group) {
  const int64_t at = n * w.scales.stride(0) + group;
  if (w.groups == GroupFormat::kMxfp4) return to_float(w.scales.ptr<const e8m0>()[at]) * 0.5f;
  return to_float(w.scales.ptr<const f16>()[at]);
}

Weight group_rows(GroupFormat format, int64_t n, int64_t k) {
  check(can_quantize_to(format), "a format that rows are kept in");
  Weight w;
  w.groups = format;
  w.codes = Tensor::contiguous(nullptr, codes_dtype(format), {n, k});
  w.codes.strides[0] = num_groups(k) * kGroupSize;
  w.scales =
      Tensor::contiguous(nullptr, format == GroupFormat::kMxfp4 ? DType::kE8M0 : DType::kF16, {n, num_groups(k)});
  return w;
}

bool quantize_groups(const float* x, int64_t count, GroupFormat format, uint8_t* codes, uint16_t* scales) {
  bool all = true;
  for (int64_t g = 0; g < count; ++g) {
    const float* group = x + g * kGroupSize;
    uint8_t* out = codes + g * kGroupSize;
    switch (format) {
      case GroupFormat::kInt8: all &= encode_int8(group, out, scales[g]); break;
      case GroupFormat::kMxfp4: all &= encode_mxfp4(group, out, scales[g]); break;
      case GroupFormat::kInt4:
      case GroupFormat::kIq4Nl: all &= encode_four_bit(group, format, out, scales[g]); break;
      default: check(false, "a format that numbers are turned into"); break;
    }
  }
  return all;
}

void quantize_activations(const float* x, int64_t count, int8_t* codes, float* scales) {
  for (int64_t g = 0; g < count; ++g) {
    const float* group = x + g * kGroupSize;
    int8_t* out = codes + g * kGroupSize;
    const float largest = largest_magnitude(group);
    const bool finite = largest < kInfinity;
    scales[g] = finite ? largest / 127 : std::numeric_limits<float>::quiet_NaN();
    // Of a subnormal largest number the inverse may be infinite: such a group counts as zero.
    const float ratio = largest > 0 ? 127 / largest : 0, inverse = ratio < kInfinity ? ratio : 0;
    for (int i = 0; i < kGroupSize; ++i) {
      out[i] = finite ? static_cast<int8_t>(nearest(clamp(group[i] * inverse, -127, 127))) : int8_t{0};
    }
  }
}

}  // namespace fathom
