// The prefix store: the pages of the prefix index in a file, so that a server finds them after a restart. The file
// appears whole or not at all, belongs to one identity (model, precision, program), and every page carries a checksum:
// a file with anything wrong in it is refused as a whole, and nothing of it is used.
#pragma once

#include <cstdint>

#include "base/file.h"
#include "base/result.h"
#include "engine/latent_cache.h"

namespace fathom {

/// Writes every page that the index knows, most recently used first. Errors: those of AtomicFile; an older file stays.
Status save_prefix_pages(const LatentCache& cache, uint64_t identity, const Path& path);

/// Takes the pages of a file into the cache, as many as it has room for, all of them without a user; how many. The
/// index must be empty. Errors, with the cache as it was: kNotFound without a file; another identity or shape; a wrong
/// length; a page whose checksum does not fit.
Result<int64_t> load_prefix_pages(LatentCache& cache, uint64_t identity, const Path& path);

}  // namespace fathom
