// The command line of fathom serve in the words of vLLM, SGLang and llama.cpp: flags that mean something here become
// ours, flags that change nothing here are accepted and told of, and values that cannot be had are refused by name.
#pragma once

#include <string>
#include <vector>

#include "base/result.h"

namespace fathom::apps {

/// `words` behind the verb, with our flags only. What has no effect becomes `--without-effect=WHAT`. Errors: a value
/// that asks for something this server cannot do, a missing value, a flag of one dash and several letters that nobody
/// knows (which would otherwise be read as its first letter with a value).
Result<std::vector<std::string>> in_our_words(const std::vector<std::string>& words);

}  // namespace fathom::apps
