#include "apps/settings.h"

#include <CLI/CLI.hpp>
#include <algorithm>
#include <charconv>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <limits>
#include <memory>

#include "apps/parse_errors.h"
#include "base/check.h"
#include "base/config.h"

namespace fathom::apps {
namespace {

constexpr const char* kConfig = "--config";
constexpr const char* kPrintConfig = "--print-config";
constexpr const char* kGroup = "Settings";
constexpr int64_t kNoInteger = std::numeric_limits<int64_t>::min();
// No command line, variable or file can have this text.
const std::string kNoText = std::string("\0unset", 6);

/// Where base/config puts the value of one flag; what is not set keeps its mark.
struct Setting {
  const CLI::Option* option = nullptr;
  std::string name;  // "max_tokens"
  ConfigField::Target target;
  std::unique_ptr<bool> flag;
  std::unique_ptr<int64_t> integer;
  std::unique_ptr<double> number;
  std::unique_ptr<std::string> text;
  std::unique_ptr<std::vector<int64_t>> integers;
  std::unique_ptr<std::vector<std::string>> texts;
};

std::string type_of(const CLI::Option& option) { return option.get_type_name(); }

Setting setting_of(const CLI::Option& option) {
  Setting out;
  out.option = &option;
  out.name = option.get_lnames().front();
  std::replace(out.name.begin(), out.name.end(), '-', '_');
  const std::string type = type_of(option);
  if (option.get_items_expected_max() == 0) {
    out.target = (out.flag = std::make_unique<bool>(false)).get();
  } else if (type.starts_with("INT,")) {
    out.integers = std::make_unique<std::vector<int64_t>>(1, kNoInteger);
    out.target = out.integers.get();
  } else if (type.starts_with("INT")) {
    out.target = (out.integer = std::make_unique<int64_t>(kNoInteger)).get();
  } else if (type.starts_with("FLOAT")) {
    out.number = std::make_unique<double>(std::numeric_limits<double>::quiet_NaN());
    out.target = out.number.get();
  } else if (option.get_delimiter() != '\0' || option.get_multi_option_policy() == CLI::MultiOptionPolicy::TakeAll) {
    out.texts = std::make_unique<std::vector<std::string>>(1, kNoText);
    out.target = out.texts.get();
  } else {
    out.target = (out.text = std::make_unique<std::string>(kNoText)).get();
  }
  return out;
}

std::vector<Setting> settings_of(const CLI::App& verb) {
  std::vector<Setting> out;
  for (const CLI::Option* option : verb.get_options()) {
    if (option->get_lnames().empty() || option->get_group().empty()) continue;
    const std::string name = "--" + option->get_lnames().front();
    if (name == "--help" || name == kConfig || name == kPrintConfig) continue;
    out.push_back(setting_of(*option));
  }
  return out;
}

std::string key_of(const CLI::App& verb, std::string name) {
  std::replace(name.begin(), name.end(), '-', '_');
  return verb.get_name() + "." + name;
}

void add_fields(const CLI::App& verb, const std::vector<Setting>& settings, std::vector<ConfigField>& fields) {
  for (const Setting& setting : settings) {
    std::vector<std::string> other_names;
    for (const std::string& name : setting.option->get_lnames()) other_names.push_back(key_of(verb, name));
    for (const std::string& name : setting.option->get_snames()) other_names.push_back(key_of(verb, name));
    fields.push_back(
        {key_of(verb, setting.name), setting.target, setting.option->get_description(), {}, std::move(other_names)});
  }
}

/// The shortest text that reads back to the same number.
std::string number_text(double value) {
  char text[64];
  return std::string(text, std::to_chars(text, text + sizeof(text), value).ptr);
}

/// The values of a setting as the flag takes them; empty: it is not set.
std::vector<std::string> values_of(const Setting& setting) {
  if (setting.flag) return *setting.flag ? std::vector<std::string>{""} : std::vector<std::string>();
  if (setting.integer && *setting.integer != kNoInteger) return {std::to_string(*setting.integer)};
  if (setting.number && !std::isnan(*setting.number)) return {number_text(*setting.number)};
  if (setting.text && *setting.text != kNoText) return {*setting.text};
  std::vector<std::string> values;
  if (setting.integers && *setting.integers != std::vector<int64_t>{kNoInteger}) {
    std::string list;
    for (const int64_t value : *setting.integers) list += (list.empty() ? "" : ",") + std::to_string(value);
    if (!list.empty()) values.push_back(list);
  }
  if (setting.texts && *setting.texts != std::vector<std::string>{kNoText}) values = *setting.texts;
  return values;
}

std::string variable_of(const CLI::App& verb, const Setting& setting) {
  std::string name = "FATHOM_" + verb.get_name() + "_" + setting.name;
  std::transform(name.begin(), name.end(), name.begin(), [](unsigned char c) { return std::toupper(c); });
  return name;
}

bool is_set(const std::string& variable) {
  const char* value = std::getenv(variable.c_str());
  return value != nullptr && *value != '\0';
}

std::string toml_string(const std::string& text) {
  std::string out = "\"";
  for (const char c : text) {
    const auto byte = static_cast<unsigned char>(c);
    if (byte < 0x20 || byte == 0x7F) {
      char code[8];
      std::snprintf(code, sizeof(code), "\\u%04X", byte);
      out += code;
      continue;
    }
    if (c == '"' || c == '\\') out += '\\';
    out += c;
  }
  return out + "\"";
}

/// The value as TOML, of results of the command line or of a default.
std::string toml_value(const Setting& setting, const std::vector<std::string>& values) {
  if (setting.flag) return values.empty() ? "false" : "true";
  const bool is_list = setting.integers != nullptr || setting.texts != nullptr;
  const bool is_text = setting.text != nullptr || setting.texts != nullptr;
  std::string out;
  for (const std::string& value : values) out += (out.empty() ? "" : ", ") + (is_text ? toml_string(value) : value);
  if (is_list) return "[" + out + "]";
  return values.empty() ? (is_text ? "\"\"" : "") : out;
}

}  // namespace

void add_settings_flags(CLI::App& verb) {
  // The first flag of several words shows best how it is written there; MODEL is on the command line mostly.
  const std::vector<Setting> settings = settings_of(verb);
  check(settings.size() > 1, "a verb with settings has more of them than the model");
  auto example = std::ranges::find_if(settings, [](const Setting& s) { return s.name.find('_') != std::string::npos; });
  if (example == settings.end()) example = settings.begin() + 1;
  verb.add_option(kConfig)
      ->description("TOML file with these flags in a table [" + verb.get_name() + "], as " + example->name + " for --" +
                    example->option->get_lnames().front() + "; each is also a variable, as " +
                    variable_of(verb, *example) + ". Flag > variable > file")
      ->envname("FATHOM_CONFIG")
      ->type_name("TEXT")
      ->expected(1)
      ->group(kGroup);
  verb.add_flag(kPrintConfig)
      ->description("print the settings as such a file, each with its meaning, and stop")
      ->group(kGroup);
}

bool has_settings(const CLI::App& verb) {  // train and plan have flags of these names too
  const CLI::Option* print = verb.get_option_no_throw(kPrintConfig);
  return print != nullptr && print->get_group() == kGroup;
}

Result<std::vector<SettingArgument>> setting_arguments(const CLI::App& program, const CLI::App& verb) {
  std::vector<std::vector<Setting>> others;  // their fields point into them
  const std::vector<Setting> settings = settings_of(verb);
  std::vector<ConfigField> own, all;
  add_fields(verb, settings, own);
  all = own;
  for (const CLI::App* other :
       program.get_subcommands([&](const CLI::App* a) { return a != &verb && has_settings(*a); })) {
    others.push_back(settings_of(*other));
    add_fields(*other, others.back(), all);
  }
  std::string file;
  if (const CLI::Option* config = verb.get_option(kConfig); config->count() > 0) file = config->results().back();
  if (file.empty() && is_set("FATHOM_CONFIG")) file = std::getenv("FATHOM_CONFIG");
  // Twice, since the environment is this verb's alone: FATHOM_SERVE_PORT is nothing to generate.
  if (auto s = apply_config(all, {.file = file}); !s) return s.error();
  if (auto s = apply_config(own, {.environment = process_environment()}); !s) return s.error();
  std::vector<SettingArgument> out;
  for (const Setting& setting : settings) {
    const std::string flag = "--" + setting.option->get_lnames().front(), variable = variable_of(verb, setting);
    if (setting.option->count() > 0) continue;
    // A flag that excludes it is stronger than what a variable or a file says.
    if (std::ranges::any_of(setting.option->get_excludes(), [](const CLI::Option* o) { return o->count() > 0; }))
      continue;
    // A flag with a variable that all verbs share: that one is as strong as the verb's own.
    if (!setting.option->get_envname().empty() && is_set(setting.option->get_envname()) && !is_set(variable)) continue;
    const std::string source = is_set(variable) ? variable : setting.name + " in " + file;
    for (const std::string& value : values_of(setting)) {
      out.push_back({setting.flag ? flag : flag + "=" + value, flag, source});
    }
  }
  return out;
}

std::string settings_text(const CLI::App& verb) {
  std::string out = "[" + verb.get_name() + "]\n";
  for (const Setting& setting : settings_of(verb)) {
    const CLI::Option& option = *setting.option;
    out += "# " + option.get_description() + "\n";
    std::vector<std::string> values = option.count() > 0 ? option.results() : std::vector<std::string>();
    const bool is_default = values.empty();
    if (is_default && !option.get_default_str().empty()) values = {option.get_default_str()};
    if (!is_default && setting.name == "api_key") {
      out += "# api_key is set, and a secret\n";
      continue;
    }
    if (setting.number && !values.empty()) values = {number_text(std::strtod(values.back().c_str(), nullptr))};
    out += (is_default ? "# " : "") + setting.name + " = " + toml_value(setting, values) + "\n";
  }
  return out;
}

}  // namespace fathom::apps
