#include "serve/completion.h"

#include <algorithm>
#include <random>

namespace fathom::serve {
namespace {

constexpr int64_t kDefaultCompletionTokens = 16;  // of /v1/completions, as OpenAI's
constexpr size_t kTailBytes = 64;

uint64_t random_seed() {
  std::random_device device;
  return (uint64_t{device()} << 32) | device();
}

ApiError too_long(int64_t prompt_tokens, std::optional<int64_t> max_tokens, int64_t limit) {
  std::string text = "this model's maximum context length is " + std::to_string(limit) + " tokens; the request has " +
                     std::to_string(prompt_tokens) + " in the prompt";
  if (max_tokens) text += " and asks for " + std::to_string(*max_tokens) + " more";
  return {.status = 400,
          .code = "context_length_exceeded",
          .message = text + "; shorten the prompt" + (max_tokens ? " or max_tokens" : ""),
          .param = max_tokens ? "max_tokens" : "messages"};
}

ApiResult<std::vector<int32_t>> ids_of(const ServedModel& model, const Prompt& prompt) {
  if (const auto* text = std::get_if<std::string>(&prompt)) {
    auto ids = model.encode_prompt(*text);
    if (!ids) return bad_parameter("prompt", "the prompt: " + ids.error().text);
    if (ids->empty()) return bad_parameter("prompt", "the prompt is empty; give at least one character");
    return *ids;
  }
  const auto& ids = std::get<std::vector<int32_t>>(prompt);
  if (ids.empty()) return bad_parameter("prompt", "the prompt is empty; give at least one token id");
  for (const int32_t id : ids) {
    if (id >= model.vocab_size) {
      return bad_parameter("prompt", "token id " + std::to_string(id) + " is outside the vocabulary of " +
                                         std::to_string(model.vocab_size));
    }
  }
  return ids;
}

}  // namespace

ApiResult<std::string> render_chat(const ServedModel& model, const Json& messages, const Json& template_arguments) {
  if (model.chat_format == nullptr) {
    return ApiError{.status = 400,
                    .code = "chat_not_supported",
                    .message = "this model has no chat template; use /v1/completions",
                    .param = {}};
  }
  Json context = Json::object();
  if (template_arguments.is_object()) context = template_arguments;
  context.set("messages", messages).set("add_generation_prompt", true);
  context.set("bos_token", model.chat_format->bos_token).set("eos_token", model.chat_format->eos_token);
  auto prompt = model.chat_format->chat_template.render(context);
  if (!prompt) return bad_parameter("messages", "the chat template refuses the messages: " + prompt.error().text);
  return *std::move(prompt);
}

ApiResult<PreparedRequest> prepare_request(const ServedModel& model, std::string_view body, bool chat) {
  const auto json = Json::parse(body, "the body");
  if (!json) {
    return ApiError{.status = 400, .code = "invalid_json", .message = json.error().text, .param = {}};
  }
  auto parsed = chat ? parse_chat_request(*json) : parse_completion_request(*json);
  if (auto* error = std::get_if<ApiError>(&parsed)) return *error;
  PreparedRequest prepared;
  prepared.request = std::get<0>(std::move(parsed));
  GenerationRequest& request = prepared.request;
  if (!request.model.empty() && std::find(model.names.begin(), model.names.end(), request.model) == model.names.end()) {
    return ApiError{.status = 404,
                    .code = "model_not_found",
                    .message = "the model \"" + request.model.substr(0, 200) + "\" does not exist; this server has \"" +
                               model.names.front() + "\"",
                    .param = "model"};
  }
  const auto sampling = sampling_of(request, model.defaults, random_seed());
  if (const auto* error = std::get_if<ApiError>(&sampling)) return *error;
  prepared.sampling = std::get<0>(sampling);
  if (chat) {
    auto rendered = render_chat(model, request.messages, request.template_arguments);
    if (auto* error = std::get_if<ApiError>(&rendered)) return *error;
    auto& text = std::get<std::string>(rendered);
    prepared.prompt_tail = text.substr(text.size() - std::min(text.size(), kTailBytes));
    request.prompts.emplace_back(std::move(text));
  }
  for (const Prompt& prompt : request.prompts) {
    auto ids = ids_of(model, prompt);
    if (auto* error = std::get_if<ApiError>(&ids)) return *error;
    const auto length = static_cast<int64_t>(std::get<0>(ids).size());
    const int64_t room = model.max_model_len - length;
    if (room < 1 || request.max_tokens.value_or(1) > room) {
      return too_long(length, request.max_tokens, model.max_model_len);
    }
    prepared.max_new_tokens.push_back(
        request.max_tokens.value_or(chat ? room : std::min(room, kDefaultCompletionTokens)));
    prepared.prompts.push_back(std::get<0>(std::move(ids)));
  }
  return prepared;
}

Completion::Completion(std::shared_ptr<Call> call, const ServedModel& model, EngineLoop& loop, PreparedRequest prepared,
                       ResponseHead head)
    : call_(std::move(call)), loop_(loop), prepared_(std::move(prepared)), head_(std::move(head)) {
  const ReasoningFormat format = head_.chat ? model.reasoning : ReasoningFormat::kNone;
  const size_t num_parts = prepared_.prompts.size() * static_cast<size_t>(prepared_.request.n);
  for (size_t i = 0; i < num_parts; ++i) {
    parts_.push_back(
        {.text = Choice(*model.tokenizer, prepared_.request.stop, ReasoningSplitter(format, prepared_.prompt_tail)),
         .result = {}});
  }
}

void Completion::start() {
  const auto self = shared_from_this();
  std::vector<GenerationJob> jobs;
  for (size_t i = 0; i < parts_.size(); ++i) {
    const size_t prompt = i / static_cast<size_t>(prepared_.request.n);
    const auto choice = static_cast<int64_t>(i % static_cast<size_t>(prepared_.request.n));
    jobs.push_back({.prompt = prepared_.prompts[prompt],
                    .sampling = choice_sampling(prepared_.sampling, choice),
                    .max_new_tokens = prepared_.max_new_tokens[prompt],
                    .sink = [self, i](const GenerationEvent& event) {
                      self->call_->exchange().post([self, i, event] { self->on_event(i, event); });
                    }});
  }
  auto ids = loop_.submit(std::move(jobs));
  if (!ids) {
    return call_->fail({.status = 429,
                        .code = "queue_full",
                        .message = "the queue of this server is full; try again later",
                        .param = {}});
  }
  job_ids_ = *std::move(ids);
  for (const auto& prompt : prepared_.prompts) call_->metrics().count_prompt(static_cast<int64_t>(prompt.size()));
  call_->exchange().on_gone([self] { self->abandon(); });
  if (!prepared_.request.stream) return;
  call_->begin_stream();
  for (size_t i = 0; head_.chat && i < parts_.size(); ++i) {
    call_->send(role_chunk(head_, static_cast<int64_t>(i), prepared_.request.include_usage));
  }
}

void Completion::on_event(size_t index, const GenerationEvent& event) {
  Part& part = parts_[index];
  if (over_ || part.done) return;
  if (event.error) return fail(index, to_api_error(*event.error));
  if (event.finish == FinishReason::kNumericError) {
    return fail(index, {.status = 500,
                        .code = "numeric_error",
                        .message = "the model's output for this request is not a number (NaN)",
                        .param = {}});
  }
  const double now = call_->seconds();
  Metrics& metrics = call_->metrics();
  metrics.count_token();
  if (part.last_token_seconds < 0) {
    metrics.observe_first_token(now);
  } else {
    metrics.observe_next_token(now - part.last_token_seconds);
  }
  part.last_token_seconds = now;
  const auto text = part.text.push(event.token, event.finish);
  if (!text) return fail(index, to_api_error(text.error()));
  show(index, *text);
  const bool stopped = part.text.stopped_by_string();
  if (event.finish == FinishReason::kNone && !stopped) return;
  if (event.finish == FinishReason::kNone) loop_.cancel(job_ids_[index]);
  show(index, part.text.flush());
  finish(index, finish_reason(event.finish, stopped));
}

void Completion::show(size_t index, const SplitText& text) {
  if (text.reasoning.empty() && text.content.empty()) return;
  parts_[index].result.reasoning += text.reasoning;
  parts_[index].result.content += text.content;
  if (!prepared_.request.stream) return;
  call_->send(
      text_chunk(head_, static_cast<int64_t>(index), text.reasoning, text.content, prepared_.request.include_usage));
}

void Completion::finish(size_t index, std::string_view reason) {
  Part& part = parts_[index];
  part.done = true;
  part.result.finish_reason = reason;
  call_->metrics().count_finish(reason);
  if (prepared_.request.stream) {
    call_->send(finish_chunk(head_, static_cast<int64_t>(index), reason, prepared_.request.include_usage));
  }
  if (++num_done_ == parts_.size()) complete();
}

/// Only this choice ends; the others of the request go on.
void Completion::fail(size_t index, const ApiError& error) {
  if (prepared_.request.stream) call_->send_error(error);
  error_ = error;
  show(index, parts_[index].text.flush());
  finish(index, "error");
}

void Completion::complete() {
  over_ = true;
  call_->exchange().on_gone(nullptr);
  call_->metrics().observe_request(call_->seconds());
  if (prepared_.request.stream) {
    if (prepared_.request.include_usage) call_->send(usage_chunk(head_, usage()));
    return call_->end_stream();
  }
  if (error_) return call_->fail(*error_);
  std::vector<ChoiceResult> results;
  for (Part& part : parts_) results.push_back(std::move(part.result));
  call_->respond(200, completion_json(head_, results, usage()));
}

void Completion::abandon() {
  if (over_) return;
  over_ = true;
  for (size_t i = 0; i < parts_.size(); ++i) {
    if (parts_[i].done) continue;
    loop_.cancel(job_ids_[i]);
    call_->metrics().count_finish("cancelled");
  }
  call_->log_gone();
}

Usage Completion::usage() const {
  Usage usage;
  for (const auto& prompt : prepared_.prompts) usage.prompt_tokens += static_cast<int64_t>(prompt.size());
  for (const Part& part : parts_) {
    usage.completion_tokens += part.text.num_tokens();
    usage.reasoning_tokens += part.text.num_reasoning_tokens();
  }
  return usage;
}

}  // namespace fathom::serve
