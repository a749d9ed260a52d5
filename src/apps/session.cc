#include "apps/session.h"

#include <algorithm>
#include <chrono>
#include <cstdio>

#include "apps/console.h"
#include "apps/memory_plan.h"
#include "base/machine.h"
#include "checkpoint/hf_hub.h"
#include "model/prepare_weights.h"
#include "model/prepared_file.h"
#include "model/stream_experts.h"

namespace fathom::apps {
namespace {

double seconds_since(std::chrono::steady_clock::time_point start) {
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
}

Error of_model(const Path& model, const Error& error) { return {error.code, model.string() + ": " + error.text}; }

/// prepare_weights, with a file if that is asked for.
Result<KeptWeights> prepare_or_map(Model& model, const ComputeOptions& options, const QuantPolicy& policy,
                                   Precision layout, Kernels& kernels, Progress& progress) {
  if (!options.keep_prepared) {
    const Status s = prepare_weights(model, policy, layout, kernels, progress);
    return s ? Result<KeptWeights>(KeptWeights{}) : s.error();
  }
  const auto directory = prepared_directory(options.prepared_dir, kPreparedWeights);
  if (!directory) return directory.error();
  return prepare_weights_once(model, policy, layout, kernels, *directory, progress);
}

void tell(const KeptWeights& kept) {
  if (!kept.kept) {
    std::fprintf(stderr, "note: prepared weights are not kept: %s\n", kept.kept.error().text.c_str());
  } else if (kept.path.empty()) {
    std::fprintf(stderr, "note: --keep-prepared has nothing to keep: these weights are used as they are stored\n");
  } else {
    std::fprintf(stderr, "prepared weights: %s %s %s\n", bytes_text(kept.num_bytes).c_str(),
                 kept.is_mapped ? "mapped from" : "kept in", kept.path.string().c_str());
  }
}

}  // namespace

Result<Precision> parse_precision(std::string_view name) {
  if (name == "f32") return Precision::kF32;
  if (name == "bf16") return Precision::kBF16;
  if (name == "fp8") return Precision::kFp8;
  return invalid("precision \"" + std::string(name) + "\" is unknown; accepted: f32, bf16, fp8");
}

Result<std::optional<DType>> parse_kv_cache_dtype(std::string_view name) {
  if (name == "auto") return std::optional<DType>();
  if (name == "bf16" || name == "bfloat16") return std::optional(DType::kBF16);
  if (name == "fp8" || name == "fp8_e4m3") return std::optional(DType::kE4M3);
  return invalid("--kv-cache-dtype \"" + std::string(name) +
                 "\" is unknown; accepted: auto, bf16, fp8 (also bfloat16, fp8_e4m3)");
}

std::string_view kv_cache_name(DType dtype) {
  return dtype == DType::kE4M3 ? "FP8" : dtype == DType::kBF16 ? "BF16" : "FP32";
}

Result<Compute> make_compute(const ComputeOptions& options) {
  const std::string name = options.kernels.empty() ? "cpu" : options.kernels;
  Compute compute;
  compute.pool =
      std::make_unique<ThreadPool>(options.threads > 0 ? static_cast<int>(options.threads) : default_num_threads());
  if (options.threads > compute.pool->num_threads()) {
    return io_error("the system grants " + std::to_string(compute.pool->num_threads()) + " of the " +
                    std::to_string(options.threads) + " threads of --threads; ask for fewer");
  }
  auto kernels = make_kernels(name, *compute.pool);
  if (!kernels) return kernels.error();
  compute.kernels = std::move(*kernels);
  return compute;
}

Precision default_precision(const Model& model) {
  return model.weights.embedding.value.codes.dtype == DType::kF32 ? Precision::kF32 : Precision::kBF16;
}

Result<std::unique_ptr<Session>> Session::load(std::string_view model, const ComputeOptions& options) {
  auto dir = resolve_model_dir(model, HubEnvironment::of_process());
  if (!dir) return dir.error();
  std::unique_ptr<Session> session(new Session());
  session->model_dir_ = *dir;
  auto loaded = load_model(*dir);
  if (!loaded) return loaded.error();
  session->model_ = std::move(*loaded);
  auto tokenizer = load_tokenizer(*dir);
  if (!tokenizer) return tokenizer.error();
  session->tokenizer_ = std::move(*tokenizer);
  auto format = load_model_chat_format(*dir);
  if (format) {
    session->chat_format_ = std::move(*format);
  } else if (format.error().code != ErrorCode::kNotFound) {
    return format.error();
  }
  if (auto s = session->read_generation_config(); !s) return s.error();
  auto compute = make_compute(options);
  if (!compute) return compute.error();
  session->compute_ = std::move(*compute);
  Precision precision = default_precision(*session->model_);
  if (!options.precision.empty()) {
    const auto parsed = parse_precision(options.precision);
    if (!parsed) return parsed.error();
    precision = *parsed;
  }
  const auto cache_dtype = parse_kv_cache_dtype(options.kv_cache_dtype);
  if (!cache_dtype) return cache_dtype.error();
  session->cache_dtype_ = cache_dtype->value_or(default_cache_dtype(precision));
  if (options.mla != "absorbed" && options.mla != "naive") {
    return invalid("--mla " + options.mla + " is unknown; accepted: absorbed, naive");
  }
  const ModelConfig& config = session->model_->config;
  if (options.context > config.max_context()) {
    return invalid("--context " + std::to_string(options.context) + " is more than " + dir->string() +
                   " allows: " + config.max_context_text());
  }
  if (auto s = session->read_speculation(options); !s) return s.error();
  if (auto s = session->prepare(options, precision); !s) {
    if (s.error().code == ErrorCode::kCancelled) return interrupted_error("loading " + dir->string());
    return s.error();
  }
  session->make_engine(options, precision);
  if (interrupted()) return interrupted_error("loading " + dir->string());
  if (options.log_level == "debug") {
    std::fprintf(stderr, "%s: kernels %s, %d threads, KV cache %s of %lld tokens, context %lld\n",
                 dir->string().c_str(), std::string(session->kernels_name()).c_str(),
                 session->compute_.pool->num_threads(), std::string(kv_cache_name(session->cache_dtype_)).c_str(),
                 static_cast<long long>(session->cache_tokens_), static_cast<long long>(session->context_length_));
  }
  return session;
}

Status Session::prepare(const ComputeOptions& options, Precision precision) {
  const auto policy = parse_quant_policy(options.quant);
  if (!policy) return Error{policy.error().code, "--quant: " + policy.error().text};
  if (const int64_t twice = num_quantized_twice(*model_, *policy); twice > 0) {
    std::fprintf(
        stderr,
        "note: --quant %s rounds %lld matrices that %s holds quantised already a second time; the model that it "
        "was made from has smaller errors\n",
        options.quant.c_str(), static_cast<long long>(twice), model_dir_.string().c_str());
  }
  ConsoleProgress progress(options.is_quiet());
  // Products of other precisions than BF16 read rows; so do all of them where weights stay in place.
  const Precision layout = options.in_place ? Precision::kF32 : precision;
  int64_t num_slots = 0;
  if (!options.max_memory.empty()) {
    auto plan = plan_memory(*model_, *policy, precision, options);
    if (!plan) return plan.error();
    cache_tokens_ = cache_tokens(options, plan->free_bytes);
    const int64_t token_bytes = kv_cache_bytes_per_token(model_->config, cache_dtype_);
    const auto slots = plan->slots(cache_tokens_ * token_bytes);
    if (!slots) return slots.error();
    num_slots = *slots;
    if (num_slots > 0) {
      if (!plan->file.is_there && !options.is_quiet()) {
        std::fprintf(stderr, "preparing experts, once: %s in %s\n", bytes_text(plan->file.num_bytes).c_str(),
                     plan->file.path.string().c_str());
      }
      const Path directory = plan->file.path.parent_path();
      if (auto s = stream_experts(*model_, *policy, precision, *compute_.kernels, directory, progress); !s) {
        return of_model(model_dir_, s.error());
      }
    }
  }
  const auto kept = prepare_or_map(*model_, options, *policy, layout, *compute_.kernels, progress);
  if (!kept) return of_model(model_dir_, kept.error());
  if (options.max_memory.empty()) {  // of what the weights have left; mapped ones take theirs when they are used
    auto left = inspect_machine().memory_available_bytes;
    if (left && model_->prepared) *left = std::max<int64_t>(0, *left - std::ssize(model_->prepared->bytes()));
    cache_tokens_ = cache_tokens(options, left);
  }
  if (num_slots > 0) model_->experts->allocate(num_slots);
  progress.finish();
  if (options.keep_prepared && !options.is_quiet()) tell(*kept);
  return {};
}

void Session::make_engine(const ComputeOptions& options, Precision precision) {
  EngineOptions engine;
  engine.precision = precision;
  engine.generation = options.mla == "naive" ? GenerationForm::kNaive : GenerationForm::kAbsorbed;
  engine.prompt_chunk = options.prompt_chunk;
  engine.max_running = std::max(engine.max_running, options.num_sequences);
  engine.max_cache_tokens = cache_tokens_;
  engine.cache_dtype = cache_dtype_;
  engine.mtp_drafts = speculation_.kind == SpeculationKind::kMtp;
  engine.stop_tokens = stop_tokens_;
  // Rows of the vocabulary that no token owns are padding: never sampled.
  engine.allowed_tokens.resize(static_cast<size_t>(model_->config.vocab_size));
  for (size_t id = 0; id < engine.allowed_tokens.size(); ++id) {
    engine.allowed_tokens[id] = static_cast<bool>(tokenizer_->bytes_of(static_cast<int32_t>(id)));
  }
  engine_ = std::make_unique<Engine>(*model_, *compute_.kernels, std::move(engine));
  context_length_ = std::min(context_of(options), engine_->context_length());
}

int64_t Session::context_of(const ComputeOptions& options) const {
  return options.context > 0 ? options.context : std::min(model_->config.max_context(), kDefaultContext);
}

int64_t Session::cache_tokens(const ComputeOptions& options, std::optional<int64_t> memory) const {
  const int64_t context = context_of(options);
  if (options.cache_tokens > 0) return options.cache_tokens;
  if (options.num_sequences == 1) return context;
  int64_t tokens = context * options.num_sequences;
  if (memory) {
    const int64_t token_bytes = kv_cache_bytes_per_token(model_->config, cache_dtype_);
    const double share = options.cache_memory_share * static_cast<double>(*memory);
    tokens = std::min(tokens, static_cast<int64_t>(share) / token_bytes);
  }
  return std::max(tokens, context);
}

Status Session::read_speculation(const ComputeOptions& options) {
  const auto kind = parse_speculation(options.speculate);
  if (!kind) return invalid("--speculate: " + kind.error().text);
  if (*kind == SpeculationKind::kNone && (options.draft_tokens > 0 || options.always_draft)) {
    return invalid("--draft-tokens and --always-draft need --speculate mtp or --speculate lookup");
  }
  speculation_ = {.kind = *kind, .num_draft = options.draft_tokens, .adaptive = !options.always_draft};
  if (auto s = check_speculation(speculation_, model_->config.num_nextn_predict_layers); !s) {
    return Error{s.error().code, model_dir_.string() + ": " + s.error().text};
  }
  return {};
}

Status Session::read_generation_config() {
  for (int64_t id : model_->config.eos_token_id) stop_tokens_.push_back(static_cast<int32_t>(id));
  if (std::error_code ignored; !std::filesystem::is_directory(model_dir_, ignored)) return {};  // a GGUF file has none
  const Path path = model_dir_ / "generation_config.json";
  auto text = read_file(path, int64_t{1} << 20);
  if (!text) return text.error().code == ErrorCode::kNotFound ? Status{} : Status{text.error()};
  auto json = Json::parse(*text, path.string());
  if (!json) return json.error();
  for (const auto& [key, value] : {std::pair{"temperature", &defaults_.temperature},
                                   {"top_p", &defaults_.top_p},
                                   {"min_p", &defaults_.min_p},
                                   {"repetition_penalty", &defaults_.repetition_penalty}}) {
    const Json* found = json->find(key);
    if (found == nullptr || found->is_null()) continue;
    if (!found->is_number()) return invalid(path.string() + ": " + key + " is not a number");
    *value = found->as_double();
  }
  if (const Json* top_k = json->find("top_k"); top_k != nullptr && !top_k->is_null()) {
    if (!top_k->is_int()) return invalid(path.string() + ": top_k is not an integer");
    defaults_.top_k = top_k->as_int();
  }
  if (auto s = check_sampling(defaults_); !s) return Error{s.error().code, path.string() + ": " + s.error().text};
  if (const Json* sample = json->find("do_sample"); sample != nullptr && sample->is_bool() && !sample->as_bool()) {
    defaults_.temperature = 0;
  }
  if (const Json* eos = json->find("eos_token_id"); eos != nullptr) {
    stop_tokens_.clear();
    const Json::Array ids = eos->is_array() ? eos->items() : Json::Array{*eos};
    for (const Json& id : ids) {
      if (!id.is_int() || id.as_int() < 0 || id.as_int() >= model_->config.vocab_size) {
        return invalid(path.string() + ": eos_token_id " + id.dump() + " is not a token id");
      }
      stop_tokens_.push_back(static_cast<int32_t>(id.as_int()));
    }
  }
  return {};
}

SamplingParams Session::sampling(const SamplingFlags& flags) const {
  SamplingParams params = defaults_;
  params.temperature = flags.temperature.value_or(params.temperature);
  params.top_p = flags.top_p.value_or(params.top_p);
  params.min_p = flags.min_p.value_or(params.min_p);
  params.top_k = flags.top_k.value_or(params.top_k);
  params.repetition_penalty = flags.repetition_penalty.value_or(params.repetition_penalty);
  params.seed = flags.seed.value_or(0);
  return params;
}

Result<std::vector<int32_t>> Session::encode_prompt(std::string_view text) const {
  auto ids = tokenizer_->encode(text, AddedTokens::kParse);
  if (!ids) return ids.error();
  const auto bos = model_->config.bos_token_id;
  if (bos && (ids->empty() || ids->front() != *bos)) ids->insert(ids->begin(), static_cast<int32_t>(*bos));
  for (int32_t id : *ids) {
    if (id < model_->config.vocab_size) continue;
    return corrupt(tokenizer_path(model_dir_).string() + " has token id " + std::to_string(id) +
                   ", but the model has " + std::to_string(model_->config.vocab_size) + " tokens");
  }
  return ids;
}

Result<Session::Answer> Session::run(int64_t sequence_id, const std::vector<std::string>& stops,
                                     const std::function<void(std::string_view)>& show) {
  Answer answer;
  StreamDecoder decoder(*tokenizer_, SpecialTokens::kSkip);
  StopScanner scanner(stops);
  const auto emit = [&](const std::string& text) {
    answer.text += text;
    if (!text.empty()) show(text);
  };
  const auto start = std::chrono::steady_clock::now();
  while (answer.finish == FinishReason::kNone && !scanner.stopped()) {
    if (interrupted()) {
      answer.interrupted = true;
      break;
    }
    auto events = engine_->step();
    if (!events) return events.error();
    for (const TokenEvent& event : *events) {
      // A step may bring several tokens; those after a stop string are not the answer's.
      if (event.sequence_id != sequence_id || scanner.stopped()) continue;
      answer.finish = event.finish;
      if (event.finish == FinishReason::kNumericError) return corrupt("the model's output is not a number (NaN)");
      if (answer.tokens.empty()) answer.first_token_seconds = seconds_since(start);
      answer.tokens.push_back(event.token);
      if (event.finish == FinishReason::kStopToken) continue;
      auto text = decoder.push(event.token);
      if (!text) return text.error();
      emit(scanner.push(*text));
    }
  }
  emit(scanner.push(decoder.flush()));
  emit(scanner.flush());
  answer.stopped_by_string = scanner.stopped();
  answer.seconds = seconds_since(start);
  return answer;
}

std::string_view finish_name(const Session::Answer& answer) {
  if (answer.interrupted) return "interrupted";
  if (answer.stopped_by_string || answer.finish == FinishReason::kStopToken) return "stop";
  return answer.finish == FinishReason::kContextFull ? "context" : "length";
}

}  // namespace fathom::apps
