// Panels: the layout of a matrix [N, K] that products read: 16 rows together, so that a vector holds one or a few k of
// all of them, and one stream of memory feeds a product. Row n of panel p is row 16 p + n of the matrix; N is filled up
// to 16, K to 32 and of integers to 64 with zeros. Within a panel:
//   BF16   [k / 2][n][k % 2]                         E4M3 the same, a byte each
//   INT8   per 64 k: scales, then [k / 4][n][k % 4], code + 128 in a byte
//   4-bit  per 64 k: scales, then [k / 8][n][k % 4], k % 8 < 4 in the low half of the byte, the rest in the high half
//   5-bit  the same, and after the 4 lines of each group one with the fifth bits: byte [n][k % 4], bit k / 4 of it
//   6-bit  the same with two lines: [k / 16][n][k % 4], bits 2 (k / 4 % 4) and the next
// where the scales of the two groups are a line of memory, [2][n] as F16, or as BF16 for MXFP4 (an E8M0 scale and its
// half are BF16 numbers). Scales behind all codes would be a second stream, which costs a third of the bandwidth
// (docs/decisions/0013). Of the K formats the line is [2][2][n]: the two factors of each group. A line before every
// four of their spans has the scales of the super-block, [n] F16, then its scales of offsets or nothing.
#pragma once

#include <cstddef>
#include <cstdint>

#include "numerics/intq.h"
#include "tensor/tensor.h"

namespace fathom {

inline constexpr int64_t kPanelColumns = 16;

constexpr int64_t num_panels(int64_t n) { return (n + kPanelColumns - 1) / kPanelColumns; }

/// A matrix of N by K in panels without memory: BF16 or E4M3, or integer groups.
Weight panels_of(DType dtype, int64_t n, int64_t k);
Weight panels_of(GroupFormat format, int64_t n, int64_t k);

/// Bytes of one panel.
int64_t panel_bytes(const Weight& w);
/// Bytes of the codes of any weight, with scales that lie beside them (panels and blocks of groups).
int64_t code_bytes(const Weight& w);
/// Bytes of codes and scales: what is read to use all of it once.
int64_t weight_bytes(const Weight& w);

/// Element [n, k] of a matrix in panels as FP32; FP8 codes times their scale.
float panel_at(const Weight& w, int64_t n, int64_t k);

/// One row's group of a matrix in any layout.
StoredGroup stored_group(const Weight& w, int64_t n, int64_t group);
/// What it stands for.
inline GroupValues group_values(const Weight& w, int64_t n, int64_t group) {
  return values_of(w.groups, stored_group(w, n, group));
}

/// Fills panel p of `to` from a matrix in rows or blocks. The formats need not agree: integer groups are made from any
/// other dtype (quantize_groups) and kept as they are if they are of the same format; BF16 from anything, with one
/// rounding; E4M3 from E4M3 alone. False: a number that the format cannot hold (NaN, infinity, beyond F16 scales).
bool pack_panel(const Weight& from, int64_t p, const Weight& to);

}  // namespace fathom
