// What fathom serve and fathom bench serve have in common: a session as the server wants it, and open files enough for
// its clients.
#pragma once

#include <string>

#include "apps/session.h"
#include "serve/completion.h"

namespace fathom::apps {

/// The session's model under its own name: `model`, if that is ORG/NAME, of a directory its last part. The session
/// outlives it.
serve::ServedModel served_model(Session& session, const std::string& model);

/// Every connection is an open file, and the usual soft limit is 1024: raises it to the hard one. Files that may be
/// open now.
int64_t allow_many_open_files();

}  // namespace fathom::apps
