// Rounding the masters to the stored formats, and the text files beside them.
#include "train/export.h"

#include "base/json.h"
#include "checkpoint/checkpoint_writer.h"
#include "numerics/fp8.h"

namespace fathom {
namespace {

constexpr int64_t kMaxTokenizerBytes = int64_t{256} << 20;

DType stored_dtype(const Parameters::Entry& entry, ExportFormat format) {
  if (entry.is_router_bias() || format == ExportFormat::kF32) return DType::kF32;
  return format == ExportFormat::kFp8 && entry.spec.fp8_when_quantized ? DType::kE4M3 : DType::kBF16;
}

std::vector<TensorDecl> declarations(const Parameters& parameters, ExportFormat format) {
  std::vector<TensorDecl> out;
  for (const Parameters::Entry& entry : parameters.entries()) {
    const DType dtype = stored_dtype(entry, format);
    out.push_back({entry.spec.name, dtype, entry.spec.shape});
    if (dtype == DType::kE4M3) {
      out.push_back({scale_name(entry.spec.name), DType::kF32, scale_shape(entry.spec.shape)});
    }
  }
  return out;
}

Status append_bf16(CheckpointWriter& writer, const Parameters::Entry& entry) {
  std::vector<bf16> values(static_cast<size_t>(entry.master.numel()));
  const float* master = entry.master.ptr<const float>();
  for (size_t i = 0; i < values.size(); ++i) values[i] = to_bf16(master[i]);
  return writer.append(entry.spec.name, std::as_bytes(std::span(values)));
}

Status append_fp8(CheckpointWriter& writer, const Parameters::Entry& entry) {
  Tensor codes, scales;
  const std::vector<int64_t> blocks = scale_shape(entry.spec.shape);
  const Storage code_storage = Storage::for_tensor(DType::kE4M3, {entry.spec.shape[0], entry.spec.shape[1]}, &codes);
  const Storage scale_storage = Storage::for_tensor(DType::kF32, {blocks[0], blocks[1]}, &scales);
  quantize_blocks(entry.master.view<const float, 2>(), ScaleFormat::kF32, codes.view<e4m3, 2>(),
                  scales.view<float, 2>());
  if (auto s = writer.append(entry.spec.name, codes); !s) return s;
  return writer.append(scale_name(entry.spec.name), scales);
}

Status append_entry(CheckpointWriter& writer, const Parameters::Entry& entry, ExportFormat format) {
  switch (stored_dtype(entry, format)) {
    case DType::kE4M3: return append_fp8(writer, entry);
    case DType::kBF16: return append_bf16(writer, entry);
    default: return writer.append(entry.spec.name, entry.master);
  }
}

std::string config_text(const ModelConfig& config, ExportFormat format) {
  ModelConfig out = config;
  out.quantization.reset();
  out.stored_formats.reset();
  if (format == ExportFormat::kFp8) out.quantization = Fp8Quantization{};
  Json json = out.to_json();
  json.set("torch_dtype", format == ExportFormat::kF32 ? "float32" : "bfloat16");
  return json.dump(2) + "\n";
}

std::string generation_text(const ModelConfig& config) {
  const Json json = config.to_json();
  Json out = Json::object();
  out.set("_from_model_config", true);
  for (const char* key : {"bos_token_id", "eos_token_id"}) {
    if (const Json* id = json.find(key); id != nullptr && !id->is_null()) out.set(key, *id);
  }
  return out.dump(2) + "\n";
}

Status copy_tokenizer(CheckpointWriter& writer, const Path& directory) {
  for (const char* name :
       {"tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "chat_template.jinja"}) {
    const bool is_required = std::string_view(name) == "tokenizer.json";
    const auto text = read_file(directory / name, kMaxTokenizerBytes);
    if (!text && text.error().code == ErrorCode::kNotFound && !is_required) continue;
    if (!text) return text.error();
    if (auto s = writer.add_file(name, *text); !s) return s;
  }
  return {};
}

}  // namespace

Result<ExportFormat> export_format_from(std::string_view name) {
  if (name == "bf16") return ExportFormat::kBF16;
  if (name == "f32") return ExportFormat::kF32;
  if (name == "fp8") return ExportFormat::kFp8;
  return invalid("export format \"" + std::string(name) + "\" is not accepted; it must be bf16, f32 or fp8");
}

Status export_model(const Parameters& parameters, const Path& directory, const ExportOptions& options) {
  auto writer = CheckpointWriter::create(directory, declarations(parameters, options.format));
  if (!writer) return writer.error();
  for (const Parameters::Entry& entry : parameters.entries()) {
    if (auto s = append_entry(*writer, entry, options.format); !s) return s;
  }
  if (auto s = writer->add_file("config.json", config_text(parameters.config(), options.format)); !s) return s;
  if (auto s = writer->add_file("generation_config.json", generation_text(parameters.config())); !s) return s;
  if (!options.tokenizer_directory.empty()) {
    if (auto s = copy_tokenizer(*writer, options.tokenizer_directory); !s) return s;
  }
  return writer->commit();
}

}  // namespace fathom
