// The fathom command. Everything is in cli.cc (flags) and one file per verb.
#include "apps/cli.h"

int main(int argc, char** argv) { return fathom::apps::run_command_line(argc, argv); }
