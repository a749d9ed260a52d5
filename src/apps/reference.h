// Reference: what the command line says about itself in the forms that a system keeps: man pages and completions of
// bash and zsh, all made from the definitions that --help prints.
#pragma once

#include <string>
#include <string_view>

#include "base/file.h"
#include "base/result.h"

namespace CLI {
class App;
}

namespace fathom::apps {

/// The page of `app`, which is the program or one of its verbs, in man's macros. `version` stands in the footer.
std::string man_page(const CLI::App& app, std::string_view version);

/// A script that completes verbs, flags and files for the whole program.
std::string bash_completion(const CLI::App& program);
std::string zsh_completion(const CLI::App& program);

/// Writes DIRECTORY/{man/man1/*.1, bash-completion/completions/fathom, zsh/site-functions/_fathom}: share/ of an
/// installation. Errors: a file that cannot be written.
Status write_reference(const CLI::App& program, std::string_view version, const Path& directory);

}  // namespace fathom::apps
