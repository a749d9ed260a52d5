// Completion: a request for generated text from its prompts to the last byte of its answer. Prepared beside the
// server's thread (JSON, template, tokens), then driven by the events of its sequences.
#pragma once

#include <deque>
#include <functional>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "serve/call.h"
#include "serve/chat_prompt.h"
#include "serve/choice.h"
#include "serve/engine_loop.h"
#include "serve/logprobs_json.h"
#include "serve/openai_request.h"
#include "serve/openai_response.h"
#include "text/chat_template.h"

namespace fathom::serve {

/// A model as the API needs it. Everything pointed to outlives the server.
struct ServedModel {
  Engine* engine = nullptr;
  const Tokenizer* tokenizer = nullptr;
  const ChatFormat* chat_format = nullptr;  // nullptr: no chat
  /// Ids of a prompt, BOS in front. Any thread.
  std::function<Result<std::vector<int32_t>>(std::string_view)> encode_prompt;
  SamplingParams defaults{};
  SpeculationParams speculation{};  // of requests that do not say otherwise
  int64_t vocab_size = 0;
  int64_t max_model_len = 0;  // tokens of prompt and answer
  std::vector<std::string> names;
  ReasoningFormat reasoning = ReasoningFormat::kAuto;
  ToolFormat tools = ToolFormat::kNone;
  WeightGuard* weights = nullptr;     // to be checked again and again; none: they are not
  int64_t weight_pause_ms = 600'000;  // between two passes over all of them
  int64_t least_priority = 0;         // that requests may give: the lower goes first

  /// That requests may draft with.
  int64_t num_mtp_modules() const { return engine->options().mtp_drafts ? 1 : 0; }
};

/// A request ready for the engine.
struct PreparedRequest {
  GenerationRequest request;
  std::vector<std::vector<int32_t>> prompts;
  std::vector<int64_t> max_new_tokens;  // per prompt
  Request engine;                       // what all sequences have in common
  std::string prompt_tail;              // chat: the end of the rendered prompt, before `forced`
  std::string forced;                   // chat: what the prompt has of a forced tool call
};

/// Nothing, or model_not_found; an empty name is any model.
std::optional<ApiError> check_model(const ServedModel& model, std::string_view name);
/// The token ids of one entry of `param`. Errors: empty, ids outside the vocabulary, what the tokenizer refuses.
ApiResult<std::vector<int32_t>> prompt_ids(const ServedModel& model, const Prompt& prompt, const std::string& param);

/// From the body of a completion route to token ids. Errors: what the body gets wrong, model_not_found,
/// context_length_exceeded.
ApiResult<PreparedRequest> prepare_request(const ServedModel& model, std::string_view body, bool chat);

class Completion : public std::enable_shared_from_this<Completion> {
 public:
  Completion(std::shared_ptr<Call> call, const ServedModel& model, EngineLoop& loop, PreparedRequest prepared,
             ResponseHead head);
  /// Submits the sequences and answers, then or later. 429 when the queue is full, 400 when it can never have room.
  void start();

 private:
  struct Part {
    Choice text;
    LogprobsWriter logprobs;
    std::deque<std::pair<size_t, Logprobs>> held = {};  // of tokens whose text, from that byte on, is not certain yet
    ChoiceResult result;
    bool begun = false;
    int64_t prefix_hit_tokens = 0, draft_tokens = 0, draft_accepted = 0;
    bool done = false;
    double begun_seconds = 0, first_token_seconds = -1, last_token_seconds = -1;
  };

  std::vector<GenerationJob> jobs();
  void begin(size_t index, const GenerationEvent& event);
  void on_event(size_t index, const GenerationEvent& event);
  void observe_token(Part& part);
  void list_logprobs(Part& part, size_t num_bytes);
  void show(size_t index, ChoiceText text);
  void finish(size_t index, std::string_view reason);
  void fail(size_t index, const ApiError& error);
  void complete();
  void cut(const ApiError& error);
  void abandon();
  Usage usage() const;

  std::shared_ptr<Call> call_;
  const Tokenizer& tokenizer_;
  EngineLoop& loop_;
  PreparedRequest prepared_;
  ResponseHead head_;
  std::vector<Part> parts_;
  std::vector<int64_t> job_ids_;
  std::optional<ApiError> error_;  // of a sequence
  size_t num_done_ = 0;
  bool over_ = false;
};

}  // namespace fathom::serve
