// Jinja lexer: template source to tokens, with the whitespace rules that chat templates are written for (trim_blocks
// and lstrip_blocks on, one trailing newline dropped). First stage of text/chat_template.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace fathom::jinja {

/// What the jinja files throw among themselves; parse_template() and render_template() turn it into an Error, so it
/// never reaches a caller of text/chat_template. An evaluator with thousands of fallible steps reads better this way.
struct Failure {
  int line = 0;
  std::string text;
  bool raised = false;  // by the template itself, through raise_exception
};

enum class TokenKind {
  kText,           // template text outside of tags, whitespace control already applied
  kVariableBegin,  // {{
  kVariableEnd,    // }}
  kBlockBegin,     // {%
  kBlockEnd,       // %}
  kName,
  kString,  // text holds the decoded string
  kInteger,
  kFloat,
  kOperator,
  kEnd,
};

struct Token {
  TokenKind kind = TokenKind::kEnd;
  int line = 1;
  std::string text;
  int64_t integer = 0;
  double number = 0;
};

/// All tokens of `source`, ended by kEnd. Comments are dropped and raw blocks become kText. Throws Failure.
std::vector<Token> tokenize(std::string_view source);

}  // namespace fathom::jinja
