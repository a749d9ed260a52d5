// Framing of server-sent events.
#include "serve/stream.h"

#include <gtest/gtest.h>

namespace fathom::serve {
namespace {

TEST(SseEvent, EndsWithAnEmptyLine) {
  EXPECT_EQ(sse_event("{\"a\":1}"), "data: {\"a\":1}\n\n");
  EXPECT_EQ(sse_event(""), "data: \n\n");
  EXPECT_EQ(sse_done(), "data: [DONE]\n\n");
}

TEST(SseEvent, LineBreaksInTheDataForgeNothing) {
  EXPECT_EQ(sse_event("a\n\nevent: x"), "data: a\ndata: \ndata: event: x\n\n");
  EXPECT_EQ(sse_event("a\r\nb\rc"), "data: a\ndata: b\ndata: c\n\n");
}

}  // namespace
}  // namespace fathom::serve
