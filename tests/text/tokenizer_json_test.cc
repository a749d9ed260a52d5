#include "text/tokenizer_json.h"

#include <gtest/gtest.h>

#include "text/tokenizer.h"
#include "tokenizer_cases.h"

namespace fathom {
namespace {

// A whole tokenizer.json in small; the tests change one place of it at a time.
const char* const kSmall = R"({"version": "1.0", "truncation": null, "padding": null,
 "added_tokens": [{"id": 5, "content": "<s>", "single_word": false, "lstrip": false, "rstrip": false,
                   "normalized": false, "special": true}],
 "normalizer": {"type": "Sequence", "normalizers": []},
 "pre_tokenizer": {"type": "Sequence", "pretokenizers": [
   {"type": "Split", "pattern": {"Regex": "\\s+"}, "behavior": "Isolated", "invert": false},
   {"type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true, "use_regex": false}]},
 "post_processor": null, "decoder": {"type": "ByteLevel"},
 "model": {"type": "BPE", "dropout": null, "unk_token": null, "byte_fallback": false,
   "vocab": {"a": 0, "b": 1, "Ġ": 2, "ab": 3, "｜": 4, "é": 6}, "merges": ["a b"]}})";

std::string changed(std::string_view from, std::string_view to) {
  std::string text = kSmall;
  const size_t at = text.find(from);
  EXPECT_NE(at, std::string::npos) << from;
  return text.replace(at, from.size(), to);
}

std::string error_of(std::string_view text) {
  const auto spec = spec_from_tokenizer_json(text, "t.json");
  return spec ? "accepted" : spec.error().text;
}

TEST(TokenizerJson, ReadsEveryPart) {
  const auto spec = spec_from_tokenizer_json(kSmall, "t.json");
  ASSERT_TRUE(spec) << spec.error().text;
  EXPECT_EQ(spec->vocab,
            (std::vector<VocabEntry>{{"a", 0}, {"b", 1}, {" ", 2}, {"ab", 3}, {"｜", 4, true}, {"\xE9", 6}}));
  EXPECT_EQ(spec->merges, (std::vector<Merge>{{0, 1, 0}}));
  EXPECT_EQ(spec->split_patterns, std::vector<std::string>{"\\s+"});
  EXPECT_EQ(spec->added_tokens, (std::vector<AddedToken>{{"<s>", 5, true, false}}));
  const Tokenizer tokenizer = make_tokenizer(*spec);
  EXPECT_EQ(*tokenizer.encode("<s>ab aab", AddedTokens::kParse), (std::vector<int32_t>{5, 3, 2, 0, 3}));
}

TEST(TokenizerJson, ReadsTheOtherAcceptedForms) {
  for (const auto& [from, to] : std::vector<std::pair<const char*, const char*>>{
           {R"("a b")", R"(["a", "b"])"},
           {R"({"type": "Sequence", "normalizers": []})", "null"},
           {R"("post_processor": null)", R"("post_processor": {"type": "TemplateProcessing", "single": []})"},
           {R"("post_processor": null)", R"("post_processor": {"type": "ByteLevel", "trim_offsets": false})"},
           {R"("unk_token": null)", R"("continuing_subword_prefix": "", "fuse_unk": true)"},
           {R"("version": "1.0", )", ""}}) {
    const auto spec = spec_from_tokenizer_json(changed(from, to), "t.json");
    ASSERT_TRUE(spec) << spec.error().text;
    EXPECT_EQ(*spec, *spec_from_tokenizer_json(kSmall, "t.json")) << to;
  }
  const auto with_regex = spec_from_tokenizer_json(changed(R"("use_regex": false)", R"("use_regex": true)"), "t.json");
  ASSERT_TRUE(with_regex);
  EXPECT_EQ(with_regex->split_patterns, (std::vector<std::string>{"\\s+", std::string(kGpt2SplitPattern)}));
  EXPECT_TRUE(
      spec_from_tokenizer_json(changed(R"("dropout": null)", R"("ignore_merges": true)"), "t.json")->ignore_merges);
}

TEST(TokenizerJson, KeepsAddedTokensThatLookLikeBytesAsText) {
  std::string text = changed("\"<s>\"", "\"é\"");
  text.replace(text.find("\"id\": 5"), 7, "\"id\": 6");
  const auto spec = spec_from_tokenizer_json(text, "t.json");
  ASSERT_TRUE(spec) << spec.error().text;
  EXPECT_EQ(spec->vocab.back(), (VocabEntry{"é", 6, true}));
  const Tokenizer tokenizer = make_tokenizer(*spec);
  EXPECT_EQ(*tokenizer.decode(std::vector<int32_t>{6}), "é");
}

TEST(TokenizerJson, NamesTheKeyTheValueAndWhatIsAccepted) {
  const std::tuple<const char*, const char*, const char*> cases[] = {
      {R"("type": "BPE")", R"("type": "Unigram")", R"(t.json: model.type is "Unigram"; accepted: "BPE")"},
      {R"("dropout": null)", R"("dropout": 0.1)", "t.json: model.dropout is 0.1; accepted: null"},
      {R"("unk_token": null)", R"("unk_token": "<unk>")", R"(t.json: model.unk_token is "<unk>"; accepted: null)"},
      {R"("byte_fallback": false)", R"("byte_fallback": true)", "t.json: model.byte_fallback is true; accepted: false"},
      {R"("byte_fallback": false)", R"("fuse_unk": 1)", "t.json: model.fuse_unk is 1; accepted: true, false"},
      {R"("byte_fallback": false)", R"("end_of_word_suffix": "</w>")",
       R"(t.json: model.end_of_word_suffix is "</w>"; accepted: null, "")"},
      {R"(, "merges": ["a b"])", "", "t.json: model.merges is missing; accepted: a list of pairs"},
      {R"(["a b"])", R"(["a b c"])", R"(t.json: model.merges[0] is "a b c"; accepted: "a b", ["a", "b"])"},
      {R"(["a b"])", R"(["a b", "a"])", R"(t.json: model.merges[1] is "a"; accepted: "a b", ["a", "b"])"},
      {R"(["a b"])", R"(["a z"])", R"(t.json: model.merges[0] is "a z", but the vocabulary has no "z")"},
      {R"("a": 0)", R"("a": -1)", "t.json: model.vocab.a is -1; accepted: an integer from 0 to 2147483647"},
      {R"("a": 0)", R"("a": 4294967296)",
       "t.json: model.vocab.a is 4294967296; accepted: an integer from 0 to 2147483647"},
      {R"("a": 0)", R"("a": "0")", R"(t.json: model.vocab.a is "0"; accepted: an integer from 0 to 2147483647)"},
      {R"("padding": null)", R"("padding": {})", "t.json: padding is an object; accepted: null"},
      {R"("normalizers": [])", R"("normalizers": [{"type": "NFC"}])",
       "t.json: normalizer is an object; accepted: null, an empty Sequence"},
      {R"("behavior": "Isolated")", R"("behavior": "Removed")",
       R"(t.json: pre_tokenizer.pretokenizers[0].behavior is "Removed"; accepted: "Isolated")"},
      {R"("invert": false)", R"("invert": true)",
       "t.json: pre_tokenizer.pretokenizers[0].invert is true; accepted: false"},
      {R"({"Regex": "\\s+"})", R"({"String": " "})",
       "t.json: pre_tokenizer.pretokenizers[0].pattern.String is not a known key; accepted: Regex"},
      {R"("type": "Split")", R"("type": "Digits")",
       R"(t.json: pre_tokenizer.pretokenizers[0].type is "Digits"; accepted: "Split" ("ByteLevel" as the last))"},
      {R"("add_prefix_space": false)", R"("add_prefix_space": true)",
       "t.json: pre_tokenizer.pretokenizers[1].add_prefix_space is true; accepted: false"},
      {R"("post_processor": null)", R"("post_processor": {"type": "BertProcessing"})",
       R"(t.json: post_processor.type is "BertProcessing"; accepted: "ByteLevel", "TemplateProcessing", or no post_processor)"},
      {R"({"type": "ByteLevel"})", R"({"type": "WordPiece"})",
       R"(t.json: decoder.type is "WordPiece"; accepted: "ByteLevel")"},
      {R"("decoder": {"type": "ByteLevel"})", R"("decoder": null)", "t.json: decoder is null; accepted: ByteLevel"},
      {R"("lstrip": false)", R"("lstrip": true)", "t.json: added_tokens[0].lstrip is true; accepted: false"},
      {R"("single_word": false)", R"("singleword": false)",
       "t.json: added_tokens[0].singleword is not a known key; accepted: id, content, single_word, lstrip, rstrip, "
       "normalized, special"},
      {R"("content": "<s>")", R"("content": 3)", "t.json: added_tokens[0].content is 3; accepted: a string"},
      {R"("version": "1.0")", R"("version": "2.0")", R"(t.json: version is "2.0"; accepted: "1.0")"},
      {R"("version": "1.0")", R"("verson": "1.0")",
       "t.json: verson is not a known key; accepted: version, truncation, padding, added_tokens, normalizer, "
       "pre_tokenizer, post_processor, decoder, model"},
  };
  for (const auto& [from, to, text] : cases) EXPECT_EQ(error_of(changed(from, to)), text);
  EXPECT_EQ(error_of("[]"), "t.json is an array; accepted: an object");
  EXPECT_TRUE(error_of("{").starts_with("t.json: not valid JSON: "));
  EXPECT_EQ(error_of("{}"), "t.json: pre_tokenizer is missing; accepted: ByteLevel, Sequence of Split and ByteLevel");
}

TEST(TokenizerJson, EveryTruncationIsAnError) {
  const std::string text = kSmall;
  for (size_t size = 0; size < text.size(); ++size) EXPECT_NE(error_of(text.substr(0, size)), "accepted") << size;
}

TEST(TokenizerJson, WritesWhatItReads) {
  const TokenizerSpec spec = trained_spec(sample_text() + sample_text(), 380);
  const auto again = spec_from_tokenizer_json(to_tokenizer_json(spec), "written");
  ASSERT_TRUE(again) << again.error().text;
  EXPECT_EQ(*again, spec);
}

}  // namespace
}  // namespace fathom
