#include "model/quantize_checkpoint.h"

#include <algorithm>
#include <atomic>
#include <set>

#include "base/json.h"
#include "checkpoint/checkpoint_writer.h"
#include "checkpoint/gguf_model.h"
#include "model/model.h"
#include "model/stored_groups.h"
#include "numerics/convert.h"
#include "numerics/fp8.h"

namespace fathom {
namespace {

namespace fs = std::filesystem;

constexpr int64_t kChunkBytes = int64_t{16} << 20;  // of rows that are converted at a time, as FP32
constexpr int64_t kMaxTextBytes = int64_t{256} << 20;

/// Files beside the weights that a model directory may have and that do not change by quantisation.
constexpr std::string_view kCopiedFiles[] = {"generation_config.json",
                                             "tokenizer.json",
                                             "tokenizer_config.json",
                                             "special_tokens_map.json",
                                             "added_tokens.json",
                                             "vocab.json",
                                             "merges.txt",
                                             "tiktoken.model",
                                             "chat_template.jinja",
                                             "chat_template.json",
                                             "LICENSE"};

/// A tensor to write: bytes of the checkpoint as they are, or a matrix in another format.
struct Item {
  TensorSpec spec;
  Weight weight;                                // of a matrix that is converted
  WeightFormat format = WeightFormat::kStored;  // kStored: as it is
  std::vector<TensorDecl> tensors;              // of the file: itself, and its scales
};

TensorDecl declared(const StoredTensor& stored) { return {stored.name, stored.dtype, stored.shape}; }

bool is_kept(WeightFormat format, DType stored) {
  return format == WeightFormat::kStored || (format == WeightFormat::kBF16 && stored == DType::kBF16) ||
         (format == WeightFormat::kFp8 && stored == DType::kE4M3);
}

/// What becomes of one tensor of the plan, whose bytes in the checkpoint are `stored`.
Item item_of(const Checkpoint& checkpoint, const StoredTensor& stored, const TensorSpec& spec, const Weight& weight,
             const QuantPolicy& policy) {
  const WeightFormat format = policy.format_of(spec);
  if (is_kept(format, stored.dtype) && stored.name == spec.name) {
    Item item{.spec = spec, .weight = {}, .tensors = {declared(stored)}};
    if (stored.dtype == DType::kE4M3) item.tensors.push_back(declared(*checkpoint.find(scale_name(spec.name))));
    return item;
  }
  Item item{.spec = spec, .weight = weight, .format = format, .tensors = {}};
  if (const GroupFormat groups = groups_of(format); groups != GroupFormat::kNone) {
    for (const TensorDecl& decl : declare_groups(spec, groups)) item.tensors.push_back(decl);
  } else if (format == WeightFormat::kFp8) {
    item.tensors = {{spec.name, DType::kE4M3, spec.shape},
                    {scale_name(spec.name), DType::kF32, scale_shape(spec.shape)}};
  } else {
    item.tensors = {{spec.name, DType::kBF16, spec.shape}};
  }
  return item;
}

/// Everything that will be written, in the order of the plan; what is not of the plan comes last.
std::vector<Item> items_of(Model& model, const QuantPolicy& policy) {
  const Checkpoint& checkpoint = model.checkpoints.front();
  std::vector<Item> items;
  std::set<std::string, std::less<>> covered;
  const auto add = [&](const StoredTensor& stored, const TensorSpec& spec, const Weight& weight) {
    covered.insert(spec.name);
    if (stored.dtype == DType::kE4M3) covered.insert(scale_name(spec.name));
    items.push_back(item_of(checkpoint, stored, spec, weight, policy));
  };
  visit_weights(model.config, model.weights, [&](const TensorSpec& spec, Weight& weight, Tensor*) {
    add(*checkpoint.find(spec.name), spec, weight);
  });
  const TensorSpec head = tied_head(model.config);
  if (model.config.tie_word_embeddings && groups_of(policy.format_of(head)) != GroupFormat::kNone) {
    const std::string_view embedding = "model.embed_tokens.weight";
    add(*checkpoint.find(embedding), head, model.weights.head.value);
  }
  for (std::string_view name : checkpoint.names()) {
    if (covered.contains(name)) continue;
    const StoredTensor& stored = *checkpoint.find(name);
    items.push_back(
        {.spec = {.name = stored.name, .shape = stored.shape}, .weight = {}, .tensors = {declared(stored)}});
  }
  return items;
}

/// Converts one matrix: its codes are written chunk by chunk, its scales at the end.
class Converter {
 public:
  Converter(CheckpointWriter& writer, ThreadPool& pool) : writer_(writer), pool_(pool) {}

