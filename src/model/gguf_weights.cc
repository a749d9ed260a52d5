#include "model/gguf_weights.h"

#include <algorithm>
#include <array>
#include <charconv>
#include <set>
#include <span>
#include <utility>
#include <vector>

#include "model/quant_policy.h"
#include "numerics/blocks.h"

namespace fathom {
namespace {

using Name = std::pair<std::string_view, std::string_view>;

// Names outside of the blocks, and inside one.
constexpr std::array<Name, 3> kOuter = {{{"model.embed_tokens.weight", "token_embd.weight"},
                                         {"model.norm.weight", "output_norm.weight"},
                                         {"lm_head.weight", "output.weight"}}};
constexpr std::array<Name, 24> kBlock = {{{"self_attn.q_proj.weight", "attn_q.weight"},
                                          {"self_attn.q_a_proj.weight", "attn_q_a.weight"},
                                          {"self_attn.q_a_layernorm.weight", "attn_q_a_norm.weight"},
                                          {"self_attn.q_b_proj.weight", "attn_q_b.weight"},
                                          {"self_attn.kv_a_proj_with_mqa.weight", "attn_kv_a_mqa.weight"},
                                          {"self_attn.kv_a_layernorm.weight", "attn_kv_a_norm.weight"},
                                          {"self_attn.kv_b_proj.weight", "attn_kv_b.weight"},
                                          {"self_attn.o_proj.weight", "attn_output.weight"},
                                          {"input_layernorm.weight", "attn_norm.weight"},
                                          {"post_attention_layernorm.weight", "ffn_norm.weight"},
                                          {"mlp.gate_proj.weight", "ffn_gate.weight"},
                                          {"mlp.up_proj.weight", "ffn_up.weight"},
                                          {"mlp.down_proj.weight", "ffn_down.weight"},
                                          {"mlp.gate.weight", "ffn_gate_inp.weight"},
                                          {"mlp.gate.e_score_correction_bias", "exp_probs_b.bias"},
                                          {"mlp.shared_experts.gate_proj.weight", "ffn_gate_shexp.weight"},
                                          {"mlp.shared_experts.up_proj.weight", "ffn_up_shexp.weight"},
                                          {"mlp.shared_experts.down_proj.weight", "ffn_down_shexp.weight"},
                                          {"embed_tokens.weight", "nextn.embed_tokens.weight"},
                                          {"enorm.weight", "nextn.enorm.weight"},
                                          {"hnorm.weight", "nextn.hnorm.weight"},
                                          {"eh_proj.weight", "nextn.eh_proj.weight"},
                                          {"shared_head.norm.weight", "nextn.shared_head_norm.weight"},
                                          {"shared_head.head.weight", "nextn.shared_head_head.weight"}}};
constexpr std::array<Name, 3> kExperts = {{{"gate_proj.weight", "ffn_gate_exps.weight"},
                                           {"up_proj.weight", "ffn_up_exps.weight"},
                                           {"down_proj.weight", "ffn_down_exps.weight"}}};
constexpr std::string_view kKvB = "attn_kv_b.weight";
constexpr std::string_view kKB = "attn_k_b.weight";
constexpr std::string_view kVB = "attn_v_b.weight";

template <size_t N>
std::string_view gguf_name(const std::array<Name, N>& table, std::string_view name) {
  const auto found = std::find_if(table.begin(), table.end(), [&](const Name& row) { return row.first == name; });
  check(found != table.end(), "every tensor of the plan has a name in GGUF files");
  return found->second;
}

/// Cuts "PREFIX<number>." off the front of `name`.
int64_t cut_number(std::string_view& name, std::string_view prefix) {
  name.remove_prefix(prefix.size());
  int64_t number = 0;
  const auto end = std::from_chars(name.data(), name.data() + name.size(), number).ptr;
  name.remove_prefix(static_cast<size_t>(end - name.data()) + 1);
  return number;
}

/// Writers leave out outermost extents of 1.
std::span<const int64_t> without_leading_ones(std::span<const int64_t> shape) {
  while (shape.size() > 1 && shape.front() == 1) shape = shape.subspan(1);
  return shape;
}

bool same_shape(std::span<const int64_t> a, std::span<const int64_t> b) {
  const auto x = without_leading_ones(a);
  const auto y = without_leading_ones(b);
  return std::equal(x.begin(), x.end(), y.begin(), y.end());
}

/// A tensor of the file that must be there, of one of these shapes, with a decodable type.
Result<const GgufTensor*> usable(const GgufModel& file, const std::string& name,
                                 std::initializer_list<std::vector<int64_t>> shapes) {
  const GgufTensor* tensor = file.find(name);
  if (tensor == nullptr) return corrupt(name + " is missing");
  if (std::none_of(shapes.begin(), shapes.end(), [&](const auto& shape) { return same_shape(shape, tensor->shape); })) {
    return corrupt(name + " has shape " + shape_text(tensor->shape) + ", the metadata asks for " +
                   shape_text(*shapes.begin()));
  }
  const GgmlTypeInfo& info = info_of(tensor->type);
  if (!info.decodable) {
    return unsupported(name + " has type " + std::string(info.name) + "; accepted: " + decodable_ggml_types());
  }
  return tensor;
}

/// The tensors of the file behind one of the plan: one, or the two halves of kv_b.
struct Found {
  const GgufTensor* whole = nullptr;
  const GgufTensor* k = nullptr;  // [H, C, Dn] or [H C, Dn]
  const GgufTensor* v = nullptr;  // [H, Dv, C] or [H Dv, C]
  int64_t expert = -1;
};

bool is_kv_b(const GgufSource& source) { return source.name.ends_with(kKvB); }

std::string sibling(const GgufSource& source, std::string_view name) {
  return source.name.substr(0, source.name.size() - kKvB.size()) + std::string(name);
}

Result<Found> find_source(const GgufModel& file, const ModelConfig& c, const TensorSpec& spec) {
  const GgufSource source = gguf_source(spec.name);
  Found found;
  found.expert = source.expert;
  if (is_kv_b(source) && file.find(source.name) == nullptr && file.find(sibling(source, kKB)) != nullptr) {
    const int64_t heads = c.num_attention_heads;
    const auto k = usable(file, sibling(source, kKB),
                          {{heads, c.kv_lora_rank, c.qk_nope_head_dim}, {heads * c.kv_lora_rank, c.qk_nope_head_dim}});
    if (!k) return k.error();
    const auto v = usable(file, sibling(source, kVB),
                          {{heads, c.v_head_dim, c.kv_lora_rank}, {heads * c.v_head_dim, c.kv_lora_rank}});
    if (!v) return v.error();
    found.k = *k;
    found.v = *v;
    return found;
  }
  std::vector<int64_t> shape = spec.shape;
  if (source.expert >= 0) shape.insert(shape.begin(), c.n_routed_experts);
  const auto whole = usable(file, source.name, {shape});
  if (!whole) return whole.error();
  found.whole = *whole;
  return found;
}

void decode_row_of(const GgufTensor& tensor, int64_t row, float* out) {
  decode_blocks(tensor.type, tensor.bytes.data() + row * tensor.row_bytes(),
                tensor.shape.back() / info_of(tensor.type).block_length, out);
}

void narrow(float v, Tensor& out, int64_t at) {
  switch (out.dtype) {
    case DType::kF32: out.ptr<float>()[at] = v; break;
    case DType::kF16: out.ptr<f16>()[at] = to_f16(v); break;  // it was F16: exact
    default: out.ptr<bf16>()[at] = to_bf16(v); break;
  }
}

/// Rows [first, first + rows) decoded to BF16.
Tensor decode_matrix(const GgufTensor& tensor, int64_t first, int64_t rows, ThreadPool& pool,
                     std::vector<Storage>& storage) {
  const int64_t width = tensor.shape.back();
  Tensor out;
  storage.push_back(Storage::for_tensor(DType::kBF16, {rows, width}, &out));
  pool.parallel_for(rows, std::max<int64_t>(1, 65536 / width), [&](int64_t begin, int64_t end, int) {
    std::vector<float> row(static_cast<size_t>(width));
    for (int64_t n = begin; n < end; ++n) {
      decode_row_of(tensor, first + n, row.data());
      for (int64_t k = 0; k < width; ++k) narrow(row[static_cast<size_t>(k)], out, n * width + k);
    }
  });
  return out;
}

/// kv_b [H (Dn + Dv), C] from its halves: exact when both are stored in one plain dtype, else rounded to BF16.
Tensor join_kv_b(const GgufTensor& k, const GgufTensor& v, const ModelConfig& c, ThreadPool& pool,
                 std::vector<Storage>& storage) {
  const int64_t nope = c.qk_nope_head_dim, value = c.v_head_dim, latent = c.kv_lora_rank;
  const auto plain = k.type == v.type ? plain_dtype(k.type) : std::nullopt;
  Tensor out;
  storage.push_back(
      Storage::for_tensor(plain.value_or(DType::kBF16), {c.num_attention_heads * (nope + value), latent}, &out));
  pool.parallel_for(c.num_attention_heads, 1, [&](int64_t begin, int64_t end, int) {
    std::vector<float> row(static_cast<size_t>(std::max(nope, latent)));
    for (int64_t h = begin; h < end; ++h) {
      const int64_t base = h * (nope + value);
      for (int64_t l = 0; l < latent; ++l) {
        decode_row_of(k, h * latent + l, row.data());
        for (int64_t n = 0; n < nope; ++n) narrow(row[static_cast<size_t>(n)], out, (base + n) * latent + l);
      }
      for (int64_t n = 0; n < value; ++n) {
        decode_row_of(v, h * value + n, row.data());
        for (int64_t l = 0; l < latent; ++l) narrow(row[static_cast<size_t>(l)], out, (base + nope + n) * latent + l);
      }
    }
  });
  return out;
}

/// Whether blocks stay as they are: until they are packed those of matrices that --quant would pack too, and for good
/// those of an embedding, of which a step reads a few rows. One that is also the head is decoded for its product.
bool stays_in_blocks(const TensorSpec& spec, const ModelConfig& c, GgmlType type) {
  const bool is_looked_up = spec.tensor_class == TensorClass::kEmbedding && !c.tie_word_embeddings;
  return (may_be_quantised(spec) || is_looked_up) && group_format(type) != GroupFormat::kNone;
}

/// Points `weight` at the tensor or at a decoded copy.
Status bind(const GgufModel& file, const TensorSpec& spec, ThreadPool& pool, Model& model, Weight& weight) {
  const auto found = find_source(file, model.config, spec);
  if (!found) return found.error();
  if (found->k != nullptr) {
    weight.codes = join_kv_b(*found->k, *found->v, model.config, pool, model.storage);
    return {};
  }
  const GgufTensor& tensor = *found->whole;
  if (spec.shape.size() == 1) {
    model.storage.push_back(Storage::for_tensor(DType::kF32, {spec.shape[0]}, &weight.codes));
    decode_row_of(tensor, 0, weight.codes.ptr<float>());
    return {};
  }
  const int64_t rows = spec.shape[0];
  const int64_t first = std::max<int64_t>(0, found->expert) * rows;
  if (const auto dtype = plain_dtype(tensor.type)) {
    // Read-only in truth, as with safetensors: Tensor has one pointer type.
    auto* data = const_cast<std::byte*>(tensor.bytes.data() + first * tensor.row_bytes());
    weight.codes = Tensor::contiguous(data, *dtype, {rows, spec.shape[1]});
    return {};
  }
  if (stays_in_blocks(spec, model.config, tensor.type)) {
    weight =
        blocks_of(group_format(tensor.type), rows, spec.shape[1], tensor.bytes.data() + first * tensor.row_bytes());
    return {};
  }
  weight.codes = decode_matrix(tensor, first, rows, pool, model.storage);
  return {};
}

}  // namespace

GgufSource gguf_source(std::string_view plan_name) {
  constexpr std::string_view kLayers = "model.layers.";
  constexpr std::string_view kRouted = "mlp.experts.";
  if (!plan_name.starts_with(kLayers)) return {std::string(gguf_name(kOuter, plan_name)), -1};
  const std::string block = "blk." + std::to_string(cut_number(plan_name, kLayers)) + ".";
  if (!plan_name.starts_with(kRouted)) return {block + std::string(gguf_name(kBlock, plan_name)), -1};
  const int64_t expert = cut_number(plan_name, kRouted);
  return {block + std::string(gguf_name(kExperts, plan_name)), expert};
}

Result<std::unique_ptr<Model>> load_gguf(const GgufModel& file, const ModelConfig& config, ThreadPool& pool) {
  auto model = std::make_unique<Model>();
  model->config = config;
  model->ggufs.push_back(file);
  model->weights = empty_weights(config);
  Status status;
  visit_weights(model->config, model->weights, [&](const TensorSpec& spec, Weight& value, Tensor*) {
    if (status) status = bind(file, spec, pool, *model, value);
  });
  if (!status) return Error{status.error().code, file.path().string() + ": tensor " + status.error().text};
  return model;
}

CheckpointDifference compare_with_plan(const ModelConfig& config, const GgufModel& file) {
  CheckpointDifference difference;
  std::set<std::string, std::less<>> known;
  for (const TensorSpec& spec : expected_tensors(config)) {
    const GgufSource source = gguf_source(spec.name);
    if (source.expert > 0) continue;  // the stack is judged with its first expert
    known.insert(source.name);
    if (is_kv_b(source)) known.insert({sibling(source, kKB), sibling(source, kVB)});  // may stand beside the whole
    const auto found = find_source(file, config, spec);
    if (found) continue;
    const bool is_there =
        file.find(source.name) != nullptr || (is_kv_b(source) && file.find(sibling(source, kKB)) != nullptr);
    if (is_there) {
      difference.wrong.push_back(found.error().text);
    } else if (!spec.is_optional) {
      difference.missing.push_back(source.name);
    }
  }
  for (const GgufTensor* tensor : file.tensors()) {
    if (!known.contains(tensor->name)) difference.unexpected.push_back(tensor->name);
  }
  return difference;
}

GgufBytes gguf_bytes(const TensorSpec& spec, const ModelConfig& config, const GgufModel& file) {
  const auto found = find_source(file, config, spec);
  if (!found) return {};
  if (found->k != nullptr) {
    const bool is_f32 = found->k->type == GgmlType::kF32 && found->v->type == GgmlType::kF32;
    return {static_cast<int64_t>(found->k->bytes.size() + found->v->bytes.size()),
            spec.num_elements() * (is_f32 ? 4 : 2)};
  }
  int64_t stored = static_cast<int64_t>(found->whole->bytes.size());
  if (found->expert >= 0) stored /= config.n_routed_experts;
  if (spec.shape.size() == 1) return {stored, spec.num_elements() * 4};
  const bool in_place = plain_dtype(found->whole->type) || stays_in_blocks(spec, config, found->whole->type);
  return {stored, in_place ? 0 : spec.num_elements() * 2};
}

}  // namespace fathom
