// Chat templates as models ship them: every template and every vector of the shared folder, and how a model directory
// is read.
#include "text/chat_template.h"

#include <gtest/gtest.h>

#include <filesystem>

#include "base/file.h"

namespace fathom {
namespace {

Path shared_templates() { return Path(FATHOM_SHARED_DIR) / "data/templates"; }

class ChatTemplates : public ::testing::Test {
 protected:
  void SetUp() override {
    if (!std::filesystem::exists(shared_templates())) GTEST_SKIP() << "no shared folder: data/templates is missing";
  }
};

TEST_F(ChatTemplates, OfTheSharedFolderAllParse) {
  int count = 0;
  for (const auto& entry : std::filesystem::directory_iterator(shared_templates())) {
    if (entry.path().extension() != ".jinja") continue;
    const auto source = read_file(entry.path());
    ASSERT_TRUE(source);
    const auto parsed = ChatTemplate::parse(*source, entry.path().filename().string());
    EXPECT_TRUE(parsed) << parsed.error().text;
    ++count;
  }
  EXPECT_GE(count, 13);
}

TEST_F(ChatTemplates, ReproduceEveryVector) {
  const auto vectors = read_file(shared_templates() / "vectors.jsonl");
  ASSERT_TRUE(vectors) << vectors.error().text;
  int count = 0;
  for (size_t begin = 0; begin < vectors->size();) {
    const size_t end = std::min(vectors->find('\n', begin), vectors->size());
    const auto line = Json::parse(vectors->substr(begin, end - begin), "vectors.jsonl");
    ASSERT_TRUE(line) << line.error().text;
    begin = end + 1;
    const std::string& name = line->find("template")->as_string();
    const auto source = read_file(shared_templates() / name);
    ASSERT_TRUE(source) << source.error().text;
    const auto parsed = ChatTemplate::parse(*source, name);
    ASSERT_TRUE(parsed) << parsed.error().text;
    const auto text = parsed->render(*line->find("context"));
    ASSERT_TRUE(text) << line->find("case")->as_string() << ": " << text.error().text;
    EXPECT_EQ(*text, line->find("output")->as_string()) << name << ", " << line->find("case")->as_string();
    ++count;
  }
  EXPECT_GE(count, 119);
}

class ModelDirectory : public ::testing::Test {
 protected:
  void SetUp() override {
    dir_ = std::filesystem::temp_directory_path() /
           ("fathom_chat_" + std::string(testing::UnitTest::GetInstance()->current_test_info()->name()));
    std::filesystem::remove_all(dir_);
    std::filesystem::create_directories(dir_);
  }
  void TearDown() override { std::filesystem::remove_all(dir_); }

  void config(std::string_view text) { ASSERT_TRUE(write_file(dir_ / "tokenizer_config.json", text)); }
  std::string rendered() const {
    const auto format = load_chat_format(dir_);
    if (!format) return "ERROR " + format.error().text;
    Json context = Json::object();
    context.set("bos_token", format->bos_token);
    context.set("eos_token", format->eos_token);
    return *format->chat_template.render(context);
  }

  Path dir_;
};

TEST_F(ModelDirectory, GivesTheTemplateAndTheTokensOfTheConfig) {
  config(
      R"({"chat_template": "{{ bos_token }}x{{ eos_token }}", "bos_token": {"content": "<s>"}, "eos_token": "</s>"})");
  EXPECT_EQ(rendered(), "<s>x</s>");
  config(R"({"chat_template": "[{{ bos_token }}]", "bos_token": null})");
  EXPECT_EQ(rendered(), "[]");
}

TEST_F(ModelDirectory, TakesTheDefaultOfSeveralTemplates) {
  config(R"({"chat_template": [{"name": "rag", "template": "r"}, {"name": "default", "template": "d"}]})");
  EXPECT_EQ(rendered(), "d");
  config(R"({"chat_template": [{"name": "rag", "template": "r"}, {"name": "tool_use", "template": "d"}]})");
  EXPECT_TRUE(rendered().ends_with("chat_template has no entry named \"default\"; it has: rag, tool_use"));
}

TEST_F(ModelDirectory, PrefersTheFileBesideTheConfig) {
  config(R"({"chat_template": "config", "eos_token": "E"})");
  ASSERT_TRUE(write_file(dir_ / "chat_template.jinja", "file{{ eos_token }}\n"));
  EXPECT_EQ(rendered(), "fileE");
  std::filesystem::remove(dir_ / "tokenizer_config.json");
  EXPECT_EQ(rendered(), "file");
}

TEST_F(ModelDirectory, WithoutATemplateIsAnErrorThatSaysWhatToDo) {
  config(R"({"bos_token": "<s>"})");
  const auto none = load_chat_format(dir_);
  ASSERT_FALSE(none);
  EXPECT_EQ(none.error().code, ErrorCode::kNotFound);
  EXPECT_TRUE(none.error().text.find("chat_template.jinja") != std::string::npos);
  config(R"({"chat_template": 3})");
  EXPECT_TRUE(rendered().find("chat_template is a value of kind integer; accepted: ") != std::string::npos);
  config(R"({"chat_template": "", "bos_token": 3})");
  EXPECT_TRUE(rendered().find("bos_token is a value of kind integer; accepted: ") != std::string::npos);
}

TEST(ChatTemplate, TakesOnlyAnObjectAsContext) {
  const auto parsed = ChatTemplate::parse("x", "t");
  ASSERT_TRUE(parsed);
  const auto text = parsed->render(Json::array());
  ASSERT_FALSE(text);
  EXPECT_EQ(text.error().text, "t: the context of a chat template is a value of kind array; accepted: an object");
}

TEST(ChatTemplate, RefusesASourceAboveOneMebibyte) {
  EXPECT_FALSE(ChatTemplate::parse(std::string((1 << 20) + 1, 'x'), "t"));
  EXPECT_TRUE(ChatTemplate::parse(std::string(1 << 20, 'x'), "t"));
}

}  // namespace
}  // namespace fathom
