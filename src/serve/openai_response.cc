#include "serve/openai_response.h"

namespace fathom::serve {
namespace {

Json head_json(const ResponseHead& head, std::string_view object) {
  Json json = Json::object();
  json.set("id", head.id).set("object", object).set("created", head.created).set("model", head.model);
  return json.set("system_fingerprint", head.fingerprint);
}

Json usage_json(const Usage& usage) {
  Json json = Json::object();
  json.set("prompt_tokens", usage.prompt_tokens).set("completion_tokens", usage.completion_tokens);
  json.set("total_tokens", usage.prompt_tokens + usage.completion_tokens);
  json.set("prompt_tokens_details", Json::object().set("cached_tokens", usage.cached_tokens));
  Json details = Json::object().set("reasoning_tokens", usage.reasoning_tokens);
  details.set("accepted_prediction_tokens", usage.accepted_tokens);
  return json.set("completion_tokens_details", details.set("rejected_prediction_tokens", usage.rejected_tokens));
}

/// Reasoning under both names that clients know.
void set_reasoning(Json& message, std::string_view reasoning) {
  message.set("reasoning_content", reasoning).set("reasoning", reasoning);
}

Json call_json(std::string_view id, std::string_view name, std::string_view arguments) {
  Json json = Json::object().set("id", id).set("type", "function");
  return json.set("function", Json::object().set("name", name).set("arguments", arguments));
}

Json chunk(const ResponseHead& head, Json choice, bool usage_follows) {
  Json json = head_json(head, head.chat ? "chat.completion.chunk" : "text_completion");
  json.set("choices", Json::array().push(std::move(choice)));
  if (usage_follows) json.set("usage", Json());
  return json;
}

Json delta_choice(int64_t index, Json delta, Json logprobs, Json reason) {
  Json choice = Json::object();
  choice.set("index", index).set("delta", std::move(delta)).set("logprobs", std::move(logprobs));
  return choice.set("finish_reason", std::move(reason));
}

Json text_choice(int64_t index, std::string_view text, Json logprobs, Json reason) {
  Json choice = Json::object();
  choice.set("index", index).set("text", text).set("logprobs", std::move(logprobs));
  return choice.set("finish_reason", std::move(reason));
}

}  // namespace

std::string_view finish_reason(FinishReason finish, bool stopped_by_string) {
  if (finish == FinishReason::kNumericError) return "error";
  if (finish == FinishReason::kDeadline) return "timeout";
  return stopped_by_string || finish == FinishReason::kStopToken ? "stop" : "length";
}

Json completion_json(const ResponseHead& head, const std::vector<ChoiceResult>& choices, const Usage& usage) {
  Json list = Json::array();
  for (size_t i = 0; i < choices.size(); ++i) {
    const ChoiceResult& result = choices[i];
    const auto index = static_cast<int64_t>(i);
    if (!head.chat) {
      list.push(text_choice(index, result.content, result.logprobs, result.finish_reason));
      continue;
    }
    Json message = Json::object();
    const bool only_calls = result.content.empty() && !result.calls.empty();
    message.set("role", "assistant").set("content", only_calls ? Json() : Json(result.content));
    if (!result.reasoning.empty()) set_reasoning(message, result.reasoning);
    if (!result.calls.empty()) {
      Json calls = Json::array();
      for (const ToolCall& call : result.calls) calls.push(call_json(call.id, call.name, call.arguments));
      message.set("tool_calls", std::move(calls));
    }
    Json choice = Json::object();
    choice.set("index", index).set("message", std::move(message)).set("logprobs", result.logprobs);
    list.push(std::move(choice.set("finish_reason", result.finish_reason)));
  }
  Json json = head_json(head, head.chat ? "chat.completion" : "text_completion");
  return json.set("choices", std::move(list)).set("usage", usage_json(usage));
}

Json role_chunk(const ResponseHead& head, int64_t index, bool usage_follows) {
  return chunk(head, delta_choice(index, Json::object().set("role", "assistant").set("content", ""), Json(), Json()),
               usage_follows);
}

Json text_chunk(const ResponseHead& head, int64_t index, std::string_view reasoning, std::string_view content,
                Json logprobs, bool usage_follows) {
  if (!head.chat) return chunk(head, text_choice(index, content, std::move(logprobs), Json()), usage_follows);
  Json delta = Json::object();
  if (!reasoning.empty()) set_reasoning(delta, reasoning);
  if (!content.empty()) delta.set("content", content);
  return chunk(head, delta_choice(index, std::move(delta), std::move(logprobs), Json()), usage_follows);
}

Json tools_chunk(const ResponseHead& head, int64_t index, const std::vector<ToolDelta>& calls, Json logprobs,
                 bool usage_follows) {
  Json list = Json::array();
  for (const ToolDelta& delta : calls) {
    Json call = Json::object().set("index", delta.index);
    if (delta.begins) call.set("id", delta.id).set("type", "function");
    Json function = Json::object();
    if (delta.begins) function.set("name", delta.name);
    list.push(std::move(call.set("function", std::move(function.set("arguments", delta.arguments)))));
  }
  Json delta = Json::object().set("tool_calls", std::move(list));
  return chunk(head, delta_choice(index, std::move(delta), std::move(logprobs), Json()), usage_follows);
}

Json finish_chunk(const ResponseHead& head, int64_t index, std::string_view reason, Json logprobs, bool usage_follows) {
  return chunk(head,
               head.chat ? delta_choice(index, Json::object(), std::move(logprobs), reason)
                         : text_choice(index, "", std::move(logprobs), reason),
               usage_follows);
}

Json usage_chunk(const ResponseHead& head, const Usage& usage) {
  Json json = head_json(head, head.chat ? "chat.completion.chunk" : "text_completion");
  return json.set("choices", Json::array()).set("usage", usage_json(usage));
}

Json model_json(std::string_view id, int64_t created, int64_t max_model_len, int64_t vocab_size) {
  Json json = Json::object();
  json.set("id", id).set("object", "model").set("created", created).set("owned_by", "fathom");
  return json.set("max_model_len", max_model_len).set("meta", Json::object().set("n_vocab", vocab_size));
}

}  // namespace fathom::serve
