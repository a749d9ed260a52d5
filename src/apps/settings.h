// Settings: flags of a verb that may also stand in the environment or in a TOML file. One mechanism for all verbs but
// those that have a configuration of their own (train, plan): a flag --max-tokens of generate is max_tokens in the
// table [generate] of the file that --config or FATHOM_CONFIG names, and FATHOM_GENERATE_MAX_TOKENS in the environment.
// Flag > environment > file > default. base/config reads both and refuses what no flag is called.
#pragma once

#include <string>
#include <utility>
#include <vector>

#include "base/result.h"

namespace CLI {
class App;
}

namespace fathom::apps {

/// Gives a verb --config and --print-config, and with them its settings.
void add_settings_flags(CLI::App& verb);

/// A verb that add_settings_flags has seen.
bool has_settings(const CLI::App& verb);

/// An argument that stands for a setting, and where it comes from.
struct SettingArgument {
  std::string argument;  // "--max-tokens=20"
  std::string flag;      // "--max-tokens"
  std::string source;    // "FATHOM_GENERATE_MAX_TOKENS" or "max_tokens in run.toml"
};

/// What environment and file add to a parsed verb: the flags that its command line does not have. `program` is where
/// the tables of the other verbs in the file are known from. Errors are base/config's: they name file and line, or the
/// variable, and what is accepted.
Result<std::vector<SettingArgument>> setting_arguments(const CLI::App& program, const CLI::App& verb);

/// All settings of a parsed verb as a TOML table: values that are set, defaults as comments, help above each.
std::string settings_text(const CLI::App& verb);

}  // namespace fathom::apps
