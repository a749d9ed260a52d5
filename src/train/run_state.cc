// What a snapshot of a run says, and what a later run must have in common with it.
#include "train/run_state.h"

#include <array>
#include <cstdio>
#include <cstring>

#include "checkpoint/snapshot.h"

namespace fathom {
namespace {

/// Keys of config.json that a run may change on its way: they neither shape a tensor nor enter the computation.
constexpr std::array<std::string_view, 5> kFreeModelKeys = {"initializer_range", "aux_loss_alpha",
                                                            "max_position_embeddings", "bos_token_id", "eos_token_id"};
/// Settings that decide which tokens the next sample holds.
constexpr std::array<std::string_view, 2> kFixedSettings = {"train.seed", "train.sequence_length"};

template <size_t N>
bool is_in(const std::array<std::string_view, N>& list, std::string_view key) {
  return std::find(list.begin(), list.end(), key) != list.end();
}

std::string hex(uint64_t v) {
  char text[17];
  std::snprintf(text, sizeof text, "%016llx", static_cast<unsigned long long>(v));
  return text;
}

Json settings_json(const TrainConfig& config) {
  Json out = Json::object();
  for (const ConfigKey& key : list_config_keys(config)) out.set(key.key, key.default_value);
  return out;
}

/// The training data by content, not by path: shards may have moved.
Json data_json(const TrainConfig& config, const Dataset& data) {
  Json out = Json::array();
  for (size_t s = 0; s < config.train_shards.size(); ++s) {
    const ShardInfo& info = data.shard_info(s);
    Json shard = Json::object();
    shard.set("num_tokens", info.num_tokens);
    shard.set("num_documents", info.num_documents);
    shard.set("text_bytes", info.text_bytes);
    shard.set("tokenizer_hash", hex(info.tokenizer_hash));
    shard.set("content_hash", hex(info.payload_hash));
    shard.set("weight", config.train_weights.empty() ? 0.0 : config.train_weights[s]);
    out.push(std::move(shard));
  }
  return out;
}

Json model_json(const Parameters& parameters) { return parameters.config().to_json(); }

std::vector<SnapshotTensor> tensors_of(const Parameters& parameters) {
  std::vector<SnapshotTensor> out;
  for (const Parameters::Entry& entry : parameters.entries()) {
    out.push_back({entry.spec.name, entry.master});
    if (entry.is_router_bias()) continue;
    out.push_back({entry.spec.name + ".exp_avg", entry.first_moment});
    out.push_back({entry.spec.name + ".exp_avg_sq", entry.second_moment});
  }
  return out;
}

Error cannot_change(const Snapshot& snapshot, const std::string& key, const std::string& now, const std::string& then) {
  return invalid(key + " is " + now + ", but the run in " + snapshot.path.string() + " has " + then +
                 "; set it back, or start a new run with model.from in another checkpoint.directory");
}

/// `key` of the state as an integer >= 0.
Result<int64_t> count_in(const Snapshot& snapshot, std::string_view key) {
  const Json* value = snapshot.state.find(key);
  if (value != nullptr && value->is_int() && value->as_int() >= 0) return value->as_int();
  return corrupt(snapshot.path.string() + ": its state has no count \"" + std::string(key) + "\"");
}

Status compare_model(const Snapshot& snapshot, const Parameters& parameters) {
  const Json* then = snapshot.state.find("model");
  if (then == nullptr || !then->is_object()) return corrupt(snapshot.path.string() + ": its state has no model");
  const Json now = model_json(parameters);
  for (const auto& [key, value] : now.members()) {
    if (is_in(kFreeModelKeys, key)) continue;
    const Json* old = then->find(key);
    if (old == nullptr || *old != value) {
      return cannot_change(snapshot, "model." + key, value.dump(), old == nullptr ? "none" : old->dump());
    }
  }
  for (const auto& [key, value] : then->members()) {
    if (now.find(key) == nullptr) return cannot_change(snapshot, "model." + key, "absent", value.dump());
  }
  return {};
}

Status compare_settings(const Snapshot& snapshot, const RunIdentity& run, std::vector<std::string>* notes) {
  const Json* then = snapshot.state.find("settings");
  const Json* data = snapshot.state.find("data");
  if (then == nullptr || data == nullptr) return corrupt(snapshot.path.string() + ": its state has no settings");
  if (const Json now = data_json(run.config, run.data); now != *data) {
    return cannot_change(snapshot, "data.train (with data.weights)", now.dump(), data->dump());
  }
  const Json settings = settings_json(run.config);
  for (const auto& [key, value] : settings.members()) {
    const Json* old = then->find(key);
    if (old == nullptr || !old->is_string() || *old == value) continue;
    if (is_in(kFixedSettings, key)) return cannot_change(snapshot, key, value.as_string(), old->as_string());
    notes->push_back(key + " changed: " + old->as_string() + " -> " + value.as_string());
  }
  const Json* kernels = snapshot.state.find("kernels");
  if (kernels != nullptr && kernels->is_string() && kernels->as_string() != run.kernels) {
    notes->push_back("kernels changed: " + kernels->as_string() + " -> " + std::string(run.kernels) +
                     "; losses may differ in their last bits");
  }
  return {};
}

Status load_tensors(const Snapshot& snapshot, Parameters& parameters) {
  const std::vector<SnapshotTensor> wanted = tensors_of(parameters);
  const std::string where = snapshot.tensors.path().string() + ": ";
  for (const SnapshotTensor& target : wanted) {
    const StoredTensor* stored = snapshot.tensors.find(target.name);
    if (stored == nullptr) return corrupt(where + "tensor " + target.name + " is missing");
    const bool fits = stored->dtype == target.tensor.dtype &&
                      stored->bytes.size() == static_cast<size_t>(target.tensor.num_bytes()) &&
                      std::equal(stored->shape.begin(), stored->shape.end(), target.tensor.extents.begin(),
                                 target.tensor.extents.begin() + target.tensor.rank);
    if (!fits) return corrupt(where + "tensor " + target.name + " has another dtype or shape than the model");
  }
  if (snapshot.tensors.tensors().size() != wanted.size()) return corrupt(where + "holds tensors that the model lacks");
  for (const SnapshotTensor& target : wanted) {
    const auto bytes = snapshot.tensors.find(target.name)->bytes;
    std::memcpy(target.tensor.data, bytes.data(), bytes.size());
  }
  return {};
}

}  // namespace

Status save_run(const RunIdentity& run, const RunProgress& progress, const Parameters& parameters) {
  Json state = Json::object();
  state.set("step", progress.step);
  state.set("tokens_seen", progress.tokens);
  state.set("samples_seen", progress.samples);
  state.set("seed", run.config.seed);
  state.set("kernels", run.kernels);
  state.set("config_xxh3", hex(content_hash(to_toml(run.config))));
  state.set("settings", settings_json(run.config));
  state.set("data", data_json(run.config, run.data));
  state.set("model", model_json(parameters));
  return save_snapshot(run.config.checkpoint_directory, progress.step, state, tensors_of(parameters),
                       run.config.checkpoint_keep);
}

Result<std::optional<ResumedRun>> resume_run(const RunIdentity& run, Parameters& parameters, ThreadPool& pool) {
  auto loaded = load_snapshot(run.config.checkpoint_directory);
  if (!loaded) return loaded.error();
  if (!*loaded) return std::optional<ResumedRun>();
  const Snapshot& snapshot = **loaded;
  ResumedRun out;
  out.notes = snapshot.notes;
  out.notes.push_back("resumed from " + snapshot.path.string());
  if (auto s = compare_model(snapshot, parameters); !s) return s.error();
  if (auto s = compare_settings(snapshot, run, &out.notes); !s) return s.error();
  out.progress.step = snapshot.step;
  for (const auto& [key, count] :
       {std::pair{"tokens_seen", &out.progress.tokens}, std::pair{"samples_seen", &out.progress.samples}}) {
    const auto value = count_in(snapshot, key);
    if (!value) return value.error();
    *count = *value;
  }
  if (auto s = load_tensors(snapshot, parameters); !s) return s.error();
  parameters.refresh(pool);
  return std::optional(std::move(out));
}

}  // namespace fathom
