#include "text/jinja_parser.h"

#include <algorithm>
#include <initializer_list>

#include "text/jinja_builtins.h"
#include "text/jinja_cursor.h"
#include "text/jinja_lexer.h"

namespace fathom::jinja {
namespace {

constexpr int kMaxSyntaxDepth = 300;

class Parser : private TokenCursor {
 public:
  explicit Parser(std::vector<Token> tokens) : TokenCursor(std::move(tokens)) {}

  Body run() {
    Body body = statements({});
    if (current().kind != TokenKind::kEnd) fail("unexpected " + describe(current()));
    return body;
  }

 private:
  // One level of recursion, so that a hostile template meets an error before the end of the stack.
  class Level {
   public:
    explicit Level(Parser& parser) : parser_(parser) {
      if (++parser_.depth_ > kMaxSyntaxDepth) parser_.fail_depth();
    }
    ~Level() { --parser_.depth_; }
    Level(const Level&) = delete;
    Level& operator=(const Level&) = delete;

   private:
    Parser& parser_;
  };

  [[noreturn]] void fail_depth() {
    --depth_;
    fail("nested deeper than " + std::to_string(kMaxSyntaxDepth) + " levels");
  }

  // --- statements ---

  // Statements up to a tag whose name is one of `ends`; the parser then stands on that name. With no ends: up to kEnd.
  Body statements(std::initializer_list<std::string_view> ends) {
    const Level level(*this);
    const int opened = current().line;
    Body body;
    while (true) {
      const Token& token = current();
      if (token.kind == TokenKind::kText) {
        auto text = make(StatementKind::kText);
        text->text = take().text;
        body.push_back(std::move(text));
      } else if (token.kind == TokenKind::kVariableBegin) {
        auto output = make(StatementKind::kOutput);
        ++next_;
        output->value = tuple(true);
        expect_kind(TokenKind::kVariableEnd, "}}");
        body.push_back(std::move(output));
      } else if (token.kind == TokenKind::kBlockBegin) {
        ++next_;
        if (current().kind == TokenKind::kName && std::find(ends.begin(), ends.end(), current().text) != ends.end()) {
          return body;
        }
        body.push_back(statement());
        expect_kind(TokenKind::kBlockEnd, "%}");
      } else if (token.kind == TokenKind::kEnd && ends.size() > 0) {
        throw Failure{opened, "the block that ends in {% " + std::string(*(ends.end() - 1)) + " %} is not closed"};
      } else {
        return body;
      }
    }
  }

  // The body after a tag's head: closes the head's tag, reads up to one of `ends`.
  Body body_until(std::initializer_list<std::string_view> ends) {
    expect_kind(TokenKind::kBlockEnd, "%}");
    return statements(ends);
  }

  std::unique_ptr<Statement> make(StatementKind kind) const {
    auto out = std::make_unique<Statement>();
    out->kind = kind;
    out->line = current().line;
    return out;
  }

  std::unique_ptr<Statement> statement() {
    if (current().kind != TokenKind::kName) fail("expected a tag name, got " + describe(current()));
    const std::string tag = current().text;
    if (tag == "if") return if_statement();
    if (tag == "for") return for_statement();
    if (tag == "set") return set_statement();
    if (tag == "macro") return macro_statement();
    if (tag == "generation") return generation_statement();
    if (tag == "break" || tag == "continue") {
      if (loops_ == 0) fail("{% " + tag + " %} outside of a loop");
      auto out = make(tag == "break" ? StatementKind::kBreak : StatementKind::kContinue);
      ++next_;
      return out;
    }
    fail("unknown tag \"" + tag + "\"; accepted here: if, for, set, macro, generation, raw, break, continue");
  }

  std::unique_ptr<Statement> if_statement() {
    auto out = make(StatementKind::kIf);
    while (skip_name("if") || skip_name("elif")) {
      Branch branch;
      branch.condition = tuple(false);
      branch.body = body_until({"elif", "else", "endif"});
      out->branches.push_back(std::move(branch));
    }
    if (skip_name("else")) out->otherwise = body_until({"endif"});
    ++next_;  // endif
    return out;
  }

