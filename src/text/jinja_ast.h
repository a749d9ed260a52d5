// Jinja syntax tree: what jinja_parser builds and jinja_eval walks. One struct for expressions and one for statements;
// the kind says which members count. The depth of a tree is bounded by the parser, so walking it may recurse.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "text/jinja_value.h"

namespace fathom::jinja {

struct Builtin;
struct Expression;
using ExpressionPtr = std::unique_ptr<Expression>;

enum class ExpressionKind {
  kConstant,     // constant
  kName,         // name
  kList,         // children
  kTuple,        // children
  kDict,         // children: key, value, key, value ...
  kNot,          // children[0]
  kNegate,       // children[0]
  kPlus,         // children[0]
  kAnd,          // children[0..1]
  kOr,           // children[0..1]
  kBinary,       // name is + - * / // % **, children[0..1]
  kConcat,       // children joined as text (~)
  kCompare,      // children[0] operations[0] children[1] operations[1] children[2] ...
  kConditional,  // children: condition, then, else (else may be null)
  kAttribute,    // children[0] . name
  kItem,         // children[0] [ children[1] ]
  kSlice,        // children[0] [ children[1] : children[2] : children[3] ], each may be null
  kCall,         // children[0] ( arguments )
  kFilter,       // children[0] | builtin ( arguments )
  kTest,         // children[0] is builtin ( arguments )
};

struct Argument {
  std::string name;  // empty: positional
  ExpressionPtr value;
};

struct Expression {
  ExpressionKind kind = ExpressionKind::kConstant;
  int line = 0;
  int depth = 1;
  std::string name;
  Value constant;
  std::vector<ExpressionPtr> children;
  std::vector<std::string> operations;
  std::vector<Argument> arguments;
  const Builtin* builtin = nullptr;
};

struct Statement;
using Body = std::vector<std::unique_ptr<Statement>>;

/// What an assignment or a for loop writes to: one name, an attribute of a namespace, or several targets.
struct Target {
  std::string name;
  std::string attribute;  // not empty: of the namespace `name`
  std::vector<Target> parts;
  bool is_tuple = false;
};

enum class StatementKind {
  kText,        // text
  kOutput,      // value
  kIf,          // branches, otherwise
  kFor,         // target, value, filter (may be null), body, otherwise
  kSet,         // target, value
  kSetBlock,    // target, body, value: the text and its filters as an expression of the name "" (may be null)
  kMacro,       // text is its name, parameters, body
  kGeneration,  // body
  kBreak,
  kContinue,
};

struct Branch {
  ExpressionPtr condition;
  Body body;
};

struct Parameter {
  std::string name;
  ExpressionPtr fallback;  // may be null
};

struct Statement {
  StatementKind kind = StatementKind::kText;
  int line = 0;
  std::string text;
  ExpressionPtr value;
  ExpressionPtr filter;
  Target target;
  Body body;
  Body otherwise;
  std::vector<Branch> branches;
  std::vector<Parameter> parameters;
  bool takes_varargs = false;  // a macro whose body mentions varargs
  bool takes_kwargs = false;   // a macro whose body mentions kwargs
};

}  // namespace fathom::jinja
