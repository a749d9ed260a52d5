// fathom tokenizer train | encode | decode.
#include "text/tokenizer.h"

#include <algorithm>
#include <charconv>
#include <cstdio>
#include <filesystem>

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

/// Reads files into the trainer; how far it is, in bytes of all files, is asked and told document by document.
class TrainingTexts {
 public:
  TrainingTexts(BpeTrainer& trainer, Progress& progress) : trainer_(trainer), progress_(progress) {}

  /// Whole for .txt, message by message for .jsonl.
  Status add(const std::vector<std::string>& paths) {
    for (const std::string& path : paths) {
      std::error_code ignored;  // reading it will say
      const auto bytes = std::filesystem::file_size(path, ignored);
      total_ += ignored ? 0 : static_cast<int64_t>(bytes);
    }
    for (const std::string& path : paths) {
      if (auto s = add_file(path); !s) return s;
    }
    return {};
  }

 private:
  Status add_file(const Path& path) {
    auto text = read_file(path);
    if (!text) return text.error();
    if (path.extension() == ".jsonl") return add_lines(path, *text);
    for (std::string_view document : split_documents(*text)) {
      if (auto s = trainer_.add(document); !s) return Error{s.error().code, path.string() + ": " + s.error().text};
      if (auto s = advance(document.size(), path); !s) return s;
    }
    return {};
  }

  Status add_lines(const Path& path, std::string_view text) {
    int64_t line_number = 0;
    for (size_t begin = 0; begin < text.size();) {
      const size_t end = std::min(text.find('\n', begin), text.size());
      const std::string_view line = text.substr(begin, end - begin);
      begin = end + 1;
      ++line_number;
      if (line.empty()) continue;
      const auto document = document_from_json_line(line, path.string() + " line " + std::to_string(line_number));
      if (!document) return document.error();
      if (!document->text.empty()) {
        if (auto s = trainer_.add(document->text); !s) return s;
      }
      for (const Message& message : document->messages) {
        if (auto s = trainer_.add(message.content); !s) return s;
      }
      if (auto s = advance(line.size(), path); !s) return s;
    }
    return {};
  }

  Status advance(size_t bytes, const Path& path) {
    done_ += static_cast<int64_t>(bytes);
    if (progress_.stop_requested()) return interrupted_error("reading " + path.string());
    progress_.update("reading", std::min(done_, total_), total_, path.string());
    return {};
  }

  BpeTrainer& trainer_;
  Progress& progress_;
  int64_t total_ = 0, done_ = 0;
};

}  // namespace

Status tokenizer_train(const TokenizerTrainOptions& options) {
  BpeTrainerOptions trainer_options;
  trainer_options.vocab_size = static_cast<int32_t>(options.vocab_size);
  trainer_options.special_tokens = kSpecialTokens;
  // One digit a token, so that a small model sees the columns of a number; DeepSeek-V3 itself takes three.
  if (options.split_digits) trainer_options.split_patterns[0] = "\\p{N}";
  auto trainer = BpeTrainer::create(trainer_options);
  if (!trainer) return trainer.error();
  ConsoleProgress progress(is_quiet(options.log_level));
  if (auto s = TrainingTexts(*trainer, progress).add(options.inputs); !s) return s;
  const auto spec = trainer->train(progress);
  if (!spec) return spec.error();
  if (spec->merges.empty() && std::ssize(spec->vocab) < options.vocab_size)
    return invalid("the text has no pair of bytes that occurs twice; nothing was learnt from it");
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
  if (options.json) {
    Json out = Json::object();
    out.set("output", options.output).set("tokens", std::ssize(spec->vocab)).set("merges", std::ssize(spec->merges));
    std::printf("%s\n", out.dump().c_str());
    return {};
  }
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
