#include "text/tokenizer_json.h"

#include <algorithm>
#include <initializer_list>
#include <limits>
#include <tuple>
#include <unordered_map>
#include <unordered_set>

#include "base/json.h"
#include "text/byte_level.h"
#include "text/utf8.h"

namespace fathom {
namespace {

std::string shown(const Json& value) {
  if (value.is_array() || value.is_object()) return "an " + std::string(value.kind());
  const std::string text = value.dump();
  return text.size() <= 80 ? text : std::string(utf8_prefix(text, 77)) + "...";
}

// One object of the file with its path, for errors that say "FILE: model.dropout is 0.1; accepted: null".
class Section {
 public:
  Section(const Json& json, std::string path, std::string_view where)
      : json_(&json), path_(std::move(path)), where_(where) {}

  Error bad(std::string_view key, std::string_view accepted) const {
    const Json* value = json_->find(key);
    return unsupported(std::string(where_) + ": " + name(key) + (value ? " is " + shown(*value) : " is missing") +
                       "; accepted: " + std::string(accepted));
  }

  /// The value itself must be an object with these keys and no others.
  Status expect_keys(std::initializer_list<std::string_view> keys) const {
    if (!json_->is_object()) {
      return unsupported(std::string(where_) + ": " + path_ + " is " + shown(*json_) + "; accepted: an object");
    }
    for (const auto& [key, value] : json_->members()) {
      if (std::find(keys.begin(), keys.end(), key) != keys.end()) continue;
      std::string accepted;
      for (std::string_view k : keys) accepted += (accepted.empty() ? "" : ", ") + std::string(k);
      return unsupported(std::string(where_) + ": " + name(std::string(utf8_prefix(key, 80))) +
                         " is not a known key; accepted: " + accepted);
    }
    return {};
  }

  const Json* find(std::string_view key) const { return json_->find(key); }
  /// The member, if it is there and not null.
  const Json* value(std::string_view key) const {
    const Json* found = json_->find(key);
    return found != nullptr && !found->is_null() ? found : nullptr;
  }
  Section section(const Json& json, std::string_view key) const { return {json, name(key), where_}; }
  std::string_view where() const { return where_; }

  Status expect_null(std::string_view key, bool or_empty = false) const {
    const Json* found = value(key);
    if (found == nullptr || (or_empty && found->is_string() && found->as_string().empty())) return {};
    return bad(key, or_empty ? "null, \"\"" : "null");
  }
  Status expect_text(std::string_view key, std::string_view text) const {
    const Json* found = value(key);
    if (found != nullptr && found->is_string() && found->as_string() == text) return {};
    return bad(key, std::string("\"").append(text).append("\""));
  }
  /// A boolean, or `otherwise` when the key is missing.
  Result<bool> flag(std::string_view key, bool otherwise) const {
    const Json* found = json_->find(key);
    if (found == nullptr) return otherwise;
    if (!found->is_bool()) return bad(key, "true, false");
    return found->as_bool();
  }
  Status expect_false(std::string_view key) const {
    const auto on = flag(key, false);
    if (!on || *on) return bad(key, "false");
    return {};
  }

 private:
  std::string name(std::string_view key) const {
    return path_.empty() ? std::string(key) : path_ + "." + std::string(key);
  }

