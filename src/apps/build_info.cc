// What the libraries of others say about themselves: the one file that includes them only to ask.
#include "apps/build_info.h"

#include <gnu/libc-version.h>
#include <openssl/crypto.h>
#include <toml++/impl/version.h>
#include <xxhash.h>

#include <CLI/Version.hpp>
#include <algorithm>
#include <boost/version.hpp>
#include <nlohmann/detail/abi_macros.hpp>

#define PCRE2_CODE_UNIT_WIDTH 8
#include <pcre2.h>

#include "kernels/registry.h"

namespace fathom::apps {
namespace {

std::string dotted(unsigned major, unsigned minor, unsigned patch) {
  return std::to_string(major) + "." + std::to_string(minor) + "." + std::to_string(patch);
}

std::string pcre2_version() {
  char text[64] = "";
  pcre2_config(PCRE2_CONFIG_VERSION, text);
  const std::string version = text;  // "10.42 2022-12-11"
  return version.substr(0, version.find(' '));
}

}  // namespace

std::string version_text() {
  const BuildInfo& info = build_info();
  const std::vector<std::string> available = available_kernels();
  return "fathom " + std::string(info.version) + " (" + std::string(info.commit) + ")\nkernels " +
         std::string(info.levels) + "; this machine: " + available.back() + "\ncompiler " + std::string(info.compiler) +
         ", " + std::string(info.build);
}

std::vector<std::pair<std::string, std::string>> library_versions() {
  const unsigned xxhash = ::XXH_versionNumber();  // 801 is 0.8.1
  std::string boost = BOOST_LIB_VERSION;          // "1_81"
  std::replace(boost.begin(), boost.end(), '_', '.');
  const std::string json =
      dotted(NLOHMANN_JSON_VERSION_MAJOR, NLOHMANN_JSON_VERSION_MINOR, NLOHMANN_JSON_VERSION_PATCH);
  const std::string toml = dotted(TOML_LIB_MAJOR, TOML_LIB_MINOR, TOML_LIB_PATCH);
  return {{"glibc", ::gnu_get_libc_version()},
          {"OpenSSL", ::OpenSSL_version(OPENSSL_VERSION_STRING)},
          {"PCRE2", pcre2_version()},
          {"xxHash", dotted(xxhash / 10000, xxhash / 100 % 100, xxhash % 100)},
          {"Boost", boost},
          {"nlohmann/json", json},
          {"toml++", toml},
          {"CLI11", CLI11_VERSION}};
}

}  // namespace fathom::apps
