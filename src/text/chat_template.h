// Chat templates: the Jinja text of a Hugging Face model that turns messages into a prompt. Rendered as transformers
// does (trim_blocks, lstrip_blocks, loop controls, an immutable sandbox), by our own interpreter of the Jinja subset
// that chat templates use; what is outside of the subset is an error that names what is accepted. A template is
// untrusted: its steps, memory, output and recursion are bounded. Stages: jinja_lexer, jinja_parser, jinja_eval.
#pragma once

#include <cstdint>
#include <ctime>
#include <functional>
#include <memory>
#include <string>
#include <string_view>

#include "base/file.h"
#include "base/json.h"
#include "base/result.h"

namespace fathom {

/// What one render may spend, and its clock.
struct RenderOptions {
  std::function<std::tm()> now;                  // for strftime_now; empty: the local time of this machine
  int64_t max_steps = 50'000'000;                // expressions, statements and items visited
  int64_t max_output_bytes = int64_t{64} << 20;  // of the result
  int64_t max_live_bytes = int64_t{256} << 20;   // of the context and of values that exist at the same time
};

class ChatTemplate {
 public:
  /// Parses template text of at most 1 MiB. `where` names the source in errors ("DIR/chat_template.jinja"). Errors name
  /// the line; an unknown tag, filter or test comes with the accepted set.
  static Result<ChatTemplate> parse(std::string_view source, std::string_view where);

  /// The prompt for `context`, an object: messages, tools, add_generation_prompt, bos_token, eos_token, and whatever
  /// else the template reads. A raise_exception(text) of the template is an error with exactly that text; other errors
  /// begin with the source and the line. Safe to call from several threads.
  Result<std::string> render(const Json& context, const RenderOptions& options = {}) const;

  /// The source that errors name.
  const std::string& where() const;

 private:
  struct Parsed;
  explicit ChatTemplate(std::shared_ptr<const Parsed> parsed) : parsed_(std::move(parsed)) {}
  std::shared_ptr<const Parsed> parsed_;
};

/// A model's template with the two tokens that templates expect in their context.
struct ChatFormat {
  ChatTemplate chat_template;
  std::string bos_token;  // empty when the model has none
  std::string eos_token;
};

/// Reads the chat format of a Hugging Face model directory: chat_template.jinja if there is one, else chat_template of
/// tokenizer_config.json (a string, or a list of {name, template} of which "default" is taken); bos_token and eos_token
/// of tokenizer_config.json (a string, {content} or null). kNotFound when the directory has no template.
Result<ChatFormat> load_chat_format(const Path& model_dir);

}  // namespace fathom
