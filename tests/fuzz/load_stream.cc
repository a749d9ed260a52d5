// Fuzz target: whatever a server answers to the load generator, the reader of its stream counts or refuses it, and how
// it is cut changes nothing.
#include "serve/load_stream.h"

#include "scratch.h"

namespace {

fathom::serve::LoadStream read(std::string_view text, size_t piece, bool& good) {
  fathom::serve::LoadStream stream;
  good = true;
  for (size_t at = 0; good && at < text.size(); at += piece) good = stream.push(text.substr(at, piece));
  return stream;
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using fathom::check;
  const std::string_view text = fathom::fuzz::text_of(data, size);
  bool good = false, good_cut = false;
  const auto whole = read(text, size + 1, good), bytewise = read(text, 1, good_cut);
  check(good == good_cut && whole.problem() == bytewise.problem(), "cuts decide about nothing");
  check(good == whole.problem().empty(), "a refused stream has a reason");
  check(whole.num_pieces() == bytewise.num_pieces() && whole.finished() == bytewise.finished() &&
            whole.output_tokens() == bytewise.output_tokens() && whole.prompt_tokens() == bytewise.prompt_tokens() &&
            whole.error() == bytewise.error(),
        "what is counted does not depend on the cuts");
  check(whole.output_tokens().value_or(0) >= 0 && whole.cached_tokens() >= 0, "counts are not negative");
  check(fathom::serve::error_message(text).find('\n') == std::string::npos, "a message is one line");
  return 0;
}
