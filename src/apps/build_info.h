// What this program was built from and with: for --version, bug reports and fathom doctor.
#pragma once

#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace fathom::apps {

/// Written by tools/build_info.cmake at every build.
struct BuildInfo {
  std::string_view version;   // "0.1.0"
  std::string_view commit;    // "0b0cec3a1b2c", "-dirty" behind it if files differ; "unknown" outside a git checkout
  std::string_view levels;    // the kernels that were compiled: "generic avx2 avx512"
  std::string_view compiler;  // "GNU 12.2.0"
  std::string_view build;     // "Release", and the sanitizers if there are some
};
const BuildInfo& build_info();

/// What --version prints: "fathom 0.1.0 (COMMIT)", then the kernels, of them the one that this machine would use, and
/// the compiler.
std::string version_text();

/// The libraries of others with their versions: those that are linked say it themselves, those that are headers said it
/// to the compiler.
std::vector<std::pair<std::string, std::string>> library_versions();

}  // namespace fathom::apps
