#include "text/jinja_lexer.h"

#include <algorithm>
#include <array>
#include <charconv>

#include "text/jinja_strings.h"

namespace fathom::jinja {
namespace {

bool is_digit(char c) { return c >= '0' && c <= '9'; }
bool is_name_start(char c) { return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '_'; }
bool is_name_part(char c) { return is_name_start(c) || is_digit(c); }

// "\r\n" and "\r" become "\n", and one newline at the end is dropped, as Jinja does by default.
std::string normalize(std::string_view source) {
  std::string out;
  out.reserve(source.size());
  for (size_t i = 0; i < source.size(); ++i) {
    if (source[i] != '\r') {
      out.push_back(source[i]);
    } else {
      out.push_back('\n');
      if (i + 1 < source.size() && source[i + 1] == '\n') ++i;
    }
  }
  if (out.ends_with('\n')) out.pop_back();
  return out;
}

class Lexer {
 public:
  explicit Lexer(std::string_view source) : owned_(normalize(source)), source_(owned_) {}

  std::vector<Token> run() {
    while (pos_ < source_.size()) text_and_tag();
    add(TokenKind::kEnd, "");
    return std::move(tokens_);
  }

 private:
  [[noreturn]] void fail(std::string text) const { throw Failure{line_, std::move(text)}; }

  bool at(std::string_view what) const { return source_.substr(pos_).starts_with(what); }
  bool at(std::string_view what, size_t where) const { return source_.substr(where).starts_with(what); }

  // Moves on by `count` bytes and counts the lines in them; whether the last one was a newline matters to
  // lstrip_blocks.
  void advance(size_t count) {
    const std::string_view passed = source_.substr(pos_, count);
    line_ += static_cast<int>(std::count(passed.begin(), passed.end(), '\n'));
    if (!passed.empty()) line_starting_ = passed.back() == '\n';
    pos_ += count;
  }

  size_t skip_space(size_t where) const {
    while (where < source_.size()) {
      const size_t length = space_length(source_.substr(where));
      if (length == 0) break;
      where += length;
    }
    return where;
  }

  void add(TokenKind kind, std::string text) {
    Token token;
    token.kind = kind;
    token.line = line_;
    token.text = std::move(text);
    tokens_.push_back(std::move(token));
  }

  // The text before a tag whose whitespace sign is `sign` ('-', '+' or 0); `strippable` is false before "{{".
  void add_text(std::string_view text, char sign, bool strippable) {
    std::string_view kept = text;
    if (sign == '-') {
      kept = strip_right(text);
    } else if (sign != '+' && strippable) {
      const size_t newline = text.rfind('\n');
      const size_t begin = newline == std::string_view::npos ? 0 : newline + 1;
      if ((begin > 0 || line_starting_) && strip_right(text.substr(begin)).empty()) kept = text.substr(0, begin);
    }
    if (!kept.empty()) add(TokenKind::kText, std::string(kept));
    advance(text.size());
  }

  // The sign behind a two-byte opening delimiter at `where`.
  char sign_at(size_t where) const {
    if (where >= source_.size()) return 0;
    const char c = source_[where];
    return c == '-' || c == '+' ? c : '\0';
  }

  void text_and_tag() {
    size_t open = pos_;
    while (true) {
      open = source_.find('{', open);
      if (open == std::string_view::npos) {
        add(TokenKind::kText, std::string(source_.substr(pos_)));
        advance(source_.size() - pos_);
        return;
      }
      if (open + 1 < source_.size()) {
        const char next = source_[open + 1];
        if (next == '{' || next == '%' || next == '#') break;
      }
      ++open;
    }
    const char type = source_[open + 1];
    const char sign = sign_at(open + 2);
    add_text(source_.substr(pos_, open - pos_), sign, type != '{');
    if (type == '%') {
      const size_t end = raw_begin_end();
      if (end != 0) return raw(end);
    }
    if (type == '#') return comment();
    add(type == '{' ? TokenKind::kVariableBegin : TokenKind::kBlockBegin, "");
    advance(sign == 0 ? 2 : 3);
    tag(type == '{');
  }

  // Past the closing delimiter `close` ("%}" or "#}") at `where`, with its sign and what it trims; 0 if it is not
  // there.
  size_t closing_end(std::string_view close, size_t where) const {
    if (at(close, where)) {
      const size_t end = where + 2;
      return end < source_.size() && source_[end] == '\n' ? end + 1 : end;  // trim_blocks
    }
    if (where < source_.size() && at(close, where + 1)) {
      if (source_[where] == '-') return skip_space(where + 3);
      if (source_[where] == '+') return where + 3;
    }
    return 0;
  }

