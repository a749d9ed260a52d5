// The command line of fathom serve in the words of vLLM, SGLang and llama.cpp: flags that mean something here become
// ours, flags that change nothing here are accepted and told of, and values that cannot be had are refused by name.
#pragma once

#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"

namespace fathom::apps {

/// `words` behind the verb, with our flags only. What has no effect becomes `--without-effect=WHAT`. Errors: a value
/// that asks for something this server cannot do, a missing value, a flag of one dash and several letters that nobody
/// knows (which would otherwise be read as its first letter with a value).
Result<std::vector<std::string>> in_our_words(const std::vector<std::string>& words);

/// What the flag of another program is to a verb that does not take it: "changes nothing here; leave it away", or the
/// flag of ours; nothing if nobody knows it. `flag` without a value.
std::optional<std::string> advice_on_foreign_flag(std::string_view flag);

/// For the other verbs: an error if one of `words`, a verb first, is a flag of others with one dash and several
/// letters. -ngl would be read as -n with the value "gl".
Status refuse_foreign_letters(const std::vector<std::string>& words);

}  // namespace fathom::apps
