#include "apps/parse_errors.h"

#include <CLI/CLI.hpp>
#include <algorithm>
#include <numeric>
#include <utility>
#include <vector>

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

/// Of what is left over, the first flag (the value of an unknown flag is left over too), else the first word.
std::string unexpected(const CLI::App& app, const std::vector<std::string>& rest) {
  const auto flag = std::ranges::find_if(rest, [](const std::string& word) { return word.starts_with("-"); });
  if (flag == rest.end()) return "\"" + rest.front() + "\" is one argument too many for " + full_name(app);
  const std::string given = flag->substr(0, flag->find('='));
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
  return full_name(app) + " has no verb or flag \"" + rest.front() + "\"";
}

}  // namespace fathom::apps
