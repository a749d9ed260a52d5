// TrainConfig: every setting of a training run, listed once (base/config makes the file, the flags and the help of it).
// The shape of the model is a ModelConfig that a preset or a checkpoint fills before the settings are laid over it, so
// the effective file says every number.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "base/config.h"
#include "model/config.h"
#include "train/learning_rate.h"

namespace fathom {

/// Names of the model presets (training.md's model family): pico 2.4M, nano 11.3M and nano20 23.9M parameters, MTP
/// module included. The dense first layer is 2 D, 2 D and 3 D wide. All have one shared expert, one MTP module, sigmoid
/// routing with a selection bias (noaux_tc) in one group and normalised weights.
std::vector<std::string> model_presets();

struct TrainConfig {
  // [model]
  Path from;                    // start from this checkpoint; its config.json gives the shape
  std::string preset = "pico";  // the shape without `from`
  ModelConfig shape;
  std::string topk_method = "noaux_tc";
  std::string scoring_func = "sigmoid";
  int64_t bos_token_id = 0;  // of the shape; -1: none
  int64_t eos_token_id = 1;

  // [data]
  std::vector<std::string> train_shards;
  std::vector<double> train_weights;
  std::vector<std::string> validation_shards;

  // [train]
  int64_t num_steps = 500;
  int64_t sequence_length = 128;
  int64_t sequences_per_slot = 8;
  int64_t slots_per_step = 2;
  int64_t seed = 1;
  std::string precision = "bf16";
  double gradient_clip = 1;
  double mtp_lambda = 0.3;
  double mtp_lambda_late = 0.1;
  int64_t mtp_late_step = -1;
  double balance_alpha = 1e-4;
  double bias_update_speed = 5e-3;
  int64_t bias_freeze_step = -1;

  LearningRateSettings learning_rate;

  // [optimizer], [adamw], [muon]
  std::string optimizer = "adamw";
  double muon_momentum = 0.95;
  double beta1 = 0.9;
  double beta2 = 0.95;
  double epsilon = 1e-8;
  double weight_decay = 0.1;

  // [validation]
  int64_t eval_every = 100;
  int64_t eval_sequences = 64;

  // [checkpoint]
  Path checkpoint_directory;
  int64_t checkpoint_every = 100;
  int64_t checkpoint_keep = 3;

  // [log], [report], [export]
  Path log_path;
  Path report_path;
  Path export_directory;
  std::string export_format = "bf16";
  Path tokenizer_directory;

  int64_t samples_per_step() const { return slots_per_step * sequences_per_slot; }
  int64_t tokens_per_step() const { return samples_per_step() * sequence_length; }
  double mtp_lambda_at(int64_t step) const {
    return mtp_late_step >= 0 && step >= mtp_late_step ? mtp_lambda_late : mtp_lambda;
  }
  double bias_update_speed_at(int64_t step) const {
    return bias_freeze_step >= 0 && step >= bias_freeze_step ? 0.0 : bias_update_speed;
  }

  /// The model that the [model] settings describe, checked as a config.json is. Errors name the key.
  Result<ModelConfig> model_config() const;
  /// Takes the shape of an existing model.
  void set_shape(const ModelConfig& config);
  /// What no single setting can check: data given, lengths that agree, a schedule that fits. Errors name the key.
  Status validate() const;

