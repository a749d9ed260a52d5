// fathom data synth | pack: training documents from a seed, and token shards from documents.
#include <cstdio>

#include "apps/console.h"
#include "apps/outputs.h"
#include "apps/verbs.h"
#include "base/json.h"
#include "base/machine.h"
#include "train/pack.h"
#include "train/synth.h"

namespace fathom::apps {
Status data_synth(const DataSynthOptions& options) {
  SynthOptions synth{
      .seed = options.seed, .num_documents = options.documents, .num_bytes = options.bytes, .mixture = {}};
  if (!options.mixture.empty()) {
    if (options.mixture.size() != kNumSynthKinds) {
      return invalid("--mixture takes four weights: story, arithmetic, recall, chat");
    }
    synth.mixture = {.story = options.mixture[0],
                     .arithmetic = options.mixture[1],
                     .recall = options.mixture[2],
                     .chat = options.mixture[3]};
  }
  if (auto s = validate(synth); !s) return s;
  auto file = AtomicFile::create(options.output);
  if (!file) return file.error();
  ConsoleProgress progress(is_quiet(options.log_level));
  const auto report = write_synth(synth, *file, progress);
  if (!report) return report.error();
  progress.finish();
  if (auto s = file->commit(); !s) return s;
  if (options.json) {
    Json kinds = Json::object();
    for (size_t kind = 0; kind < kNumSynthKinds; ++kind) {
      kinds.set(to_string(static_cast<SynthKind>(kind)),
                Json::object().set("documents", report->documents[kind]).set("bytes", report->bytes[kind]));
    }
    std::printf("%s\n", Json::object().set("output", options.output).set("kinds", std::move(kinds)).dump().c_str());
    return {};
  }
  for (size_t kind = 0; kind < kNumSynthKinds; ++kind) {
    std::printf("%-12s %9lld documents  %s\n", std::string(to_string(static_cast<SynthKind>(kind))).c_str(),
                static_cast<long long>(report->documents[kind]), bytes_text(report->bytes[kind]).c_str());
  }
  return {};
}

Status data_pack(const DataPackOptions& options) {
  const auto tokenizer = load_tokenizer(options.tokenizer);
  if (!tokenizer) return tokenizer.error();
  const auto tokenizer_text = read_file(Path(options.tokenizer) / "tokenizer.json");
  if (!tokenizer_text) return tokenizer_text.error();
  const auto bos = tokenizer->token_id("<｜begin▁of▁sentence｜>"), eos = tokenizer->token_id("<｜end▁of▁sentence｜>");
  if (!bos || !eos) {
    return invalid(options.tokenizer +
                   "/tokenizer.json lacks <｜begin▁of▁sentence｜> or <｜end▁of▁sentence｜>; `fathom tokenizer train` "
                   "makes one that has them");
  }
  if (options.validation_fraction > 0 && options.validation.empty()) {
    char percent[32];
    std::snprintf(percent, sizeof percent, "%g", options.validation_fraction * 100);
    return invalid(std::string("--validation FILE is needed to keep ") + percent +
                   " % for validation; --validation-fraction 0 keeps none");
  }
  if (options.validation_fraction == 0 && !options.validation.empty()) {
    return invalid("--validation " + options.validation + " would stay empty; give --validation-fraction a part of 1");
  }
  std::vector<std::string> read = options.inputs;
  for (const char* name : {"tokenizer.json", "tokenizer_config.json"}) read.push_back(Path(options.tokenizer) / name);
  if (auto s = check_outputs({{"--output", options.output}, {"--validation", options.validation}}, read); !s) return s;
  PackOptions pack;
  pack.encode = [&tokenizer](std::string_view text) { return tokenizer->encode(text, AddedTokens::kIgnore); };
  pack.encode_markup = [&tokenizer](std::string_view text) { return tokenizer->encode(text, AddedTokens::kParse); };
  pack.bos_id = *bos;
  pack.eos_id = *eos;
  pack.vocab_size = tokenizer->vocab_size();
  pack.tokenizer_hash = content_hash(*tokenizer_text);
  pack.val_fraction = options.validation_fraction;
  pack.assistant_loss_only = options.assistant_loss_only;
  const std::vector<Path> inputs(options.inputs.begin(), options.inputs.end());
  ConsoleProgress progress(is_quiet(options.log_level));
  const auto report = pack_files(inputs, options.output, options.validation, pack, progress);
  if (!report) return report.error();
  progress.finish();
  if (options.json) {
    const auto shard = [](const std::string& path, const ShardInfo& info) {
      Json out = Json::object();
      out.set("output", path).set("tokens", info.num_tokens).set("documents", info.num_documents);
      return out.set("text_bytes", info.text_bytes);
    };
    Json out = Json::object();
    out.set("train", shard(options.output, report->train));
    if (options.validation_fraction > 0) out.set("validation", shard(options.validation, report->validation));
    std::printf("%s\n", out.dump().c_str());
    return {};
  }
  const auto print = [](const std::string& path, const ShardInfo& info) {
    std::printf("%s: %s tokens, %s documents, %s of text\n", path.c_str(), count_text(info.num_tokens).c_str(),
                count_text(info.num_documents).c_str(), bytes_text(info.text_bytes).c_str());
  };
  print(options.output, report->train);
  if (options.validation_fraction > 0) print(options.validation, report->validation);
  return {};
}

}  // namespace fathom::apps
