// The prompt of a conversation: messages and tools through the model's chat template. Where a template has no place for
// tools, they are described in the system message, in DeepSeek's own words for V3.1.
#pragma once

#include <string>

#include "base/json.h"
#include "serve/api_error.h"
#include "serve/openai_request.h"
#include "serve/tool_parser.h"
#include "text/chat_template.h"

namespace fathom::serve {

/// The markup in which a template writes the calls of earlier turns: what the model was trained to write. kNone when it
/// writes none.
ToolFormat tool_format_of(const ChatFormat& format);

/// The prompt without tools. `format` may be null: no chat template. Errors: that, and what the template refuses.
ApiResult<std::string> render_chat(const ChatFormat* format, const Json& messages, const Json& template_arguments);

/// The prompt of a request, and the markup that it ends in when a call is forced.
struct ChatPrompt {
  std::string text;
  std::string forced;  // the end of text that is the beginning of the answer
};
/// Errors: those of render_chat; tools for a model that knows no calls.
ApiResult<ChatPrompt> chat_prompt(const ChatFormat* format, ToolFormat tools, const GenerationRequest& request);

}  // namespace fathom::serve