  template <class V>
  void fields(V& v) {
    v("model.from", from, "directory of a checkpoint to start from; its config.json gives the shape");
    v("model.preset", preset, "shape of a new model; the other keys of [model] change it", one_of(model_presets()));
    v("model.vocab_size", shape.vocab_size, "tokens of the vocabulary", at_least(1));
    v("model.hidden_size", shape.hidden_size, "width of the residual stream", at_least(1));
    v("model.num_hidden_layers", shape.num_hidden_layers, "layers without MTP modules", at_least(1));
    v("model.first_k_dense_replace", shape.first_k_dense_replace, "dense layers before the MoE layers", at_least(0));
    v("model.intermediate_size", shape.intermediate_size, "width of a dense feed-forward layer", at_least(1));
    v("model.moe_intermediate_size", shape.moe_intermediate_size, "width of an expert", at_least(1));
    v("model.n_routed_experts", shape.n_routed_experts, "routed experts per layer; 0: dense model", at_least(0));
    v("model.n_shared_experts", shape.n_shared_experts, "shared experts per layer", at_least(0));
    v("model.num_experts_per_tok", shape.num_experts_per_tok, "routed experts of each token", at_least(1));
    v("model.n_group", shape.n_group, "groups of experts", at_least(1));
    v("model.topk_group", shape.topk_group, "groups that a token may use", at_least(1));
    v("model.topk_method", topk_method, "how experts are chosen",
      one_of({"greedy", "group_limited_greedy", "noaux_tc"}));
    v("model.scoring_func", scoring_func, "scores of the router", one_of({"softmax", "sigmoid"}));
    v("model.norm_topk_prob", shape.norm_topk_prob, "divide the chosen experts' weights by their sum");
    v("model.routed_scaling_factor", shape.routed_scaling_factor, "factor of the routed experts' sum", at_least(0));
    v("model.num_attention_heads", shape.num_attention_heads, "attention heads", at_least(1));
    v("model.q_lora_rank", shape.q_lora_rank, "width of the query latent; 0: no query compression", at_least(0));
    v("model.kv_lora_rank", shape.kv_lora_rank, "width of the key-value latent", at_least(1));
    v("model.qk_nope_head_dim", shape.qk_nope_head_dim, "head width without position", at_least(1));
    v("model.qk_rope_head_dim", shape.qk_rope_head_dim, "head width with rotary position", at_least(2));
    v("model.v_head_dim", shape.v_head_dim, "head width of values", at_least(1));
    v("model.rms_norm_eps", shape.rms_norm_eps, "epsilon of RMSNorm", at_least(0));
    v("model.rope_theta", shape.rope_theta, "base of the rotary frequencies", at_least(1));
    v("model.max_position_embeddings", shape.max_position_embeddings, "longest context written to config.json",
      at_least(1));
    v("model.tie_word_embeddings", shape.tie_word_embeddings, "one matrix for embedding and head");
    v("model.num_nextn_predict_layers", shape.num_nextn_predict_layers, "MTP modules", at_least(0));
    v("model.initializer_range", shape.initializer_range, "standard deviation of new matrices", at_least(0));
    v("model.bos_token_id", bos_token_id, "id that begins a document; -1: none", at_least(-1));
    v("model.eos_token_id", eos_token_id, "id that ends a document; -1: none", at_least(-1));
    v("data.train", train_shards, "training shards");
    v("data.weights", train_weights, "relative shares of the training shards; empty: by their size", at_least(0));
    v("data.validation", validation_shards, "validation shards");
    v("train.steps", num_steps, "optimizer steps of the whole run", at_least(1));
    v("train.sequence_length", sequence_length, "tokens of a sample", at_least(1));
    v("train.sequences_per_slot", sequences_per_slot, "samples that are computed together", at_least(1));
    v("train.slots_per_step", slots_per_step, "slots whose gradients are summed in a step", between(1, 1 << 20));
    v("train.seed", seed, "seed of initial weights and of the order of the data", at_least(0));
    v("train.precision", precision, "operands of the matrix products", one_of({"f32", "bf16"}));
    v("train.gradient_clip", gradient_clip, "largest norm of the gradient; 0: no limit", at_least(0));
    v("train.mtp_lambda", mtp_lambda, "weight of the MTP loss", at_least(0));
    v("train.mtp_lambda_late", mtp_lambda_late, "weight of the MTP loss from mtp_late_step on", at_least(0));
    v("train.mtp_late_step", mtp_late_step, "step at which mtp_lambda_late begins; -1: never", at_least(-1));
    v("train.balance_alpha", balance_alpha, "weight of the sequence-wise balance loss", at_least(0));
    v("train.bias_update_speed", bias_update_speed, "step of the router's selection bias", at_least(0));
    v("train.bias_freeze_step", bias_freeze_step, "step from which the bias stays as it is; -1: never", at_least(-1));
    v("learning_rate.schedule", learning_rate.schedule, "course of the rate", one_of({"v3", "cosine", "wsd"}));
    v("learning_rate.peak", learning_rate.peak, "rate after the warm-up", at_least(0));
    v("learning_rate.final", learning_rate.final, "rate at the end of the decay", at_least(0));
    v("learning_rate.warmup_steps", learning_rate.warmup_steps, "steps of linear warm-up", at_least(0));
    v("learning_rate.decay_fraction", learning_rate.decay_fraction, "wsd: share of the steps that decay",
      between(0, 1));
    v("learning_rate.v3_phases", learning_rate.v3_phases,
      "v3: relative lengths of the constant, decaying, final and last phase", at_least(0));
    v("learning_rate.v3_last_ratio", learning_rate.v3_last_ratio, "v3: rate of the last phase over the final rate",
      between(0, 1));
    v("optimizer.name", optimizer,
      "muon: Muon for the matrices of attention, feed-forward and experts, AdamW for the rest",
      one_of({"adamw", "muon"}));
    v("muon.momentum", muon_momentum, "decay of Muon's momentum", between(0, 0.999999));
    v("adamw.beta1", beta1, "decay of the first moment", between(0, 0.999999));
    v("adamw.beta2", beta2, "decay of the second moment", between(0, 0.999999));
    v("adamw.epsilon", epsilon, "term that keeps the update finite", at_least(1e-30));
    v("adamw.weight_decay", weight_decay, "decoupled decay of all matrices, embedding and head included (not of norms)",
      at_least(0));
    v("validation.every", eval_every, "steps between validations; 0: only at the end", at_least(0));
    v("validation.sequences", eval_sequences, "windows of the validation shards, evenly spaced", at_least(1));
    v("checkpoint.directory", checkpoint_directory, "where snapshots go and a run resumes from; empty: none");
    v("checkpoint.every", checkpoint_every, "steps between snapshots; 0: only at the end", at_least(0));
    v("checkpoint.keep", checkpoint_keep, "snapshots that are kept", at_least(1));
    v("log.path", log_path, "JSON lines, one record per step; empty: none");
    v("report.path", report_path, "HTML report at the end; empty: none");
    v("export.directory", export_directory, "Hugging Face directory written at the end; empty: none");
    v("export.format", export_format, "numbers of the exported weights", one_of({"bf16", "f32", "fp8"}));
    v("export.tokenizer", tokenizer_directory, "directory whose tokenizer files go into the export");
  }
};

/// The defaults with the shape and the sequence length of a preset. Error: no such preset.
Result<TrainConfig> preset_config(std::string_view preset);

/// Reads the settings: which preset or checkpoint comes first, then everything over its shape.
Result<TrainConfig> load_train_config(const ConfigSources& sources);

}  // namespace fathom
