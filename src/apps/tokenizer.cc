// fathom tokenizer train | encode | decode.
#include "text/tokenizer.h"

#include <charconv>
#include <cstdio>

#include "apps/console.h"
#include "apps/verbs.h"
#include "base/file.h"
#include "base/file_set.h"
#include "checkpoint/hf_hub.h"
#include "text/bpe_trainer.h"
#include "text/tokenizer_json.h"
#include "train/pack.h"

namespace fathom::apps {
namespace {

// DeepSeek-V3's special tokens at the ids where its own tokenizer has the first three.
const std::vector<std::string> kSpecialTokens = {"<｜begin▁of▁sentence｜>", "<｜end▁of▁sentence｜>", "<｜▁pad▁｜>",
                                                 "<｜User｜>", "<｜Assistant｜>"};

// The chat format of DeepSeek-V3 without tools, as train/document renders it.
constexpr std::string_view kChatTemplate =
    "{{ bos_token }}"
    "{% for message in messages %}"
    "{% if message['role'] == 'system' %}{{ message['content'] }}"
    "{% elif message['role'] == 'user' %}{{ '<｜User｜>' + message['content'] }}"
    "{% elif message['role'] == 'assistant' %}{{ '<｜Assistant｜>' + message['content'] + eos_token }}"
    "{% else %}{{ raise_exception('role ' + message['role'] + ' is unknown; accepted: system, user, assistant') }}"
    "{% endif %}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<｜Assistant｜>' }}{% endif %}";

/// The argument of encode and decode, or standard input in its place.
Result<std::string> text_of(const TokenizerCodeOptions& options) {
  return options.text.empty() ? read_standard_input() : options.text;
}

Result<Tokenizer> tokenizer_of(const std::string& model) {
  const auto dir = resolve_model_dir(model, HubEnvironment::of_process());
  if (!dir) return dir.error();
  return load_tokenizer(*dir);
}

/// Adds the texts of a file to the trainer: whole for .txt, message by message for .jsonl.
Status add_file(const Path& path, BpeTrainer& trainer) {
  auto text = read_file(path);
  if (!text) return text.error();
  if (path.extension() != ".jsonl") {
    for (std::string_view document : split_documents(*text)) {
      if (auto s = trainer.add(document); !s) return Error{s.error().code, path.string() + ": " + s.error().text};
    }
    return {};
  }
  int64_t line_number = 0;
  for (size_t begin = 0; begin < text->size();) {
    size_t end = text->find('\n', begin);
    if (end == std::string::npos) end = text->size();
    const std::string_view line = std::string_view(*text).substr(begin, end - begin);
    begin = end + 1;
    ++line_number;
    if (line.empty()) continue;
    const auto document = document_from_json_line(line, path.string() + " line " + std::to_string(line_number));
    if (!document) return document.error();
    if (!document->text.empty()) {
      if (auto s = trainer.add(document->text); !s) return s;
    }
    for (const Message& message : document->messages) {
      if (auto s = trainer.add(message.content); !s) return s;
    }
  }
  return {};
}

}  // namespace

Status tokenizer_train(const TokenizerTrainOptions& options) {
  BpeTrainerOptions trainer_options;
  trainer_options.vocab_size = static_cast<int32_t>(options.vocab_size);
  trainer_options.special_tokens = kSpecialTokens;
  // One digit a token, so that a small model sees the columns of a number; DeepSeek-V3 itself takes three.
  if (options.split_digits) trainer_options.split_patterns[0] = "\\p{N}";
  auto trainer = BpeTrainer::create(trainer_options);
  if (!trainer) return trainer.error();
  ConsoleProgress progress(false);
  for (size_t i = 0; i < options.inputs.size(); ++i) {
    progress.update("reading", static_cast<int64_t>(i), static_cast<int64_t>(options.inputs.size()), options.inputs[i]);
    if (auto s = add_file(options.inputs[i], *trainer); !s) return s;
    if (interrupted()) return interrupted_error("reading " + options.inputs[i]);
  }
  const auto spec = trainer->train(progress);
  if (!spec) return spec.error();
  progress.finish();
  const Path directory = options.output;
  if (auto s = make_directories(directory); !s) return s;
  Json config = Json::object();
  config.set("tokenizer_class", "PreTrainedTokenizerFast").set("add_bos_token", true).set("add_eos_token", false);
  config.set("bos_token", kSpecialTokens[0]).set("eos_token", kSpecialTokens[1]).set("pad_token", kSpecialTokens[2]);
  config.set("clean_up_tokenization_spaces", false).set("chat_template", kChatTemplate);
  const FileText files[] = {{directory / "tokenizer.json", to_tokenizer_json(*spec)},
                            {directory / "tokenizer_config.json", config.dump(2) + "\n"}};
  if (auto s = write_files(files); !s) return s;
  std::printf("%zu tokens (%zu merges) -> %s\n", spec->vocab.size(), spec->merges.size(),
              (directory / "tokenizer.json").c_str());
  return {};
}

Status tokenizer_encode(const TokenizerCodeOptions& options) {
  const auto tokenizer = tokenizer_of(options.model);
  if (!tokenizer) return tokenizer.error();
  const auto text = text_of(options);
  if (!text) return text.error();
  const auto ids = tokenizer->encode(*text, AddedTokens::kParse);
  if (!ids) return ids.error();
  Json list = Json::array();
  std::string line;
  for (int32_t id : *ids) {
    line += (line.empty() ? "" : " ") + std::to_string(id);
    list.push(int64_t{id});
  }
  std::printf("%s\n", options.json ? list.dump().c_str() : line.c_str());
  return {};
}

Status tokenizer_decode(const TokenizerCodeOptions& options) {
  const auto tokenizer = tokenizer_of(options.model);
  if (!tokenizer) return tokenizer.error();
  const auto text = text_of(options);
  if (!text) return text.error();
  std::vector<int32_t> ids;
  constexpr std::string_view kSeparators = " \t\r\n,[]";
  for (size_t at = text->find_first_not_of(kSeparators); at != std::string::npos;) {
    const size_t end = std::min(text->find_first_of(kSeparators, at), text->size());
    int32_t id = 0;
    const auto [stop, error] = std::from_chars(text->data() + at, text->data() + end, id);
    if (error != std::errc{} || stop != text->data() + end) {
      return invalid("\"" + text->substr(at, end - at) +
                     "\" is not a token id; give ids separated by blanks or commas");
    }
    ids.push_back(id);
    at = text->find_first_not_of(kSeparators, end);
  }
  const auto decoded = tokenizer->decode(ids);
  if (!decoded) return decoded.error();
  std::printf("%s\n", options.json ? Json(*decoded).dump().c_str() : decoded->c_str());
  return {};
}

}  // namespace fathom::apps
