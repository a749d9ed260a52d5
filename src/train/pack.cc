// Reading documents out of files and packing them.
#include "train/pack.h"

#include <algorithm>
#include <optional>
#include <string>
#include <utility>

#include "base/check.h"

namespace fathom {
namespace {

constexpr std::string_view kSeparator = "<|endoftext|>";

Error with_place(const Error& error, const std::string& place) { return {error.code, place + ": " + error.text}; }

std::string_view without_carriage_return(std::string_view line) {
  return line.ends_with('\r') ? line.substr(0, line.size() - 1) : line;
}

bool is_separator(std::string_view line) { return without_carriage_return(line) == kSeparator; }

// Takes the next line off `text`, without its line feed.
std::string_view take_line(std::string_view& text) {
  const size_t end = text.find('\n');
  const std::string_view line = text.substr(0, end);
  text.remove_prefix(end == std::string_view::npos ? text.size() : end + 1);
  return line;
}

std::string_view without_outer_line_breaks(std::string_view text) {
  const size_t begin = text.find_first_not_of("\r\n");
  if (begin == std::string_view::npos) return {};
  return text.substr(begin, text.find_last_not_of("\r\n") - begin + 1);
}

// The first line start at or after the beginning of the last val_fraction of the text.
size_t line_cut(std::string_view text, double val_fraction) {
  const auto val_bytes = static_cast<size_t>(static_cast<double>(text.size()) * val_fraction);
  if (val_bytes == 0) return text.size();
  const size_t target = text.size() - val_bytes;
  if (target == 0) return 0;
  const size_t line_feed = text.find('\n', target - 1);
  return line_feed == std::string_view::npos ? text.size() : line_feed + 1;
}

// Tokens of one document, ready for a ShardWriter.
struct PackedDocument {
  std::vector<int32_t> tokens;
  std::vector<uint8_t> in_loss;
  int64_t text_bytes = 0;

  Status append(const Encoder& encode, std::string_view text, bool learn) {
    if (text.empty()) return {};
    const auto ids = encode(text);
    if (!ids) return ids.error();
    tokens.insert(tokens.end(), ids->begin(), ids->end());
    in_loss.resize(tokens.size(), learn ? 1 : 0);
    text_bytes += static_cast<int64_t>(text.size());
    return {};
  }
};

/// How far the packing is, in bytes of all files; asks the user now and then.
struct Journey {
  Progress& progress;
  int64_t num_bytes = 0;
  int64_t done = 0;

  Status advance(size_t bytes, const std::string& name) {
    done += static_cast<int64_t>(bytes);
    if (progress.stop_requested()) return cancelled("data pack was stopped; nothing was written");
    progress.update("packing", done, num_bytes, name);
    return {};
  }
};

class Packer {
 public:
  explicit Packer(const PackOptions& options) : options_(options) {}

  Status pack_text(std::string_view text, ShardWriter& writer) const {
    PackedDocument packed = begin_document();
    if (Status status = packed.append(options_.encode, text, true); !status) return status;
    return finish(std::move(packed), writer);
  }

  Status pack_chat(const std::vector<Message>& messages, ShardWriter& writer) const {
    const auto segments = options_.render(messages);
    if (!segments) return segments.error();
    PackedDocument packed = begin_document();
    for (const ChatSegment& segment : *segments) {
      const Encoder& encode = segment.is_markup ? options_.encode_markup : options_.encode;
      const bool learn = segment.in_loss || !options_.assistant_loss_only;
      if (Status status = packed.append(encode, segment.text, learn); !status) return status;
    }
    return finish(std::move(packed), writer);
  }

 private:
  PackedDocument begin_document() const { return {{options_.bos_id}, {0}, 0}; }  // nothing predicts BOS

  Status finish(PackedDocument packed, ShardWriter& writer) const {
    if (packed.tokens.size() == 1) return {};  // nothing but BOS: an empty document
    if (packed.tokens.back() != options_.eos_id) {
      packed.tokens.push_back(options_.eos_id);
      packed.in_loss.push_back(1);
    }
    return writer.add_document(packed.tokens, packed.in_loss, packed.text_bytes);
  }

