// The page's files: what they are answered with, and that none of them may load anything from elsewhere.
#include "serve/page.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <set>
#include <string>

namespace fathom::serve {
namespace {

HttpRequest get(std::string path, HttpHeaders headers = {{"Accept-Encoding", "br;q=1.0, gzip;q=0.8"}}) {
  HttpRequest request;
  request.method = "GET";
  request.target = std::move(path);
  request.headers = std::move(headers);
  return request;
}

std::string header(const HttpResponse& response, std::string_view name) {
  for (const auto& [key, value] : response.headers) {
    if (key == name) return value;
  }
  return "";
}

TEST(Page, IsHtmlThatMayLoadNothingFromElsewhere) {
  const HttpResponse page = page_response(get("/"));
  EXPECT_EQ(page.status, 200);
  EXPECT_EQ(page.content_type, "text/html; charset=utf-8");
  EXPECT_EQ(header(page, "Content-Encoding"), "") << "a plain curl can read it";
  EXPECT_TRUE(page.body.starts_with("<!doctype html>") || page.body.starts_with("<!DOCTYPE html>"))
      << page.body.substr(0, 40);
  const HttpResponse script = page_response(get("/assets/app.js"));
  EXPECT_EQ(header(script, "Content-Encoding"), "gzip");
  EXPECT_EQ(script.body.substr(0, 2), "\x1f\x8b");
  const std::string policy = header(page, "Content-Security-Policy");
  EXPECT_TRUE(policy.starts_with("default-src 'none'; script-src 'self'; "));
  EXPECT_EQ(policy.find("unsafe"), std::string::npos);
  EXPECT_EQ(policy.find('*'), std::string::npos);
  EXPECT_EQ(policy.find("http"), std::string::npos);
  EXPECT_EQ(header(page, "X-Content-Type-Options"), "nosniff");
  EXPECT_EQ(header(page, "Referrer-Policy"), "no-referrer");
}

TEST(Page, AssetsHaveOneNameEachAndAType) {
  std::set<std::string_view> paths, tags;
  for (const PageAsset& asset : page_assets()) {
    EXPECT_TRUE(paths.insert(asset.path).second) << asset.path;
    tags.insert(asset.etag);
    EXPECT_FALSE(asset.content_type.empty()) << asset.path;
    EXPECT_FALSE(asset.bytes.empty()) << asset.path;
    EXPECT_EQ(page_response(get(std::string(asset.path))).body.size(), asset.bytes.size());
  }
  EXPECT_EQ(tags.size(), paths.size());
  for (const char* path : {"/", "/assets/app.js", "/assets/style.css", "/assets/lib/purify.js", "/assets/lib/katex.css",
                           "/assets/lib/fonts/KaTeX_Main-Regular.woff2", "/licenses"}) {
    EXPECT_EQ(paths.count(path), 1u) << path;
  }
  EXPECT_EQ(page_response(get("/assets/app.js")).content_type, "text/javascript; charset=utf-8");
}

TEST(Page, IsNotSentTwiceToWhoHasIt) {
  const std::string etag = header(page_response(get("/")), "ETag");
  const HttpResponse again = page_response(get("/", {{"If-None-Match", "\"other\", W/" + etag}}));
  EXPECT_EQ(again.status, 304);
  EXPECT_TRUE(again.body.empty());
  EXPECT_EQ(header(again, "ETag"), etag);
  EXPECT_EQ(page_response(get("/", {{"If-None-Match", "\"x\""}, {"Accept-Encoding", "gzip"}})).status, 200);
}

TEST(Page, SaysWhenTheClientCannotHaveIt) {
  EXPECT_EQ(page_response(get("/assets/none.js")).status, 404);
  const std::string script = "/assets/app.js";
  EXPECT_EQ(page_response(get(script, {})).status, 200) << "RFC 9110, 12.5.3: any coding will do";
  EXPECT_EQ(page_response(get(script, {{"Accept-Encoding", ""}})).status, 406);
  EXPECT_EQ(page_response(get(script, {{"Accept-Encoding", "gzip;q=0, br"}})).status, 406);
  EXPECT_EQ(page_response(get(script, {{"Accept-Encoding", "*"}})).status, 200);
  // The page itself and fonts are not gzipped.
  EXPECT_EQ(page_response(get("/", {{"Accept-Encoding", ""}})).status, 200);
  EXPECT_EQ(page_response(get("/assets/lib/fonts/KaTeX_Main-Regular.woff2", {})).status, 200);
}

}  // namespace
}  // namespace fathom::serve