  const Json* json_;
  std::string path_;
  std::string_view where_;
};

// The first of several checks that failed.
Status first_error(std::initializer_list<Status> checks) {
  for (const Status& check : checks) {
    if (!check) return check;
  }
  return {};
}

Status read_normalizer(const Section& file) {
  const Json* normalizer = file.value("normalizer");
  if (normalizer == nullptr) return {};
  const Section section = file.section(*normalizer, "normalizer");
  const Json* list = section.value("normalizers");
  if (list != nullptr && list->is_array() && list->items().empty() && section.expect_text("type", "Sequence")) {
    return section.expect_keys({"type", "normalizers"});
  }
  return file.bad("normalizer", "null, an empty Sequence");
}

Status read_byte_level(const Section& section, TokenizerSpec& spec) {
  if (auto s = first_error({section.expect_keys({"type", "add_prefix_space", "trim_offsets", "use_regex"}),
                            section.expect_text("type", "ByteLevel")});
      !s) {
    return s;
  }
  const auto prefix = section.flag("add_prefix_space", true);
  if (!prefix || *prefix) return section.bad("add_prefix_space", "false");
  const auto use_regex = section.flag("use_regex", true);
  if (!use_regex) return use_regex.error();
  if (*use_regex) spec.split_patterns.emplace_back(kGpt2SplitPattern);
  return {};
}

Status read_split(const Section& section, TokenizerSpec& spec) {
  if (auto s = first_error({section.expect_keys({"type", "pattern", "behavior", "invert"}),
                            section.expect_text("behavior", "Isolated"), section.expect_false("invert")});
      !s) {
    return s;
  }
  const Json* pattern = section.find("pattern");
  if (pattern == nullptr) return section.bad("pattern", "{\"Regex\": \"...\"}");
  const Section inner = section.section(*pattern, "pattern");
  if (auto s = inner.expect_keys({"Regex"}); !s) return s;
  const Json* regex = inner.find("Regex");
  if (regex == nullptr || !regex->is_string()) return inner.bad("Regex", "a string");
  spec.split_patterns.push_back(regex->as_string());
  return {};
}

Status read_pre_tokenizer(const Section& file, TokenizerSpec& spec) {
  const Json* json = file.value("pre_tokenizer");
  if (json == nullptr) return file.bad("pre_tokenizer", "ByteLevel, Sequence of Split and ByteLevel");
  const Section section = file.section(*json, "pre_tokenizer");
  if (!section.expect_text("type", "Sequence")) {
    if (auto s = section.expect_text("type", "ByteLevel"); !s)
      return section.bad("type", "\"ByteLevel\", \"Sequence\"");
    return read_byte_level(section, spec);
  }
  if (auto s = section.expect_keys({"type", "pretokenizers"}); !s) return s;
  const Json* list = section.value("pretokenizers");
  if (list == nullptr || !list->is_array() || list->items().empty()) {
    return section.bad("pretokenizers", "a list of Split that ends with ByteLevel");
  }
  for (size_t i = 0; i < list->items().size(); ++i) {
    const Section item = section.section(list->items()[i], "pretokenizers[" + std::to_string(i) + "]");
    const bool last = i + 1 == list->items().size();
    if (!last && !item.expect_text("type", "Split")) return item.bad("type", "\"Split\" (\"ByteLevel\" as the last)");
    if (last && !item.expect_text("type", "ByteLevel")) return item.bad("type", "\"ByteLevel\" as the last");
    if (auto s = last ? read_byte_level(item, spec) : read_split(item, spec); !s) return s;
  }
  return {};
}

// Post-processors add tokens around the text (BOS) or trim offsets; ids of the text itself do not depend on them.
Status read_outer_parts(const Section& file) {
  if (const Json* post = file.value("post_processor")) {
    const Section section = file.section(*post, "post_processor");
    if (!section.expect_text("type", "ByteLevel") && !section.expect_text("type", "TemplateProcessing")) {
      return section.bad("type", "\"ByteLevel\", \"TemplateProcessing\", or no post_processor");
    }
  }
  const Json* decoder = file.value("decoder");
  if (decoder == nullptr) return file.bad("decoder", "ByteLevel");
  const Section section = file.section(*decoder, "decoder");
  return first_error({section.expect_keys({"type", "add_prefix_space", "trim_offsets", "use_regex"}),
                      section.expect_text("type", "ByteLevel")});
}

Result<int32_t> read_id(const Json& json) {
  if (!json.is_int() || json.as_int() < 0 || json.as_int() > std::numeric_limits<int32_t>::max()) {
    return invalid("not an id");
  }
  return static_cast<int32_t>(json.as_int());
}

Status read_added_tokens(const Section& file, TokenizerSpec& spec) {
  const Json* list = file.value("added_tokens");
  if (list == nullptr) return {};
  if (!list->is_array()) return file.bad("added_tokens", "a list");
  for (size_t i = 0; i < list->items().size(); ++i) {
    const Section token = file.section(list->items()[i], "added_tokens[" + std::to_string(i) + "]");
    if (auto s = first_error(
            {token.expect_keys({"id", "content", "single_word", "lstrip", "rstrip", "normalized", "special"}),
             token.expect_false("single_word"), token.expect_false("lstrip"), token.expect_false("rstrip")});
        !s) {
      return s;
    }
    const Json* content = token.find("content");
    if (content == nullptr || !content->is_string()) return token.bad("content", "a string");
    const Json* json_id = token.find("id");
    const auto id = json_id != nullptr ? read_id(*json_id) : Result<int32_t>(invalid("missing"));
    if (!id) return token.bad("id", "an integer from 0 to 2147483647");
    const auto special = token.flag("special", false);
    if (!special) return special.error();
    const auto normalized = token.flag("normalized", !*special);
    if (!normalized) return normalized.error();
    spec.added_tokens.push_back({content->as_string(), *id, *special, *normalized});
  }
  return {};
}

using Ids = std::unordered_map<std::string_view, int32_t>;

Status read_vocab(const Section& model, Ids& ids, TokenizerSpec& spec) {
  const Json* vocab = model.value("vocab");
  if (vocab == nullptr || !vocab->is_object()) return model.bad("vocab", "an object of tokens and ids");
  // An added token stands for its own text, even if that could be read as bytes ("é" is also a name of byte 0xE9).
  std::unordered_set<std::string_view> added;
  for (const AddedToken& token : spec.added_tokens) added.insert(token.content);
  const Section entries = model.section(*vocab, "vocab");
  spec.vocab.reserve(vocab->members().size());
  ids.reserve(vocab->members().size());
  for (const auto& [text, value] : vocab->members()) {
    const auto id = read_id(value);
    if (!id) return entries.bad(text, "an integer from 0 to 2147483647");
    VocabEntry entry = vocab_entry(text, *id);
    if (entry.bytes != text && added.contains(text)) entry = {text, *id, true};
    spec.vocab.push_back(std::move(entry));
    ids.emplace(text, *id);
  }
  return {};
}

Status read_merges(const Section& model, const Ids& ids, TokenizerSpec& spec) {
  const Json* merges = model.value("merges");
  if (merges == nullptr || !merges->is_array()) return model.bad("merges", "a list of pairs");
  if (merges->items().size() > static_cast<size_t>(std::numeric_limits<int32_t>::max())) {
    return model.bad("merges", "fewer than 2147483648 pairs");
  }
  spec.merges.reserve(merges->items().size());
  int32_t rank = 0;
  for (const Json& merge : merges->items()) {
    const std::string place = std::string(model.where()) + ": model.merges[" + std::to_string(rank) + "] is ";
    std::string_view left, right;
    if (merge.is_string()) {
      const std::string_view text = merge.as_string();
      const size_t space = text.find(' ');
      if (space != std::string_view::npos && text.find(' ', space + 1) == std::string_view::npos) {
        left = text.substr(0, space);
        right = text.substr(space + 1);
      }
    } else if (merge.is_array() && merge.items().size() == 2 && merge.items()[0].is_string() &&
               merge.items()[1].is_string()) {
      left = merge.items()[0].as_string();
      right = merge.items()[1].as_string();
    }
    if (left.empty() || right.empty()) {
      return corrupt(place + shown(merge) + "; accepted: \"a b\", [\"a\", \"b\"]");
    }
    for (std::string_view part : {left, right}) {
      if (ids.contains(part)) continue;
      return corrupt(place + shown(merge) + ", but the vocabulary has no " + shown(Json(part)));
    }
    spec.merges.push_back({ids.at(left), ids.at(right), rank++});
  }
  return {};
}

Status read_model(const Section& file, TokenizerSpec& spec) {
  const Json* json = file.value("model");
  if (json == nullptr) return file.bad("model", "an object of type BPE");
  const Section model = file.section(*json, "model");
  if (auto s = first_error(
          {model.expect_text("type", "BPE"),
           model.expect_keys({"type", "dropout", "unk_token", "continuing_subword_prefix", "end_of_word_suffix",
                              "fuse_unk", "byte_fallback", "ignore_merges", "vocab", "merges"}),
           model.expect_null("dropout"), model.expect_null("unk_token"),
           model.expect_null("continuing_subword_prefix", true), model.expect_null("end_of_word_suffix", true),
           model.expect_false("byte_fallback")});
      !s) {
    return s;
  }
  if (const auto fuse = model.flag("fuse_unk", false); !fuse) return fuse.error();  // without unk_token it does nothing
  const auto ignore_merges = model.flag("ignore_merges", false);
  if (!ignore_merges) return ignore_merges.error();
  spec.ignore_merges = *ignore_merges;
  Ids ids;
  if (auto s = read_vocab(model, ids, spec); !s) return s;
  return read_merges(model, ids, spec);
}

Json byte_level_json(bool add_prefix_space) {
  Json json;
  json.set("type", "ByteLevel").set("add_prefix_space", add_prefix_space).set("trim_offsets", true);
  return json.set("use_regex", false);
}

Json pre_tokenizer_json(const TokenizerSpec& spec) {
  Json list = Json::array();
  for (const std::string& pattern : spec.split_patterns) {
    Json regex, split;
    regex.set("Regex", pattern);
    split.set("type", "Split").set("pattern", std::move(regex)).set("behavior", "Isolated").set("invert", false);
    list.push(std::move(split));
  }
  list.push(byte_level_json(false));
  Json json;
  json.set("type", "Sequence").set("pretokenizers", std::move(list));
  return json;
}

Json added_tokens_json(const TokenizerSpec& spec) {
  std::vector<AddedToken> tokens = spec.added_tokens;
  std::sort(tokens.begin(), tokens.end(), [](const AddedToken& a, const AddedToken& b) { return a.id < b.id; });
  Json list = Json::array();
  for (const AddedToken& token : tokens) {
    Json json;
    json.set("id", token.id).set("content", token.content).set("single_word", false).set("lstrip", false);
    json.set("rstrip", false).set("normalized", token.normalized).set("special", token.special);
    list.push(std::move(json));
  }
  return list;
}

Json model_json(const TokenizerSpec& spec) {
  std::vector<std::pair<int32_t, std::string>> rows;
  std::unordered_map<int32_t, std::string> names;
  for (const VocabEntry& entry : spec.vocab) {
    rows.emplace_back(entry.id, entry.literal ? entry.bytes : to_byte_level(entry.bytes));
    names.emplace(entry.id, rows.back().second);
  }
  for (const AddedToken& token : spec.added_tokens) {
    if (names.emplace(token.id, token.content).second) rows.emplace_back(token.id, token.content);
  }
  std::sort(rows.begin(), rows.end());
  // Built as an object, not with set(), which searches.
  Json::Object vocab;
  for (auto& [id, text] : rows) vocab.emplace_back(std::move(text), Json(id));

  std::vector<Merge> merges = spec.merges;
  std::sort(merges.begin(), merges.end(), [](const Merge& a, const Merge& b) {
    return std::tie(a.rank, a.left, a.right) < std::tie(b.rank, b.left, b.right);
  });
  Json::Array pairs;
  for (const Merge& merge : merges) pairs.emplace_back(names[merge.left] + " " + names[merge.right]);

  Json model;
  model.set("type", "BPE").set("dropout", nullptr).set("unk_token", nullptr).set("continuing_subword_prefix", nullptr);
  model.set("end_of_word_suffix", nullptr).set("fuse_unk", false).set("byte_fallback", false);
  model.set("ignore_merges", spec.ignore_merges).set("vocab", std::move(vocab)).set("merges", std::move(pairs));
  return model;
}

}  // namespace

VocabEntry vocab_entry(std::string_view text, int32_t id) {
  if (auto bytes = from_byte_level(text)) return {std::move(*bytes), id, false};
  return {std::string(text), id, true};
}

Result<TokenizerSpec> spec_from_tokenizer_json(std::string_view text, std::string_view where) {
  const auto json = Json::parse(text, where);
  if (!json) return json.error();
  const Section file(*json, "", where);
  TokenizerSpec spec;
  if (!json->is_object()) return unsupported(std::string(where) + " is " + shown(*json) + "; accepted: an object");
  if (auto s = first_error({file.expect_keys({"version", "truncation", "padding", "added_tokens", "normalizer",
                                              "pre_tokenizer", "post_processor", "decoder", "model"}),
                            file.expect_null("truncation"), file.expect_null("padding"), read_normalizer(file)});
      !s) {
    return s.error();
  }
  if (file.value("version") != nullptr && !file.expect_text("version", "1.0")) return file.bad("version", "\"1.0\"");
  if (auto s = read_pre_tokenizer(file, spec); !s) return s.error();
  if (auto s = read_outer_parts(file); !s) return s.error();
  if (auto s = read_added_tokens(file, spec); !s) return s.error();
  if (auto s = read_model(file, spec); !s) return s.error();
  return spec;
}

std::string to_tokenizer_json(const TokenizerSpec& spec) {
  Json json;
  json.set("version", "1.0").set("truncation", nullptr).set("padding", nullptr);
  json.set("added_tokens", added_tokens_json(spec)).set("normalizer", nullptr);
  json.set("pre_tokenizer", pre_tokenizer_json(spec)).set("post_processor", nullptr);
  json.set("decoder", byte_level_json(true)).set("model", model_json(spec));
  return json.dump(2) + "\n";
}

}  // namespace fathom
