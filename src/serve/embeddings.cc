#include "serve/embeddings.h"

#include <openssl/evp.h>

#include <algorithm>
#include <bit>
#include <cmath>

namespace fathom::serve {

ApiResult<PreparedEmbeddings> prepare_embeddings(const ServedModel& model, std::string_view body) {
  const auto json = Json::parse(body, "the body");
  if (!json) return ApiError{.status = 400, .code = "invalid_json", .message = json.error().text, .param = {}};
  auto parsed = parse_embedding_request(*json);
  if (auto* error = std::get_if<ApiError>(&parsed)) return *error;
  PreparedEmbeddings prepared{.request = std::get<0>(std::move(parsed)), .prompts = {}};
  if (auto error = check_model(model, prepared.request.model)) return *std::move(error);
  for (const Prompt& input : prepared.request.inputs) {
    auto ids = prompt_ids(model, input, "input");
    if (auto* error = std::get_if<ApiError>(&ids)) return *error;
    prepared.prompts.push_back(std::get<0>(std::move(ids)));
    const int64_t length = std::ssize(prepared.prompts.back());
    if (length >= model.max_model_len) {
      return ApiError{.status = 400,
                      .code = "context_length_exceeded",
                      .message = "an input has " + std::to_string(length) + " tokens; accepted: fewer than " +
                                 std::to_string(model.max_model_len),
                      .param = "input"};
    }
  }
  return prepared;
}

std::vector<float> normalized(std::span<const float> state) {
  double sum = 0;
  for (const float value : state) sum += double{value} * double{value};
  std::vector<float> out(state.begin(), state.end());
  if (sum == 0) return out;
  const double scale = 1 / std::sqrt(sum);
  for (float& value : out) value = static_cast<float>(value * scale);
  return out;
}

std::string base64_of(std::span<const float> numbers) {
  std::string bytes;
  bytes.reserve(numbers.size() * 4);
  for (const float number : numbers) {
    const auto bits = std::bit_cast<uint32_t>(number);
    for (int shift = 0; shift < 32; shift += 8) bytes += static_cast<char>(bits >> shift & 0xFF);
  }
  std::string text((bytes.size() + 2) / 3 * 4, '=');  // std::string has room for the zero that is written behind
  EVP_EncodeBlock(reinterpret_cast<unsigned char*>(text.data()), reinterpret_cast<const unsigned char*>(bytes.data()),
                  static_cast<int>(bytes.size()));
  return text;
}

Embeddings::Embeddings(std::shared_ptr<Call> call, EngineLoop& loop, PreparedEmbeddings prepared,
                       std::string model_name)
    : call_(std::move(call)),
      loop_(loop),
      prepared_(std::move(prepared)),
      model_name_(std::move(model_name)),
      embeddings_(prepared_.prompts.size()) {}

void Embeddings::start() {
  if (!submit_some()) return call_->fail(queue_full());
  const auto self = shared_from_this();
  call_->on_cut([weak = weak_from_this()](const ApiError& error) {
    if (const auto alive = weak.lock()) alive->fail(error);
  });
  for (const auto& prompt : prepared_.prompts) {
    call_->metrics().count_prompt(std::ssize(prompt));
    call_->use_tokens(std::ssize(prompt));
  }
  call_->exchange().on_gone([self] {
    if (self->over_) return;
    self->end();
    self->call_->log_gone();
  });
}

/// Keeps kMostInFlight inputs in the queue or the engine: a long list must not keep others out. False when the queue
/// has no room and none of ours is in it, so that nothing would go on.
bool Embeddings::submit_some() {
  const auto self = shared_from_this();
  const auto most = std::min<size_t>(kMostInFlight, static_cast<size_t>(loop_.max_waiting()));
  while (num_submitted_ < prepared_.prompts.size() && num_submitted_ - num_done_ < most) {
    const size_t i = num_submitted_;
    GenerationJob job;
    job.request.prompt = prepared_.prompts[i];
    job.request.max_new_tokens = 0;
    job.request.embedding = true;
    job.sink = [self, i](const GenerationEvent& event) {
      self->call_->exchange().post([self, i, event] { self->on_event(i, event); });
    };
    std::vector<GenerationJob> jobs;
    jobs.push_back(std::move(job));
    const auto ids = loop_.submit(std::move(jobs));
    if (!ids) return num_submitted_ > num_done_;
    job_ids_.push_back(ids->front());
    ++num_submitted_;
  }
  return true;
}

/// Nothing further is of interest: what is still to be computed is cancelled.
void Embeddings::end() {
  over_ = true;
  for (const int64_t id : job_ids_) loop_.cancel(id);
}

void Embeddings::fail(const ApiError& error) {
  if (over_) return;
  end();
  call_->exchange().on_gone(nullptr);
  call_->fail(error);
}

void Embeddings::on_event(size_t index, const GenerationEvent& event) {
  if (over_) return;
  if (event.error || event.finish == FinishReason::kNumericError) {
    return fail(event.error ? to_api_error(*event.error) : not_a_number());
  }
  embeddings_[index] = normalized(event.embedding);
  if (++num_done_ < embeddings_.size()) {
    if (!submit_some()) fail(queue_full());
    return;
  }
  over_ = true;
  call_->exchange().on_gone(nullptr);
  Json data = Json::array();
  int64_t num_tokens = 0;
  for (size_t i = 0; i < embeddings_.size(); ++i) {
    num_tokens += std::ssize(prepared_.prompts[i]);
    Json numbers = Json::array();
    if (prepared_.request.base64) {
      numbers = Json(base64_of(embeddings_[i]));
    } else {
      for (const float number : embeddings_[i]) numbers.push(double{number});
    }
    Json entry = Json::object().set("object", "embedding").set("index", static_cast<int64_t>(i));
    data.push(std::move(entry.set("embedding", std::move(numbers))));
  }
  Json body = Json::object().set("object", "list").set("data", std::move(data)).set("model", model_name_);
  call_->respond(200,
                 body.set("usage", Json::object().set("prompt_tokens", num_tokens).set("total_tokens", num_tokens)));
}

}  // namespace fathom::serve
