#include "text/jinja_eval.h"

#include <array>

#include "base/check.h"
#include "text/jinja_builtins.h"
#include "text/jinja_operators.h"

namespace fathom::jinja {
namespace {

constexpr int64_t kScopeBytes = 256;

// The variables of one block: the template, one iteration of a loop, one call of a macro.
struct Scope {
  explicit Scope(std::shared_ptr<Scope> outer) : parent(std::move(outer)) {}

  void set(std::string_view name, Value value) {
    for (auto& [key, old] : names) {
      if (key == name) {
        old = std::move(value);
        return;
      }
    }
    names.emplace_back(name, std::move(value));
  }

  std::shared_ptr<Scope> parent;
  std::vector<std::pair<std::string_view, Value>> names;  // names live in the syntax tree and the context
  bool pinned = false;
};
using ScopePtr = std::shared_ptr<Scope>;

// Where text goes: the result, or what a macro or a set block captures.
class Output {
 public:
  Output(Runtime& runtime, int64_t max_bytes) : runtime_(runtime), max_bytes_(max_bytes) {}
  ~Output() { runtime_.meter.release(held_); }
  Output(const Output&) = delete;
  Output& operator=(const Output&) = delete;

  void write(std::string_view text) {
    const auto size = static_cast<int64_t>(text.size());
    if (size > max_bytes_ - static_cast<int64_t>(text_.size())) {
      runtime_.fail("the output is longer than " + std::to_string(max_bytes_) + " bytes");
    }
    runtime_.meter.step(size / 64);
    runtime_.meter.hold(size);
    held_ += size;
    text_.append(text);
  }
  std::string take() { return std::move(text_); }

 private:
  Runtime& runtime_;
  int64_t max_bytes_;
  int64_t held_ = 0;
  std::string text_;
};

Value loop_cycle(Runtime& runtime, const Value& self, const Call& call);
constexpr Builtin kLoopCycle = {"cycle", "*", loop_cycle};

// The variable `loop`, which also drives the iteration. Items are tested by the loop's own "if" only when they are
// reached (or when .last, .nextitem or .length must know), so the body may change what the condition sees.
class Loop final : public Object {
 public:
  using Keep = std::function<bool(Value)>;

  Loop(Value items, std::vector<Value> list, Keep keep)
      : Object(items.depth() + 1), held_items_(std::move(items)), items_(std::move(list)), keep_(std::move(keep)) {
    if (depth() > kMaxValueDepth) throw Failure{0, "values are nested deeper than " + std::to_string(kMaxValueDepth)};
  }

  std::string_view type_name() const override { return "loop"; }

  bool advance(Runtime& runtime) {
    if (!has_next(runtime)) return false;
    previous_ = std::exchange(current_, items_[next_++]);
    tested_ = false;
    ++index0_;
    return true;
  }
  const Value& current() const { return current_; }
  int64_t index0() const { return index0_; }
  // No more conditions: the scope they look into is gone.
  void finish() { keep_ = nullptr; }

  std::optional<Value> attribute(Runtime& runtime, std::string_view name) override {
    if (name == "index0") return index0_;
    if (name == "index") return index0_ + 1;
    if (name == "first") return index0_ == 0;
    if (name == "last") return !has_next(runtime);
    if (name == "length") return length(runtime);
    if (name == "revindex") return length(runtime) - index0_;
    if (name == "revindex0") return length(runtime) - index0_ - 1;
    if (name == "previtem") return index0_ == 0 ? Value::undefined("there is no previous item") : previous_;
    if (name == "nextitem") return has_next(runtime) ? items_[next_] : Value::undefined("there is no next item");
    if (name == "depth") return int64_t{1};
    if (name == "depth0") return int64_t{0};
    return std::nullopt;
  }

 private:
  bool has_next(Runtime& runtime) {
    while (keep_ != nullptr && !tested_ && next_ < items_.size()) {
      if (busy_) runtime.fail("the condition of a loop reads the loop itself");
      busy_ = true;
      tested_ = keep_(items_[next_]);  // a Failure ends the render: busy_ need not be reset then
      busy_ = false;
      if (!tested_) ++next_;
    }
    return next_ < items_.size();
  }

