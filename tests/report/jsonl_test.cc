// JSONL logs: append, reopen, torn last lines, and files that are no logs.
#include "report/jsonl.h"

#include <gtest/gtest.h>
#include <unistd.h>

namespace fathom {
namespace {

class Jsonl : public ::testing::Test {
 protected:
  Jsonl() : path_(Path(::testing::TempDir()) / ("fathom_jsonl_test_" + std::to_string(::getpid()) + ".jsonl")) {}
  ~Jsonl() override { std::filesystem::remove(path_); }
  void append(int step) {
    auto log = JsonlWriter::open(path_);
    ASSERT_TRUE(log) << log.error().text;
    ASSERT_TRUE(log->write(Json().set("step", step)));
    ASSERT_TRUE(log->sync());
  }
  Path path_;
};

TEST_F(Jsonl, AppendsAcrossReopens) {
  append(1);
  append(2);
  EXPECT_EQ(*read_file(path_), "{\"step\":1}\n{\"step\":2}\n");
  const auto log = read_jsonl(path_);
  ASSERT_TRUE(log);
  ASSERT_EQ(log->records.size(), 2u);
  EXPECT_EQ(log->records[1].find("step")->as_int(), 2);
  EXPECT_FALSE(log->torn);
}

TEST_F(Jsonl, ATornLastLineIsIgnoredOnReadAndCutOnReopen) {
  const std::string whole = "{\"step\":1}\n";
  const std::string record = "{\"step\":2,\"note\":\"" + std::string(9000, 'x') + "\"}";
  for (const size_t length : {size_t{1}, size_t{8}, size_t{5000}, record.size()}) {
    ASSERT_TRUE(write_file(path_, whole + record.substr(0, length)));
    const auto log = read_jsonl(path_);
    ASSERT_TRUE(log) << log.error().text;
    EXPECT_EQ(log->records.size(), 1u);
    EXPECT_TRUE(log->torn);
    append(3);
    EXPECT_EQ(*read_file(path_), whole + "{\"step\":3}\n");
  }
}

TEST_F(Jsonl, ATornFirstLineLeavesAnEmptyLog) {
  ASSERT_TRUE(write_file(path_, "{\"st"));
  append(1);
  EXPECT_EQ(*read_file(path_), "{\"step\":1}\n");
}

TEST_F(Jsonl, ABrokenWholeLineIsAnErrorWithItsNumber) {
  ASSERT_TRUE(write_file(path_, "{\"a\":1}\n{\"a\":}\n{\"a\":3}\n"));
  const auto log = read_jsonl(path_);
  ASSERT_FALSE(log);
  EXPECT_EQ(log.error().text.find(path_.string() + ":2: not valid JSON"), 0u) << log.error().text;
  ASSERT_TRUE(write_file(path_, "{\"a\":1}\n[2]\n"));
  const auto array = read_jsonl(path_);
  ASSERT_FALSE(array);
  EXPECT_EQ(array.error().text, path_.string() + ":2: a JSONL record is an object, not array");
}

TEST_F(Jsonl, AFileThatIsNoLogIsLeftAlone) {
  ASSERT_TRUE(write_file(path_, "my diary\nwithout an end"));
  const auto log = JsonlWriter::open(path_);
  ASSERT_FALSE(log);
  EXPECT_NE(log.error().text.find("is not a JSONL log"), std::string::npos);
  EXPECT_EQ(*read_file(path_), "my diary\nwithout an end");
}

TEST_F(Jsonl, OneWriterAtATime) {
  const auto first = JsonlWriter::open(path_);
  ASSERT_TRUE(first);
  const auto second = JsonlWriter::open(path_);
  ASSERT_FALSE(second);
  EXPECT_NE(second.error().text.find("being written by another process"), std::string::npos);
}

TEST_F(Jsonl, ErrorsNameThePath) {
  const auto log = JsonlWriter::open("/nonexistent/log.jsonl");
  ASSERT_FALSE(log);
  EXPECT_EQ(log.error().code, ErrorCode::kNotFound);
  EXPECT_NE(log.error().text.find("/nonexistent/log.jsonl"), std::string::npos);
  EXPECT_FALSE(read_jsonl("/nonexistent/log.jsonl"));
}

TEST_F(Jsonl, LineFeedsInsideStringsStayInsideTheLine) {
  {
    auto log = JsonlWriter::open(path_);
    ASSERT_TRUE(log);
    ASSERT_TRUE(log->write(Json().set("text", "a\nb")));
  }
  const auto log = read_jsonl(path_);
  ASSERT_TRUE(log);
  EXPECT_EQ(log->records[0].find("text")->as_string(), "a\nb");
}

}  // namespace
}  // namespace fathom
