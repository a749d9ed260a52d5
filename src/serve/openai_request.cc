#include "serve/openai_request.h"

#include <algorithm>
#include <array>
#include <cmath>

namespace fathom::serve {
namespace {

constexpr int64_t kMostTokens = int64_t{1} << 31;

/// The members of a request, with the first error kept; a member that is null counts as absent.
class Fields {
 public:
  explicit Fields(const Json& body) : body_(body) {}

  const Json* find(std::string_view key) const {
    const Json* found = body_.find(key);
    return found == nullptr || found->is_null() ? nullptr : found;
  }
  void refuse(std::string_view key, std::string message) {
    if (!error_) error_ = bad_parameter(key, std::move(message));
  }
  const std::optional<ApiError>& error() const { return error_; }

  void text(std::string_view key, std::string& value) {
    const Json* found = find(key);
    if (found == nullptr) return;
    if (!found->is_string()) return wrong_kind(key, *found, "a string");
    value = found->as_string();
  }
  void boolean(std::string_view key, bool& value) {
    const Json* found = find(key);
    if (found == nullptr) return;
    if (!found->is_bool()) return wrong_kind(key, *found, "true or false");
    value = found->as_bool();
  }
  void integer(std::string_view key, std::optional<int64_t>& value, int64_t least, int64_t most) {
    const Json* found = find(key);
    if (found == nullptr) return;
    const std::string accepted = "an integer from " + std::to_string(least) + " to " + std::to_string(most);
    if (!found->is_int()) return wrong_kind(key, *found, accepted);
    if (found->as_int() < least || found->as_int() > most) return out_of_range(key, *found, accepted);
    value = found->as_int();
  }
  void number(std::string_view key, std::optional<double>& value, double least, double most,
              std::string_view accepted) {
    const Json* found = find(key);
    if (found == nullptr) return;
    if (!found->is_number()) return wrong_kind(key, *found, accepted);
    const double given = found->as_double();
    if (!(given >= least && given <= most)) return out_of_range(key, *found, accepted);
    value = given;
  }
  void wrong_kind(std::string_view key, const Json& found, std::string_view accepted) {
    refuse(key, std::string(key) + " is " + article(found.kind()) + "; accepted: " + std::string(accepted));
  }

 private:
  static std::string article(std::string_view kind) {
    const bool vowel = kind == "object" || kind == "array" || kind == "integer";
    return (vowel ? "an " : "a ") + std::string(kind);
  }
  void out_of_range(std::string_view key, const Json& found, std::string_view accepted) {
    refuse(key, std::string(key) + " " + found.dump() + " is out of range; accepted: " + std::string(accepted));
  }

