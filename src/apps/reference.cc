#include "apps/reference.h"

#include <CLI/CLI.hpp>
#include <algorithm>
#include <functional>
#include <vector>

#include "apps/parse_errors.h"
#include "base/file_set.h"

namespace fathom::apps {
namespace {

/// What --help shows: an empty group hides.
std::vector<const CLI::Option*> shown_options(const CLI::App& app) {
  return app.get_options([](const CLI::Option* o) { return !o->get_group().empty(); });
}

std::vector<const CLI::App*> shown_verbs(const CLI::App& app) {
  return app.get_subcommands([](const CLI::App* verb) { return !verb->get_group().empty(); });
}

/// The program and all verbs below it, each before its own.
void visit(const CLI::App& app, const std::function<void(const CLI::App&)>& see) {
  see(app);
  for (const CLI::App* verb : shown_verbs(app)) visit(*verb, see);
}

bool takes_value(const CLI::Option& option) { return option.get_items_expected_max() > 0; }

/// Every way to write a flag: "-n", "--max-tokens".
std::vector<std::string> spellings(const CLI::Option& option) {
  std::vector<std::string> out;
  for (const std::string& name : option.get_snames()) out.push_back("-" + name);
  for (const std::string& name : option.get_lnames()) out.push_back("--" + name);
  return out;
}

bool is_positional(const CLI::Option& option) { return option.get_positional(); }

/// The words behind the program's name: "data pack"; empty for the program.
std::string verb_path(const CLI::App& app) {
  const std::string name = full_name(app);
  const size_t blank = name.find(' ');
  return blank == std::string::npos ? "" : name.substr(blank + 1);
}

std::string joined(const std::vector<std::string>& words, const char* between) {
  std::string out;
  for (const std::string& word : words) out += (out.empty() ? "" : between) + word;
  return out;
}

// ---- Man ----

/// Text that roff prints as it is: hyphens that can be copied, no control lines.
std::string roff(std::string_view text) {
  std::string out;
  bool line_begins = true;
  for (const char c : text) {
    if (line_begins && (c == '.' || c == '\'')) out += "\\&";
    line_begins = c == '\n';
    if (c == '-') {
      out += "\\-";
    } else if (c == '\\') {
      out += "\\e";
    } else {
      out += c;
    }
  }
  return out;
}

std::string page_name(const CLI::App& app) {
  std::string name = full_name(app);
  std::replace(name.begin(), name.end(), ' ', '-');
  return name;
}

/// The type and range of a value, as --help has them.
std::string value_text(const CLI::Option& option) {
  if (!takes_value(option)) return "";
  const std::string type = option.get_type_name();
  return type.empty() ? "VALUE" : type;
}

/// The words that a value may be, "prefill", "decode": what CLI::IsMember writes into the type,
/// "TEXT:{prefill,decode}".
std::vector<std::string> choices_of(const CLI::Option& option) {
  const std::string type = value_text(option);
  const size_t begin = type.find('{'), end = type.find('}');
  if (begin == std::string::npos || end == std::string::npos || end < begin) return {};
  return CLI::detail::split(type.substr(begin + 1, end - begin - 1), ',');
}

void add_man_option(std::string& out, const CLI::Option& option) {
  const std::vector<std::string> names = spellings(option);
  out += ".TP\n";
  if (is_positional(option)) {
    out += "\\fI" + roff(option.get_name(true, false)) + "\\fR";
    if (!names.empty()) out += ", ";
  }
  for (size_t i = 0; i < names.size(); ++i) out += (i > 0 ? ", " : "") + ("\\fB" + roff(names[i]) + "\\fR");
  if (!names.empty() && takes_value(option)) out += " \\fI" + roff(value_text(option)) + "\\fR";
  out += "\n" + roff(option.get_description());
  if (!option.get_default_str().empty()) out += " (default: " + roff(option.get_default_str()) + ")";
  if (!option.get_envname().empty()) out += " (environment: " + roff(option.get_envname()) + ")";
  out += "\n";
}

// ---- Completions ----

/// 'text' for a shell.
std::string shell_text(std::string_view text) {
  std::string out = "'";
  for (const char c : text) {
    if (c == '\'') {
      out += "'\\''";
    } else {
      out += c;
    }
  }
  return out + "'";
}

/// The part of zsh's 'spec' behind a flag: [description], whose brackets and colons must be escaped.
std::string zsh_text(std::string_view text) {
  std::string out;
  for (const char c : text) {
    if (c == '[' || c == ']' || c == ':' || c == '\\') out += '\\';
    out += c;
  }
  return out;
}

std::string zsh_function(const CLI::App& app) {
  std::string name = page_name(app);
  std::replace(name.begin(), name.end(), '-', '_');
  return "_" + name;
}

void add_zsh_specs(std::string& out, const CLI::App& app) {
  for (const CLI::Option* option : shown_options(app)) {
    for (const std::string& name : spellings(*option)) {
      std::string spec = "*" + name + (takes_value(*option) && name.starts_with("--") ? "=" : "") + "[" +
                         zsh_text(option->get_description()) + "]";
      if (takes_value(*option)) {
        const std::vector<std::string> choices = choices_of(*option);
        spec +=
            ":" + zsh_text(value_text(*option)) + ":" + (choices.empty() ? "_files" : "(" + joined(choices, " ") + ")");
      }
      out += " \\\n    " + shell_text(spec);
    }
  }
}

}  // namespace

std::string man_page(const CLI::App& app, std::string_view version) {
  const std::string name = page_name(app);
  std::string upper = name;
  std::transform(upper.begin(), upper.end(), upper.begin(), [](unsigned char c) { return std::toupper(c); });
  std::string out = ".TH \"" + roff(upper) + "\" 1 \"\" \"fathom " + roff(version) + "\" \"fathom\"\n";
  std::string description = app.get_description();
  if (description.starts_with("fathom: ")) description.erase(0, 8);
  out += ".SH NAME\n" + roff(name) + " \\- " + roff(description) + "\n";
  out += ".SH SYNOPSIS\n\\fB" + roff(full_name(app)) + "\\fR";
  const auto verbs = shown_verbs(app);
  if (!verbs.empty()) out += app.get_require_subcommand_min() > 0 ? " \\fIVERB\\fR" : " [\\fIVERB\\fR]";
  out += " [\\fIFLAGS\\fR]";
  for (const CLI::Option* option : shown_options(app)) {
    if (!is_positional(*option)) continue;
    const std::string positional = "\\fI" + roff(option->get_name(true, false)) + "\\fR";
    out += option->get_required() ? " " + positional : " [" + positional + "]";
  }
  out += "\n";
  if (!verbs.empty()) {
    out += ".SH VERBS\n";
    for (const CLI::App* verb : verbs) {
      out += ".TP\n\\fB" + roff(verb->get_name()) + "\\fR\n" + roff(verb->get_description()) + "; see \\fB" +
             roff(page_name(*verb)) + "\\fR(1)\n";
    }
  }
  std::vector<std::string> groups;
  for (const CLI::Option* option : shown_options(app)) {
    if (std::find(groups.begin(), groups.end(), option->get_group()) == groups.end()) {
      groups.push_back(option->get_group());
    }
  }
  for (const std::string& group : groups) {
    std::string heading = group;
    std::transform(heading.begin(), heading.end(), heading.begin(), [](unsigned char c) { return std::toupper(c); });
    out += ".SH " + roff(heading) + "\n";
    for (const CLI::Option* option : shown_options(app)) {
      if (option->get_group() == group) add_man_option(out, *option);
    }
  }
  std::string footer = app.get_footer();
  if (footer.starts_with("Example:\n")) {
    footer.erase(0, 9);
    out += ".SH EXAMPLES\n.nf\n" + roff(footer) + "\n.fi\n";
  } else if (!footer.empty()) {
    out += ".SH NOTES\n" + roff(footer) + "\n";
  }
  if (app.get_parent() != nullptr) {
    out += ".SH SEE ALSO\n\\fB" + roff(page_name(*app.get_parent())) + "\\fR(1)\n";
  }
  return out;
}

std::string bash_completion(const CLI::App& program) {
  std::string paths, cases, choices;
  visit(program, [&](const CLI::App& app) {
    const std::string path = verb_path(app);
    if (!path.empty()) paths += (paths.empty() ? "" : "|") + shell_text(path);
    std::vector<std::string> verbs, flags, valued;
    for (const CLI::App* verb : shown_verbs(app)) verbs.push_back(verb->get_name());
    for (const CLI::Option* option : shown_options(app)) {
      for (const std::string& name : spellings(*option)) {
        flags.push_back(name);
        if (takes_value(*option)) valued.push_back(name);
        if (const auto words = choices_of(*option); !words.empty()) {
          choices += "    " + shell_text(path + " " + name) + ") COMPREPLY=($(compgen -W " +
                     shell_text(joined(words, " ")) + " -- \"$word\")); return ;;\n";
        }
      }
    }
    cases += "    " + shell_text(path) + ")\n      verbs=" + shell_text(joined(verbs, " ")) +
             "\n      flags=" + shell_text(joined(flags, " ")) + "\n      valued=" + shell_text(joined(valued, " ")) +
             " ;;\n";
  });
  return "# bash completion of fathom, made by it from the definitions of its flags\n"
         "_fathom() {\n"
         "  local word=${COMP_WORDS[COMP_CWORD]} previous=${COMP_WORDS[COMP_CWORD-1]} verb='' longer verbs flags "
         "valued i\n"
         "  for ((i = 1; i < COMP_CWORD; ++i)); do\n"
         "    longer=\"${verb:+$verb }${COMP_WORDS[i]}\"\n"
         "    case $longer in\n"
         "      " +
         paths +
         ") verb=$longer ;;\n"
         "      *) break ;;\n"
         "    esac\n"
         "  done\n"
         "  case $verb in\n" +
         cases +
         "  esac\n"
         "  COMPREPLY=()\n"
         "  case \"$verb $previous\" in\n" +
         choices +
         "  esac\n"
         "  # What else a flag takes is a file or cannot be guessed: bash completes files by itself (-o default).\n"
         "  case \" $valued \" in *\" $previous \"*) return ;; esac\n"
         "  if [[ $word == -* ]]; then\n"
         "    COMPREPLY=($(compgen -W \"$flags\" -- \"$word\"))\n"
         "  elif ((i == COMP_CWORD)) && [[ -n $verbs ]]; then\n"
         "    COMPREPLY=($(compgen -W \"$verbs\" -- \"$word\"))\n"
         "  fi\n"
         "}\n"
         "complete -o default -F _fathom fathom\n";
}

std::string zsh_completion(const CLI::App& program) {
  std::string out = "#compdef fathom\n# zsh completion of fathom, made by it from the definitions of its flags\n";
  visit(program, [&](const CLI::App& app) {
    const auto verbs = shown_verbs(app);
    out += zsh_function(app) + "() {\n";
    if (verbs.empty()) {
      out += "  _arguments";
      add_zsh_specs(out, app);
      out += " \\\n    '*:file:_files'\n}\n";
      return;
    }
    std::string names, cases;
    for (const CLI::App* verb : verbs) {
      names += " " + shell_text(verb->get_name() + "[" + zsh_text(verb->get_description()) + "]");
      cases += "        " + verb->get_name() + ") " + zsh_function(*verb) + " ;;\n";
    }
    out += "  local line state\n  _arguments -C";
    add_zsh_specs(out, app);
    out += " \\\n    '1: :->verb' '*:: :->rest'\n";
    out += "  case $state in\n    verb) _values verb" + names + " ;;\n    rest)\n      case $line[1] in\n" + cases +
           "        *) _files ;;\n      esac ;;\n  esac\n}\n";
  });
  return out + "_fathom \"$@\"\n";
}

Status write_reference(const CLI::App& program, std::string_view version, const Path& directory) {
  const Path man = directory / "man" / "man1", bash = directory / "bash-completion" / "completions",
             zsh = directory / "zsh" / "site-functions";
  for (const Path& path : {man, bash, zsh}) {
    if (auto s = make_directories(path); !s) return s;
  }
  std::vector<FileText> files = {{bash / "fathom", bash_completion(program)},
                                 {zsh / "_fathom", zsh_completion(program)}};
  visit(program, [&](const CLI::App& app) {
    files.push_back({man / (page_name(app) + ".1"), man_page(app, version)});
  });
  return write_files(files);
}

}  // namespace fathom::apps
