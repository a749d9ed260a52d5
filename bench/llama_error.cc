// The error of a quantised model as llama.cpp and ik_llama.cpp compute it, to stand beside `fathom eval --kl-against`:
// relative L2 of the logits, and KL(reference || model) in nats per token, over the second halves of chunks of 512
// tokens. Not part of the build; with a peer built in $PEER:
//
//   flags="-I$PEER/include -I$PEER/ggml/include $PEER/build/src/libllama.so"
//   g++ -std=c++20 -O2 bench/llama_error.cc -o llama_error $flags
//   export LD_LIBRARY_PATH=$PEER/build/src:$PEER/build/ggml/src
//   ./llama_error demo-bf16.gguf demo-q8_0.gguf text.txt 40
#include <llama.h>

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <fstream>
#include <iterator>
#include <span>
#include <string>
#include <vector>

namespace {

constexpr int kChunk = 512;

class Peer {
 public:
  explicit Peer(const char* file) : model_(llama_model_load_from_file(file, llama_model_default_params())) {
    if (model_ == nullptr) std::exit(1);  // it has said why
    llama_context_params params = llama_context_default_params();
    params.n_ctx = params.n_batch = params.n_ubatch = kChunk;
    params.n_threads = params.n_threads_batch = 2;
    params.mla_attn = 3;
    params.flash_attn = true;
    context_ = llama_init_from_model(model_, params);
    if (context_ == nullptr) std::exit(1);
  }

  std::vector<llama_token> tokenize(const std::string& text) const {
    std::vector<llama_token> ids(text.size() + 2);
    const int size = static_cast<int>(ids.size()), length = static_cast<int>(text.size());
    ids.resize(
        static_cast<size_t>(std::max(0, llama_tokenize(model_, text.c_str(), length, ids.data(), size, true, false))));
    return ids;
  }

  /// Computes a chunk, whose first token becomes BOS.
  bool compute(std::span<const llama_token> ids) {
    llama_kv_cache_clear(context_);
    llama_batch batch = llama_batch_init(kChunk, 0, 1);
    for (int i = 0; i < kChunk; ++i) {
      batch.token[i] = i == 0 ? llama_token_bos(model_) : ids[static_cast<size_t>(i)];
      batch.pos[i] = i;
      batch.n_seq_id[i] = 1;
      batch.seq_id[i][0] = 0;
      batch.logits[i] = i >= kChunk / 2;
    }
    batch.n_tokens = kChunk;
    const bool computed = llama_decode(context_, batch) == 0;
    llama_batch_free(batch);
    return computed;
  }
  std::span<const float> logits(int row) {
    return {llama_get_logits_ith(context_, row), static_cast<size_t>(llama_n_vocab(model_))};
  }

 private:
  llama_model* model_;
  llama_context* context_;
};

double log_sum_exp(std::span<const float> row) {
  const double largest = *std::max_element(row.begin(), row.end());
  double sum = 0;
  for (float v : row) sum += std::exp(v - largest);
  return largest + std::log(sum);
}

}  // namespace

int main(int argc, char** argv) {
  if (argc != 5) {
    std::fprintf(stderr, "llama_error REFERENCE.gguf MODEL.gguf TEXT CHUNKS\n");
    return 2;
  }
  llama_backend_init();
  Peer reference(argv[1]), model(argv[2]);
  std::ifstream file(argv[3]);
  const auto ids = reference.tokenize({std::istreambuf_iterator<char>(file), {}});
  double error = 0, norm = 0, kl = 0;
  int64_t rows = 0;
  for (int chunk = 0; chunk < std::atoi(argv[4]) && static_cast<size_t>(chunk + 1) * kChunk <= ids.size(); ++chunk) {
    const auto part = std::span(ids).subspan(static_cast<size_t>(chunk) * kChunk, kChunk);
    if (!reference.compute(part) || !model.compute(part)) return 1;
    for (int i = kChunk / 2; i < kChunk - 1; ++i, ++rows) {
      const auto a = reference.logits(i), b = model.logits(i);
      const double log_p = log_sum_exp(a), log_q = log_sum_exp(b);
      for (size_t v = 0; v < a.size(); ++v) {
        const double x = a[v], y = b[v];
        error += (y - x) * (y - x);
        norm += x * x;
        kl += std::exp(x - log_p) * ((x - log_p) - (y - log_q));
      }
    }
  }
  std::printf("%lld tokens, relative L2 of the logits %.5f, KL %.5f nats per token\n", static_cast<long long>(rows),
              std::sqrt(error / norm), kl / static_cast<double>(rows));
}
