// Embeddings: /v1/embeddings from its body to its answer. An input's embedding is the model's hidden state after the
// final norm at the input's last token, as decoder models are usually pooled, scaled to length 1.
#pragma once

#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "serve/completion.h"

namespace fathom::serve {

struct PreparedEmbeddings {
  EmbeddingRequest request;
  std::vector<std::vector<int32_t>> prompts;
};

/// From the body to token ids. Errors: what the body gets wrong, model_not_found, context_length_exceeded.
ApiResult<PreparedEmbeddings> prepare_embeddings(const ServedModel& model, std::string_view body);

/// Scaled to Euclidean length 1 (the sum in double); zeros stay zeros.
std::vector<float> normalized(std::span<const float> state);
/// RFC 4648 of the numbers as 32-bit floats, least significant byte first: OpenAI's encoding_format "base64".
std::string base64_of(std::span<const float> numbers);

class Embeddings : public std::enable_shared_from_this<Embeddings> {
 public:
  Embeddings(std::shared_ptr<Call> call, EngineLoop& loop, PreparedEmbeddings prepared, std::string model_name);
  /// Submits the inputs and answers later. 429 when the queue is full.
  void start();

 private:
  static constexpr size_t kMostInFlight = 64;

  bool submit_some();
  void on_event(size_t index, const GenerationEvent& event);
  void end();
  void fail(const ApiError& error);

  std::shared_ptr<Call> call_;
  EngineLoop& loop_;
  PreparedEmbeddings prepared_;
  std::string model_name_;
  std::vector<std::vector<float>> embeddings_;
  std::vector<int64_t> job_ids_;
  size_t num_submitted_ = 0, num_done_ = 0;  // in order; in any order
  bool over_ = false;
};

}  // namespace fathom::serve
