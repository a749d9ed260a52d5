// What the files of fathom eval share.
#pragma once

#include "apps/session.h"
#include "apps/verbs.h"
#include "base/check.h"
#include "engine/latent_cache.h"

namespace fathom::apps {

/// A cache for one window, of the dtype of the session's.
struct WindowCache {
  WindowCache(Session& session, int64_t window)
      : cache(session.model().config, session.engine().cache_dtype(), window), pages(cache) {
    check(static_cast<bool>(pages.reserve(window)), "a window fits its own cache");
  }
  LatentCache cache;
  SequenceCache pages;
};

/// The questions of a benchmark (engine/eval_task.h).
Status eval_task(Session& session, const EvalOptions& options);

}  // namespace fathom::apps
