// Configuration: a struct lists its settings once, and from that list come the TOML file, the environment variables,
// the command-line overrides, the effective file that is written next to a run, and the help. Precedence is flag >
// environment > file > default. A key that the struct does not list is an error that names it and the nearest known
// one.
//
//   struct TrainConfig {
//     double lr = 3e-4;
//     template <class V>
//     void fields(V& v) {
//       v("train.lr", lr, "peak learning rate", at_least(0));
//     }
//   };
//   auto config = load_config<TrainConfig>({.file = "run.toml", .overrides = {"train.lr=1e-3"}});
#pragma once

#include <cstdint>
#include <limits>
#include <string>
#include <string_view>
#include <utility>
#include <variant>
#include <vector>

#include "base/file.h"
#include "base/result.h"

namespace fathom {

/// What a setting accepts beyond its type: a closed range of numbers (every element of a list), or a set of strings.
struct Accepts {
  double min = -std::numeric_limits<double>::infinity();
  double max = std::numeric_limits<double>::infinity();
  std::vector<std::string> choices{};
};
inline Accepts at_least(double min) { return {.min = min}; }
inline Accepts between(double min, double max) { return {.min = min, .max = max}; }
inline Accepts one_of(std::vector<std::string> choices) { return {.choices = std::move(choices)}; }

/// One setting: its dotted key, where its value lives, and what a person should know about it.
struct ConfigField {
  using Target = std::variant<bool*, int64_t*, double*, std::string*, Path*, std::vector<int64_t>*,
                              std::vector<double>*, std::vector<std::string>*>;
  std::string key;
  Target target;
  std::string help;
  Accepts accepts;
  std::vector<std::string> other_names{};  // keys that people may know it by: refused, with its own
};

/// The visitor that a config struct's fields() is called with.
class ConfigFields {
 public:
  template <class T>
  void operator()(std::string_view key, T& value, std::string_view help, Accepts accepts = {}) {
    list_.push_back({std::string(key), &value, std::string(help), std::move(accepts)});
  }
  const std::vector<ConfigField>& list() const { return list_; }

 private:
  std::vector<ConfigField> list_;
};

/// Where values come from, weakest first. Lists in `environment` and `overrides` are written "1,2,3" or as a JSON
/// array.
struct ConfigSources {
  Path file{};                             // TOML; empty: no file
  std::vector<std::string> environment{};  // "FATHOM_TRAIN_LR=0.1"; see process_environment()
  std::vector<std::string> overrides{};    // "train.lr=0.1", in the order of the command line: the last one wins
};

/// The environment of this process as "NAME=value" strings: only names that start with FATHOM_.
std::vector<std::string> process_environment();

/// One line of the settings' reference.
struct ConfigKey {
  std::string key;            // "train.lr"
  std::string environment;    // "FATHOM_TRAIN_LR"
  std::string type;           // "number"
  std::string accepted;       // "a number >= 0"
  std::string default_value;  // as TOML
  std::string help;
};

// The work behind the templates below, on the type-erased list.
Status apply_config(const std::vector<ConfigField>& fields, const ConfigSources& sources);
enum class TomlComments { kNone, kHelp };
std::string config_to_toml(const std::vector<ConfigField>& fields, TomlComments comments = TomlComments::kNone);
std::vector<ConfigKey> config_keys(const std::vector<ConfigField>& fields);

/// `defaults` with the values of the sources laid over it. Errors name the source (file:line, variable or override),
/// the key, the value and what is accepted. A FATHOM_ variable is judged only if it starts like one of the struct's
/// sections (FATHOM_TRAIN_...) or is exactly a setting's name: other programs' and other verbs' variables are none of
/// its business.
template <class Config>
Result<Config> load_config(const ConfigSources& sources, Config defaults = {}) {
  ConfigFields fields;
  defaults.fields(fields);
  if (auto status = apply_config(fields.list(), sources); !status) return status.error();
  return defaults;
}

/// The effective configuration as TOML that load_config reads back to equal values.
template <class Config>
std::string to_toml(Config config) {
  ConfigFields fields;
  config.fields(fields);
  return config_to_toml(fields.list());
}

/// to_toml for people: above each setting what it means, what it accepts and the variable that sets it.
template <class Config>
std::string to_documented_toml(Config config) {
  ConfigFields fields;
  config.fields(fields);
  return config_to_toml(fields.list(), TomlComments::kHelp);
}

/// Every setting with type, default and help, in the order of the struct.
template <class Config>
std::vector<ConfigKey> list_config_keys(Config defaults = {}) {
  ConfigFields fields;
  defaults.fields(fields);
  return config_keys(fields.list());
}

}  // namespace fathom
