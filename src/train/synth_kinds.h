// The generators behind synth.h, one per kind of document; each in its own file. (Arithmetic is in arithmetic.h.)
#pragma once

#include <vector>

#include "base/rng.h"
#include "train/document.h"

namespace fathom {

/// A story of six to ten sentences: somebody, a wish, trouble, help, an end. synth_stories.cc.
Document story_document(SequentialRng& rng);

/// Facts, then questions about them; plain or as a chat. Keys and values of one document are unique. synth_recall.cc.
Document recall_document(SequentialRng& rng);

/// A chat of one to six turns on small matters; a name or a favourite told earlier is used later. synth_chat.cc.
Document chat_document(SequentialRng& rng);

/// A recall exercise as turns of a chat.
void add_recall_turns(SequentialRng& rng, std::vector<Message>& messages);

}  // namespace fathom