  int64_t length(Runtime& runtime) {
    if (keep_ != nullptr) {
      std::vector<Value> kept;
      for (; has_next(runtime); ++next_, tested_ = false) kept.push_back(items_[next_]);
      items_ = std::move(kept);
      next_ = 0;
      keep_ = nullptr;
    }
    return index0_ + 1 + static_cast<int64_t>(items_.size() - next_);
  }

  Value held_items_;  // keeps the meter's account of the items
  std::vector<Value> items_;
  Keep keep_;
  size_t next_ = 0;
  bool tested_ = false;
  bool busy_ = false;
  int64_t index0_ = -1;
  Value current_;
  Value previous_;
};

Value loop_cycle(Runtime& runtime, const Value& self, const Call& call) {
  const auto& choices = call.args.positional;
  if (choices.empty()) runtime.fail("loop.cycle needs values to choose from");
  const auto index = static_cast<size_t>(static_cast<const Loop&>(self.object()).index0());
  return choices[index % choices.size()];
}

enum class Flow { kNext, kBreak, kContinue };

class Evaluator {
 public:
  explicit Evaluator(Runtime& runtime) : rt_(runtime) {}
  ~Evaluator() {
    // A macro holds its scope and a scope may hold the macro: emptying the scopes ends the cycles.
    for (const ScopePtr& scope : pinned_) scope->names.clear();
  }
  Evaluator(const Evaluator&) = delete;
  Evaluator& operator=(const Evaluator&) = delete;

  std::string run(const Body& body, const Json& context, int64_t output_bytes) {
    auto variables = std::make_shared<Scope>(nullptr);
    for (const auto& [name, value] : context.members()) {
      variables->names.emplace_back(name, Value::from_json(rt_.meter, value));
    }
    Output output(rt_, output_bytes);
    out_ = &output;
    execute(body, std::make_shared<Scope>(std::move(variables)));
    out_ = nullptr;
    return output.take();
  }

  // Runs the body of a macro with its parameters bound, and returns its text.
  Value call_macro(const Statement& macro, const ScopePtr& outer, const Args& args) {
    const Nesting nesting(rt_);
    const auto scope = std::make_shared<Scope>(outer);
    const auto& parameters = macro.parameters;
    const auto refuse = [&](const std::string& what) { rt_.fail("macro " + macro.text + ": " + what); };
    std::vector<Value> extra;
    std::vector<std::pair<Value, Value>> extra_named;
    std::vector<bool> given(parameters.size(), false);
    for (size_t i = 0; i < args.positional.size(); ++i) {
      if (i < parameters.size()) {
        scope->set(parameters[i].name, args.positional[i]);
        given[i] = true;
      } else if (macro.takes_varargs) {
        extra.push_back(args.positional[i]);
      } else {
        refuse("more than " + std::to_string(parameters.size()) + " arguments");
      }
    }
    for (const auto& [name, value] : args.named) {
      size_t i = 0;
      while (i < parameters.size() && parameters[i].name != name) ++i;
      if (i < parameters.size()) {
        if (given[i]) refuse("argument \"" + name + "\" is given twice");
        given[i] = true;
        scope->set(parameters[i].name, value);
      } else if (macro.takes_kwargs) {
        extra_named.emplace_back(rt_.text(name), value);
      } else {
        refuse("unknown argument \"" + name + "\"");
      }
    }
    for (size_t i = 0; i < parameters.size(); ++i) {
      if (given[i]) continue;
      const Parameter& parameter = parameters[i];
      scope->set(parameter.name, parameter.fallback != nullptr
                                     ? evaluate(*parameter.fallback, scope)
                                     : Value::undefined("parameter \"" + parameter.name + "\" was not given"));
    }
    if (macro.takes_varargs) scope->set("varargs", rt_.list(std::move(extra), true));
    if (macro.takes_kwargs) scope->set("kwargs", Value::dict(rt_.meter, std::move(extra_named)));
    return rt_.text(capture(macro.body, scope));
  }

 private:
  class Macro final : public Object {
   public:
    Macro(Evaluator& evaluator, const Statement& statement, ScopePtr scope)
        : evaluator_(evaluator), statement_(statement), scope_(std::move(scope)) {}
    std::string_view type_name() const override { return "macro"; }
    bool callable() const override { return true; }
    Value call(Runtime&, const Args& args) override { return evaluator_.call_macro(statement_, scope_, args); }

