// Jinja evaluator: walks the syntax tree with a context and writes the text. Last stage of text/chat_template.
#pragma once

#include <cstdint>
#include <ctime>
#include <functional>
#include <string>

#include "base/json.h"
#include "text/jinja_ast.h"

namespace fathom::jinja {

/// The text of `body` with the members of `context` (an object) as variables. At most `steps` evaluation steps,
/// `output_bytes` of text and `live_bytes` of values. Throws Failure with the line.
std::string evaluate(const Body& body, const Json& context, const std::function<std::tm()>& now, int64_t steps,
                     int64_t output_bytes, int64_t live_bytes);

}  // namespace fathom::jinja
