// The request parser without a socket: cuts, limits, and shapes that two readers could understand differently.
#include "serve/http_request.h"

#include <gtest/gtest.h>

namespace fathom::serve {
namespace {

struct Outcome {
  std::optional<HttpRequest> request{};
  int status = 0;  // of a problem; 0: none
  size_t left = 0;
};

/// Feeds `text` in pieces, as a connection does.
Outcome read(std::string_view text, size_t piece, HttpLimits limits = {}) {
  RequestReader reader(limits);
  std::string buffer;
  for (size_t at = 0; at < text.size() || !buffer.empty();) {
    const std::string_view more = text.substr(at, piece);
    at += more.size();
    buffer += more;
    if (buffer.empty()) break;
    buffer.erase(0, reader.push(buffer));
    if (reader.problem()) return {.status = reader.problem()->status};
    if (reader.done()) return {.request = reader.take(), .left = buffer.size() + text.size() - at};
    if (more.empty()) break;
  }
  return {};
}

constexpr std::string_view kPost =
    "POST /v1/x?q=1 HTTP/1.1\r\nHost: h\r\nX-Thing: a b\r\nContent-Length: 5\r\n\r\nhello";

TEST(RequestReader, ReadsARequestWhateverTheCuts) {
  for (size_t piece = 1; piece <= kPost.size(); ++piece) {
    SCOPED_TRACE(piece);
    const Outcome out = read(std::string(kPost) + "GET /", piece);
    ASSERT_TRUE(out.request);
    EXPECT_EQ(out.request->method, "POST");
    EXPECT_EQ(out.request->target, "/v1/x?q=1");
    EXPECT_EQ(out.request->path(), "/v1/x");
    EXPECT_EQ(out.request->body, "hello");
    EXPECT_TRUE(out.request->keep_alive);
    ASSERT_NE(out.request->header("x-thing"), nullptr);
    EXPECT_EQ(*out.request->header("X-THING"), "a b");
    EXPECT_EQ(out.request->header("missing"), nullptr);
    EXPECT_EQ(out.left, 5u) << "the next request is not touched";
  }
}

TEST(RequestReader, ReadsTheAbsoluteForm) {
  const auto target = [](std::string_view written) {
    const Outcome out = read("GET " + std::string(written) + " HTTP/1.1\r\nHost: h\r\n\r\n", 1000);
    return out.request ? out.request->target : "";
  };
  EXPECT_EQ(target("http://h:80/health?x=1"), "/health?x=1");
  EXPECT_EQ(target("https://h"), "/");
  EXPECT_EQ(target("http://h?x=1"), "/?x=1");
  EXPECT_EQ(target("/a?u=http://h/b"), "/a?u=http://h/b");
}

TEST(RequestReader, ReadsChunks) {
  const std::string text =
      "POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\nA;x=y\r\n0123456789\r\n0\r\n\r\n";
  for (size_t piece = 1; piece <= text.size(); ++piece) {
    const Outcome out = read(text, piece);
    ASSERT_TRUE(out.request) << piece;
    EXPECT_EQ(out.request->body, "abc0123456789");
  }
}

TEST(RequestReader, TrailersAreNoHeaders) {
  const std::string trailer = "0\r\nHost: h\r\nAuthorization: Bearer x\r\n\r\n";
  const std::string good = "POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n" + trailer;
  const std::string no_host = "POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n" + trailer;
  for (const size_t piece : {size_t{1}, size_t{10}, good.size()}) {
    const Outcome out = read(good, piece);
    ASSERT_TRUE(out.request) << piece;
    EXPECT_EQ(out.request->header("Authorization"), nullptr);
    EXPECT_EQ(read(no_host, piece).status, 400) << piece;
  }
}

TEST(RequestReader, KnowsWhenAConnectionEnds) {
  EXPECT_FALSE(read("GET / HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n", 1000).request->keep_alive);
  const auto old = read("GET / HTTP/1.0\r\n\r\n", 1000).request;
  ASSERT_TRUE(old);
  EXPECT_FALSE(old->keep_alive);
  EXPECT_TRUE(old->http_1_0);
}

TEST(RequestReader, RefusesAmbiguousShapes) {
  const std::string start = "POST / HTTP/1.1\r\nHost: h\r\n";
  const std::vector<std::pair<std::string, int>> cases = {
      {start + "Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 400},
      {start + "Transfer-Encoding: chunked\r\nContent-Length: 5\r\n\r\n0\r\n\r\n", 400},
      {start + "Content-Length: 5\r\nContent-Length: 6\r\n\r\nhello!", 400},
      {start + "Content-Length: 5\r\nContent-Length: 5\r\n\r\nhello", 400},
      {start + "Content-Length: 5, 5\r\n\r\nhello", 400},
      {start + "Content-Length: -5\r\n\r\nhello", 400},
      {start + "Content-Length: +5\r\n\r\nhello", 400},
      {start + "Content-Length: 0x5\r\n\r\nhello", 400},
      {start + "Content-Length: 99999999999999999999999\r\n\r\nhello", 400},
      {start + "Content-Length : 5\r\n\r\nhello", 400},
      {start + "X: a\r\n b\r\nContent-Length: 5\r\n\r\nhello", 400},
      {start + "Transfer-Encoding:\r\n\tchunked\r\n\r\n0\r\n\r\n", 400},
      {start + "Transfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n", 501},
      {start + "Transfer-Encoding: identity\r\n\r\nhello", 501},
      {start + "Transfer-Encoding: xchunked\r\n\r\n0\r\n\r\n", 501},
      {"POST / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 400},
      {start + "Transfer-Encoding: chunked\r\n\r\nzz\r\nabc\r\n", 400},
      {start + "Transfer-Encoding: chunked\r\n\r\n3\r\nabcd\r\n0\r\n\r\n", 400},
      {start + "Transfer-Encoding: chunked\r\n\r\nfffffffffffffffff\r\nabc", 400},
      {"GET / HTTP/1.1\r\n\r\n", 400},
      {"GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n", 400},
      {"GET / HTTP/1.1\r\nHost: a\r\nX: a\x01\r\n\r\n", 400},
      {"GET / HTTP/1.1\r\nHost: a\r\nBad header: a\r\n\r\n", 400},
      {"GET / HTTP/2.0\r\nHost: a\r\n\r\n", 400},
      {"GET /\r\nHost: a\r\n\r\n", 400},
      {"\x16\x03\x01\x02", 400},
      {"hello\r\n\r\n", 400},
  };
  for (const auto& [text, status] : cases) {
    for (const size_t piece : {size_t{1}, size_t{7}, text.size()}) {
      const Outcome out = read(text, piece);
      EXPECT_EQ(out.status, status) << text << " in pieces of " << piece;
    }
  }
}

TEST(RequestReader, KeepsItsLimits) {
  const HttpLimits limits{.max_header_bytes = 1000, .max_body_bytes = 100};
  const std::string start = "POST / HTTP/1.1\r\nHost: h\r\n";
  EXPECT_EQ(read(start + "X: " + std::string(2000, 'a') + "\r\n\r\n", 100, limits).status, 431);
  EXPECT_EQ(read("GET /" + std::string(2000, 'a'), 2100, limits).status, 431);
  std::string many = start;
  for (int i = 0; i < 200; ++i) many += "X: a\r\n";
  EXPECT_EQ(read(many + "\r\n", 50, limits).status, 431);
  // Just below and just above, in whatever pieces.
  std::string fields;
  while (start.size() + fields.size() + 6 + 2 <= 1000) fields += "X: a\r\n";
  for (const size_t piece : {1, 7, 300, 4000}) {
    EXPECT_TRUE(read(start + fields + "Content-Length: 0\r\n\r\n", piece, {.max_header_bytes = 1024}).request) << piece;
    EXPECT_EQ(read(start + fields + fields + "\r\n", piece, limits).status, 431) << piece;
    EXPECT_EQ(read(start + fields + "X: abcdefg\r\n\r\n", piece, limits).status, 431) << piece;
  }
  EXPECT_EQ(read(start + "Content-Length: 101\r\n\r\n", 1000, limits).status, 413) << "before any byte of it";
  EXPECT_EQ(
      read(start + "Transfer-Encoding: chunked\r\n\r\n65\r\n" + std::string(101, 'a') + "\r\n0\r\n\r\n", 1000, limits)
          .status,
      413);
  EXPECT_TRUE(read(start + "Content-Length: 100\r\n\r\n" + std::string(100, 'a'), 30, limits).request);
}

TEST(RequestReader, SeesWhoWaitsForContinue) {
  RequestReader reader({});
  reader.push("POST / HTTP/1.1\r\nHost: h\r\nExpect: 100-Continue\r\nContent-Length: 5\r\n\r\n");
  EXPECT_TRUE(reader.header_done());
  EXPECT_FALSE(reader.done());
  EXPECT_TRUE(reader.expects_continue());
}

TEST(ReasonPhrase, KnowsTheStatusesOfTheApi) {
  EXPECT_EQ(reason_phrase(200), "OK");
  EXPECT_EQ(reason_phrase(429), "Too Many Requests");
}

}  // namespace
}  // namespace fathom::serve