   private:
    Evaluator& evaluator_;
    const Statement& statement_;
    ScopePtr scope_;
  };

  // --- statements ---

  // The text that `body` writes; a break or continue inside ends it early.
  std::string capture(const Body& body, const ScopePtr& scope, Flow* flow = nullptr) {
    Output output(rt_, kMaxTextBytes);
    Output* const outer = std::exchange(out_, &output);
    const Flow end = execute(body, scope);  // a Failure ends the render: out_ need not be restored then
    if (flow != nullptr) *flow = end;
    out_ = outer;
    return output.take();
  }

  Flow execute(const Body& body, const ScopePtr& scope) {
    for (const auto& statement : body) {
      const Flow flow = execute(*statement, scope);
      if (flow != Flow::kNext) return flow;
    }
    return Flow::kNext;
  }

  Flow execute(const Statement& statement, const ScopePtr& scope) {
    const Nesting nesting(rt_);
    rt_.meter.step();
    rt_.line = statement.line;
    switch (statement.kind) {
      case StatementKind::kText: out_->write(statement.text); return Flow::kNext;
      case StatementKind::kOutput: out_->write(to_text(rt_, evaluate(*statement.value, scope))); return Flow::kNext;
      case StatementKind::kIf: return execute_if(statement, scope);
      case StatementKind::kFor: return execute_for(statement, scope);
      case StatementKind::kSet: assign(statement.target, evaluate(*statement.value, scope), *scope); return Flow::kNext;
      case StatementKind::kSetBlock: return execute_set_block(statement, scope);
      case StatementKind::kMacro: define(statement, scope); return Flow::kNext;
      case StatementKind::kGeneration: return execute(statement.body, std::make_shared<Scope>(scope));
      case StatementKind::kBreak: return Flow::kBreak;
      case StatementKind::kContinue: return Flow::kContinue;
    }
    check(false, "every statement kind is executed");
    return Flow::kNext;
  }

  Flow execute_if(const Statement& statement, const ScopePtr& scope) {
    for (const Branch& branch : statement.branches) {
      if (evaluate(*branch.condition, scope).truthy()) return execute(branch.body, scope);
    }
    return execute(statement.otherwise, scope);
  }

  Flow execute_for(const Statement& statement, const ScopePtr& scope) {
    const Value iterated = evaluate(*statement.value, scope);
    Loop::Keep keep;
    if (statement.filter != nullptr) {
      keep = [this, &statement, &scope](Value item) {
        const auto inner = std::make_shared<Scope>(scope);
        assign(statement.target, std::move(item), *inner);
        return evaluate(*statement.filter, inner).truthy();
      };
    }
    rt_.line = statement.line;
    std::vector<Value> items = iterate(rt_, iterated);
    const Value list = iterated.is_list() ? iterated : rt_.list(items);
    const auto loop = std::make_shared<Loop>(list, std::move(items), std::move(keep));
    const Value loop_value = std::shared_ptr<Object>(loop);
    Flow flow = Flow::kNext;
    while (flow != Flow::kBreak && loop->advance(rt_)) {
      rt_.meter.step();
      const auto inner = std::make_shared<Scope>(scope);
      inner->set("loop", loop_value);
      assign(statement.target, loop->current(), *inner);
      flow = execute(statement.body, inner);
    }
    loop->finish();
    if (loop->index0() < 0) return execute(statement.otherwise, std::make_shared<Scope>(scope));
    return Flow::kNext;
  }

  Flow execute_set_block(const Statement& statement, const ScopePtr& scope) {
    const auto inner = std::make_shared<Scope>(scope);
    Flow flow = Flow::kNext;
    Value text = rt_.text(capture(statement.body, inner, &flow));
    if (flow != Flow::kNext) return flow;
    if (statement.value != nullptr) {
      inner->set("", std::move(text));  // what the filters of the tag begin with
      text = evaluate(*statement.value, inner);
    }
    assign(statement.target, std::move(text), *scope);
    return Flow::kNext;
  }

