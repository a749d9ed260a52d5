#include "apps/parse_errors.h"

#include <CLI/CLI.hpp>
#include <algorithm>
#include <numeric>
#include <utility>
#include <vector>

#include "apps/foreign_flags.h"

namespace fathom::apps {
namespace {

/// Letters to insert, delete or replace until one word is the other.
size_t edit_distance(std::string_view a, std::string_view b) {
  std::vector<size_t> row(b.size() + 1);
  std::iota(row.begin(), row.end(), size_t{0});
  for (size_t i = 0; i < a.size(); ++i) {
    size_t diagonal = std::exchange(row[0], i + 1);
    for (size_t j = 0; j < b.size(); ++j) {
      const size_t replaced = diagonal + (a[i] == b[j] ? 0 : 1);
      diagonal = row[j + 1];
      row[j + 1] = std::min({replaced, row[j] + 1, diagonal + 1});
    }
  }
  return row.back();
}

/// The verbs of other programs, and what does their work here.
constexpr std::pair<std::string_view, std::string_view> kForeignVerbs[] = {
    {"run", "chat, or generate"},
    {"cli", "chat, or generate"},
    {"complete", "generate"},
    {"completion", "generate"},
    {"perplexity", "eval"},
    {"ppl", "eval"},
    {"server", "serve"},
    {"collect-env", "doctor"},
    {"version", "--version"},
    {"-v", "--version"},
    {"-V", "--version"},
    {"show", "inspect"},
    {"benchmark", "bench"},
    {"finetune", "train"},
    {"convert", "quantize, which writes a Hugging Face directory; GGUF files are read as they are"}};

/// "; did you mean chat?", or nothing.
std::string meant_verb(const CLI::App& app, const std::string& given) {
  if (app.get_parent() == nullptr) {
    for (const auto& [theirs, ours] : kForeignVerbs) {
      if (theirs == given) return "; here it is " + std::string(ours);
    }
  }
  for (const CLI::App* verb : app.get_subcommands([](const CLI::App* v) { return !v->get_group().empty(); })) {
    if (edit_distance(given, verb->get_name()) <= 2) return "; did you mean " + verb->get_name() + "?";
  }
  return "";
}

/// Of what is left over, the first flag (the value of an unknown flag is left over too), else the first word.
std::string unexpected(const CLI::App& app, const std::vector<std::string>& rest) {
  const auto flag = std::ranges::find_if(rest, [](const std::string& word) { return word.starts_with("-"); });
  if (flag == rest.end()) {
    const std::string hint = app.get_name() == "generate"   ? "; the prompt goes behind -p"
                             : app.get_name() == "quantize" ? "; the formats go behind --quant"
                                                            : "";
    return "\"" + rest.front() + "\" is one argument too many for " + full_name(app) + hint;
  }
  const std::string given = flag->substr(0, flag->find('='));
  if (const auto advice = advice_on_foreign_flag(given))
    return full_name(app) + " has no flag " + given + ": " + *advice;
  std::string nearest;
  size_t least = 3;  // more changes than that make another word
  for (const CLI::Option* option : app.get_options()) {
    for (const std::string& name : option->get_lnames()) {
      if (const size_t changes = edit_distance(given, "--" + name); changes < least) {
        least = changes;
        nearest = "; did you mean --" + name + "?";
      }
    }
  }
  return full_name(app) + " has no flag " + given + nearest;
}

}  // namespace

std::string full_name(const CLI::App& app) {
  return app.get_parent() == nullptr ? "fathom" : full_name(*app.get_parent()) + " " + app.get_name();
}

std::string parse_error_text(const CLI::App& app, const CLI::ParseError& error) {
  const std::vector<std::string> rest = app.remaining();
  if (app.get_require_subcommand_min() == 0) {
    if (dynamic_cast<const CLI::ExtrasError*>(&error) != nullptr && !rest.empty()) return unexpected(app, rest);
    for (const CLI::Option* option : app.get_options()) {
      const bool missing = option->get_required() && option->get_positional() && option->count() == 0;
      if (missing && dynamic_cast<const CLI::RequiredError*>(&error) != nullptr) {
        return option->get_name(true) + " is required: " + option->get_description();
      }
    }
    return error.what();
  }
  if (rest.empty()) {
    const auto is_shown = [](const CLI::App* verb) { return !verb->get_group().empty(); };
    std::string verbs;
    for (const CLI::App* verb : app.get_subcommands(is_shown)) verbs += (verbs.empty() ? "" : ", ") + verb->get_name();
    return (app.get_parent() == nullptr ? "give a verb: " : app.get_name() + " needs a verb: ") + verbs;
  }
  return full_name(app) + " has no verb or flag \"" + rest.front() + "\"" + meant_verb(app, rest.front());
}

}  // namespace fathom::apps
