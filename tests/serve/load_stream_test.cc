// Streams as servers send them, cut anywhere, and streams that are none.
#include "serve/load_stream.h"

#include <gtest/gtest.h>

namespace fathom::serve {
namespace {

constexpr std::string_view kOpenAi =
    "data: {\"choices\":[{\"index\":0,\"text\":\"a\",\"finish_reason\":null}],\"usage\":null}\n\n"
    ": ping\n\n"
    "data: {\"choices\":[{\"index\":0,\"text\":\"bc\",\"finish_reason\":null}]}\n\n"
    "data: {\"choices\":[{\"index\":0,\"text\":\"\",\"finish_reason\":\"length\"}]}\n\n"
    "data: {\"choices\":[],\"usage\":{\"prompt_tokens\":7,\"completion_tokens\":3,"
    "\"prompt_tokens_details\":{\"cached_tokens\":4}}}\n\n"
    "data: [DONE]\n\n";

TEST(LoadStream, ReadsEventsCutAnywhere) {
  for (size_t piece = 1; piece < 40; piece += 3) {
    LoadStream stream;
    for (size_t at = 0; at < kOpenAi.size(); at += piece) ASSERT_TRUE(stream.push(kOpenAi.substr(at, piece)));
    EXPECT_EQ(stream.num_pieces(), 2);
    EXPECT_TRUE(stream.finished());
    EXPECT_EQ(stream.prompt_tokens(), 7);
    EXPECT_EQ(stream.output_tokens(), 3);
    EXPECT_EQ(stream.cached_tokens(), 4);
    EXPECT_FALSE(stream.error());
  }
}

TEST(LoadStream, ServersWithoutUsageAndWithTheirOwnShape) {
  LoadStream plain;
  ASSERT_TRUE(plain.push(
      "data: {\"choices\":[{\"text\":\"a\"}]}\r\n\r\ndata:{\"choices\":[{\"delta\":{\"content\":\"b\"}}]}\r\n"));
  EXPECT_EQ(plain.num_pieces(), 2);
  EXPECT_FALSE(plain.output_tokens());
  EXPECT_FALSE(plain.finished());
  LoadStream native;  // llama.cpp's /completion
  ASSERT_TRUE(
      native.push("data: {\"content\":\"a\",\"stop\":false,\"tokens_predicted\":1}\n\n"
                  "data: {\"content\":\"\",\"stop\":true,\"tokens_predicted\":5,\"tokens_evaluated\":9}\n\n"));
  EXPECT_EQ(native.num_pieces(), 1);
  EXPECT_TRUE(native.finished());
  EXPECT_EQ(native.output_tokens(), 5);
  EXPECT_EQ(native.prompt_tokens(), 9);
}

TEST(LoadStream, ErrorEventsAndWhatIsNoStream) {
  LoadStream failed;
  ASSERT_TRUE(failed.push("data: {\"error\":{\"message\":\"not\\na number\",\"code\":\"numeric_error\"}}\n\n"));
  EXPECT_EQ(failed.error(), "not a number");
  LoadStream garbage;
  EXPECT_FALSE(garbage.push("data: <html>\n"));
  EXPECT_NE(garbage.problem().find("<html>"), std::string::npos);
  LoadStream number;
  EXPECT_FALSE(number.push("data: 3\n"));
  LoadStream endless;
  const std::string part(LoadStream::kMostLineBytes / 4, 'x');
  for (int i = 0; i < 4; ++i) ASSERT_TRUE(endless.push(part));
  EXPECT_FALSE(endless.push("x")) << "memory is bounded";
}

TEST(LoadStream, MessagesOfRefusals) {
  EXPECT_EQ(error_message(R"({"error":{"message":"full","code":"queue_full"}})"), "full");
  EXPECT_EQ(error_message(R"({"error":"busy"})"), "busy");
  EXPECT_EQ(error_message("<html>\nno"), "<html> no");
  EXPECT_EQ(error_message(""), "");
}

}  // namespace
}  // namespace fathom::serve
