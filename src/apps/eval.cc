// fathom eval: bits per byte and perplexity of a text. Documents (separated by lines "<|endoftext|>") are scored in
// windows: the first window of a document whole, later ones start half a window back and score their second half, so
// that every token is scored once and, but for the first ones, with at least half a window of context.
#include <chrono>
#include <cmath>
#include <cstdio>
#include <functional>
#include <numbers>

#include "apps/console.h"
#include "apps/verbs.h"
#include "base/file.h"
#include "model/transformer.h"
#include "train/arithmetic.h"
#include "train/pack.h"

namespace fathom::apps {
namespace {

struct Score {
  double nats = 0;
  int64_t num_tokens = 0;
};

/// Adds -log p of ids[1..] given what is before them, window by window, and reports the share that is done. Errors:
/// the user interrupts, or an expert cannot be read (`experts` may be absent).
Status score_document(const Run& run, const Transformer& model, ExpertStore* experts, std::span<const int32_t> ids,
                      int64_t window, Score& score, const std::function<void(double)>& report_share) {
  const auto length = static_cast<int64_t>(ids.size());
  int64_t scored = 1;  // ids[0] is BOS: given
  for (int64_t begin = 0; scored < length;) {
    if (interrupted()) return interrupted_error("scoring");
    const ArenaScope scope(run.arena);
    const int64_t end = std::min(length, begin + window), count = end - begin;
    const std::vector<int64_t> offsets{0, count};
    const DocumentLayout layout(offsets);
    const auto tokens = ids.subspan(static_cast<size_t>(begin), static_cast<size_t>(count));
    const Tensor hidden =
        model.forward(run, {.tokens = tokens, .positions = layout.positions, .segments = layout.segments});
    if (experts != nullptr) {
      if (auto s = experts->take_status(); !s) return s;
    }
    std::vector<int32_t> targets(static_cast<size_t>(count), -1);
    for (int64_t i = scored; i < end; ++i) targets[static_cast<size_t>(i - 1 - begin)] = ids[static_cast<size_t>(i)];
    score.nats += model.head().loss(run, hidden, targets, 1.0, Tensor{});
    score.num_tokens += end - scored;
    scored = end;
    begin = end - window / 2;
    report_share(static_cast<double>(scored) / static_cast<double>(length));
  }
  return {};
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
  ConsoleProgress progress(options.json);
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

Status eval_text(Session& session, const EvalOptions& options) {
  auto text = read_file(options.text);
  if (!text) return text.error();
  const Model& model = session.model();
  const int64_t window = options.window > 0 ? options.window : std::min<int64_t>(2048, model.config.max_context());
  if (window < 2 || window > model.config.max_context()) {
    return invalid("--window " + std::to_string(window) + " is out of range; accepted: 2 to " +
                   model.config.max_context_text());
  }
  auto compute = make_compute(options.compute);
  if (!compute) return compute.error();
  const Transformer transformer(model.config, model.weights);
  Arena arena;
  const Run run{.k = *compute->kernels, .arena = arena, .precision = session.engine().options().precision};

  ConsoleProgress progress(false);
  Score total;
  int64_t num_bytes = 0;
  const auto start = std::chrono::steady_clock::now();
  for (std::string_view document : split_documents(*text)) {
    const auto ids = session.encode_prompt(document);
    if (!ids) return Error{ids.error().code, options.text + ": " + ids.error().text};
    const auto report_share = [&](double share) {
      const int64_t done = num_bytes + static_cast<int64_t>(share * static_cast<double>(document.size()));
      progress.update("scoring", done, static_cast<int64_t>(text->size()), "");
    };
    if (auto s = score_document(run, transformer, model.experts.get(), *ids, window, total, report_share); !s) {
      return s.error().code == ErrorCode::kCancelled ? interrupted_error("scoring " + options.text) : s.error();
    }
    num_bytes += static_cast<int64_t>(document.size());
  }
  progress.finish();
  if (num_bytes == 0 || total.num_tokens == 0) return invalid(options.text + " holds no text to score");
  const double bits_per_byte = total.nats / std::numbers::ln2 / static_cast<double>(num_bytes);
  const double perplexity = std::exp(total.nats / static_cast<double>(total.num_tokens));
  const double seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
  if (options.json) {
    Json json = Json::object();
    json.set("text", options.text).set("bytes", num_bytes).set("tokens", total.num_tokens);
    json.set("bits_per_byte", bits_per_byte).set("perplexity", perplexity).set("window", window);
    json.set("tokens_per_second", static_cast<double>(total.num_tokens) / seconds);
    std::printf("%s\n", json.dump(2).c_str());
  } else {
    std::printf("%.4f bits per byte, perplexity %.3f per token (%s bytes, %s tokens, window %lld, %.0f tokens/s)\n",
                bits_per_byte, perplexity, count_text(num_bytes).c_str(), count_text(total.num_tokens).c_str(),
                static_cast<long long>(window), static_cast<double>(total.num_tokens) / seconds);
  }
  return {};
}

}  // namespace

Status eval(const EvalOptions& options) {
  if (options.text.empty() == (options.sums == 0) || options.sums < 0 || options.sums > 10000) {
    return invalid("give either --text FILE or --sums COUNT (at most 10000); see fathom eval --help");
  }
  auto session = Session::load(options.model, options.compute);
  if (!session) return session.error();
  return options.text.empty() ? eval_sums(**session, options) : eval_text(**session, options);
}

}  // namespace fathom::apps
