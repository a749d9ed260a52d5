#include "serve/openai_request.h"

#include <algorithm>
#include <array>
#include <charconv>

#include "serve/fields.h"

namespace fathom::serve {
namespace {

constexpr int64_t kMostTokens = int64_t{1} << 31;

bool is_zero(const Json& value) { return value.is_number() && value.as_double() == 0; }
bool is_false(const Json& value) { return value.is_bool() && !value.as_bool(); }
bool is_true(const Json& value) { return value.is_bool() && value.as_bool(); }
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
    Unsupported{"prompt_logprobs", is_zero, "0"},
    Unsupported{"bad_words", is_empty, "[]"},
    Unsupported{"functions", is_empty, "[]"},
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
    Unsupported{"suffix", is_empty, "\"\""},
    Unsupported{"continue_final_message", is_false, "false"},
    Unsupported{"modalities", is_text_only, "[\"text\"]"},
    Unsupported{"audio", is_nothing, "null"},
    Unsupported{"allowed_token_ids", is_nothing, "null"},
    Unsupported{"truncate_prompt_tokens", is_nothing, "null"},
    Unsupported{"regex", is_empty, "\"\""},
    Unsupported{"ebnf", is_empty, "\"\""},
    Unsupported{"chat_template", is_empty, "\"\""},
    Unsupported{"add_generation_prompt", is_true, "true"},
    Unsupported{"skip_special_tokens", is_true, "true"},
    Unsupported{"logits_processors", is_empty, "[]"},
    Unsupported{"prompt_embeds", is_nothing, "null"},
    Unsupported{"no_repeat_ngram_size", is_zero, "0"},
    Unsupported{"mirostat", is_zero, "0"},
    Unsupported{"xtc_probability", is_zero, "0"},
    Unsupported{"dynatemp_range", is_zero, "0"},
    Unsupported{"lora", is_empty, "[]"},
};

void refuse_unsupported(Fields& fields) {
  for (const Unsupported& entry : kUnsupported) {
    const Json* found = fields.find(entry.key);
    if (found == nullptr || entry.harmless(*found)) continue;
    fields.refuse(entry.key, std::string(entry.key) + " is not supported by this server; accepted: leave it out, or " +
                                 std::string(entry.accepted));
  }
}

std::optional<int32_t> token_id(const Json& value) {
  if (!value.is_int() || value.as_int() < 0 || value.as_int() > INT32_MAX) return std::nullopt;
  return static_cast<int32_t>(value.as_int());
}

ApiResult<std::vector<int32_t>> parse_ids(const Json::Array& items, std::string_view key) {
  std::vector<int32_t> ids;
  ids.reserve(items.size());
  for (const Json& item : items) {
    const auto id = token_id(item);
    if (!id) {
      return bad_parameter(key, std::string(key) + " has " + item.dump().substr(0, 100) + ", which is not a token id");
    }
    ids.push_back(*id);
  }
  return ids;
}

/// A boolean with a count beside it in chat, a count in text completions.
void parse_logprobs(Fields& fields, GenerationRequest& request) {
  std::optional<int64_t> count;
  if (!request.chat) {
    fields.integer("logprobs", count, 0, kMaxTopLogprobs);
    request.num_logprobs = count.value_or(-1);
    fields.boolean("echo", request.echo);
    return;
  }
  bool wanted = false;
  fields.boolean("logprobs", wanted);
  fields.integer("top_logprobs", count, 0, kMaxTopLogprobs);
  bool echo = false;
  fields.boolean("echo", echo);
  if (echo) fields.refuse("echo", "echo is for /v1/completions; accepted: leave it out, or false");
  if (wanted) {
    request.num_logprobs = count.value_or(0);
  } else if (count.value_or(0) > 0) {
    fields.refuse("top_logprobs", "top_logprobs needs \"logprobs\": true");
  }
}

void parse_logit_bias(Fields& fields, GenerationRequest& request) {
  const Json* biases = fields.find("logit_bias");
  if (biases == nullptr) return;
  if (!biases->is_object()) return fields.wrong_kind("logit_bias", *biases, "an object of token ids and numbers");
  if (std::ssize(biases->members()) > kMaxLogitBias) {
    return fields.refuse("logit_bias", "logit_bias has " + std::to_string(biases->members().size()) +
                                           " entries; accepted: " + std::to_string(kMaxLogitBias) + " at most");
  }
  for (const auto& [key, value] : biases->members()) {
    int32_t id = -1;
    const auto [end, failed] = std::from_chars(key.data(), key.data() + key.size(), id);
    if (failed != std::errc() || end != key.data() + key.size() || id < 0) {
      return fields.refuse("logit_bias", "logit_bias has the key " + Json(key).dump().substr(0, 100) +
                                             "; accepted: token ids as decimal numbers");
    }
    if (!value.is_number() || !(value.as_double() >= -100 && value.as_double() <= 100)) {
      return fields.refuse("logit_bias", "logit_bias of token " + std::to_string(id) + " is " +
                                             value.dump().substr(0, 100) + "; accepted: a number from -100 to 100");
    }
    request.logit_bias.push_back({.token = id, .bias = value.as_double()});
  }
}

void parse_penalties(Fields& fields, GenerationRequest& request) {
  fields.number("repeat_penalty", request.repetition_penalty, 0.01, 100, "0.01 to 100");  // llama.cpp's name
  fields.number("repetition_penalty", request.repetition_penalty, 0.01, 100, "0.01 to 100");
  fields.number("presence_penalty", request.presence_penalty, -2, 2, "-2 to 2");
  fields.number("frequency_penalty", request.frequency_penalty, -2, 2, "-2 to 2");
  fields.number("dry_multiplier", request.dry_multiplier, 0, 100, "0 (off) to 100");
  fields.number("dry_base", request.dry_base, 1, 100, "1 to 100");
  fields.integer("dry_allowed_length", request.dry_allowed_length, 1, kMostTokens);
  if (const Json* breakers = fields.find("dry_sequence_breakers")) {
    if (!breakers->is_array()) return fields.wrong_kind("dry_sequence_breakers", *breakers, "a list of strings");
    if (std::ssize(breakers->items()) > kMaxStops) {
      return fields.refuse("dry_sequence_breakers",
                           "dry_sequence_breakers has " + std::to_string(breakers->items().size()) +
                               " strings; accepted: " + std::to_string(kMaxStops) + " at most");
    }
    request.dry_sequence_breakers.emplace();
    for (const Json& item : breakers->items()) {
      if (!item.is_string() || item.as_string().empty()) {
        return fields.refuse("dry_sequence_breakers",
                             "dry_sequence_breakers has " + item.dump().substr(0, 100) + "; accepted: strings of text");
      }
      request.dry_sequence_breakers->push_back(item.as_string());
    }
  }
}

/// Ends, order of service, speculation.
void parse_engine_fields(Fields& fields, GenerationRequest& request) {
  std::optional<int64_t> min_tokens, priority;
  fields.integer("min_tokens", min_tokens, 0, kMostTokens);
  request.min_tokens = min_tokens.value_or(0);
  if (request.min_tokens > request.max_tokens.value_or(kMostTokens)) {
    fields.refuse("min_tokens", "min_tokens " + std::to_string(request.min_tokens) + " is above max_tokens " +
                                    std::to_string(*request.max_tokens));
  }
  fields.boolean("ignore_eos", request.ignore_eos);
  fields.boolean("include_stop_str_in_output", request.include_stop);
  if (const Json* stops = fields.find("stop_token_ids")) {
    if (!stops->is_array()) return fields.wrong_kind("stop_token_ids", *stops, "a list of token ids");
    if (std::ssize(stops->items()) > kMaxStops) {
      return fields.refuse("stop_token_ids", "stop_token_ids has " + std::to_string(stops->items().size()) +
                                                 " entries; accepted: " + std::to_string(kMaxStops) + " at most");
    }
    auto ids = parse_ids(stops->items(), "stop_token_ids");
    if (const auto* error = std::get_if<ApiError>(&ids)) return fields.refuse("stop_token_ids", error->message);
    request.stop_token_ids = std::get<0>(std::move(ids));
  }
  fields.integer("priority", priority, -1'000'000, 1'000'000);
  request.priority = priority.value_or(0);
  fields.number("timeout_seconds", request.timeout_seconds, 0.001, 86400, "0.001 to 86400");
  std::string speculate;
  fields.text("speculate", speculate);
  if (!speculate.empty()) {
    const auto kind = parse_speculation(speculate);
    if (!kind) return fields.refuse("speculate", "speculate: " + kind.error().text);
    request.speculate = *kind;
  }
  fields.integer("draft_tokens", request.draft_tokens, 0, kMaxDraft);
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
  refuse_unsupported(fields);
  fields.text("model", request.model);
  std::optional<int64_t> n, best_of;
  fields.integer("n", n, 1, kMaxChoices);
  request.n = n.value_or(1);
  fields.integer("best_of", best_of, 1, kMaxChoices);
  if (best_of.value_or(request.n) != request.n) {
    fields.refuse("best_of", "best_of is not supported by this server; accepted: leave it out, or the value of n");
  }
  parse_logprobs(fields, request);
  const int64_t least = request.echo ? 0 : 1;  // who only wants the prompt scored
  fields.integer("max_tokens", request.max_tokens, least, kMostTokens);
  fields.integer("max_completion_tokens", request.max_tokens, least, kMostTokens);
  std::optional<int64_t> n_predict;  // llama.cpp's name; -1: to the end of the context
  fields.integer("n_predict", n_predict, -1, kMostTokens);
  if (!request.max_tokens && n_predict && *n_predict >= least) request.max_tokens = n_predict;
  if (n_predict && *n_predict >= 0 && *n_predict < least) {
    fields.refuse("n_predict",
                  "n_predict 0 asks for no answer; accepted: 1 or more, or -1 for the rest of the context");
  }
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
  fields.number("typical_p", request.typical_p, 0, 1, "above 0, up to 1");
  fields.integer("top_k", request.top_k, -1, kMostTokens);
  if (request.top_k == -1) request.top_k = 0;  // vLLM's word for off
  std::optional<int64_t> seed;
  fields.integer("seed", seed, INT64_MIN, INT64_MAX);
  if (seed) request.seed = static_cast<uint64_t>(*seed);
  parse_stop(fields, request);
  parse_penalties(fields, request);
  parse_logit_bias(fields, request);
  parse_engine_fields(fields, request);
}

bool is_tool_name(const Json* name) {
  return name != nullptr && name->is_string() && !name->as_string().empty() && name->as_string().size() <= 64 &&
         std::all_of(name->as_string().begin(), name->as_string().end(), [](char c) {
           return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '_' || c == '-' ||
                  c == '.';
         });
}

/// Tools as templates read them: every function with a description and parameters.
void parse_tools(Fields& fields, GenerationRequest& request) {
  const Json* tools = fields.find("tools");
  if (tools != nullptr && !tools->is_array()) return fields.wrong_kind("tools", *tools, "a list of functions");
  if (tools != nullptr && std::ssize(tools->items()) > kMaxTools) {
    return fields.refuse("tools", "tools has " + std::to_string(tools->items().size()) +
                                      " entries; accepted: " + std::to_string(kMaxTools) + " at most");
  }
  Json list = Json::array();
  for (size_t i = 0; tools != nullptr && i < tools->items().size(); ++i) {
    const Json& tool = tools->items()[i];
    const std::string where = "tools[" + std::to_string(i) + "]";
    const Json *type = tool.find("type"), *function = tool.find("function");
    if (type == nullptr || !type->is_string() || type->as_string() != "function" || function == nullptr ||
        !function->is_object()) {
      return fields.refuse(where, where + " must be {\"type\": \"function\", \"function\": {\"name\": ...}}");
    }
    if (!is_tool_name(function->find("name"))) {
      return fields.refuse(where + ".function.name",
                           where + ".function.name must be 1 to 64 letters, digits, underscores, hyphens or dots");
    }
    Json copy = *function;
    const Json* description = function->find("description");
    const Json* parameters = function->find("parameters");
    if (description == nullptr || !description->is_string()) copy.set("description", "");
    if (parameters == nullptr || !parameters->is_object()) {
      copy.set("parameters", Json::object().set("type", "object").set("properties", Json::object()));
    }
    list.push(Json::object().set("type", "function").set("function", std::move(copy)));
  }
  if (!list.items().empty()) request.tools = std::move(list);
  fields.boolean("parallel_tool_calls", request.parallel_tool_calls);
  const Json* choice = fields.find("tool_choice");
  if (choice == nullptr) return;
  const auto refuse = [&] {
    fields.refuse("tool_choice", "tool_choice is " + choice->dump().substr(0, 100) +
                                     "; accepted: \"none\", \"auto\", \"required\", or {\"type\": \"function\", "
                                     "\"function\": {\"name\": one of tools}}");
  };
  if (choice->is_string()) {
    if (choice->as_string() == "none") {
      request.tool_choice = ToolChoice::kNone;
    } else if (choice->as_string() == "required" && !request.tools.is_null()) {
      request.tool_choice = ToolChoice::kRequired;
    } else if (choice->as_string() != "auto") {
      refuse();
    }
    return;
  }
  const Json* function = choice->find("function");
  const Json* name = function == nullptr ? nullptr : function->find("name");
  if (!is_tool_name(name) || request.tools.is_null()) return refuse();
  const bool known = std::any_of(request.tools.items().begin(), request.tools.items().end(), [&](const Json& tool) {
    return tool.find("function")->find("name")->as_string() == name->as_string();
  });
  if (!known) return refuse();
  request.tool_choice = ToolChoice::kNamed;
  request.tool_name = name->as_string();
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

/// `prompt` of completions or `input` of embeddings.
ApiResult<std::vector<Prompt>> parse_prompts(const Json* prompt, const std::string& key, int64_t most) {
  const auto refuse = [&](std::string message) { return bad_parameter(key, std::move(message)); };
  const char* accepted = "a string, a list of strings, a list of token ids, or a list of such lists";
  if (prompt == nullptr) return refuse(key + " is missing; accepted: " + accepted);
  if (prompt->is_string()) return std::vector<Prompt>{prompt->as_string()};
  if (!prompt->is_array() || prompt->items().empty()) return refuse(key + " must be " + accepted + ", and not empty");
  const Json::Array& items = prompt->items();
  std::vector<Prompt> prompts;
  if (items.front().is_int()) {
    auto ids = parse_ids(items, key);
    if (auto* error = std::get_if<ApiError>(&ids)) return *error;
    prompts.emplace_back(std::get<0>(std::move(ids)));
    return prompts;
  }
  if (std::ssize(items) > most) {
    return refuse(key + " has " + std::to_string(items.size()) + " entries; accepted: " + std::to_string(most) +
                  " at most");
  }
  for (const Json& item : items) {
    if (item.kind() != items.front().kind() || !(item.is_string() || item.is_array())) {
      return refuse(key + " must be " + accepted);
    }
    if (item.is_string()) {
      prompts.emplace_back(item.as_string());
      continue;
    }
    auto ids = parse_ids(item.items(), key);
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
  parse_tools(fields, request);
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
  for (const char* key : {"tools", "tool_choice"}) {
    const Json* found = fields.find(key);
    if (found == nullptr || is_empty(*found) || is_no_tool_choice(*found)) continue;
    fields.refuse(key, std::string(key) + " is for /v1/chat/completions; leave it out");
  }
  if (fields.error()) return *fields.error();
  auto prompts = parse_prompts(fields.find("prompt"), "prompt", kMaxChoices);
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
  const auto take = [](auto& value, const auto& given) { value = given.value_or(value); };
  take(params.temperature, request.temperature);
  take(params.top_p, request.top_p);
  take(params.min_p, request.min_p);
  take(params.typical_p, request.typical_p);
  take(params.top_k, request.top_k);
  take(params.repetition_penalty, request.repetition_penalty);
  take(params.presence_penalty, request.presence_penalty);
  take(params.frequency_penalty, request.frequency_penalty);
  take(params.dry_multiplier, request.dry_multiplier);
  take(params.dry_base, request.dry_base);
  take(params.dry_allowed_length, request.dry_allowed_length);
  if (!request.logit_bias.empty()) params.logit_bias = request.logit_bias;
  params.seed = request.seed.value_or(random_seed);
  if (const auto s = check_sampling(params); !s) {
    return bad_parameter(s.error().text.substr(0, s.error().text.find(' ')), s.error().text);
  }
  return params;
}

ApiResult<SpeculationParams> speculation_of(const GenerationRequest& request, const SpeculationParams& defaults,
                                            int64_t num_mtp_modules) {
  SpeculationParams params = defaults;
  if (request.speculate && *request.speculate != params.kind) {
    params.kind = *request.speculate;
    params.num_draft = 0;  // the server's number was meant for another kind
  }
  params.num_draft = request.draft_tokens.value_or(params.num_draft);
  if (params.kind == SpeculationKind::kMtp && num_mtp_modules == 0) {
    return bad_parameter("speculate",
                         "speculate \"mtp\" is not possible: the server was not started with --speculate mtp");
  }
  if (const auto s = check_speculation(params, num_mtp_modules); !s) {
    return bad_parameter(request.draft_tokens ? "draft_tokens" : "speculate", "draft_tokens: " + s.error().text);
  }
  return params;
}

SamplingParams choice_sampling(const SamplingParams& sampling, int64_t index) {
  SamplingParams params = sampling;
  params.seed += static_cast<uint64_t>(index) * 0x9E3779B97F4A7C15u;  // the golden ratio spreads them
  return params;
}

ApiResult<EmbeddingRequest> parse_embedding_request(const Json& body) {
  if (!body.is_object()) return not_an_object(body);
  Fields fields(body);
  EmbeddingRequest request;
  fields.text("model", request.model);
  std::string format = "float";
  fields.text("encoding_format", format);
  if (format != "float" && format != "base64") {
    fields.refuse("encoding_format",
                  "encoding_format is " + Json(format).dump().substr(0, 100) + "; accepted: \"float\", \"base64\"");
  }
  request.base64 = format == "base64";
  if (fields.find("dimensions") != nullptr) {
    fields.refuse("dimensions",
                  "dimensions is not supported: this model was not trained to have its embeddings cut; "
                  "leave it out");
  }
  if (fields.error()) return *fields.error();
  auto inputs = parse_prompts(fields.find("input"), "input", kMaxInputs);
  if (auto* error = std::get_if<ApiError>(&inputs)) return *error;
  request.inputs = std::get<0>(std::move(inputs));
  return request;
}

ApiResult<TokenizeRequest> parse_tokenize_request(const Json& body) {
  if (!body.is_object()) return not_an_object(body);
  Fields fields(body);
  TokenizeRequest request;
  const bool llama = fields.find("content") != nullptr;
  if (llama) request.add_special_tokens = false;
  fields.text(llama ? "content" : "prompt", request.text);
  fields.boolean(llama ? "add_special" : "add_special_tokens", request.add_special_tokens);
  fields.boolean("return_token_strs", request.return_token_strs);
  fields.boolean("with_pieces", request.with_pieces);
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
