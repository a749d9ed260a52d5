// fathom eval: bits per byte and perplexity of a text, beside another model's; exact answers to sums; the questions of
// benchmarks (eval_task.cc). Documents (separated by lines "<|endoftext|>") are scored in the windows of
// model/divergence, or the text as a whole in the chunks of llama-perplexity.
#include "apps/eval.h"

#include <algorithm>
#include <chrono>
#include <cmath>
#include <cstdio>
#include <functional>
#include <numbers>

#include "apps/console.h"
#include "apps/outputs.h"
#include "base/file.h"
#include "model/divergence.h"
#include "model/transformer.h"
#include "train/arithmetic.h"
#include "train/pack.h"

namespace fathom::apps {
namespace {

/// Adds -log p of the tokens that the windows predict and reports the share that is done; false when the user
/// interrupts.
bool score_document(const ScoredModel& scored, std::span<const int32_t> ids, std::span<const ScoredWindow> windows,
                    Divergence& sum, const std::function<bool(double)>& report) {
  for (const ScoredWindow& w : windows) {
    if (!report(static_cast<double>(w.begin) / static_cast<double>(ids.size()))) return false;
    const ArenaScope scope(scored.run.arena);
    const auto tokens = ids.subspan(static_cast<size_t>(w.begin), static_cast<size_t>(w.end - w.begin));
    const std::vector<int32_t> targets = targets_of(w, ids);
    sum.nats += scored.model.head().loss(scored.run, scored.forward(tokens), targets, 1.0, Tensor{});
    sum.num_tokens += w.end - w.first_scored;
  }
  return true;
}

/// Text of the greedy answer to one user message in a fresh conversation.
Result<std::string> greedy_answer(Session& session, std::string_view question) {
  const ChatFormat& format = *session.chat_format();
  Json context = Json::object();
  context.set("messages", Json::array().push(Json::object().set("role", "user").set("content", question)));
  context.set("add_generation_prompt", true).set("bos_token", format.bos_token).set("eos_token", format.eos_token);
  const auto prompt = format.chat_template.render(context);
  if (!prompt) return prompt.error();
  const auto ids = session.encode_prompt(*prompt);
  if (!ids) return ids.error();
  constexpr int64_t kMaxAnswerTokens = 128;
  const auto id = session.engine().submit(*ids, {.temperature = 0}, kMaxAnswerTokens);
  if (!id) return id.error();
  auto answer = session.run(*id, {}, [](std::string_view) {});
  session.engine().remove(*id);
  if (!answer) return answer.error();
  return std::move(answer->text);
}

/// Sums of two operands that `data synth` keeps out of every document, asked as a chat: exact when what follows the
/// last "= " of the answer is the sum.
Status eval_sums(Session& session, const EvalOptions& options) {
  if (!session.chat_format()) return not_found(session.model_dir().string() + " has no chat template to ask with");
  const auto questions = held_out_questions(options.seed, static_cast<int>(options.sums));
  ConsoleProgress progress(options.json || options.compute.is_quiet());
  int64_t exact = 0, asked = 0;
  for (const SumQuestion& sum : questions) {
    const auto answer = greedy_answer(session, sum.question);
    if (!answer) return answer.error();
    if (interrupted()) return interrupted_error("asking sums");
    const size_t at = answer->rfind("= ");
    exact += at != std::string::npos && answer->substr(at + 2) == sum.answer;
    progress.update("asking", ++asked, options.sums, "");
  }
  progress.finish();
  if (options.json) {
    std::printf("%s\n", Json::object().set("sums", options.sums).set("exact", exact).dump(2).c_str());
  } else {
    std::printf("%lld of %lld held-out sums exact (%.1f %%)\n", static_cast<long long>(exact),
                static_cast<long long>(options.sums),
                100.0 * static_cast<double>(exact) / static_cast<double>(options.sums));
  }
  return {};
}

/// What eval_text prints.
struct TextScore {
  Divergence sum;
  int64_t num_bytes = 0;
  int64_t window = 0;
  int64_t num_chunks = 0;  // 0: whole documents
  std::string_view kv_cache;
  double seconds = 0;

