// Matrices of integer groups as GGUF files have them: row after row of blocks, each of which holds its scales and its
// codes. A block is a group, or a super-block of 8 groups in the K formats. Written from the format's description
// (ggml's block layouts). Blocks need no alignment.
#pragma once

#include <cstddef>
#include <cstdint>

#include "numerics/intq.h"
#include "tensor/tensor.h"

namespace fathom {

/// Bytes of a block: 34 (INT8), 18 (INT4, IQ4_NL), 17 (MXFP4), 22 (Q5_0); 144, 176, 210 (Q4_K to Q6_K), 136 (IQ4_XS).
int64_t block_bytes(GroupFormat format);
constexpr int64_t groups_of_block(GroupFormat format) { return has_super_blocks(format) ? kSuperBlockGroups : 1; }

/// A matrix in blocks, at `blocks`; K is a multiple of a block's numbers (32 or 256).
Weight blocks_of(GroupFormat format, int64_t n, int64_t k, const std::byte* blocks);

/// Group `group` of a run of blocks.
StoredGroup group_in_blocks(GroupFormat format, const std::byte* blocks, int64_t group);

}  // namespace fathom
