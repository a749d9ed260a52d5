// Jinja token cursor: the parser's place in the tokens, with the questions and expectations that grammar rules ask.
#pragma once

#include <algorithm>
#include <string>
#include <string_view>
#include <vector>

#include "text/jinja_lexer.h"

namespace fathom::jinja {

class TokenCursor {
 public:
  /// `tokens` end in kEnd.
  explicit TokenCursor(std::vector<Token> tokens) : tokens_(std::move(tokens)) {}

  const Token& current() const { return tokens_[next_]; }
  const Token& ahead() const { return tokens_[std::min(next_ + 1, tokens_.size() - 1)]; }
  const Token& take() { return tokens_[current().kind == TokenKind::kEnd ? next_ : next_++]; }

  [[noreturn]] void fail(std::string text) const { throw Failure{current().line, std::move(text)}; }

  static std::string describe(const Token& token) {
    switch (token.kind) {
      case TokenKind::kText: return "text";
      case TokenKind::kVariableBegin: return "\"{{\"";
      case TokenKind::kVariableEnd: return "\"}}\"";
      case TokenKind::kBlockBegin: return "\"{%\"";
      case TokenKind::kBlockEnd: return "\"%}\"";
      case TokenKind::kString: return "a string";
      case TokenKind::kEnd: return "the end of the template";
      default: return "\"" + token.text + "\"";
    }
  }

  bool is_operator(std::string_view text) const {
    return current().kind == TokenKind::kOperator && current().text == text;
  }
  bool is_name(std::string_view text) const { return current().kind == TokenKind::kName && current().text == text; }
  bool skip_operator(std::string_view text) {
    if (!is_operator(text)) return false;
    ++next_;
    return true;
  }
  bool skip_name(std::string_view text) {
    if (!is_name(text)) return false;
    ++next_;
    return true;
  }
  void expect_operator(std::string_view text) {
    if (!skip_operator(text)) fail("expected \"" + std::string(text) + "\", got " + describe(current()));
  }
  void expect_kind(TokenKind kind, std::string_view text) {
    if (current().kind != kind) fail("expected \"" + std::string(text) + "\", got " + describe(current()));
    ++next_;
  }
  std::string expect_name(std::string_view what) {
    if (current().kind != TokenKind::kName) fail("expected " + std::string(what) + ", got " + describe(current()));
    return take().text;
  }

 protected:
  std::vector<Token> tokens_;
  size_t next_ = 0;
};

}  // namespace fathom::jinja
