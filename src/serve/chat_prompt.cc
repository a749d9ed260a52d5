#include "serve/chat_prompt.h"

namespace fathom::serve {
namespace {

/// Arguments of earlier calls as objects where they are JSON objects in a string (as OpenAI has them): templates differ
/// in which of the two they take.
Json with_object_arguments(const Json& messages) {
  Json out = messages;
  for (Json& message : out.items()) {
    if (!message.is_object()) continue;
    for (auto& [key, calls] : message.members()) {
      if (key != "tool_calls" || !calls.is_array()) continue;
      for (Json& call : calls.items()) {
        const Json* function = call.find("function");
        const Json* arguments = function == nullptr ? nullptr : function->find("arguments");
        if (arguments == nullptr || !arguments->is_string()) continue;
        const auto parsed = Json::parse(arguments->as_string(), "arguments");
        if (!parsed || !parsed->is_object()) continue;
        Json copy = *function;
        copy.set("arguments", *parsed);
        call.set("function", std::move(copy));
      }
    }
  }
  return out;
}

Result<std::string> render(const ChatFormat& format, const Json& messages, const Json& template_arguments,
                           const Json& tools) {
  Json context = Json::object();
  if (template_arguments.is_object()) context = template_arguments;
  context.set("add_generation_prompt", true);
  context.set("bos_token", format.bos_token).set("eos_token", format.eos_token);
  if (!tools.is_null()) context.set("tools", tools);
  const Json objects = with_object_arguments(messages);
  context.set("messages", objects);
  auto prompt = format.chat_template.render(context);
  if (prompt || objects == messages) return prompt;
  return format.chat_template.render(context.set("messages", messages));
}

/// What DeepSeek's model card of V3.1 puts behind the system prompt; for other markups with their own example.
std::string describe(const Json& tools, ToolFormat format) {
  std::string text = "## Tools\nYou have access to the following tools:\n";
  for (const Json& tool : tools.items()) {
    const Json& function = *tool.find("function");
    text += "\n### " + function.find("name")->as_string() +
            "\nDescription: " + function.find("description")->as_string() +
            "\n\nParameters: " + function.find("parameters")->dump() + "\n";
  }
  const ToolMarkup& markup = *markup_of(format);
  return text + "\nIMPORTANT: ALWAYS adhere to this exact format for tool use:\n" +
         forced_call(format, "tool_call_name") + "tool_call_arguments" + std::string(markup.behind_fence) +
         std::string(markup.call_end) + "{{additional_tool_calls}}" + std::string(markup.calls_end) +
         "\n\nWhere:\n\n- `tool_call_name` must be an exact match to one of the available tools\n- "
         "`tool_call_arguments` must be valid JSON that strictly follows the tool's Parameters Schema\n- For multiple "
         "tool calls, chain them directly without separators or spaces\n";
}

/// The messages with `text` behind the first system message, or in one of its own.
Json with_system_text(const Json& messages, const std::string& text) {
  Json out = messages;
  for (Json& message : out.items()) {
    const Json *role = message.find("role"), *content = message.find("content");
    if (role->as_string() != "system" || content == nullptr || !content->is_string()) continue;
    message.set("content", content->as_string() + "\n\n" + text);
    return out;
  }
  Json::Array all = {Json::object().set("role", "system").set("content", text)};
  all.insert(all.end(), messages.items().begin(), messages.items().end());
  return all;
}

/// What the template says, without the path of its file, which is nobody's business; of the first message that makes it
/// say so, if there are not too many to try.
ApiError refused(const ChatFormat& format, const Json& messages, const Json& template_arguments, const Error& error) {
  constexpr size_t kMostTried = 16;
  const std::string& where = format.chat_template.where();
  std::string text = error.text;
  if (text.starts_with(where + ":")) text = "line " + text.substr(where.size() + 1);
  std::string param = "messages";
  const Json::Array& all = messages.items();
  for (size_t n = 1; n <= all.size() && all.size() <= kMostTried; ++n) {
    Json some = Json::array();
    for (size_t i = 0; i < n; ++i) some.push(all[i]);
    const auto tried = render(format, some, template_arguments, Json());
    if (tried || tried.error().text != error.text) continue;
    param += "[" + std::to_string(n - 1) + "]";
    break;
  }
  return bad_parameter(param, "the chat template refuses " + param + ": " + text);
}

}  // namespace

ToolFormat tool_format_of(const ChatFormat& format) {
  const auto probe = Json::parse(
      R"([{"role":"user","content":"u"},{"role":"assistant","content":null,"tool_calls":[{"id":"functions.f:0",
      "type":"function","function":{"name":"f","arguments":"{\"a\":1}"}}]},{"role":"tool","tool_call_id":"functions.f:0",
      "name":"f","content":"c"},{"role":"assistant","content":"b"},{"role":"user","content":"u"}])",
      "probe");
  const auto text = render(format, *probe, Json(), Json());
  if (!text) return ToolFormat::kNone;
  if (text->find("<|tool_call_argument_begin|>") != std::string::npos) return ToolFormat::kKimiK2;
  if (text->find("<｜tool▁sep｜>") == std::string::npos) return ToolFormat::kNone;
  return text->find("function<｜tool▁sep｜>f\n```json\n") != std::string::npos ? ToolFormat::kDeepseekV3
                                                                               : ToolFormat::kDeepseekV31;
}

ApiResult<std::string> render_chat(const ChatFormat* format, const Json& messages, const Json& template_arguments) {
  if (format == nullptr) {
    return ApiError{.status = 400,
                    .code = "chat_not_supported",
                    .message = "this model has no chat template; use /v1/completions",
                    .param = {}};
  }
  auto prompt = render(*format, messages, template_arguments, Json());
  if (!prompt) return refused(*format, messages, template_arguments, prompt.error());
  return *std::move(prompt);
}

ApiResult<ChatPrompt> chat_prompt(const ChatFormat* format, ToolFormat tools, const GenerationRequest& request) {
  auto plain = render_chat(format, request.messages, request.template_arguments);
  if (auto* error = std::get_if<ApiError>(&plain)) return *error;
  ChatPrompt prompt{.text = std::get<0>(std::move(plain)), .forced = {}};
  if (!request.may_call()) return prompt;
  if (tools == ToolFormat::kNone) {
    return bad_parameter("tools",
                         "tools are not supported: the chat template of this model knows no tool calls; leave "
                         "them out, or start the server with --tool-call-parser");
  }
  auto rendered = render(*format, request.messages, request.template_arguments, request.tools);
  if (rendered && *rendered == prompt.text) {  // a template that ignores them
    rendered = render(*format, with_system_text(request.messages, describe(request.tools, tools)),
                      request.template_arguments, Json());
  }
  if (!rendered) return refused(*format, request.messages, request.template_arguments, rendered.error());
  prompt.text = *std::move(rendered);
  if (request.tool_choice == ToolChoice::kRequired || request.tool_choice == ToolChoice::kNamed) {
    const size_t end = prompt.text.find_last_not_of(" \n") + 1;
    if (std::string_view(prompt.text).substr(0, end).ends_with("<think>")) prompt.text += "</think>";
    prompt.forced = forced_call(tools, request.tool_name);
    prompt.text += prompt.forced;
  }
  return prompt;
}

}  // namespace fathom::serve
