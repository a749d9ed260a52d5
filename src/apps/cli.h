// The command line: verbs, flags and their help. With flags.cc the only file that knows CLI11.
#pragma once

namespace fathom::apps {

/// Parses the arguments, runs the verb, and returns the exit code of the process.
int run_command_line(int argc, char** argv);

}  // namespace fathom::apps