  std::unique_ptr<Statement> for_statement() {
    auto out = make(StatementKind::kFor);
    ++next_;
    out->target = target(false);
    if (!skip_name("in")) fail("expected \"in\", got " + describe(current()));
    out->value = tuple(false);
    if (skip_name("if")) out->filter = expression();
    if (is_name("recursive")) fail("recursive loops are not supported; write a macro that calls itself");
    ++loops_;
    out->body = body_until({"else", "endfor"});
    --loops_;
    if (skip_name("else")) out->otherwise = body_until({"endfor"});
    ++next_;  // endfor
    return out;
  }

  std::unique_ptr<Statement> set_statement() {
    auto out = make(StatementKind::kSet);
    ++next_;
    out->target = target(true);
    if (skip_operator("=")) {
      out->value = tuple(true);
      return out;
    }
    out->kind = StatementKind::kSetBlock;
    if (is_operator("|")) out->value = filters(node(ExpressionKind::kName));
    out->body = body_until({"endset"});
    ++next_;
    return out;
  }

  std::unique_ptr<Statement> macro_statement() {
    auto out = make(StatementKind::kMacro);
    ++next_;
    out->text = expect_name("the macro's name");
    expect_operator("(");
    while (!skip_operator(")")) {
      if (!out->parameters.empty()) expect_operator(",");
      Parameter parameter;
      parameter.name = expect_name("a parameter name");
      if (skip_operator("=")) {
        parameter.fallback = expression();
      } else if (!out->parameters.empty() && out->parameters.back().fallback != nullptr) {
        fail("parameter \"" + parameter.name + "\" without a default follows one with a default");
      }
      out->parameters.push_back(std::move(parameter));
    }
    const int loops = std::exchange(loops_, 0);
    const bool varargs = std::exchange(saw_varargs_, false);
    const bool kwargs = std::exchange(saw_kwargs_, false);
    out->body = body_until({"endmacro"});
    ++next_;
    loops_ = loops;
    out->takes_varargs = std::exchange(saw_varargs_, varargs);
    out->takes_kwargs = std::exchange(saw_kwargs_, kwargs);
    return out;
  }

  std::unique_ptr<Statement> generation_statement() {
    auto out = make(StatementKind::kGeneration);
    ++next_;
    const int loops = std::exchange(loops_, 0);
    out->body = body_until({"endgeneration"});
    ++next_;
    loops_ = loops;
    return out;
  }

  // "a", "a, b", "(a, b), c"; with `attributes` also "ns.a".
  Target target(bool attributes) {
    const Level level(*this);
    Target out;
    while (true) {
      if (out.is_tuple && (is_name("in") || is_operator("=") || is_operator(")"))) break;  // a comma at the end
      out.parts.push_back(target_part(attributes));
      if (!skip_operator(",")) break;
      out.is_tuple = true;
    }
    if (out.is_tuple) return out;
    return Target(std::move(out.parts.front()));
  }

  Target target_part(bool attributes) {
    if (skip_operator("(")) {
      Target inner = target(attributes);
      expect_operator(")");
      return inner;
    }
    Target out;
    out.name = expect_name("a name to assign to");
    for (const std::string_view constant : {"true", "false", "none", "True", "False", "None"}) {
      if (out.name == constant) fail("cannot assign to \"" + out.name + "\"");
    }
    if (attributes && skip_operator(".")) out.attribute = expect_name("an attribute name");
    return out;
  }

  // --- expressions ---

  ExpressionPtr node(ExpressionKind kind) const {
    auto out = std::make_unique<Expression>();
    out->kind = kind;
    out->line = current().line;
    return out;
  }

