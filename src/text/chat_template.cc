#include "text/chat_template.h"

#include <chrono>

#include "text/jinja_eval.h"
#include "text/jinja_parser.h"

namespace fathom {
namespace {

constexpr size_t kMaxSourceBytes = size_t{1} << 20;
constexpr int64_t kMaxConfigBytes = int64_t{64} << 20;

std::tm local_time() {
  const std::time_t now = std::chrono::system_clock::to_time_t(std::chrono::system_clock::now());
  std::tm out{};
  localtime_r(&now, &out);
  return out;
}

Error to_error(const jinja::Failure& failure, const std::string& where) {
  if (failure.raised) return invalid(failure.text);
  return invalid(where + ":" + std::to_string(failure.line) + ": " + failure.text);
}

// A token of tokenizer_config.json: a string, an added token with its content, or nothing.
Result<std::string> read_token(const Json& config, std::string_view key, const std::string& where) {
  const Json* token = config.find(key);
  if (token == nullptr || token->is_null()) return std::string();
  if (token->is_object() && token->find("content") != nullptr) token = token->find("content");
  if (token->is_string()) return token->as_string();
  return corrupt(where + ": " + std::string(key) + " is a value of kind " + std::string(token->kind()) +
                 "; accepted: a string, {\"content\": string} or null");
}

Result<std::string> read_source(const Json& config, const std::string& where) {
  const Json* source = config.find("chat_template");
  if (source == nullptr || source->is_null()) {
    return not_found(where + ": no chat_template; put a chat_template.jinja beside it or give a template");
  }
  if (source->is_string()) return source->as_string();
  if (!source->is_array()) {
    return corrupt(where + ": chat_template is a value of kind " + std::string(source->kind()) +
                   "; accepted: a string or a list of {name, template}");
  }
  std::string names;
  for (const Json& entry : source->items()) {
    const Json* name = entry.find("name");
    const Json* text = entry.find("template");
    if (name == nullptr || !name->is_string() || text == nullptr || !text->is_string()) {
      return corrupt(where + ": chat_template has an entry that is not {name: string, template: string}");
    }
    if (name->as_string() == "default") return text->as_string();
    names += (names.empty() ? "" : ", ") + name->as_string();
  }
  return not_found(where + ": chat_template has no entry named \"default\"; it has: " + names);
}

}  // namespace

struct ChatTemplate::Parsed {
  jinja::Body body;
  std::string where;
};

Result<ChatTemplate> ChatTemplate::parse(std::string_view source, std::string_view where) {
  if (source.size() > kMaxSourceBytes) {
    return invalid(std::string(where) + ": a chat template of " + std::to_string(source.size()) +
                   " bytes; accepted: at most " + std::to_string(kMaxSourceBytes));
  }
  try {
    return ChatTemplate(std::make_shared<const Parsed>(Parsed{jinja::parse_source(source), std::string(where)}));
  } catch (const jinja::Failure& failure) {
    return to_error(failure, std::string(where));
  }
}

Result<std::string> ChatTemplate::render(const Json& context, const RenderOptions& options) const {
  if (!context.is_object()) {
    return invalid(parsed_->where + ": the context of a chat template is a value of kind " +
                   std::string(context.kind()) + "; accepted: an object");
  }
  const std::function<std::tm()> now = options.now ? options.now : local_time;
  try {
    return jinja::evaluate(parsed_->body, context, now, options.max_steps, options.max_output_bytes,
                           options.max_live_bytes);
  } catch (const jinja::Failure& failure) {
    return to_error(failure, parsed_->where);
  }
}

const std::string& ChatTemplate::where() const { return parsed_->where; }

Result<ChatFormat> load_chat_format(const Path& model_dir) {
  const Path config_path = model_dir / "tokenizer_config.json";
  const Path source_path = model_dir / "chat_template.jinja";
  std::error_code ignored;
  const bool has_source = std::filesystem::exists(source_path, ignored);

  Json config = Json::object();
  if (!has_source || std::filesystem::exists(config_path, ignored)) {
    const auto text = read_file(config_path, kMaxConfigBytes);
    if (!text) return text.error();
    auto parsed = Json::parse(*text, config_path.string());
    if (!parsed) return parsed.error();
    config = *std::move(parsed);
  }
  auto bos_token = read_token(config, "bos_token", config_path.string());
  if (!bos_token) return bos_token.error();
  auto eos_token = read_token(config, "eos_token", config_path.string());
  if (!eos_token) return eos_token.error();

  const auto source = has_source ? read_file(source_path, kMaxConfigBytes) : read_source(config, config_path.string());
  if (!source) return source.error();
  auto parsed = ChatTemplate::parse(*source, (has_source ? source_path : config_path).string());
  if (!parsed) return parsed.error();
  return ChatFormat{*std::move(parsed), *std::move(bos_token), *std::move(eos_token)};
}

}  // namespace fathom
