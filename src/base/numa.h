// Memory of several NUMA nodes: large blocks are dealt out over all of them. Any thread takes any chunk of an operation
// (base/threads.h), so no thread has a node of its own weights; pages in turn on every node give each thread the same
// memory and all of them the bandwidth of all nodes.
#pragma once

#include <cstdint>
#include <vector>

namespace fathom {

/// The nodes that this process may take memory from, as a bit mask by words of 64; empty where the kernel does not
/// tell.
std::vector<uint64_t> allowed_numa_nodes();

/// Deals out the pages of [data, data + num_bytes), a multiple of the page size that nobody has touched, over the nodes
/// of the mask. Returns whether the kernel took the advice: containers may forbid it.
bool interleave_pages(void* data, int64_t num_bytes, const std::vector<uint64_t>& nodes);

/// The same over all nodes of the process, if there are several and it was not told otherwise (numactl).
void spread_over_nodes(void* data, int64_t num_bytes);

}  // namespace fathom
