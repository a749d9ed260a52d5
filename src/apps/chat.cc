// fathom chat: a conversation with a model. A line is a message; lines that begin with / are commands. On a pipe the
// same, without prompt and colours, until the input ends.
#include <algorithm>
#include <cstdio>
#include <string>

#include "apps/console.h"
#include "apps/verbs.h"
#include "base/file.h"
#include "text/utf8.h"

namespace fathom::apps {
namespace {

constexpr std::string_view kHelp =
    "/reset         forget the conversation\n"
    "/system TEXT   set the system message (and start over)\n"
    "/save FILE     write the conversation as JSON\n"
    "/load FILE     go on with a saved conversation\n"
    "/exit          leave (so does Ctrl-D)";

class Chat {
 public:
  Chat(Session& session, const ChatOptions& options) : session_(session), options_(options) {}

  /// Begins a conversation. Error: the system message is not valid UTF-8.
  Status start(const std::string& system) {
    if (auto s = check_text("the system message", system); !s) return s;
    messages_ = Json::array();
    if (!system.empty()) messages_.push(message("system", system));
    return {};
  }

  /// False when the conversation ends.
  Result<bool> line(const std::string& text) {
    if (text.empty()) return true;
    if (text[0] != '/') {
      auto s = answer(text);
      if (!s) return s.error();
      return true;
    }
    const size_t space = text.find(' ');
    const std::string command = text.substr(0, space);
    const std::string argument = space == std::string::npos ? "" : text.substr(space + 1);
    if (command == "/exit" || command == "/quit") return false;
    if (auto s = run_command(command, argument); !s) return s.error();
    return true;
  }

 private:
  /// A word of the program, not of the model: on a pipe it must not mix with the answers.
  static void say(const std::string& text) {
    if (stdin_is_terminal() && stdout_is_terminal()) {
      std::printf("%s\n", styled(text, "2").c_str());
    } else {
      std::fflush(stdout);
      std::fprintf(stderr, "%s\n", text.c_str());
    }
  }

  static Status check_text(const std::string& what, const std::string& text) {
    if (const auto bad = first_invalid_utf8(text)) {
      return invalid(what + " is not valid UTF-8 at byte offset " + std::to_string(*bad));
    }
    return {};
  }
  static Json message(std::string_view role, std::string_view content) {
    return Json::object().set("role", role).set("content", content);
  }

  Status run_command(const std::string& command, const std::string& argument) {
    if (command == "/help") {
      say(std::string(kHelp));
    } else if (command == "/reset") {
      const Json* first = messages_.items().empty() ? nullptr : messages_.items().data();
      const bool has_system = first != nullptr && first->find("role")->as_string() == "system";
      if (auto s = start(has_system ? first->find("content")->as_string() : ""); !s) return s;
      say("The conversation starts over.");
    } else if (command == "/system") {
      if (auto s = start(argument); !s) return s;
      say(argument.empty() ? "No system message; the conversation starts over."
                           : "System message set; the conversation starts over.");
    } else if (command == "/save") {
      if (argument.empty()) return invalid("/save needs a file name");
      if (auto s = write_file(argument, Json::object().set("messages", messages_).dump(2) + "\n"); !s) return s;
      say("Saved " + std::to_string(messages_.items().size()) + " messages to " + argument + ".");
    } else if (command == "/load") {
      return load(argument);
    } else {
      return invalid("unknown command " + command + "; /help lists them");
    }
    return {};
  }

  Status load(const std::string& path) {
    if (path.empty()) return invalid("/load needs a file name");
    auto text = read_file(path, int64_t{64} << 20);
    if (!text) return text.error();
    auto json = Json::parse(*text, path);
    if (!json) return json.error();
    const Json* messages = json->find("messages");
    if (messages == nullptr || !messages->is_array()) return invalid(path + ": no list \"messages\"");
    for (const Json& m : messages->items()) {
      const Json *role = m.find("role"), *content = m.find("content");
      if (role == nullptr || !role->is_string() || content == nullptr || !content->is_string()) {
        return invalid(path + ": every message needs the strings \"role\" and \"content\"");
      }
    }
    messages_ = *messages;
    say("Loaded " + std::to_string(messages_.items().size()) + " messages.");
    return {};
  }