  const PackOptions& options_;
};

Status pack_txt(const std::string& name, std::string_view text, const Packer& packer, ShardWriter& writer,
                Journey& journey) {
  for (std::string_view document : split_documents(text)) {
    if (Status status = packer.pack_text(document, writer); !status) {
      return with_place(status.error(), name);
    }
    if (Status status = journey.advance(document.size(), name); !status) return status;
  }
  return {};
}

Status pack_jsonl(const std::string& name, std::string_view text, int64_t& line_number, const Packer& packer,
                  ShardWriter& writer, Journey& journey) {
  while (!text.empty()) {
    const std::string_view line = without_carriage_return(take_line(text));
    ++line_number;
    if (Status status = journey.advance(line.size() + 1, name); !status) return status;
    if (line.find_first_not_of(" \t") == std::string_view::npos) continue;
    const std::string place = name + " line " + std::to_string(line_number);
    const auto document = document_from_json_line(line, place);
    if (!document) return document.error();
    const Status status =
        document->is_chat() ? packer.pack_chat(document->messages, writer) : packer.pack_text(document->text, writer);
    if (!status) return with_place(status.error(), place);
  }
  return {};
}

}  // namespace

std::vector<std::string_view> split_documents(std::string_view text) {
  std::vector<std::string_view> documents;
  const auto add = [&](std::string_view raw) {
    const std::string_view document = without_outer_line_breaks(raw);
    if (!document.empty()) documents.push_back(document);
  };
  const char* begin = text.data();
  while (!text.empty()) {
    const char* line_begin = text.data();
    if (!is_separator(take_line(text))) continue;
    add({begin, static_cast<size_t>(line_begin - begin)});
    begin = text.data();
  }
  add({begin, static_cast<size_t>(text.data() - begin)});
  return documents;
}

size_t validation_cut(std::string_view text, double val_fraction) {
  const size_t cut = line_cut(text, val_fraction);
  const std::string_view before = without_carriage_return(text.substr(0, cut > 0 ? cut - 1 : 0));
  if (before.substr(before.rfind('\n') + 1) == kSeparator) return cut;  // a document starts here
  // Cutting between documents is better, if that costs little of the validation part.
  const size_t limit = cut + (text.size() - cut) / 5;
  std::string_view rest = text.substr(cut);
  while (!rest.empty()) {
    const bool separator = is_separator(take_line(rest));
    const size_t line_start = text.size() - rest.size();
    if (line_start > limit) break;
    if (separator) return line_start;
  }
  return cut;
}

Result<PackReport> pack_files(std::span<const Path> inputs, const Path& train_path, const Path& val_path,
                              const PackOptions& options, Progress& progress) {
  check(options.encode && options.encode_markup && options.render, "packing has its encoders and its renderer");
  if (inputs.empty()) return invalid("data pack needs at least one input file (.txt or .jsonl)");
  if (!(options.val_fraction >= 0 && options.val_fraction <= 0.5)) {
    return invalid("val_fraction " + std::to_string(options.val_fraction) + " is not accepted: it must be 0 to 0.5");
  }
  if (options.vocab_size < 1 || options.vocab_size > int64_t{1} << 24) {
    return invalid("vocab_size " + std::to_string(options.vocab_size) + " is not accepted: it must be 1 to 16777216");
  }
  ShardWriter train(options.vocab_size, options.tokenizer_hash, options.assistant_loss_only);
  ShardWriter validation(options.vocab_size, options.tokenizer_hash, options.assistant_loss_only);
  const Packer packer(options);
  Journey journey{progress};
  for (const Path& input : inputs) {
    std::error_code unreadable;  // then opening it says so
    const auto size = std::filesystem::file_size(input, unreadable);
    if (!unreadable) journey.num_bytes += static_cast<int64_t>(size);
  }
  for (const Path& input : inputs) {
    const std::string name = input.string();
    const bool is_jsonl = input.extension() == ".jsonl";
    if (!is_jsonl && input.extension() != ".txt") {
      return invalid(name + ": file ending not accepted (accepted: .txt, .jsonl)");
    }
    const auto file = MappedFile::open(input);
    if (!file) return file.error();
    const auto bytes = file->bytes();
    const std::string_view text(reinterpret_cast<const char*>(bytes.data()), bytes.size());
    const size_t cut = is_jsonl ? line_cut(text, options.val_fraction) : validation_cut(text, options.val_fraction);
    int64_t line_number = 0;
    for (const bool is_train : {true, false}) {
      const std::string_view part = is_train ? text.substr(0, cut) : text.substr(cut);
      ShardWriter& writer = is_train ? train : validation;
      const Status status = is_jsonl ? pack_jsonl(name, part, line_number, packer, writer, journey)
                                     : pack_txt(name, part, packer, writer, journey);
      if (!status) return status.error();
    }
  }
  const bool validates = options.val_fraction > 0;
  if (validates && validation.info().num_documents == 0) {
    return invalid(val_path.string() +
                   ": the inputs are too small for a validation part; give more text or --validation-fraction 0");
  }
  // Both are written aside before one appears under its name.
  auto train_file = train.write_aside(train_path);
  if (!train_file) return train_file.error();
  std::optional<AtomicFile> val_file;
  if (validates) {
    auto file = validation.write_aside(val_path);
    if (!file) return file.error();
    val_file.emplace(*std::move(file));
  }
  if (Status status = train_file->commit(); !status) return status.error();
  if (val_file) {
    if (Status status = val_file->commit(); !status) return status.error();
  }
  return PackReport{train.info(), validates ? validation.info() : ShardInfo{}};
}

}  // namespace fathom