  void define(const Statement& statement, const ScopePtr& scope) {
    for (ScopePtr at = scope; at != nullptr && !at->pinned; at = at->parent) {
      at->pinned = true;
      rt_.meter.hold(kScopeBytes);  // pinned scopes live until the render ends
      pinned_.push_back(at);
    }
    set(*scope, statement.text, std::shared_ptr<Object>(std::make_shared<Macro>(*this, statement, scope)));
  }

  void set(Scope& scope, std::string_view name, Value value) {
    rt_.meter.step(static_cast<int64_t>(scope.names.size()) / 16);
    scope.set(name, std::move(value));
  }

  void assign(const Target& target, Value value, Scope& scope) {
    if (target.is_tuple) {
      const std::vector<Value> items = iterate(rt_, value);
      if (items.size() != target.parts.size()) {
        rt_.fail("cannot assign " + std::to_string(items.size()) + " values to " + std::to_string(target.parts.size()) +
                 " names");
      }
      for (size_t i = 0; i < items.size(); ++i) assign(target.parts[i], items[i], scope);
    } else if (!target.attribute.empty()) {
      set_attribute(rt_, lookup(target.name, scope), target.attribute, std::move(value));
    } else {
      set(scope, target.name, std::move(value));
    }
  }

  // --- expressions ---

  Value lookup(std::string_view name, const Scope& scope) {
    for (const Scope* at = &scope; at != nullptr; at = at->parent.get()) {
      rt_.meter.step(static_cast<int64_t>(at->names.size()) / 16);
      for (const auto& [key, value] : at->names) {
        if (key == name) return value;
      }
    }
    if (const Builtin* function = find_function(name)) return bind(*function, Value());
    return Value::undefined("\"" + std::string(name) + "\" is undefined");
  }

  Value evaluate(const Expression& e, const ScopePtr& scope) {
    const Nesting nesting(rt_);
    rt_.meter.step();
    rt_.line = e.line;
    const auto child = [&](size_t i) { return evaluate(*e.children[i], scope); };
    switch (e.kind) {
      case ExpressionKind::kConstant: return e.constant;
      case ExpressionKind::kName: return lookup(e.name, *scope);
      case ExpressionKind::kNot: return !child(0).truthy();
      case ExpressionKind::kNegate: return negated(rt_, child(0));
      case ExpressionKind::kPlus: return positive(rt_, child(0));
      case ExpressionKind::kAnd: {
        Value left = child(0);
        return left.truthy() ? child(1) : left;
      }
      case ExpressionKind::kOr: {
        Value left = child(0);
        return left.truthy() ? left : child(1);
      }
      case ExpressionKind::kConditional:
        if (child(0).truthy()) return child(1);
        return e.children[2] != nullptr ? child(2) : Value::undefined("an inline if was false and has no else");
      case ExpressionKind::kAttribute: return get_attribute(rt_, child(0), e.name);
      default: return evaluate_compound(e, scope);
    }
  }

  // The kinds with more state; apart from evaluate() so that deep nesting of the simple ones needs little stack.
  Value evaluate_compound(const Expression& e, const ScopePtr& scope) {
    switch (e.kind) {
      case ExpressionKind::kList:
      case ExpressionKind::kTuple: return rt_.list(evaluate_all(e, scope), e.kind == ExpressionKind::kTuple);
      case ExpressionKind::kDict: return evaluate_dict(e, scope);
      case ExpressionKind::kBinary: {
        const Value left = evaluate(*e.children[0], scope);
        const Value right = evaluate(*e.children[1], scope);
        rt_.line = e.line;
        return arithmetic(rt_, e.name, left, right);
      }
      case ExpressionKind::kConcat: {
        std::string out;
        for (const Value& part : evaluate_all(e, scope)) append(rt_, out, to_text(rt_, part));
        return rt_.text(std::move(out));
      }
      case ExpressionKind::kCompare: return evaluate_compare(e, scope);
      case ExpressionKind::kItem: {
        const Value self = evaluate(*e.children[0], scope);
        return get_item(rt_, self, evaluate(*e.children[1], scope));
      }
      case ExpressionKind::kSlice: return evaluate_slice(e, scope);
      case ExpressionKind::kCall: return evaluate_call(e, scope);
      case ExpressionKind::kFilter:
      case ExpressionKind::kTest: {
        const Value self = evaluate(*e.children[0], scope);
        const Args args = evaluate_arguments(e, scope);
        rt_.line = e.line;
        return apply(rt_, *e.builtin, self, args);
      }
      default: check(false, "every expression kind is evaluated"); return {};
    }
  }