  const Json& body_;
  std::optional<ApiError> error_;
};

bool is_zero(const Json& value) { return value.is_number() && value.as_double() == 0; }
bool is_one(const Json& value) { return value.is_number() && value.as_double() == 1; }
bool is_false(const Json& value) { return value.is_bool() && !value.as_bool(); }
bool is_empty(const Json& value) {
  return (value.is_array() && value.items().empty()) || (value.is_object() && value.members().empty()) ||
         (value.is_string() && value.as_string().empty());
}
bool is_no_tool_choice(const Json& value) {
  return value.is_string() && (value.as_string() == "none" || value.as_string() == "auto");
}
bool is_text_format(const Json& value) {
  const Json* type = value.find("type");
  return type != nullptr && type->is_string() && type->as_string() == "text";
}
bool is_text_only(const Json& value) {
  return value.is_array() && std::all_of(value.items().begin(), value.items().end(), [](const Json& item) {
           return item.is_string() && item.as_string() == "text";
         });
}
bool is_nothing(const Json&) { return false; }

/// What this server cannot do yet: a value that asks for nothing is let through.
struct Unsupported {
  std::string_view key;
  bool (*harmless)(const Json&);
  std::string_view accepted;
};
constexpr std::array kUnsupported = {
    Unsupported{"logit_bias", is_empty, "{}"},
    Unsupported{"top_logprobs", is_zero, "0"},
    Unsupported{"prompt_logprobs", is_zero, "0"},
    Unsupported{"frequency_penalty", is_zero, "0"},
    Unsupported{"presence_penalty", is_zero, "0"},
    Unsupported{"typical_p", is_one, "1"},
    Unsupported{"min_tokens", is_zero, "0"},
    Unsupported{"ignore_eos", is_false, "false"},
    Unsupported{"stop_token_ids", is_empty, "[]"},
    Unsupported{"bad_words", is_empty, "[]"},
    Unsupported{"tools", is_empty, "[]"},
    Unsupported{"functions", is_empty, "[]"},
    Unsupported{"tool_choice", is_no_tool_choice, "\"none\", \"auto\""},
    Unsupported{"function_call", is_no_tool_choice, "\"none\", \"auto\""},
    Unsupported{"response_format", is_text_format, "{\"type\": \"text\"}"},
    Unsupported{"guided_json", is_nothing, "null"},
    Unsupported{"guided_regex", is_nothing, "null"},
    Unsupported{"guided_choice", is_nothing, "null"},
    Unsupported{"guided_grammar", is_nothing, "null"},
    Unsupported{"grammar", is_empty, "\"\""},
    Unsupported{"json_schema", is_empty, "{}"},
    Unsupported{"structured_outputs", is_empty, "{}"},
    Unsupported{"use_beam_search", is_false, "false"},
    Unsupported{"echo", is_false, "false"},
    Unsupported{"suffix", is_empty, "\"\""},
    Unsupported{"continue_final_message", is_false, "false"},
    Unsupported{"modalities", is_text_only, "[\"text\"]"},
    Unsupported{"audio", is_nothing, "null"},
};

void refuse_unsupported(Fields& fields, bool chat) {
  for (const Unsupported& entry : kUnsupported) {
    const Json* found = fields.find(entry.key);
    if (found == nullptr || entry.harmless(*found)) continue;
    fields.refuse(entry.key, std::string(entry.key) + " is not supported by this server; accepted: leave it out, or " +
                                 std::string(entry.accepted));
  }
  // A boolean in chat, a count in text completions.
  if (const Json* found = fields.find("logprobs"); found != nullptr && !(chat ? is_false(*found) : is_zero(*found))) {
    fields.refuse("logprobs", std::string("logprobs is not supported by this server; accepted: leave it out, or ") +
                                  (chat ? "false" : "0"));
  }
}

void parse_stop(Fields& fields, GenerationRequest& request) {
  const Json* stop = fields.find("stop");
  if (stop == nullptr) return;
  const Json::Array stops = stop->is_array() ? stop->items() : Json::Array{*stop};
  if (static_cast<int64_t>(stops.size()) > kMaxStops) {
    return fields.refuse("stop", "stop has " + std::to_string(stops.size()) +
                                     " strings; accepted: " + std::to_string(kMaxStops) + " at most");
  }
  for (const Json& item : stops) {
    if (!item.is_string()) return fields.wrong_kind("stop", item, "a string or a list of strings");
    if (item.as_string().empty()) {
      return fields.refuse("stop", "a stop string is empty and would end every answer at once; give a text");
    }
    request.stop.push_back(item.as_string());
  }
}

void parse_common(Fields& fields, GenerationRequest& request) {
  refuse_unsupported(fields, request.chat);
  fields.text("model", request.model);
  std::optional<int64_t> n, best_of;
  fields.integer("n", n, 1, kMaxChoices);
  request.n = n.value_or(1);
  fields.integer("best_of", best_of, 1, kMaxChoices);
  if (best_of.value_or(request.n) != request.n) {
    fields.refuse("best_of", "best_of is not supported by this server; accepted: leave it out, or the value of n");
  }
  fields.integer("max_tokens", request.max_tokens, 1, kMostTokens);
  fields.integer("max_completion_tokens", request.max_tokens, 1, kMostTokens);
  fields.boolean("stream", request.stream);
  if (const Json* options = fields.find("stream_options")) {
    if (!request.stream) {
      fields.refuse("stream_options", "stream_options is only allowed with \"stream\": true");
    } else if (!options->is_object()) {
      fields.wrong_kind("stream_options", *options, "an object");
    } else {
      Fields inner(*options);
      inner.boolean("include_usage", request.include_usage);
      if (inner.error()) fields.refuse("stream_options.include_usage", inner.error()->message);
    }
  }
  fields.number("temperature", request.temperature, 0, 2, "0 to 2");
  fields.number("top_p", request.top_p, 0, 1, "above 0, up to 1");
  fields.number("min_p", request.min_p, 0, 1, "0 to 1");
  fields.number("repetition_penalty", request.repetition_penalty, 0.01, 100, "0.01 to 100");
  fields.integer("top_k", request.top_k, -1, kMostTokens);
  if (request.top_k == -1) request.top_k = 0;  // vLLM's word for off
  std::optional<int64_t> seed;
  fields.integer("seed", seed, INT64_MIN, INT64_MAX);
  if (seed) request.seed = static_cast<uint64_t>(*seed);
  parse_stop(fields, request);
}

/// The text of a message's content: a string, or a list of text parts joined; nothing for another kind.
std::optional<std::string> text_of(const Json& content) {
  if (content.is_string()) return content.as_string();
  if (!content.is_array()) return std::nullopt;
  std::string joined;
  for (const Json& part : content.items()) {
    const Json *type = part.find("type"), *text = part.find("text");
    if (type == nullptr || !type->is_string() || type->as_string() != "text") return std::nullopt;
    if (text == nullptr || !text->is_string()) return std::nullopt;
    joined += text->as_string();
  }
  return joined;
}

/// Messages as templates read them: contents are strings, "developer" is "system", the rest as it came.
ApiResult<Json> parse_messages(const Json* messages) {
  if (messages == nullptr) return bad_parameter("messages", "messages is missing; give a list of {role, content}");
  if (!messages->is_array() || messages->items().empty()) {
    return bad_parameter("messages", "messages must be a list of at least one {role, content}");
  }
  Json out = Json::array();
  for (size_t i = 0; i < messages->items().size(); ++i) {
    const Json& message = messages->items()[i];
    const std::string where = "messages[" + std::to_string(i) + "]";
    if (!message.is_object()) return bad_parameter(where, where + " is not an object with role and content");
    const Json *role = message.find("role"), *content = message.find("content");
    if (role == nullptr || !role->is_string()) {
      return bad_parameter(where + ".role", where + ".role must be a string: system, user, assistant or tool");
    }
    Json copy = message;
    if (role->as_string() == "developer") copy.set("role", "system");
    const bool has_calls = message.find("tool_calls") != nullptr;
    if (content == nullptr || content->is_null()) {
      if (!has_calls) return bad_parameter(where + ".content", where + ".content is missing; give a string");
      copy.set("content", Json());
    } else if (const auto text = text_of(*content)) {
      copy.set("content", *text);
    } else {
      return bad_parameter(where + ".content",
                           where + ".content must be a string or a list of {\"type\": \"text\", \"text\": ...}");
    }
    out.push(std::move(copy));
  }
  return out;
}

ApiResult<std::vector<int32_t>> parse_ids(const Json::Array& items, std::string_view key) {
  std::vector<int32_t> ids;
  ids.reserve(items.size());
  for (const Json& item : items) {
    if (!item.is_int() || item.as_int() < 0 || item.as_int() > INT32_MAX) {
      return bad_parameter(key, std::string(key) + " has " + item.dump().substr(0, 100) + ", which is not a token id");
    }
    ids.push_back(static_cast<int32_t>(item.as_int()));
  }
  return ids;
}

ApiResult<std::vector<Prompt>> parse_prompts(const Json* prompt) {
  const auto refuse = [](std::string message) { return bad_parameter("prompt", std::move(message)); };
  const char* accepted = "a string, a list of strings, a list of token ids, or a list of such lists";
  if (prompt == nullptr) return refuse(std::string("prompt is missing; accepted: ") + accepted);
  if (prompt->is_string()) return std::vector<Prompt>{prompt->as_string()};
  if (!prompt->is_array() || prompt->items().empty()) {
    return refuse(std::string("prompt must be ") + accepted + ", and not empty");
  }
  const Json::Array& items = prompt->items();
  std::vector<Prompt> prompts;
  if (items.front().is_int()) {
    auto ids = parse_ids(items, "prompt");
    if (auto* error = std::get_if<ApiError>(&ids)) return *error;
    prompts.emplace_back(std::get<0>(std::move(ids)));
    return prompts;
  }
  if (static_cast<int64_t>(items.size()) > kMaxChoices) {
    return refuse("prompt has " + std::to_string(items.size()) + " entries; accepted: " + std::to_string(kMaxChoices) +
                  " at most");
  }
  for (const Json& item : items) {
    if (item.kind() != items.front().kind() || !(item.is_string() || item.is_array())) {
      return refuse(std::string("prompt must be ") + accepted);
    }
    if (item.is_string()) {
      prompts.emplace_back(item.as_string());
      continue;
    }
    auto ids = parse_ids(item.items(), "prompt");
    if (auto* error = std::get_if<ApiError>(&ids)) return *error;
    prompts.emplace_back(std::get<0>(std::move(ids)));
  }
  return prompts;
}

ApiError not_an_object(const Json& body) {
  return {.status = 400,
          .code = "invalid_request",
          .message = "the body is JSON of kind " + std::string(body.kind()) + "; give an object",
          .param = {}};
}

}  // namespace

ApiResult<GenerationRequest> parse_chat_request(const Json& body) {
  if (!body.is_object()) return not_an_object(body);
  Fields fields(body);
  GenerationRequest request;
  request.chat = true;
  parse_common(fields, request);
  if (const Json* arguments = fields.find("chat_template_kwargs")) {
    if (arguments->is_object()) {
      request.template_arguments = *arguments;
    } else {
      fields.wrong_kind("chat_template_kwargs", *arguments, "an object");
    }
  }
  if (fields.error()) return *fields.error();
  auto messages = parse_messages(fields.find("messages"));
  if (auto* error = std::get_if<ApiError>(&messages)) return *error;
  request.messages = std::get<Json>(std::move(messages));
  return request;
}

ApiResult<GenerationRequest> parse_completion_request(const Json& body) {
  if (!body.is_object()) return not_an_object(body);
  Fields fields(body);
  GenerationRequest request;
  parse_common(fields, request);
  if (fields.error()) return *fields.error();
  auto prompts = parse_prompts(fields.find("prompt"));
  if (auto* error = std::get_if<ApiError>(&prompts)) return *error;
  request.prompts = std::get<0>(std::move(prompts));
  if (static_cast<int64_t>(request.prompts.size()) * request.n > kMaxChoices) {
    return bad_parameter("n", std::to_string(request.prompts.size()) + " prompts with n " + std::to_string(request.n) +
                                  " ask for more than " + std::to_string(kMaxChoices) + " choices");
  }
  return request;
}

ApiResult<SamplingParams> sampling_of(const GenerationRequest& request, const SamplingParams& defaults,
                                      uint64_t random_seed) {
  SamplingParams params = defaults;
  params.temperature = request.temperature.value_or(params.temperature);
  params.top_p = request.top_p.value_or(params.top_p);
  params.min_p = request.min_p.value_or(params.min_p);
  params.repetition_penalty = request.repetition_penalty.value_or(params.repetition_penalty);
  params.top_k = request.top_k.value_or(params.top_k);
  params.seed = request.seed.value_or(random_seed);
  if (const auto s = check_sampling(params); !s) {
    return bad_parameter(s.error().text.substr(0, s.error().text.find(' ')), s.error().text);
  }
  return params;
}

SamplingParams choice_sampling(const SamplingParams& sampling, int64_t index) {
  SamplingParams params = sampling;
  params.seed += static_cast<uint64_t>(index) * 0x9E3779B97F4A7C15u;  // the golden ratio spreads them
  return params;
}

ApiResult<TokenizeRequest> parse_tokenize_request(const Json& body) {
  if (!body.is_object()) return not_an_object(body);
  Fields fields(body);
  TokenizeRequest request;
  const bool llama = fields.find("content") != nullptr;
  if (llama) request.add_special_tokens = false;
  fields.text(llama ? "content" : "prompt", request.text);
  fields.boolean(llama ? "add_special" : "add_special_tokens", request.add_special_tokens);
  if (fields.error()) return *fields.error();
  if (fields.find("messages") != nullptr) {
    auto messages = parse_messages(fields.find("messages"));
    if (auto* error = std::get_if<ApiError>(&messages)) return *error;
    request.messages = std::get<Json>(std::move(messages));
  } else if (!llama && fields.find("prompt") == nullptr) {
    return bad_parameter("prompt", "prompt is missing; accepted: \"prompt\" or \"content\", a string, or \"messages\"");
  }
  return request;
}

ApiResult<std::vector<int32_t>> parse_detokenize_request(const Json& body) {
  if (!body.is_object()) return not_an_object(body);
  const Json* tokens = body.find("tokens");
  if (tokens == nullptr || !tokens->is_array()) return bad_parameter("tokens", "tokens must be a list of token ids");
  return parse_ids(tokens->items(), "tokens");
}

}  // namespace fathom::serve