  Status answer(const std::string& text) {
    if (auto s = check_text("the message", text); !s) return s;
    Json asked = messages_;
    asked.push(message("user", text));
    const ChatFormat& format = *session_.chat_format();
    Json context = Json::object();
    context.set("messages", asked).set("add_generation_prompt", true);
    context.set("bos_token", format.bos_token).set("eos_token", format.eos_token);
    const auto prompt = format.chat_template.render(context);
    if (!prompt) return prompt.error();
    const auto ids = session_.encode_prompt(*prompt);
    if (!ids) return ids.error();
    Engine& engine = session_.engine();
    if (static_cast<int64_t>(ids->size()) >= engine.context_length()) {
      return invalid("the context is full: the conversation has " + std::to_string(ids->size()) + " tokens and " +
                     std::to_string(engine.context_length()) + " fit; this message was not sent, /reset starts over");
    }
    const int64_t max_tokens = options_.max_tokens > 0 ? options_.max_tokens : engine.context_length();
    const SamplingParams sampling = session_.sampling(options_.sampling);
    if (sequence_ < 0) {
      const auto id = engine.submit(
          {.prompt = *ids, .sampling = sampling, .max_new_tokens = max_tokens, .speculation = session_.speculation()});
      if (!id) return id.error();
      sequence_ = *id;
    } else if (auto s = engine.resume(sequence_, *ids, max_tokens); !s) {
      return s;
    }
    const auto reply = session_.run(sequence_, {}, [](std::string_view piece) {
      std::fwrite(piece.data(), 1, piece.size(), stdout);
      std::fflush(stdout);
    });
    if (!reply) return reply.error();
    std::fputc('\n', stdout);
    if (reply->interrupted) {
      if (!stdin_is_terminal()) return interrupted_error("answering");
      clear_interrupt();
      say("[stopped]");
    } else if (reply->finish == FinishReason::kContextFull) {
      say("[the context is full at " + std::to_string(engine.context_length()) +
          " tokens: the answer was cut; /reset starts over]");
    } else if (reply->finish == FinishReason::kMaxTokens) {
      say("[cut at --max-tokens " + std::to_string(options_.max_tokens) + "]");
    }
    asked.push(message("assistant", reply->text));
    messages_ = std::move(asked);
    return {};
  }

  Session& session_;
  const ChatOptions& options_;
  Json messages_;
  int64_t sequence_ = -1;
};

}  // namespace

Status chat(const ChatOptions& options) {
  auto session = Session::load(options.model, options.compute);
  if (!session) return session.error();
  if (!(*session)->chat_format()) {
    return not_found((*session)->model_dir().string() +
                     " has no chat template; use `fathom generate` for plain continuation");
  }
  const bool interactive = stdin_is_terminal() && stdout_is_terminal();
  if (interactive) {
    std::printf("%s\n", styled((*session)->model_dir().string() + ", context " +
                                   std::to_string((*session)->engine().context_length()) +
                                   " tokens. /help lists the commands, Ctrl-D leaves.",
                               "2")
                            .c_str());
  }
  Chat conversation(**session, options);
  if (auto s = conversation.start(options.system); !s) return s;
  LineReader input;
  while (true) {
    if (interactive) {
      clear_interrupt();  // it came when the answer had just ended, and meant that
      std::printf("%s", styled("> ", "1;36").c_str());
    }
    std::fflush(stdout);
    const auto text = input.next();
    if (!text) {
      std::fputc('\n', stdout);
      return text.error();
    }
    if (!*text) break;
    const auto goes_on = conversation.line(**text);
    if (!goes_on && !interactive) return goes_on.error();
    if (!goes_on) {
      report_error(goes_on.error());  // of this line; the conversation is as it was before
    } else if (!*goes_on) {
      return {};
    }
  }
  if (interactive) std::fputc('\n', stdout);
  return {};
}

}  // namespace fathom::apps