  // Adds a child and keeps the depth of the tree bounded: chains such as a + b + c ... nest to the left.
  void adopt(Expression& parent, ExpressionPtr child) const {
    if (child != nullptr) deepen(parent, child->depth);
    parent.children.push_back(std::move(child));
  }
  void deepen(Expression& parent, int child_depth) const {
    parent.depth = std::max(parent.depth, child_depth + 1);
    if (parent.depth > kMaxSyntaxDepth) {
      fail("the expression is deeper than " + std::to_string(kMaxSyntaxDepth) + " levels");
    }
  }
  ExpressionPtr wrap(ExpressionKind kind, ExpressionPtr child) const {
    auto out = node(kind);
    adopt(*out, std::move(child));
    return out;
  }

  bool at_tuple_end() const {
    return current().kind == TokenKind::kVariableEnd || current().kind == TokenKind::kBlockEnd || is_operator(")");
  }

  // One expression, or several with commas: a tuple. `conditional`: whether "x if y" may stand here without brackets.
  ExpressionPtr tuple(bool conditional) {
    auto out = node(ExpressionKind::kTuple);
    bool comma = false;
    do {
      if (comma && at_tuple_end()) break;
      adopt(*out, conditional ? expression() : or_expression());
      if (!is_operator(",")) break;
      comma = true;
    } while (skip_operator(","));
    return comma ? std::move(out) : std::move(out->children.front());
  }

  ExpressionPtr expression() {
    const Level level(*this);
    ExpressionPtr left = or_expression();
    while (is_name("if")) {
      auto out = node(ExpressionKind::kConditional);
      ++next_;
      adopt(*out, or_expression());
      adopt(*out, std::move(left));
      adopt(*out, skip_name("else") ? expression() : nullptr);
      left = std::move(out);
    }
    return left;
  }

  ExpressionPtr or_expression() {
    ExpressionPtr left = and_expression();
    while (is_name("or")) {
      left = wrap(ExpressionKind::kOr, std::move(left));
      ++next_;
      adopt(*left, and_expression());
    }
    return left;
  }

  ExpressionPtr and_expression() {
    ExpressionPtr left = not_expression();
    while (is_name("and")) {
      left = wrap(ExpressionKind::kAnd, std::move(left));
      ++next_;
      adopt(*left, not_expression());
    }
    return left;
  }

  ExpressionPtr not_expression() {
    if (!is_name("not")) return comparison();
    const Level level(*this);
    auto out = node(ExpressionKind::kNot);
    ++next_;
    adopt(*out, not_expression());
    return out;
  }

  // The comparison operator at the current token, taken; "" when there is none.
  std::string comparison_operator() {
    for (const std::string_view op : {"==", "!=", "<", "<=", ">", ">="}) {
      if (skip_operator(op)) return std::string(op);
    }
    if (skip_name("in")) return "in";
    if (is_name("not") && ahead().kind == TokenKind::kName && ahead().text == "in") {
      next_ += 2;
      return "not in";
    }
    return "";
  }

  ExpressionPtr comparison() {
    ExpressionPtr left = sum();
    std::string op = comparison_operator();
    if (op.empty()) return left;
    auto out = wrap(ExpressionKind::kCompare, std::move(left));
    for (; !op.empty(); op = comparison_operator()) {
      out->operations.push_back(op);
      adopt(*out, sum());
    }
    return out;
  }

  // A left-associative chain of `operators` over `operand`.
  ExpressionPtr chain(std::initializer_list<std::string_view> operators, ExpressionPtr (Parser::*operand)()) {
    ExpressionPtr left = (this->*operand)();
    while (current().kind == TokenKind::kOperator &&
           std::find(operators.begin(), operators.end(), current().text) != operators.end()) {
      left = wrap(ExpressionKind::kBinary, std::move(left));
      left->name = take().text;
      adopt(*left, (this->*operand)());
    }
    return left;
  }

  ExpressionPtr sum() { return chain({"+", "-"}, &Parser::concatenation); }