  void comment() {
    const int opened = line_;
    size_t where = pos_ + 2;
    for (; where < source_.size(); ++where) {
      const size_t end = closing_end("#}", where);
      if (end != 0) return advance(end - pos_);
    }
    line_ = opened;
    fail("comment without \"#}\"");
  }

  // Where the text of a raw block begins if the tag at pos_ is {% raw %}, else 0. trim_blocks does not apply to it.
  size_t raw_begin_end() const {
    size_t where = pos_ + 2;
    if (sign_at(where) != 0) ++where;
    where = skip_space(where);
    if (!at("raw", where)) return 0;
    where = skip_space(where + 3);
    if (at("-%}", where)) return skip_space(where + 3);
    return at("%}", where) ? where + 2 : 0;
  }

  void raw(size_t begin) {
    const int opened = line_;
    advance(begin - pos_);
    for (size_t open = source_.find("{%", pos_); open != std::string_view::npos; open = source_.find("{%", open + 1)) {
      size_t where = open + 2;
      const char sign = sign_at(where);
      if (sign != 0) ++where;
      where = skip_space(where);
      if (!at("endraw", where)) continue;
      const size_t end = closing_end("%}", skip_space(where + 6));
      if (end == 0) continue;
      add_text(source_.substr(pos_, open - pos_), sign, true);
      return advance(end - pos_);
    }
    line_ = opened;
    fail("raw block without {% endraw %}");
  }

  // The tokens of one tag, up to and with its closing delimiter.
  void tag(bool variable) {
    std::string open;  // brackets that wait for their partner: inside them "}}" is two operators
    const int opened = line_;
    while (true) {
      advance(skip_space(pos_) - pos_);
      if (pos_ >= source_.size()) {
        line_ = opened;
        fail(variable ? "\"{{\" without \"}}\"" : "\"{%\" without \"%}\"");
      }
      if (open.empty() && close_tag(variable)) return;
      const char c = source_[pos_];
      if (is_digit(c)) {
        number();
      } else if (is_name_start(c)) {
        size_t end = pos_;
        while (end < source_.size() && is_name_part(source_[end])) ++end;
        add(TokenKind::kName, std::string(source_.substr(pos_, end - pos_)));
        advance(end - pos_);
      } else if (c == '\'' || c == '"') {
        string(c);
      } else {
        operation(open);
      }
    }
  }

  bool close_tag(bool variable) {
    size_t end = 0;
    if (variable) {
      if (at("}}")) end = pos_ + 2;
      if (at("-}}")) end = skip_space(pos_ + 3);
    } else {
      end = closing_end("%}", pos_);
    }
    if (end == 0) return false;
    add(variable ? TokenKind::kVariableEnd : TokenKind::kBlockEnd, "");
    advance(end - pos_);
    return true;
  }

  void operation(std::string& open) {
    constexpr std::array<std::string_view, 26> kOperators = {"//", "**", "==", "!=", ">=", "<=", "+", "-", "/",
                                                             "*",  "%",  "~",  "[",  "]",  "(",  ")", "{", "}",
                                                             ">",  "<",  "=",  ".",  ":",  "|",  ",", ";"};
    for (const std::string_view op : kOperators) {
      if (!at(op)) continue;
      if (op == "(") open.push_back(')');
      if (op == "[") open.push_back(']');
      if (op == "{") open.push_back('}');
      if (op == ")" || op == "]" || op == "}") {
        if (open.empty()) fail("unexpected \"" + std::string(op) + "\"");
        if (open.back() != op[0]) {
          fail("unexpected \"" + std::string(op) + "\", expected \"" + open.back() + "\"");
        }
        open.pop_back();
      }
      add(TokenKind::kOperator, std::string(op));
      return advance(op.size());
    }
    fail("unexpected character \"" + std::string(source_.substr(pos_, char_length(source_.substr(pos_)))) + "\"");
  }

  // Digits with single underscores between them, from `where`; npos when there is none.
  template <class IsDigit>
  size_t digits(size_t where, IsDigit is_one) const {
    size_t end = std::string_view::npos;
    while (where < source_.size()) {
      if (source_[where] == '_' && end != std::string_view::npos) ++where;
      if (where >= source_.size() || !is_one(source_[where])) break;
      end = ++where;
    }
    return end;
  }

