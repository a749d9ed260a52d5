// Tokenizer and chat format of a model, from each place where models keep them.
#include "engine/model_text.h"

#include <gtest/gtest.h>

#include <fstream>
#include <string>

#include "gguf_builder.h"
#include "shared_data.h"
#include "text/byte_level.h"

namespace fathom {
namespace {

using testing::GgufBuilder;
using testing::TemporaryDirectory;

Path write(const TemporaryDirectory& dir, const std::string& name, const std::string& bytes) {
  std::ofstream(dir.path() / name, std::ios::binary) << bytes;
  return dir.path() / name;
}

/// A vocabulary of bytes, "ab", BOS and EOS.
GgufBuilder small_gguf() {
  std::vector<std::string> tokens;
  std::vector<int32_t> types;
  for (int b = 0; b < 256; ++b) tokens.push_back(to_byte_level(std::string(1, static_cast<char>(b))));
  tokens.emplace_back("ab");
  types.assign(tokens.size(), 1);
  tokens.emplace_back("<s>");
  tokens.emplace_back("</s>");
  types.insert(types.end(), {3, 3});
  GgufBuilder b;
  b.text("tokenizer.ggml.model", "gpt2").text("tokenizer.ggml.pre", "gpt-2").texts("tokenizer.ggml.tokens", tokens);
  b.integers("tokenizer.ggml.token_type", types).texts("tokenizer.ggml.merges", {"a b"});
  b.integer("tokenizer.ggml.bos_token_id", 257).integer("tokenizer.ggml.eos_token_id", 258);
  return b;
}

TEST(ModelText, OfAGgufFile) {
  const TemporaryDirectory dir;
  const Path path = write(
      dir, "m.gguf",
      small_gguf().text("tokenizer.chat_template", "{{ bos_token }}{{ messages[0].content }}{{ eos_token }}").build());
  for (const Path& model : {path, dir.path()}) {
    const auto tokenizer = load_tokenizer(model);
    ASSERT_TRUE(tokenizer) << tokenizer.error().text;
    EXPECT_EQ(*tokenizer->encode("cab</s>", AddedTokens::kParse), (std::vector<int32_t>{'c', 256, 258}));
    EXPECT_TRUE(tokenizer->is_special(257));
    EXPECT_EQ(tokenizer_path(model), path);
    const auto format = load_model_chat_format(model);
    ASSERT_TRUE(format) << format.error().text;
    EXPECT_EQ(format->bos_token, "<s>");
    EXPECT_EQ(format->eos_token, "</s>");
    const auto context =
        Json::parse(R"({"bos_token": "<s>", "eos_token": "</s>", "messages": [{"content": "hi"}]})", "c");
    EXPECT_EQ(*format->chat_template.render(*context), "<s>hi</s>");
  }
}

TEST(ModelText, GgufFilesThatLack) {
  const TemporaryDirectory dir;
  const Path path = write(dir, "m.gguf", small_gguf().build());
  EXPECT_EQ(load_model_chat_format(path).error().code, ErrorCode::kNotFound);
  const std::string at = path.string() + ": ";
  write(dir, "m.gguf", GgufBuilder().build());
  EXPECT_EQ(load_tokenizer(path).error().text, at + "metadata key \"tokenizer.ggml.model\" is missing");
  write(dir, "m.gguf", small_gguf().text("tokenizer.chat_template", "{% if %}").build());
  EXPECT_EQ(load_model_chat_format(path).error().text.rfind(at + "tokenizer.chat_template", 0), 0u);
  GgufBuilder wrong;
  wrong.text("tokenizer.chat_template", "x")
      .texts("tokenizer.ggml.tokens", {"a"})
      .integer("tokenizer.ggml.bos_token_id", 7);
  write(dir, "m.gguf", wrong.build());
  EXPECT_EQ(load_model_chat_format(path).error().text, at + "tokenizer.ggml.bos_token_id is 7, but there are 1 tokens");
}

TEST(ModelText, OfADirectoryTokenizerJsonThenTiktoken) {
  const TemporaryDirectory dir;
  EXPECT_EQ(load_tokenizer(dir.path()).error().code, ErrorCode::kNotFound);
  EXPECT_NE(load_tokenizer(dir.path()).error().text.find("tokenizer.json"), std::string::npos);
  write(dir, "tiktoken.model", "YQ== 0\nYg== 1\nYWI= 2\n");
  EXPECT_NE(load_tokenizer(dir.path()).error().text.find("tokenizer_config.json"), std::string::npos);
  write(dir, "tokenizer_config.json", R"({"added_tokens_decoder": {"3": {"content": "[BOS]"}}})");
  const auto tiktoken = load_tokenizer(dir.path());
  ASSERT_TRUE(tiktoken) << tiktoken.error().text;
  EXPECT_EQ(*tiktoken->encode("[BOS]abb", AddedTokens::kParse), (std::vector<int32_t>{3, 2, 1}));
  EXPECT_EQ(tokenizer_path(dir.path()), dir.path() / "tiktoken.model");
  write(dir, "tiktoken.model", "YQ== 0\nYg== 0\n");
  EXPECT_EQ(load_tokenizer(dir.path()).error().text.rfind((dir.path() / "tiktoken.model").string() + ": ", 0), 0u);
  // tokenizer.json is asked first, and its errors are final.
  write(dir, "tokenizer.json", "{}");
  EXPECT_EQ(load_tokenizer(dir.path()).error().text.rfind((dir.path() / "tokenizer.json").string() + ": ", 0), 0u);
  EXPECT_EQ(tokenizer_path(dir.path()), dir.path() / "tokenizer.json");
}

}  // namespace
}  // namespace fathom