  ExpressionPtr concatenation() {
    ExpressionPtr left = product();
    if (!is_operator("~")) return left;
    auto out = wrap(ExpressionKind::kConcat, std::move(left));
    while (skip_operator("~")) adopt(*out, product());
    return out;
  }

  ExpressionPtr product() { return chain({"*", "/", "//", "%"}, &Parser::power); }
  ExpressionPtr power() { return chain({"**"}, &Parser::filtered_unary); }

  ExpressionPtr filtered_unary() { return filters(unary()); }

  // A sign binds tighter than a filter: -x|abs is (-x)|abs.
  ExpressionPtr unary() {
    if (!is_operator("-") && !is_operator("+")) return postfix(primary());
    const Level level(*this);
    auto out = node(is_operator("-") ? ExpressionKind::kNegate : ExpressionKind::kPlus);
    ++next_;
    adopt(*out, unary());
    return postfix(std::move(out));
  }

  ExpressionPtr constant(Value value) const {
    auto out = node(ExpressionKind::kConstant);
    out->constant = std::move(value);
    return out;
  }

  ExpressionPtr primary() {
    const Level level(*this);
    const Token& token = current();
    ExpressionPtr out;
    switch (token.kind) {
      case TokenKind::kName: return name();
      case TokenKind::kInteger: out = constant(token.integer); break;
      case TokenKind::kFloat: out = constant(token.number); break;
      case TokenKind::kString: {
        out = node(ExpressionKind::kConstant);
        std::string text;
        while (current().kind == TokenKind::kString) text += take().text;  // 'a' 'b' is 'ab'
        out->constant = Value::constant(std::move(text));
        return out;
      }
      case TokenKind::kOperator:
        if (token.text == "(") return parenthesized();
        if (token.text == "[") return list();
        if (token.text == "{") return dict();
        [[fallthrough]];
      default: fail("expected an expression, got " + describe(token));
    }
    ++next_;
    return out;
  }

  ExpressionPtr name() {
    const std::string& text = current().text;
    ExpressionPtr out;
    if (text == "true" || text == "True") {
      out = constant(true);
    } else if (text == "false" || text == "False") {
      out = constant(false);
    } else if (text == "none" || text == "None") {
      out = constant(None{});
    } else {
      out = node(ExpressionKind::kName);
      out->name = text;
      saw_varargs_ |= text == "varargs";
      saw_kwargs_ |= text == "kwargs";
    }
    ++next_;
    return out;
  }

  ExpressionPtr parenthesized() {
    auto empty = node(ExpressionKind::kTuple);
    ++next_;
    if (skip_operator(")")) return empty;
    ExpressionPtr out = tuple(true);
    expect_operator(")");
    return out;
  }

  ExpressionPtr list() {
    auto out = node(ExpressionKind::kList);
    ++next_;
    while (!skip_operator("]")) {
      if (!out->children.empty()) expect_operator(",");
      if (skip_operator("]")) break;
      adopt(*out, expression());
    }
    return out;
  }

  ExpressionPtr dict() {
    auto out = node(ExpressionKind::kDict);
    ++next_;
    while (!skip_operator("}")) {
      if (!out->children.empty()) expect_operator(",");
      if (skip_operator("}")) break;
      adopt(*out, expression());
      expect_operator(":");
      adopt(*out, expression());
    }
    return out;
  }

  // Attributes, subscripts and calls behind `left`.
  ExpressionPtr postfix(ExpressionPtr left) {
    while (true) {
      if (is_operator(".")) {
        left = wrap(ExpressionKind::kAttribute, std::move(left));
        ++next_;
        if (current().kind == TokenKind::kInteger) {  // x.0 is x[0]
          left->kind = ExpressionKind::kItem;
          adopt(*left, constant(current().integer));
          ++next_;
        } else {
          left->name = expect_name("an attribute name");
        }
      } else if (is_operator("[")) {
        left = subscript(std::move(left));
      } else if (is_operator("(")) {
        left = call(std::move(left));
      } else {
        return left;
      }
    }
  }