  void number() {
    constexpr size_t kNone = std::string_view::npos;
    // An integer with a base prefix.
    if (source_[pos_] == '0' && pos_ + 1 < source_.size()) {
      const char letter = static_cast<char>(source_[pos_ + 1] | 0x20);
      const int base = letter == 'x' ? 16 : letter == 'o' ? 8 : letter == 'b' ? 2 : 0;
      if (base != 0) {
        const size_t end = digits(pos_ + 2, [base](char c) { return digit_value(c) < base; });
        if (end == kNone) fail("a number with a base prefix but no digits");
        return integer(pos_ + 2, end, base);
      }
    }
    const size_t whole = digits(pos_, is_digit);
    size_t end = whole;
    const bool after_dot = pos_ > 0 && source_[pos_ - 1] == '.';  // in "a.1.2" the 1 is an index
    if (!after_dot) {
      if (end < source_.size() && source_[end] == '.') {
        const size_t fraction = digits(end + 1, is_digit);
        if (fraction != kNone) end = fraction;
      }
      if (end < source_.size() && (source_[end] == 'e' || source_[end] == 'E')) {
        const size_t sign = end + 1 < source_.size() && (source_[end + 1] == '+' || source_[end + 1] == '-') ? 1 : 0;
        const size_t exponent = digits(end + 1 + sign, is_digit);
        if (exponent != kNone) end = exponent;
      }
    }
    if (end == whole) return integer(pos_, end, 10);
    std::string text(source_.substr(pos_, end - pos_));
    std::erase(text, '_');
    add(TokenKind::kFloat, text);
    const auto parsed = std::from_chars(text.data(), text.data() + text.size(), tokens_.back().number);
    if (parsed.ec != std::errc()) fail("number " + text + " does not fit a 64-bit float");
    advance(end - pos_);
  }

  void integer(size_t begin, size_t end, int base) {
    std::string text(source_.substr(begin, end - begin));
    std::erase(text, '_');
    if (base == 10 && text.size() > 1 && text[0] == '0' && text.find_first_not_of('0') != std::string::npos) {
      fail("integer " + text + " begins with 0");
    }
    add(TokenKind::kInteger, text);
    const auto parsed = std::from_chars(text.data(), text.data() + text.size(), tokens_.back().integer, base);
    if (parsed.ec != std::errc()) fail("integer " + text + " does not fit 64 bits");
    advance(end - pos_);
  }

  // A string literal with Python's escapes.
  void string(char quote) {
    const int opened = line_;
    std::string out;
    size_t at = pos_ + 1;
    while (true) {
      if (at >= source_.size()) {
        line_ = opened;
        fail("string without a closing quote");
      }
      const char c = source_[at];
      if (c == quote) break;
      ++at;
      if (c == '\\' && at < source_.size()) {
        at = escape(at, out);
      } else {
        out.push_back(c);
      }
    }
    add(TokenKind::kString, std::move(out));
    advance(at + 1 - pos_);
  }

  // The escape whose letter is at `at`; returns the place behind it.
  size_t escape(size_t at, std::string& out) const {
    const char c = source_[at++];
    constexpr std::string_view kLetters = "\\'\"abfnrtv";
    constexpr std::string_view kMeanings = "\\'\"\a\b\f\n\r\t\v";
    if (const size_t index = kLetters.find(c); index != std::string_view::npos) {
      out.push_back(kMeanings[index]);
      return at;
    }
    if (c == '\n') return at;  // a backslash before the end of a line joins the lines
    if (c >= '0' && c <= '7') {
      uint32_t code = static_cast<uint32_t>(c - '0');
      for (int i = 0; i < 2 && at < source_.size() && source_[at] >= '0' && source_[at] <= '7'; ++i) {
        code = code * 8 + static_cast<uint32_t>(source_[at++] - '0');
      }
      append_utf8(out, code);
      return at;
    }
    const int width = c == 'x' ? 2 : c == 'u' ? 4 : c == 'U' ? 8 : 0;
    if (width == 0) {
      if (c == 'N') fail("string escape \\N is not supported; write the character itself");
      out.push_back('\\');  // an unknown escape keeps its backslash
      out.push_back(c);
      return at;
    }
    uint32_t code = 0;
    for (int i = 0; i < width; ++i, ++at) {
      const int digit = at < source_.size() ? digit_value(source_[at]) : 99;
      if (digit >= 16) fail(std::string("string escape \\") + c + " needs " + std::to_string(width) + " hex digits");
      code = code << 4 | static_cast<uint32_t>(digit);
    }
    if (code > 0x10FFFF || (code >= 0xD800 && code < 0xE000)) {
      fail(std::string("string escape \\") + c + " names no Unicode character");
    }
    append_utf8(out, code);
    return at;
  }

  std::string owned_;
  std::string_view source_;
  size_t pos_ = 0;
  int line_ = 1;
  bool line_starting_ = true;
  std::vector<Token> tokens_;
};

}  // namespace

std::vector<Token> tokenize(std::string_view source) { return Lexer(source).run(); }

}  // namespace fathom::jinja