  double bits_per_byte(double nats) const { return nats / std::numbers::ln2 / static_cast<double>(num_bytes); }
  double perplexity() const { return std::exp(sum.nats / static_cast<double>(sum.num_tokens)); }
  double tokens_per_second() const { return static_cast<double>(sum.num_tokens) / seconds; }
};

void print_score(const EvalOptions& options, const TextScore& score) {
  const bool has_reference = !options.kl_against.empty();
  const Divergence& sum = score.sum;
  if (options.json) {
    Json json = Json::object();
    json.set("text", options.text).set("bytes", score.num_bytes).set("tokens", sum.num_tokens);
    json.set("bits_per_byte", score.bits_per_byte(sum.nats)).set("perplexity", score.perplexity());
    json.set("window", score.window).set("tokens_per_second", score.tokens_per_second());
    json.set("kv_cache_dtype", score.kv_cache);
    if (score.num_chunks > 0) json.set("chunks", score.num_chunks);
    if (has_reference) {
      json.set("against", Json::object()
                              .set("model", options.kl_against)
                              .set("quant", options.kl_quant)
                              .set("bits_per_byte", score.bits_per_byte(sum.reference_nats))
                              .set("kl_per_token", sum.kl_per_token())
                              .set("top1_agreement", sum.top_agreement())
                              .set("logits_relative_l2", sum.relative_l2()));
    }
    std::printf("%s\n", json.dump(2).c_str());
    return;
  }
  const std::string window = std::to_string(score.window);
  const std::string how = score.num_chunks == 0   ? "window " + window
                          : score.num_chunks == 1 ? "1 chunk of " + window
                                                  : std::to_string(score.num_chunks) + " chunks of " + window;
  std::printf("%.4f bits per byte, perplexity %.3f per token (%s bytes, %s tokens, %s, %.0f tokens/s)\n",
              score.bits_per_byte(sum.nats), score.perplexity(), count_text(score.num_bytes).c_str(),
              count_text(sum.num_tokens).c_str(), how.c_str(), score.tokens_per_second());
  if (!has_reference) return;
  std::printf(
      "against %s%s%s: KL %.6f nats per token, same first choice %.2f %%, logits differ by %.4f (relative L2), "
      "%.4f bits per byte\n",
      options.kl_against.c_str(), options.kl_quant.empty() ? "" : " as ", options.kl_quant.c_str(), sum.kl_per_token(),
      100 * sum.top_agreement(), sum.relative_l2(), score.bits_per_byte(sum.reference_nats));
}

/// A part of a text and how it is scored.
struct Passage {
  std::string_view text;
  std::vector<int32_t> ids;
  std::vector<ScoredWindow> windows;
  int64_t num_bytes = 0;  // that the predicted tokens stand for
};

/// The text as one passage in chunks; llama-perplexity leaves a final newline away.
Result<Passage> chunked(const Session& session, const EvalOptions& options, std::string_view text, int64_t window) {
  if (text.ends_with('\n')) text.remove_suffix(1);
  auto ids = session.encode_prompt(text);
  if (!ids) return ids.error();
  Passage out{.text = text, .ids = std::move(*ids), .windows = {}};
  const auto length = static_cast<int64_t>(out.ids.size());
  out.windows = chunk_windows(length, window, options.chunks < 0 ? length : options.chunks);
  if (out.windows.empty()) {
    return invalid(std::to_string(length) + " tokens are less than a chunk of " + std::to_string(window) +
                   "; give more text or a smaller --window");
  }
  for (const ScoredWindow& w : out.windows) {
    if (const auto bos = session.model().config.bos_token_id) {
      out.ids[static_cast<size_t>(w.begin)] = static_cast<int32_t>(*bos);
    }
    for (int64_t i = w.first_scored; i < w.end; ++i) {
      const auto bytes = session.tokenizer().bytes_of(out.ids[static_cast<size_t>(i)]);
      if (!bytes) return bytes.error();
      out.num_bytes += static_cast<int64_t>(bytes->size());
    }
  }
  return out;
}

/// What of the text is scored as one.
Result<std::vector<Passage>> passages_of(const Session& session, const EvalOptions& options, std::string_view text,
                                         int64_t window) {
  std::vector<Passage> out;
  if (options.chunks != 0) {
    auto passage = chunked(session, options, text, window);
    if (!passage) return passage.error();
    out.push_back(std::move(*passage));
    return out;
  }
  for (std::string_view document : split_documents(text)) {
    auto ids = session.encode_prompt(document);
    if (!ids) return ids.error();
    auto windows = score_windows(static_cast<int64_t>(ids->size()), window);
    out.push_back({document, std::move(*ids), std::move(windows), static_cast<int64_t>(document.size())});
  }
  return out;
}

Result<int64_t> window_of(const EvalOptions& options, const ModelConfig& config) {
  const bool in_chunks = options.chunks != 0;
  const int64_t least = in_chunks ? 3 : 2;
  const int64_t window =
      options.window > 0 ? options.window : std::min<int64_t>(in_chunks ? 512 : 2048, config.max_context());
  if (window >= least && window <= config.max_context()) return window;
  return invalid("--window " + std::to_string(window) + " is out of range; accepted: " + std::to_string(least) +
                 " to " + config.max_context_text());
}

/// `reference`: the model to compare with, or nullptr.
Status eval_text(Session& session, Session* reference, const EvalOptions& options) {
  const std::string source = options.text == "-" ? "standard input" : options.text;
  auto text = options.text == "-" ? read_standard_input() : read_file(options.text);
  if (!text) return text.error();
  const Model& model = session.model();
  const Model& other = reference == nullptr ? model : reference->model();
  const ModelConfig& shorter = other.config.max_context() < model.config.max_context() ? other.config : model.config;
  const auto window = window_of(options, shorter);
  if (!window) return window.error();
  if (other.config.vocab_size != model.config.vocab_size) {
    return invalid(options.kl_against + " has a vocabulary of " + std::to_string(other.config.vocab_size) + ", " +
                   options.model + " of " + std::to_string(model.config.vocab_size) +
                   "; models of one tokenizer can be compared");
  }
  auto compute = make_compute(options.compute);
  if (!compute) return compute.error();
  const Transformer transformer(model.config, model.weights), other_transformer(other.config, other.weights);
  Arena arena, other_arena;
  const Run run{.k = *compute->kernels, .arena = arena, .precision = session.engine().options().precision};
  const Run other_run{.k = *compute->kernels,
                      .arena = other_arena,
                      .precision = (reference == nullptr ? session : *reference).engine().options().precision};

  const WindowCache cache(session, *window), other_cache(reference == nullptr ? session : *reference, *window);
  const ScoredModel scored{run, transformer, cache.pages.layers()};
  const ScoredModel other_scored{other_run, other_transformer, other_cache.pages.layers()};

  const auto passages = passages_of(session, options, *text, *window);
  if (!passages) return Error{passages.error().code, source + ": " + passages.error().text};
  if (reference != nullptr) {
    const auto theirs = passages_of(*reference, options, *text, *window);
    if (!theirs) return Error{theirs.error().code, source + ": " + theirs.error().text};
    if (!std::ranges::equal(*theirs, *passages, {}, &Passage::ids, &Passage::ids)) {
      return invalid(options.kl_against + " and " + options.model + " split " + source +
                     " into different tokens; models of one tokenizer can be compared");
    }
  }
  ConsoleProgress progress(options.compute.is_quiet());
  TextScore score;
  score.window = *window;
  score.num_chunks = options.chunks == 0 ? 0 : static_cast<int64_t>(passages->front().windows.size());
  score.kv_cache = kv_cache_name(session.engine().cache_dtype());
  const auto start = std::chrono::steady_clock::now();
  for (const Passage& passage : *passages) {
    const auto report = [&](double share) {
      const int64_t done = score.num_bytes + static_cast<int64_t>(share * static_cast<double>(passage.text.size()));
      progress.update("scoring", done, static_cast<int64_t>(text->size()), "");
      return !interrupted();
    };
    bool finished = false;
    if (reference == nullptr) {
      finished = score_document(scored, passage.ids, passage.windows, score.sum, report);
    } else {
      finished =
          measure_divergence(other_scored, scored, passage.ids, passage.windows, *compute->pool, score.sum, report);
    }
    for (Session* one : {&session, reference}) {  // an expert that could not be read leaves numbers that mean nothing
      if (one == nullptr || one->model().experts == nullptr) continue;
      if (auto s = one->model().experts->take_status(); !s) return s;
    }
    if (!finished) return interrupted_error("scoring " + source);
    score.num_bytes += passage.num_bytes;
  }
  progress.finish();
  if (score.num_bytes == 0 || score.sum.num_tokens == 0) return invalid(source + " holds no text to score");
  score.seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
  print_score(options, score);
  return {};
}

}  // namespace

Status eval(const EvalOptions& options) {
  if (int{!options.text.empty()} + int{options.sums != 0} + int{!options.task.empty()} != 1) {
    return invalid("give one of --text FILE, --sums COUNT and --task NAME; see fathom eval --help");
  }
  if (!options.kl_against.empty() && options.text.empty()) return invalid("--kl-against needs --text FILE");
  if (options.chunks != 0 && options.text.empty()) return invalid("--chunks needs --text FILE");
  if (!options.kl_quant.empty() && options.kl_against.empty()) return invalid("--kl-quant needs --kl-against MODEL");
  if (auto s = check_outputs({{"--output", options.output}}, {options.task_file}); !s) return s;
  auto session = Session::load(options.model, options.compute);
  if (!session) return session.error();
  if (!options.task.empty()) return eval_task(**session, options);
  if (options.kl_against.empty()) {
    return options.text.empty() ? eval_sums(**session, options) : eval_text(**session, nullptr, options);
  }
  ComputeOptions compute = options.compute;
  compute.quant = options.kl_quant;
  compute.kv_cache_dtype = "auto";
  auto reference = Session::load(options.kl_against, compute);
  if (!reference) {
    const bool is_quant = reference.error().text.starts_with("--quant: ");
    return is_quant ? invalid("--kl-" + reference.error().text.substr(2)) : reference.error();
  }
  return eval_text(**session, reference->get(), options);
}

}  // namespace fathom::apps
