#include "serve/completion.h"

#include <algorithm>
#include <random>
#include <utility>

namespace fathom::serve {
namespace {

constexpr int64_t kDefaultCompletionTokens = 16;  // of /v1/completions, as OpenAI's
constexpr size_t kTailBytes = 64;
constexpr int64_t kMaxCalls = 1024;

/// llama.cpp's and text-generation-webui's, for requests with dry_multiplier and no list of their own.
constexpr std::string_view kDryBreakers[] = {"\n", ":", "\"", "*"};

uint64_t random_seed() {
  std::random_device device;
  return (uint64_t{device()} << 32) | device();
}

ApiError too_long(int64_t prompt_tokens, std::optional<int64_t> max_tokens, int64_t limit, const char* param) {
  const bool has_room = prompt_tokens < limit;  // then max_tokens is too much
  std::string text = "this model's maximum context length is " + std::to_string(limit) +
                     " tokens, for prompt and answer together; the prompt has " + std::to_string(prompt_tokens);
  text += max_tokens ? " and max_tokens asks for " + std::to_string(*max_tokens) + " more" : ", and an answer needs 1";
  if (has_room) text += "; accepted here: max_tokens up to " + std::to_string(limit - prompt_tokens);
  return {.status = 400,
          .code = "context_length_exceeded",
          .message = text + (has_room ? ", or a shorter prompt" : "; shorten the prompt"),
          .param = has_room ? "max_tokens" : param};
}

/// The tokens that repetitions do not go through: of each text the last token that it ends in, as
/// text-generation-webui does it.
std::vector<int32_t> dry_breakers(const ServedModel& model, const GenerationRequest& request) {
  std::vector<int32_t> tokens;
  const auto add = [&](std::string_view text) {
    const auto ids = model.tokenizer->encode("a" + std::string(text), AddedTokens::kIgnore);
    if (ids && !ids->empty()) tokens.push_back(ids->back());
  };
  if (request.dry_sequence_breakers) {
    for (const std::string& text : *request.dry_sequence_breakers) add(text);
  } else {
    for (const std::string_view text : kDryBreakers) add(text);
  }
  return tokens;
}

/// What the engine is asked for, but for prompt and length.
ApiResult<Request> engine_request(const ServedModel& model, const GenerationRequest& request) {
  Request out;
  const auto sampling = sampling_of(request, model.defaults, random_seed());
  if (const auto* error = std::get_if<ApiError>(&sampling)) return *error;
  out.sampling = std::get<0>(sampling);
  if (out.sampling.dry_multiplier > 0) out.sampling.dry_sequence_breakers = dry_breakers(model, request);
  const auto outside = [&](std::string_view name, int32_t id) {
    return bad_parameter(name, std::string(name) + " has token id " + std::to_string(id) +
                                   ", which is outside the vocabulary of " + std::to_string(model.vocab_size));
  };
  for (const LogitBias& entry : out.sampling.logit_bias) {
    if (entry.token >= model.vocab_size) return outside("logit_bias", entry.token);
  }
  for (const int32_t id : request.stop_token_ids) {
    if (id >= model.vocab_size) return outside("stop_token_ids", id);
  }
  const auto speculation = speculation_of(request, model.speculation, model.num_mtp_modules());
  if (const auto* error = std::get_if<ApiError>(&speculation)) return *error;
  out.speculation = std::get<0>(speculation);
  out.stop_tokens = request.stop_token_ids;
  out.ignore_stop_tokens = request.ignore_eos;
  out.min_new_tokens = request.min_tokens;
  if (request.priority < model.least_priority) {
    return bad_parameter("priority", "priority " + std::to_string(request.priority) +
                                         " would go before what this server lets clients ask for; accepted: " +
                                         std::to_string(model.least_priority) + " to 1000000, the lower goes first");
  }
  out.priority = -request.priority;
  if (request.timeout_seconds) {
    out.deadline = Clock::now() +
                   std::chrono::duration_cast<Clock::duration>(std::chrono::duration<double>(*request.timeout_seconds));
  }
  out.num_logprobs = request.num_logprobs;
  out.prompt_logprobs = request.echo && request.num_logprobs >= 0;
  return out;
}

}  // namespace

std::optional<ApiError> check_model(const ServedModel& model, std::string_view name) {
  if (name.empty() || std::find(model.names.begin(), model.names.end(), name) != model.names.end()) return {};
  return ApiError{.status = 404,
                  .code = "model_not_found",
                  .message = "the model \"" + std::string(name.substr(0, 200)) +
                             "\" does not exist; this server has \"" + model.names.front() + "\"",
                  .param = "model"};
}

ApiResult<std::vector<int32_t>> prompt_ids(const ServedModel& model, const Prompt& prompt, const std::string& param) {
  if (const auto* text = std::get_if<std::string>(&prompt)) {
    auto ids = model.encode_prompt(*text);
    if (!ids) return bad_parameter(param, "the " + param + ": " + ids.error().text);
    if (ids->empty()) {
      return bad_parameter(param, "the " + param + " is empty; give at least one character");
    }
    return *ids;
  }
  const auto& ids = std::get<std::vector<int32_t>>(prompt);
  if (ids.empty()) return bad_parameter(param, "the " + param + " is empty; give at least one token id");
  for (const int32_t id : ids) {
    if (id >= model.vocab_size) {
      return bad_parameter(param, "token id " + std::to_string(id) + " is outside the vocabulary of " +
                                      std::to_string(model.vocab_size));
    }
  }
  return ids;
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
  if (auto error = check_model(model, request.model)) return *std::move(error);
  auto engine = engine_request(model, request);
  if (const auto* error = std::get_if<ApiError>(&engine)) return *error;
  prepared.engine = std::get<0>(std::move(engine));
  if (chat) {
    auto rendered = chat_prompt(model.chat_format, model.tools, request);
    if (auto* error = std::get_if<ApiError>(&rendered)) return *error;
    auto& [text, forced] = std::get<ChatPrompt>(rendered);
    const size_t end = text.size() - forced.size();
    prepared.prompt_tail = text.substr(end - std::min(end, kTailBytes), std::min(end, kTailBytes));
    prepared.forced = std::move(forced);
    request.prompts.emplace_back(std::move(text));
  }
  for (const Prompt& prompt : request.prompts) {
    auto ids = prompt_ids(model, prompt, "prompt");
    if (auto* error = std::get_if<ApiError>(&ids)) return *error;
    const auto length = static_cast<int64_t>(std::get<0>(ids).size());
    const int64_t room = model.max_model_len - length;
    if (room < 1 || request.max_tokens.value_or(1) > room) {
      return too_long(length, request.max_tokens, model.max_model_len, chat ? "messages" : "prompt");
    }
    const int64_t usual = chat ? room : std::max(kDefaultCompletionTokens, request.min_tokens);
    const int64_t most = request.max_tokens.value_or(std::min(room, usual));
    if (request.min_tokens > most) {
      return bad_parameter("min_tokens", "min_tokens " + std::to_string(request.min_tokens) + " is above the " +
                                             std::to_string(most) + " tokens that there is room for");
    }
    prepared.max_new_tokens.push_back(most);
    prepared.prompts.push_back(std::get<0>(std::move(ids)));
  }
  return prepared;
}

Completion::Completion(std::shared_ptr<Call> call, const ServedModel& model, EngineLoop& loop, PreparedRequest prepared,
                       ResponseHead head)
    : call_(std::move(call)),
      tokenizer_(*model.tokenizer),
      loop_(loop),
      prepared_(std::move(prepared)),
      head_(std::move(head)) {
  const ReasoningFormat format = head_.chat ? model.reasoning : ReasoningFormat::kNone;
  const size_t num_parts = prepared_.prompts.size() * static_cast<size_t>(prepared_.request.n);
  const bool calls = prepared_.request.may_call();
  const ToolCallParser parser(calls ? model.tools : ToolFormat::kNone, prepared_.forced,
                              prepared_.request.parallel_tool_calls ? kMaxCalls : 1);
  for (size_t i = 0; i < num_parts; ++i) {
    parts_.push_back(
        {.text = Choice(*model.tokenizer, StopScanner(prepared_.request.stop, prepared_.request.include_stop),
                        ReasoningSplitter(format, prepared_.prompt_tail), parser,
                        calls ? SpecialTokens::kKeep : SpecialTokens::kSkip),
         .logprobs = LogprobsWriter(*model.tokenizer, head_.chat),
         .result = {}});
  }
}

std::vector<GenerationJob> Completion::jobs() {
  const auto self = shared_from_this();
  std::vector<GenerationJob> jobs;
  for (size_t i = 0; i < parts_.size(); ++i) {
    const size_t prompt = i / static_cast<size_t>(prepared_.request.n);
    const auto choice = static_cast<int64_t>(i % static_cast<size_t>(prepared_.request.n));
    GenerationJob job{.request = prepared_.engine, .sink = [self, i](const GenerationEvent& event) {
                        self->call_->exchange().post([self, i, event] { self->on_event(i, event); });
                      }};
    job.request.prompt = prepared_.prompts[prompt];
    job.request.sampling = choice_sampling(prepared_.engine.sampling, choice);
    job.request.max_new_tokens = prepared_.max_new_tokens[prompt];
    jobs.push_back(std::move(job));
  }
  return jobs;
}

void Completion::start() {
  // Nothing to compute: the prompt is to be echoed, without log-probabilities and without an answer.
  const bool only_echo = prepared_.request.max_tokens == 0 && !prepared_.engine.prompt_logprobs;
  if (!only_echo) {
    if (std::ssize(parts_) > loop_.max_waiting()) {
      const auto text = std::to_string(parts_.size()) + " choices are more than the queue of this server ever takes";
      return call_->fail(
          bad_parameter("n", text + "; accepted: prompts times n up to " + std::to_string(loop_.max_waiting())));
    }
    auto ids = loop_.submit(jobs());
    if (!ids) return call_->fail(queue_full());
    job_ids_ = *std::move(ids);
  }
  for (const auto& prompt : prepared_.prompts) {
    call_->metrics().count_prompt(std::ssize(prompt));
    call_->use_tokens(std::ssize(prompt));
  }
  call_->exchange().on_gone([self = shared_from_this()] { self->abandon(); });
  call_->on_cut([weak = weak_from_this()](const ApiError& error) {
    if (const auto self = weak.lock()) self->cut(error);
  });
  if (prepared_.request.stream) {
    call_->begin_stream();
    for (size_t i = 0; head_.chat && i < parts_.size(); ++i) {
      call_->send(role_chunk(head_, static_cast<int64_t>(i), prepared_.request.include_usage));
    }
  }
  for (size_t i = 0; only_echo && i < parts_.size(); ++i) {
    on_event(i, {.finish = FinishReason::kMaxTokens});
  }
}

/// Before the first token: the prompt, if it is to be echoed.
void Completion::begin(size_t index, const GenerationEvent& event) {
  Part& part = parts_[index];
  if (std::exchange(part.begun, true) || !prepared_.request.echo) return;
  const auto& prompt = prepared_.prompts[index / static_cast<size_t>(prepared_.request.n)];
  if (prepared_.engine.prompt_logprobs) part.logprobs.add_prompt(prompt, event.prompt_logprobs);
  show(index, {.reasoning = {}, .content = echo_text(tokenizer_, prompt)});
}

void Completion::on_event(size_t index, const GenerationEvent& event) {
  Part& part = parts_[index];
  if (over_ || part.done) return;
  if (event.error) return fail(index, to_api_error(*event.error));
  if (event.finish == FinishReason::kNumericError) return fail(index, not_a_number());
  part.prefix_hit_tokens = event.prefix_hit_tokens;
  part.draft_tokens = event.draft_tokens;
  part.draft_accepted = event.draft_accepted;
  part.begun_seconds = call_->seconds_at(event.begun);
  begin(index, event);
  if (event.token != TokenEvent::kNoToken) {
    observe_token(part);
    const size_t first_byte = part.text.num_decoded_bytes();
    const auto text = part.text.push(event.token, event.finish);
    if (!text) return fail(index, to_api_error(text.error()));
    // A token that ends the answer has no text, so it is not listed either.
    if (event.logprobs && event.finish != FinishReason::kStopToken) part.held.emplace_back(first_byte, *event.logprobs);
    list_logprobs(part, part.text.num_certain_bytes());
    show(index, *text);
  }
  const bool stopped = part.text.stopped_by_string();
  if (event.finish == FinishReason::kNone && !stopped) return;
  if (event.finish == FinishReason::kNone) loop_.cancel(job_ids_[index]);
  if (!stopped) list_logprobs(part, SIZE_MAX);
  show(index, part.text.flush());
  const std::string_view reason = finish_reason(event.finish, stopped);
  if (part.first_token_seconds >= 0) {
    const auto& prompt = prepared_.prompts[index / static_cast<size_t>(prepared_.request.n)];
    call_->metrics().observe_sequence(std::ssize(prompt), part.text.num_tokens(), part.begun_seconds,
                                      part.first_token_seconds, part.last_token_seconds);
  }
  finish(index, reason == "stop" && part.text.num_calls() > 0 ? "tool_calls" : reason);
}

/// Of the tokens whose text begins before that byte: the lists end with the text, not with a stop string behind it.
void Completion::list_logprobs(Part& part, size_t num_bytes) {
  for (; !part.held.empty() && part.held.front().first < num_bytes; part.held.pop_front()) {
    part.logprobs.add(part.held.front().second);
  }
}

void Completion::observe_token(Part& part) {
  const double now = call_->seconds();
  Metrics& metrics = call_->metrics();
  metrics.count_token();
  call_->use_tokens(1);
  if (part.last_token_seconds < 0) {
    metrics.observe_first_token(now);
    part.first_token_seconds = now;
  } else {
    metrics.observe_next_token(now - part.last_token_seconds);
  }
  part.last_token_seconds = now;
}

void Completion::show(size_t index, ChoiceText text) {
  if (text.empty()) return;
  Part& part = parts_[index];
  part.result.reasoning += text.reasoning;
  part.result.content += text.content;
  for (ToolDelta& delta : text.calls) {
    if (delta.begins) {
      if (delta.id.empty()) delta.id = "call_" + random_hex(24);
      part.result.calls.push_back({.id = delta.id, .name = delta.name, .arguments = {}});
    }
    part.result.calls.back().arguments += delta.arguments;
  }
  if (!prepared_.request.stream) return;
  const auto at = static_cast<int64_t>(index);
  const bool usage_follows = prepared_.request.include_usage;
  if (!text.reasoning.empty() || !text.content.empty()) {
    call_->send(text_chunk(head_, at, text.reasoning, text.content, part.logprobs.take(), usage_follows));
  }
  if (!text.calls.empty()) call_->send(tools_chunk(head_, at, text.calls, part.logprobs.take(), usage_follows));
}

void Completion::finish(size_t index, std::string_view reason) {
  Part& part = parts_[index];
  part.done = true;
  part.result.finish_reason = reason;
  call_->metrics().count_finish(reason);
  part.result.logprobs = part.logprobs.take();
  if (prepared_.request.stream) {
    call_->send(finish_chunk(head_, static_cast<int64_t>(index), reason, std::exchange(part.result.logprobs, {}),
                             prepared_.request.include_usage));
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

/// What is there already is the answer; behind it stands the error.
void Completion::cut(const ApiError& error) {
  if (over_) return;
  if (prepared_.request.stream) call_->send_error(error);
  error_ = error;
  for (size_t i = 0; i < parts_.size(); ++i) {
    if (parts_[i].done) continue;
    loop_.cancel(job_ids_[i]);
    show(i, parts_[i].text.flush());
    finish(i, "error");
  }
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
  results.reserve(parts_.size());
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
  for (size_t i = 0; i < prepared_.prompts.size(); ++i) {
    usage.prompt_tokens += std::ssize(prepared_.prompts[i]);
    // Of the first choice: the others found what it had computed.
    usage.cached_tokens += parts_[i * static_cast<size_t>(prepared_.request.n)].prefix_hit_tokens;
  }
  for (const Part& part : parts_) {
    usage.completion_tokens += part.text.num_tokens();
    usage.reasoning_tokens += part.text.num_reasoning_tokens();
    usage.accepted_tokens += part.draft_accepted;
    usage.rejected_tokens += part.draft_tokens - part.draft_accepted;
  }
  return usage;
}

}  // namespace fathom::serve
