// The fathom command. Everything is in cli.cc (flags) and one file per verb.
#include <new>

#include "apps/cli.h"
#include "base/check.h"

int main(int argc, char** argv) {
  std::set_new_handler([] { fathom::out_of_memory(0); });
  return fathom::apps::run_command_line(argc, argv);
}
