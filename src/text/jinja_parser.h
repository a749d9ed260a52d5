// Jinja parser: tokens to the syntax tree, with Jinja2's precedences. Unknown tags, filters and tests, and a tree
// deeper than the evaluator may walk, are failures here, before anything runs.
#pragma once

#include <string_view>

#include "text/jinja_ast.h"

namespace fathom::jinja {

/// The statements of `source`. Throws Failure with the line.
Body parse_source(std::string_view source);

}  // namespace fathom::jinja