  /// The codes are computed but not written when an interrupted run wrote them already.
  Status write(const Item& item, bool has_codes) {
    const int64_t n = item.weight.out_features(), k = item.weight.in_features();
    Weight whole = rows_of(item.format, n, k);
    const Storage scales(whole.scales.rank > 0 ? whole.scales.num_bytes() : 0);
    if (whole.scales.rank > 0) whole.scales.data = scales.data();
    const int64_t chunk = std::max<int64_t>(1, kChunkBytes / (4 * k * kScaleBlock)) * kScaleBlock;
    const int64_t row_bytes = bytes_of(whole.codes.dtype, whole.codes.stride(0));
    const Storage codes = Storage::uninitialized(std::min(n, chunk) * row_bytes);
    for (int64_t first = 0; first < n; first += chunk) {
      const int64_t count = std::min(chunk, n - first);
      if (!convert(item.weight, first, count, whole, codes.data())) {
        return corrupt("tensor " + item.spec.name + " holds a number that " + std::string(name_of(item.format)) +
                       " cannot hold (NaN, infinity or beyond F16)");
      }
      if (has_codes) continue;
      const auto* bytes = static_cast<const std::byte*>(codes.data());
      if (auto s = writer_.append(item.spec.name, {bytes, static_cast<size_t>(count * row_bytes)}); !s) return s;
    }
    if (whole.scales.rank == 0) return {};
    return writer_.append(item.tensors[1].name, whole.scales);
  }

 private:
  /// Rows [first, first + count), `first` a multiple of 128; a piece is 128 rows, or 8 where rows share no scales.
  bool convert(const Weight& from, int64_t first, int64_t count, const Weight& whole, void* codes) {
    const bool is_fp8 = whole.codes.dtype == DType::kE4M3;
    const int64_t rows = is_fp8 ? kScaleBlock : 8;
    const int64_t row_bytes = bytes_of(whole.codes.dtype, whole.codes.stride(0));
    std::atomic<bool> all{true};
    pool_.parallel_for((count + rows - 1) / rows, 1, [&](int64_t begin, int64_t end, int) {
      for (int64_t piece = begin; piece < end; ++piece) {
        const int64_t at = piece * rows, n = std::min(rows, count - at);
        Weight to = whole;
        to.codes.data = static_cast<std::byte*>(codes) + at * row_bytes;
        to.codes.extents[0] = n;
        if (whole.scales.rank > 0) {
          const int64_t scale_row = is_fp8 ? (first + at) / kScaleBlock : first + at;
          to.scales = whole.scales.rows(scale_row, is_fp8 ? num_scale_blocks(n) : n);
        }
        if (!convert_rows(from, first + at, to)) all = false;
      }
    });
    return all;
  }

