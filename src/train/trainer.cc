// The training loop.
#include "train/trainer.h"

#include <algorithm>
#include <bit>
#include <chrono>
#include <cmath>
#include <cstdio>
#include <numbers>

#include "base/check.h"
#include "base/file_set.h"
#include "base/machine.h"
#include "checkpoint/checkpoint_writer.h"
#include "model/router.h"
#include "train/export.h"
#include "train/guard.h"
#include "train/training_report.h"

namespace fathom {
namespace {

using Clock = std::chrono::steady_clock;

std::vector<DatasetSource> sources_of(const std::vector<std::string>& shards, const std::vector<double>& weights) {
  std::vector<DatasetSource> sources;
  for (size_t s = 0; s < shards.size(); ++s) sources.push_back({shards[s], weights.empty() ? 0.0 : weights[s]});
  return sources;
}

Status check_vocabulary(const Dataset& data, const ModelConfig& model, const std::string& path) {
  const int64_t vocab_size = data.shard_info(0).vocab_size;
  if (vocab_size <= model.vocab_size) return {};
  return invalid(path + " has a vocabulary of " + std::to_string(vocab_size) + ", more than model.vocab_size " +
                 std::to_string(model.vocab_size) + "; set it to at least that");
}

SlotTokens slot_tokens(const Microbatch& batch) {
  return {.tokens = batch.tokens,
          .targets = batch.targets,
          .next_tokens = batch.next_tokens,
          .document_offsets = batch.document_offsets};
}

/// Losses of slots added along the tree of train/optimizer's GradientTree, so that they too do not depend on who
/// computed them.
SlotLoss sum_along_tree(std::span<const SlotLoss> slots) {
  if (slots.size() == 1) return slots[0];
  const size_t left = std::bit_floor(slots.size() - 1);
  const SlotLoss a = sum_along_tree(slots.first(left)), b = sum_along_tree(slots.subspan(left));
  return {.main = a.main + b.main, .mtp = a.mtp + b.mtp, .balance = a.balance + b.balance, .total = a.total + b.total};
}

double max_vio(const ExpertCounts& counts) {
  double worst = 0;
  for (const std::vector<int64_t>& layer : counts) {
    int64_t total = 0;
    for (int64_t count : layer) total += count;
    if (total == 0) continue;
    const double mean = static_cast<double>(total) / static_cast<double>(layer.size());
    worst = std::max(worst, static_cast<double>(*std::max_element(layer.begin(), layer.end())) / mean - 1);
  }
  return worst;
}

Error not_finite(int64_t step, const std::string& what, const std::string& where) {
  return {ErrorCode::kInvalidArgument, "step " + std::to_string(step) + ": " + what + " is not finite (first seen in " +
                                           where + "); lower learning_rate.peak or look at the data of this step"};
}

std::string short_number(const char* format, double v) {
  char text[64];
  std::snprintf(text, sizeof text, format, v);
  return text;
}

/// What a run of this config needs at least: parameters with their state, the gradients of the slot tree, and the
/// residual stream that every layer saves for backward. Error if the machine has less.
Status check_memory(const TrainConfig& config, const ModelConfig& model) {
  const ComputeType compute = config.precision == "bf16" ? ComputeType::kBF16 : ComputeType::kF32;
  const int64_t parameters = Parameters::num_bytes(model, compute);
  const int64_t partials = std::bit_width(static_cast<uint64_t>(config.slots_per_step - 1));
  const int64_t gradients = parameters / (compute == ComputeType::kBF16 ? 14 : 12) * 4;
  const double activations = 4.0 * static_cast<double>(config.sequences_per_slot * config.sequence_length) *
                             static_cast<double>(model.hidden_size) *
                             static_cast<double>(2 * (model.num_hidden_layers + model.num_nextn_predict_layers));
  const double needed = static_cast<double>(parameters + partials * gradients) + activations;
  const auto available = inspect_machine().memory_available_bytes;
  if (!available || needed <= static_cast<double>(*available)) return {};
  constexpr double kGiB = 1 << 30;
  return invalid("training needs at least " + short_number("%.1f", needed / kGiB) + " GiB (parameters " +
                 short_number("%.1f", static_cast<double>(parameters + partials * gradients) / kGiB) +
                 ", activations of a slot " + short_number("%.1f", activations / kGiB) + "), this machine has " +
                 short_number("%.1f", static_cast<double>(*available) / kGiB) +
                 " available; make the model or train.sequences_per_slot smaller");
}

}  // namespace

Trainer::Trainer(const TrainConfig& config, const ModelConfig& model, Dataset data, std::optional<Dataset> validation,
                 Kernels& kernels, ThreadPool& pool)
    : config_(config),
      data_(std::move(data)),
      validation_(std::move(validation)),
      kernels_(kernels),
      pool_(pool),
      parameters_(model, config.precision == "bf16" ? ComputeType::kBF16 : ComputeType::kF32),
      model_(parameters_.config(), parameters_.weights()),
      tree_(parameters_.gradients(), config.slots_per_step) {}

Result<std::unique_ptr<Trainer>> Trainer::create(const TrainConfig& config, Kernels& kernels, ThreadPool& pool) {
  if (auto s = config.validate(); !s) return s.error();
  const auto model = config.model_config();
  if (!model) return model.error();
  if (auto s = check_memory(config, *model); !s) return s.error();
  auto data = Dataset::open(
      sources_of(config.train_shards, config.train_weights),
      {.sequence_length = config.sequence_length, .seed = static_cast<uint64_t>(config.seed), .shuffle = true});
  if (!data) return data.error();
  if (auto s = check_vocabulary(*data, *model, config.train_shards[0]); !s) return s.error();
  std::optional<Dataset> validation;
  if (!config.validation_shards.empty()) {
    auto opened = Dataset::open(sources_of(config.validation_shards, {}),
                                {.sequence_length = config.sequence_length, .seed = 0, .shuffle = false});
    if (!opened) return opened.error();
    if (auto s = check_vocabulary(*opened, *model, config.validation_shards[0]); !s) return s.error();
    validation = *std::move(opened);
  }
  std::unique_ptr<Trainer> trainer(new Trainer(config, *model, *std::move(data), std::move(validation), kernels, pool));
  if (auto s = trainer->check_outputs(); !s) return s.error();
  if (auto s = trainer->prepare_weights(); !s) return s.error();
  return trainer;
}

Status Trainer::check_outputs() const {
  if (!config_.report_path.empty()) {  // made and dropped: what cannot be written is refused here, not after hours
    if (const auto file = AtomicFile::create(config_.report_path); !file) {
      return Error{file.error().code, "report.path: " + file.error().text};
    }
  }
  if (config_.export_directory.empty()) return {};
  if (const auto format = export_format_from(config_.export_format); !format) return format.error();
  if (auto s = CheckpointWriter::check_target(config_.export_directory); !s) {
    return Error{s.error().code, "export.directory: " + s.error().text};
  }
  if (config_.tokenizer_directory.empty()) return {};
  const auto tokenizer = MappedFile::open(config_.tokenizer_directory / "tokenizer.json");
  return tokenizer ? Status() : Status(tokenizer.error());
}

Status Trainer::prepare_weights() {
  if (!config_.checkpoint_directory.empty()) {
    auto resumed = resume_run(identity(), parameters_, pool_);
    if (!resumed) return resumed.error();
    if (*resumed) {
      progress_ = (*resumed)->progress;
      notes_ = std::move((*resumed)->notes);
      return {};
    }
  }
  if (!config_.from.empty()) return start_from_checkpoint();
  parameters_.initialize(static_cast<uint64_t>(config_.seed), pool_);
  return {};
}

Status Trainer::start_from_checkpoint() {
  const auto model = load_model(config_.from);
  if (!model) return model.error();
  ModelConfig stored = (*model)->config;
  // These do not shape a tensor; everything else must be the checkpoint's, or its weights would mean something else.
  const ModelConfig& wanted = parameters_.config();
  stored.quantization.reset();
  stored.stored_formats.reset();
  stored.max_position_embeddings = wanted.max_position_embeddings;
  stored.initializer_range = wanted.initializer_range;
  stored.aux_loss_alpha = wanted.aux_loss_alpha;
  stored.bos_token_id = wanted.bos_token_id;
  stored.eos_token_id = wanted.eos_token_id;
  const Json there = stored.to_json(), here = wanted.to_json();
  for (const auto& [key, value] : here.members()) {
    const Json* other = there.find(key);
    if (other != nullptr && *other == value) continue;
    return invalid("model." + key + " is " + value.dump() + ", but " + config_.from.string() + " has " +
                   (other == nullptr ? "none" : other->dump()) + "; with model.from the shape is the checkpoint's");
  }
  parameters_.copy_from(**model, pool_);
  return {};
}

Run Trainer::run_context() {
  return {.k = kernels_,
          .arena = arena_,
          .precision = config_.precision == "bf16" ? Precision::kBF16 : Precision::kF32,
          .activation = DType::kF32};
}

Result<StepReport> Trainer::step() {
  const auto start = Clock::now();
  const ModelConfig& model = parameters_.config();
  const auto num_slots = static_cast<size_t>(config_.slots_per_step);
  const int64_t number = progress_.step + 1;

  std::vector<Microbatch> batches(num_slots);
  BatchCounts counts;
  for (size_t s = 0; s < num_slots; ++s) {
    data_.fill(progress_.samples + static_cast<int64_t>(s) * config_.sequences_per_slot, config_.sequences_per_slot,
               &batches[s]);
    counts.add(slot_tokens(batches[s]), model.num_nextn_predict_layers);
  }

  ExpertCounts experts(static_cast<size_t>(num_moe_layers(model)),
                       std::vector<int64_t>(static_cast<size_t>(model.n_routed_experts)));
  const ObjectiveSettings objective{.mtp_lambda = config_.mtp_lambda_at(progress_.step),
                                    .balance_alpha = config_.balance_alpha};
  const Run run = run_context();
  std::vector<SlotLoss> losses;
  parameters_.zero_gradients();
  for (size_t s = 0; s < num_slots; ++s) {
    const ArenaScope scope(arena_);
    const SlotTokens slot = slot_tokens(batches[s]);
    losses.push_back(run_slot(run, model_, slot, counts, objective, &experts));
    if (!std::isfinite(losses.back().total)) {
      return not_finite(number, "the loss", first_place_not_finite(run, model_, slot));
    }
    tree_.finish_slot(kernels_, static_cast<int64_t>(s));
  }
  const GradientNorm gradient = gradient_norm(kernels_, parameters_);
  if (!gradient.not_finite.empty()) return not_finite(number, "the gradient", gradient.not_finite);

  const double rate = learning_rate(config_.learning_rate, config_.num_steps, progress_.step);
  optimizer_step(kernels_, pool_, arena_, parameters_,
                 {.adamw = {.beta1 = config_.beta1,
                            .beta2 = config_.beta2,
                            .epsilon = config_.epsilon,
                            .weight_decay = config_.weight_decay},
                  .muon = {.momentum = config_.muon_momentum, .weight_decay = config_.weight_decay},
                  .use_muon = config_.optimizer == "muon"},
                 rate, clip_factor(gradient.norm, config_.gradient_clip), number);
  const double bias_speed = config_.bias_update_speed_at(progress_.step);
  const std::vector<Tensor> biases = parameters_.router_biases();
  check(biases.empty() || biases.size() == experts.size(), "every MoE layer has a bias, or none has");
  for (size_t layer = 0; layer < biases.size() && bias_speed > 0; ++layer) {
    update_router_bias(experts[layer], bias_speed, biases[layer]);
  }
  parameters_.refresh(pool_);

  progress_ = {.step = number,
               .tokens = progress_.tokens + config_.tokens_per_step(),
               .samples = progress_.samples + config_.samples_per_step()};
  const double seconds = std::chrono::duration<double>(Clock::now() - start).count();
  return StepReport{.step = number,
                    .tokens = progress_.tokens,
                    .loss = sum_along_tree(losses),
                    .learning_rate = rate,
                    .gradient_norm = gradient.norm,
                    .max_vio = max_vio(experts),
                    .tokens_per_s = static_cast<double>(config_.tokens_per_step()) / std::max(seconds, 1e-9)};
}

ValidationReport Trainer::validate() {
  check(validation_.has_value(), "validation shards are configured");
  const int64_t available = validation_->num_samples(), count = std::min(config_.eval_sequences, available);
  const Run run = run_context();
  double sum = 0;
  int64_t num_targets = 0;
  Microbatch window;
  for (int64_t i = 0; i < count; ++i) {
    const ArenaScope scope(arena_);
    validation_->fill(i * available / count, 1, &window);
    const DocumentLayout layout(window.document_offsets);
    const Tensor hidden =
        model_.forward(run, {.tokens = window.tokens, .positions = layout.positions, .segments = layout.segments});
    sum += model_.head().loss(run, hidden, window.targets, 0, Tensor{});
    num_targets += count_valid(window.targets);
  }
  ValidationReport report{.loss = sum / static_cast<double>(std::max<int64_t>(num_targets, 1)), .bits_per_byte = {}};
  int64_t tokens = 0, bytes = 0;
  for (size_t s = 0; s < config_.validation_shards.size(); ++s) {
    tokens += validation_->shard_info(s).num_tokens;
    bytes += validation_->shard_info(s).text_bytes;
  }
  if (bytes > 0) {
    report.bits_per_byte = report.loss / std::numbers::ln2 * static_cast<double>(tokens) / static_cast<double>(bytes);
  }
  return report;
}

Status Trainer::save() {
  check(!config_.checkpoint_directory.empty(), "a snapshot needs checkpoint.directory");
  if (const std::string name = first_master_not_finite(kernels_, parameters_); !name.empty()) {
    return not_finite(progress_.step, "a weight", name);
  }
  return save_run(identity(), progress_, parameters_);
}

Status Trainer::open_log() {
  if (config_.log_path.empty()) return {};
  auto log = JsonlWriter::open(config_.log_path);
  if (!log) return log.error();
  log_.emplace(*std::move(log));
  Json event = Json::object();
  event.set("event", progress_.step == 0 ? "start" : "resume");
  event.set("step", progress_.step);
  auto old = read_jsonl(config_.log_path);  // the report draws the whole run
  if (!old) return old.error();
  records_ = std::move(old->records);
  records_.push_back(event);
  records_ = records_of_run(records_);
  for (const std::string& note : notes_) {
    Json notes = event.find("notes") != nullptr ? *event.find("notes") : Json::array();
    notes.push(note);
    event.set("notes", std::move(notes));
  }
  return log_->write(event);
}

/// The effective settings lie beside the snapshots that they made.
Status Trainer::write_settings() const {
  if (auto s = make_directories(config_.checkpoint_directory); !s) return s;
  return write_file(config_.checkpoint_directory / "settings.toml", to_toml(config_));
}

Status Trainer::record(const StepReport& report, const std::optional<ValidationReport>& validation) {
  Json json = Json::object();
  json.set("step", report.step);
  json.set("tokens", report.tokens);
  json.set("loss.main", report.loss.main);
  json.set("loss.mtp", report.loss.mtp);
  json.set("loss.balance", report.loss.balance);
  json.set("lr", report.learning_rate);
  json.set("grad_norm", report.gradient_norm);
  json.set("max_vio", report.max_vio);
  json.set("tokens_per_s", report.tokens_per_s);
  if (validation) {
    json.set("validation.loss", validation->loss);
    if (validation->bits_per_byte) json.set("validation.bits_per_byte", *validation->bits_per_byte);
  }
  records_.push_back(json);
  return log_ ? log_->write(json) : Status();
}

Status Trainer::run(Progress& progress) {
  if (auto s = open_log(); !s) return s;
  const bool saves = !config_.checkpoint_directory.empty();
  if (saves) {
    if (auto s = write_settings(); !s) return s;
  }
  while (progress_.step < config_.num_steps) {
    const auto report = step();
    if (!report) return report.error();
    const bool is_last = progress_.step == config_.num_steps;
    std::optional<ValidationReport> validation;
    if (validation_ && (is_last || is_due(config_.eval_every))) validation = validate();
    if (auto s = record(*report, validation); !s) return s;
    const bool stops = progress.stop_requested();
    if (saves && (is_last || stops || is_due(config_.checkpoint_every))) {
      if (log_) {
        if (auto s = log_->sync(); !s) return s;
      }
      if (auto s = save(); !s) return s;
    }
    progress.update("training", progress_.step, config_.num_steps,
                    short_number("loss %.4f", report->loss.main) +
                        (validation ? short_number(", validation %.4f", validation->loss) : std::string()) +
                        short_number(", %.0f tokens/s", report->tokens_per_s));
    if (stops && !is_last) {
      return cancelled("stopped after step " + std::to_string(progress_.step) + " of " +
                       std::to_string(config_.num_steps) +
                       (saves ? "; run again to resume from " + config_.checkpoint_directory.string()
                              : "; nothing was kept because checkpoint.directory is empty"));
    }
  }
  return finish();
}

Status Trainer::finish() {
  if (!config_.report_path.empty()) {
    const std::string page = training_report_html("Training run", to_toml(config_), records_);
    if (auto s = write_file(config_.report_path, page); !s) return s;
  }
  if (!config_.export_directory.empty()) {
    const auto format = export_format_from(config_.export_format);
    if (!format) return format.error();
    ExportOptions options{.format = *format, .tokenizer_directory = config_.tokenizer_directory};
    std::error_code ignored;  // a checkpoint without a tokenizer is fine
    const bool inherits = options.tokenizer_directory.empty() && !config_.from.empty() &&
                          std::filesystem::exists(config_.from / "tokenizer.json", ignored);
    if (inherits) options.tokenizer_directory = config_.from;
    if (auto s = export_model(parameters_, config_.export_directory, options); !s) return s;
  }
  return {};
}

}  // namespace fathom