  std::vector<Value> evaluate_all(const Expression& e, const ScopePtr& scope) {
    std::vector<Value> out;
    out.reserve(e.children.size());
    for (const auto& child : e.children) out.push_back(evaluate(*child, scope));
    return out;
  }

  Value evaluate_dict(const Expression& e, const ScopePtr& scope) {
    std::vector<std::pair<Value, Value>> out;
    for (size_t i = 0; i + 1 < e.children.size(); i += 2) {
      Value key = evaluate(*e.children[i], scope);
      Value value = evaluate(*e.children[i + 1], scope);
      rt_.line = e.line;
      if (key.is_list() || key.is_dict()) rt_.fail("a " + std::string(key.type_name()) + " cannot be a key of a dict");
      bool replaced = false;
      for (auto& [old_key, old_value] : out) {
        if (!equal(rt_.meter, old_key, key)) continue;
        old_value = value;
        replaced = true;
      }
      if (!replaced) out.emplace_back(std::move(key), std::move(value));
    }
    return Value::dict(rt_.meter, std::move(out));
  }

  Value evaluate_compare(const Expression& e, const ScopePtr& scope) {
    Value left = evaluate(*e.children[0], scope);
    for (size_t i = 0; i < e.operations.size(); ++i) {
      Value right = evaluate(*e.children[i + 1], scope);
      rt_.line = e.line;
      if (!holds(rt_, e.operations[i], left, right)) return false;
      left = std::move(right);
    }
    return true;
  }

  Value evaluate_slice(const Expression& e, const ScopePtr& scope) {
    std::array<Value, 4> parts;
    for (size_t i = 0; i < parts.size(); ++i) {
      parts[i] = e.children[i] == nullptr ? Value(None{}) : evaluate(*e.children[i], scope);
    }
    rt_.line = e.line;
    return get_slice(rt_, parts[0], parts[1], parts[2], parts[3]);
  }

  Args evaluate_arguments(const Expression& e, const ScopePtr& scope) {
    Args out;
    for (const Argument& argument : e.arguments) {
      Value value = evaluate(*argument.value, scope);
      if (argument.name.empty()) {
        out.positional.push_back(std::move(value));
      } else {
        out.named.emplace_back(argument.name, std::move(value));
      }
    }
    return out;
  }

  Value evaluate_call(const Expression& e, const ScopePtr& scope) {
    const Expression& callee = *e.children[0];
    if (callee.kind == ExpressionKind::kAttribute) {
      const Value self = evaluate(*callee.children[0], scope);
      const Args args = evaluate_arguments(e, scope);
      rt_.line = callee.line;
      if (self.is_object() && dynamic_cast<Loop*>(&self.object()) != nullptr && callee.name == kLoopCycle.name) {
        return apply(rt_, kLoopCycle, self, args);
      }
      if (!self.is_object()) {
        if (const Builtin* method = find_method(self, callee.name)) return apply(rt_, *method, self, args);
      }
      const Value function = get_attribute(rt_, self, callee.name);
      if (function.is_undefined()) {
        rt_.fail(std::string(self.type_name()) + " has no method \"" + callee.name + "\"" + method_hint(self));
      }
      return call_value(rt_, function, args);
    }
    const Value function = evaluate(callee, scope);
    const Args args = evaluate_arguments(e, scope);
    rt_.line = e.line;
    return call_value(rt_, function, args);
  }

  Runtime& rt_;
  Output* out_ = nullptr;
  std::vector<ScopePtr> pinned_;
};

}  // namespace

std::string evaluate(const Body& body, const Json& context, const std::function<std::tm()>& now, int64_t steps,
                     int64_t output_bytes, int64_t live_bytes) {
  Runtime runtime(steps, live_bytes, now);
  try {
    return Evaluator(runtime).run(body, context, output_bytes);
  } catch (Failure& failure) {
    if (failure.line == 0) failure.line = runtime.line;
    throw;
  }
}

}  // namespace fathom::jinja