  ExpressionPtr subscript(ExpressionPtr left) {
    auto out = wrap(ExpressionKind::kItem, std::move(left));
    ++next_;
    ExpressionPtr first = is_operator(":") ? nullptr : expression();
    if (is_operator(":")) out->kind = ExpressionKind::kSlice;
    adopt(*out, std::move(first));
    for (int part = 0; out->kind == ExpressionKind::kSlice && part < 2; ++part) {
      const bool given = skip_operator(":") && !is_operator(":") && !is_operator("]");
      adopt(*out, given ? expression() : nullptr);
    }
    expect_operator("]");
    return out;
  }

  ExpressionPtr call(ExpressionPtr left) {
    auto out = wrap(ExpressionKind::kCall, std::move(left));
    arguments(*out);
    return out;
  }

  void arguments(Expression& out) {
    expect_operator("(");
    bool first = true;
    while (!skip_operator(")")) {
      if (!first) expect_operator(",");
      first = false;
      if (skip_operator(")")) break;
      if (is_operator("*") || is_operator("**")) fail("unpacking of arguments with * is not supported");
      Argument argument;
      if (current().kind == TokenKind::kName && ahead().kind == TokenKind::kOperator && ahead().text == "=") {
        argument.name = current().text;
        next_ += 2;
      } else if (!out.arguments.empty() && !out.arguments.back().name.empty()) {
        fail("a positional argument follows a named one");
      }
      argument.value = expression();
      deepen(out, argument.value->depth);
      out.arguments.push_back(std::move(argument));
    }
  }

  // Filters, tests and calls behind `left`.
  ExpressionPtr filters(ExpressionPtr left) {
    while (true) {
      if (is_operator("|")) {
        left = wrap(ExpressionKind::kFilter, std::move(left));
        ++next_;
        left->builtin = known(find_filter(current().text), "filter", filter_names());
        left->name = take().text;
        if (is_operator("(")) arguments(*left);
      } else if (is_name("is")) {
        left = test(std::move(left));
      } else if (is_operator("(")) {
        left = call(std::move(left));
      } else {
        return left;
      }
    }
  }

  const Builtin* known(const Builtin* builtin, std::string_view what, const std::string& accepted) const {
    if (current().kind != TokenKind::kName) fail("expected a " + std::string(what) + ", got " + describe(current()));
    if (builtin == nullptr) {
      fail("unknown " + std::string(what) + " \"" + current().text + "\"; accepted: " + accepted);
    }
    return builtin;
  }

  ExpressionPtr test(ExpressionPtr left) {
    auto out = wrap(ExpressionKind::kTest, std::move(left));
    ++next_;
    const bool negated = skip_name("not");
    out->builtin = known(find_test(current().text), "test", test_names());
    out->name = take().text;
    if (is_operator("(")) {
      arguments(*out);
    } else if (test_argument_follows()) {
      if (is_name("is")) fail("tests cannot be chained with \"is\"");
      Argument argument;
      argument.value = postfix(primary());
      deepen(*out, argument.value->depth);
      out->arguments.push_back(std::move(argument));
    }
    return negated ? wrap(ExpressionKind::kNot, std::move(out)) : std::move(out);
  }

  // "x is divisibleby 3" gives its argument without brackets.
  bool test_argument_follows() const {
    switch (current().kind) {
      case TokenKind::kName: return !is_name("else") && !is_name("or") && !is_name("and");
      case TokenKind::kString:
      case TokenKind::kInteger:
      case TokenKind::kFloat: return true;
      default: return is_operator("[") || is_operator("{");
    }
  }

  int depth_ = 0;
  int loops_ = 0;
  bool saw_varargs_ = false;
  bool saw_kwargs_ = false;
};

}  // namespace

Body parse_source(std::string_view source) { return Parser(tokenize(source)).run(); }

}  // namespace fathom::jinja