  CheckpointWriter& writer_;
  ThreadPool& pool_;
};

/// `num_there`: how many of the item's tensors an interrupted run wrote.
Status write_item(const Item& item, size_t num_there, const Checkpoint& checkpoint, CheckpointWriter& writer,
                  ThreadPool& pool) {
  if (num_there == item.tensors.size()) return {};
  if (item.weight) {
    if (auto s = Converter(writer, pool).write(item, num_there > 0); !s) return s;
    release_pages(item.weight.codes.data, item.weight.codes.num_bytes());
    return {};
  }
  for (size_t i = num_there; i < item.tensors.size(); ++i) {
    const StoredTensor& stored = *checkpoint.find(item.tensors[i].name);
    if (auto s = writer.append(stored.name, stored.bytes); !s) return s;
    release_pages(stored.bytes.data(), static_cast<int64_t>(stored.bytes.size()));
  }
  return {};
}

/// config.json as it is, but for the formats.
Result<std::string> config_text(const Path& source, const ModelConfig& config, const QuantPolicy& policy) {
  const Path path = source / "config.json";
  const auto text = read_file(path, kMaxTextBytes);
  if (!text) return text.error();
  auto json = Json::parse(*text, path.string());
  if (!json) return json.error();
  ModelConfig written = config;
  written.stored_formats = policy;
  json->set("quantization_config", *written.to_json().find("quantization_config"));
  return json->dump(2) + "\n";
}

/// What the content follows from: source files by size and time, the new config, the size of shards.
std::string identity_of(const Path& source, const Checkpoint& checkpoint, const std::string& config,
                        const QuantizeOptions& options) {
  std::error_code ignored;  // a path that cannot be resolved is told apart by its spelling
  Json json = Json::object();
  json.set("source", fs::weakly_canonical(source, ignored).string());
  Json files = Json::array();
  for (const SafetensorsFile& shard : checkpoint.shards()) {
    const auto time = fs::last_write_time(shard.path(), ignored).time_since_epoch().count();
    files.push(Json::object()
                   .set("name", shard.path().filename().string())
                   .set("bytes", static_cast<int64_t>(fs::file_size(shard.path(), ignored)))
                   .set("time", static_cast<int64_t>(time)));
  }
  json.set("files", std::move(files)).set("config", config).set("max_shard_bytes", options.max_shard_bytes);
  return json.dump(2) + "\n";
}

bool lies_inside(const Path& inner, const Path& outer) {
  std::error_code ignored;  // then the spellings are compared
  const Path a = fs::weakly_canonical(inner, ignored), b = fs::weakly_canonical(outer, ignored);
  return std::mismatch(b.begin(), b.end(), a.begin(), a.end()).first == b.end();
}

Status copy_files(const Path& source, CheckpointWriter& writer) {
  for (std::string_view name : kCopiedFiles) {
    const auto text = read_file(source / std::string(name), kMaxTextBytes);
    if (!text && text.error().code == ErrorCode::kNotFound) continue;
    if (!text) return text.error();
    if (auto s = writer.add_file(name, *text); !s) return s;
  }
  return {};
}

int64_t bytes_to_write(const Item& item) {
  int64_t bytes = 0;
  for (const TensorDecl& tensor : item.tensors) bytes += *tensor_bytes(tensor.dtype, tensor.shape);
  return bytes;
}

}  // namespace

Status check_quantize_places(const Path& source, const Path& out) {
  const auto gguf = find_gguf(source);
  if (!gguf) return gguf.error();
  if (*gguf) {
    return unsupported((*gguf)->string() + " is a GGUF file; fathom quantize reads Hugging Face directories");
  }
  if (lies_inside(out, source)) {
    return invalid(out.string() + " lies inside the model directory " + source.string() + "; name another place");
  }
  std::error_code ignored;  // unreadable counts as there: creating it will fail and say why
  if (fs::symlink_status(out, ignored).type() != fs::file_type::not_found) {
    return invalid(out.string() + " exists; choose another directory");
  }
  return {};
}

Status check_quantizable(const Model& model, const Path& source) {
  if (!model.config.stored_formats) return {};
  return invalid(source.string() + " is quantised already (" + model.config.stored_formats->text() +
                 "); quantise the model that it was made from");
}

Result<QuantizeReport> quantize_checkpoint(const Path& source, const Path& out, const QuantizeOptions& options,
                                           ThreadPool& pool, Progress& progress) {
  if (auto s = check_quantize_places(source, out); !s) return s.error();
  const auto model = load_model(source);
  if (!model) return model.error();
  if (auto s = check_quantizable(**model, source); !s) return s.error();
  if (auto s = check_parts(options.policy, (*model)->config); !s) return s.error();
  const Checkpoint& checkpoint = (*model)->checkpoints.front();
  const std::vector<Item> items = items_of(**model, options.policy);
  if (std::none_of(items.begin(), items.end(), [](const Item& item) { return static_cast<bool>(item.weight); })) {
    return invalid("quantisation " + options.policy.text() + " changes no tensor of " + source.string());
  }
  const auto config = config_text(source, (*model)->config, options.policy);
  if (!config) return config.error();

  QuantizeReport report{.source_bytes = checkpoint.total_bytes()};
  std::vector<TensorDecl> declarations;
  for (const Item& item : items) {
    declarations.insert(declarations.end(), item.tensors.begin(), item.tensors.end());
    report.written_bytes += bytes_to_write(item);
  }
  report.num_tensors = static_cast<int64_t>(declarations.size());
  auto writer = CheckpointWriter::create(out, std::move(declarations),
                                         {.max_shard_bytes = options.max_shard_bytes,
                                          .resume_identity = identity_of(source, checkpoint, *config, options)});
  if (!writer) return writer.error();
  report.num_resumed = static_cast<int64_t>(writer->num_resumed());
  int64_t done = 0;
  size_t next = 0;
  for (const Item& item : items) {
    if (progress.stop_requested()) {
      return cancelled("stopped while writing " + out.string() + "; the same command goes on behind the last shard");
    }
    const size_t num_there =
        std::min(item.tensors.size(), writer->num_resumed() - std::min(next, writer->num_resumed()));
    if (auto s = write_item(item, num_there, checkpoint, *writer, pool); !s) {
      return Error{s.error().code, source.string() + ": " + s.error().text};
    }
    next += item.tensors.size();
    done += bytes_to_write(item);
    progress.update("quantizing", done / 1000000, report.written_bytes / 1000000, item.spec.name);
  }
  if (auto s = writer->add_file("config.json", *config); !s) return s.error();
  if (auto s = copy_files(source, *writer); !s) return s.error();
  if (auto s = writer->commit(); !s) return s.error();
  return report;
}

}  // namespace fathom
