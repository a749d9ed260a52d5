// What is wrong with a command line, in the words of its user: CLI11's, but a missing or mistyped verb, flag or
// argument is called so, and the flag that was meant is named.
#pragma once

#include <string>

namespace CLI {
class App;
class ParseError;
}  // namespace CLI

namespace fathom::apps {

/// "fathom data pack" of the verb `pack`.
std::string full_name(const CLI::App& app);

/// One line about `error` of the verb `app`, without the way to its help.
std::string parse_error_text(const CLI::App& app, const CLI::ParseError& error);

}  // namespace fathom::apps
