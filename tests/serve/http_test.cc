// The HTTP server under an echo: connections, limits in time and memory, TLS, the quiet end.
#include "serve/http.h"

#include <openssl/evp.h>
#include <openssl/pem.h>
#include <openssl/ssl.h>
#include <openssl/x509.h>

#include <atomic>
#include <mutex>
#include <set>

#include "client.h"
#include "shared_data.h"

namespace fathom::serve {
namespace {

using fathom::testing::Client;
using fathom::testing::eventually;
using fathom::testing::Response;
using fathom::testing::TemporaryDirectory;

class HttpTest : public ::testing::Test {
 protected:
  HttpTest() { options_.port = 0; }
  ~HttpTest() override {
    if (server_) server_->stop();
  }

  void start() {
    auto started = HttpServer::start(
        options_, {.handle = [this](std::shared_ptr<Exchange> exchange) { handle(std::move(exchange)); },
                   .refuse =
                       [](const HttpProblem& problem) {
                         return HttpResponse{.status = problem.status, .headers = {}, .body = problem.text};
                       },
                   .dropped =
                       [this](std::string_view why) {
                         const std::lock_guard lock(mutex_);
                         dropped_.insert(std::string(why));
                       }});
    ASSERT_TRUE(started) << started.error().text;
    server_ = std::move(*started);
  }
  /// /echo answers the body; /hold waits for release(); /flood streams until the client goes.
  void handle(std::shared_ptr<Exchange> exchange) {
    const HttpRequest& request = exchange->request();
    if (request.path() == "/hold") {
      exchange->on_gone([this] { ++gone_; });
      held_ = exchange;
      holding_ = true;
    } else if (request.path() == "/flood") {
      exchange->on_gone([this] { ++gone_; });
      exchange->begin_stream({.content_type = "text/plain", .headers = {}, .body = {}});
      flood(exchange);
    } else if (request.path() == "/stream") {
      exchange->begin_stream({.content_type = "text/plain", .headers = {}, .body = "a"});
      exchange->send("bc");
      exchange->end();
    } else {
      exchange->respond({.content_type = "text/plain", .headers = {{"X-Y", "z"}}, .body = request.body});
    }
  }
  void flood(const std::shared_ptr<Exchange>& exchange) {
    if (gone_ > 0) return;
    exchange->send(std::string(1000, 'x'));
    exchange->post([this, exchange] { flood(exchange); });
  }
  void release() {
    server_->post([this] {
      held_->respond({.content_type = "text/plain", .headers = {}, .body = "released"});
      held_.reset();
    });
  }
  bool dropped(const std::string& why) {
    const std::lock_guard lock(mutex_);
    return dropped_.contains(why);
  }

  HttpOptions options_;
  std::unique_ptr<HttpServer> server_;
  std::shared_ptr<Exchange> held_;
  std::atomic<bool> holding_{false};
  std::atomic<int> gone_{0};
  std::mutex mutex_;
  std::set<std::string> dropped_;
};

TEST_F(HttpTest, AnswersRequestsOfOneConnectionInOrder) {
  start();
  Client client(server_->port());
  for (const char* body : {"one", "", "three"}) {
    const Response response = client.ask("POST", "/echo", body);
    EXPECT_EQ(response.status, 200);
    EXPECT_EQ(response.body, body);
    EXPECT_EQ(response.headers.at("x-y"), "z");
    EXPECT_EQ(response.headers.at("connection"), "keep-alive");
  }
}

TEST_F(HttpTest, AnswersPipelinedRequestsInOrder) {
  start();
  Client client(server_->port());
  std::string all;
  for (int i = 0; i < 50; ++i) {
    const std::string body = "body " + std::to_string(i);
    all += "POST /echo HTTP/1.1\r\nHost: h\r\nContent-Length: " + std::to_string(body.size()) + "\r\n\r\n" + body;
  }
  ASSERT_TRUE(client.send(all));
  for (int i = 0; i < 50; ++i) EXPECT_EQ(client.response().body, "body " + std::to_string(i));
}

TEST_F(HttpTest, KeepsAPipelinedRequestWhileAnAnswerIsMade) {
  start();
  Client client(server_->port());
  ASSERT_TRUE(client.request("GET", "/hold"));
  ASSERT_TRUE(client.request("POST", "/echo", "second"));
  ASSERT_TRUE(eventually([&] { return holding_.load(); }));
  release();
  EXPECT_EQ(client.response().body, "released");
  EXPECT_EQ(client.response().body, "second");
}

TEST_F(HttpTest, ClosesWhenAsked) {
  start();
  Client client(server_->port());
  const Response response = client.ask("POST", "/echo", "x", "Connection: close\r\n");
  EXPECT_EQ(response.headers.at("connection"), "close");
  EXPECT_TRUE(client.ends());
}

TEST_F(HttpTest, SpeaksHttp10) {
  start();
  Client client(server_->port());
  ASSERT_TRUE(client.send("GET /stream HTTP/1.0\r\n\r\n"));
  const Response response = client.response();
  EXPECT_EQ(response.body, "abc");
  EXPECT_FALSE(response.headers.contains("transfer-encoding"));
}

TEST_F(HttpTest, StreamsInChunksAndGoesOn) {
  start();
  Client client(server_->port());
  const Response response = client.ask("GET", "/stream");
  EXPECT_EQ(response.headers.at("transfer-encoding"), "chunked");
  EXPECT_EQ(response.body, "abc");
  EXPECT_EQ(client.ask("POST", "/echo", "next").body, "next");
}

TEST_F(HttpTest, AHeadHasNoBody) {
  start();
  Client client(server_->port());
  ASSERT_TRUE(client.send("HEAD / HTTP/1.1\r\nHost: h\r\n\r\nGET /echo HTTP/1.1\r\nHost: h\r\n\r\n"));
  ASSERT_TRUE(client.read_until("\r\n\r\nHTTP/1.1 200 OK"));
}

TEST_F(HttpTest, SaysContinueToWhoWaits) {
  start();
  Client client(server_->port());
  ASSERT_TRUE(client.send("POST /echo HTTP/1.1\r\nHost: h\r\nExpect: 100-continue\r\nContent-Length: 5\r\n\r\n"));
  EXPECT_EQ(client.response().status, 100);
  ASSERT_TRUE(client.send("hello"));
  EXPECT_EQ(client.response().body, "hello");
}

TEST_F(HttpTest, RefusesAndCloses) {
  options_.limits.max_body_bytes = 1000;
  start();
  const std::vector<std::pair<std::string, int>> cases = {
      {"POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 400},
      {"POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 100000000\r\n\r\n", 413},
      {"GET / HTTP/1.1\r\nHost: h\r\nX: " + std::string(100000, 'a') + "\r\n\r\n", 431},
      {"\x16\x03\x01 not TLS", 400},
  };
  for (const auto& [text, status] : cases) {
    Client client(server_->port());
    client.send(text);
    EXPECT_EQ(client.response().status, status) << text.substr(0, 100);
    EXPECT_TRUE(client.ends());
  }
}

TEST_F(HttpTest, LetsAClientThatSendsTooMuchReadWhy) {
  options_.limits.max_body_bytes = 1000;
  start();
  Client client(server_->port());
  client.send("POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 20000000\r\n\r\n");
  client.send(std::string(20'000'000, 'x'));
  EXPECT_EQ(client.response().status, 413);
}

TEST_F(HttpTest, NoticesAClientThatLeaves) {
  start();
  Client client(server_->port());
  client.request("GET", "/hold");
  ASSERT_TRUE(eventually([&] { return holding_.load(); }));
  client.close();
  EXPECT_TRUE(eventually([&] { return gone_ == 1 && server_->num_connections() == 0; }));
  release();  // into the void
}

TEST_F(HttpTest, AnswersAClientThatOnlyStoppedSending) {
  start();
  Client client(server_->port());
  client.request("POST", "/echo", "half");
  client.end_sending();
  EXPECT_EQ(client.response().body, "half");
  EXPECT_TRUE(client.ends());
}

TEST_F(HttpTest, NoticesAClientThatVanishedWithoutAWord) {
  options_.keepalive_s = 1;
  start();
  Client client(server_->port());
  client.request("GET", "/hold");
  ASSERT_TRUE(eventually([&] { return holding_.load(); }));
  if (!client.vanish()) GTEST_SKIP() << "TCP_REPAIR is not permitted here";
  EXPECT_TRUE(eventually([&] { return gone_ == 1 && server_->num_connections() == 0; }));
}

TEST_F(HttpTest, AsksSilentClientsWhetherTheyAreThere) {
  options_.keepalive_s = 9;
  options_.write_timeout_ms = 7000;
  start();
  Client client(server_->port());
  client.request("GET", "/hold");
  ASSERT_TRUE(eventually([&] { return holding_.load(); }));
  bool found = false;
  for (int fd = 0; fd < 1024; ++fd) {  // the server's end of the connection
    if (!client.is_peer_of(fd)) continue;
    found = true;
    const auto option = [&](int level, int name) {
      int value = -1;
      socklen_t size = sizeof(value);
      EXPECT_EQ(::getsockopt(fd, level, name, &value, &size), 0);
      return value;
    };
    EXPECT_EQ(option(SOL_SOCKET, SO_KEEPALIVE), 1);
    EXPECT_EQ(option(IPPROTO_TCP, TCP_KEEPIDLE), 9);
    EXPECT_EQ(option(IPPROTO_TCP, TCP_KEEPINTVL) * option(IPPROTO_TCP, TCP_KEEPCNT), 9);
    EXPECT_EQ(option(IPPROTO_TCP, TCP_USER_TIMEOUT), 7000);
  }
  EXPECT_TRUE(found);
  release();
}

TEST_F(HttpTest, DropsWhoReadsTooSlowlyAndNobodyElse) {
  options_.max_buffered_bytes = 64 << 10;
  options_.send_buffer_bytes = 8 << 10;
  start();
  Client slow(server_->port(), 4096);
  ASSERT_TRUE(slow.request("GET", "/flood"));
  ASSERT_TRUE(slow.read_until("200 OK"));
  EXPECT_TRUE(eventually([&] { return dropped("buffer") && gone_ == 1; }));
  Client other(server_->port());
  EXPECT_EQ(other.ask("POST", "/echo", "x").body, "x");
}

TEST_F(HttpTest, DropsWhoDoesNotReadAtAll) {
  options_.write_timeout_ms = 50;
  options_.send_buffer_bytes = 8 << 10;
  options_.max_buffered_bytes = int64_t{1} << 30;
  start();
  Client client(server_->port(), 4096);
  ASSERT_TRUE(client.request("POST", "/echo", std::string(4 << 20, 'x')));
  EXPECT_TRUE(eventually([&] { return dropped("slow_reader"); }));
}

TEST_F(HttpTest, DropsWhoDoesNotFinishARequest) {
  options_.header_timeout_ms = options_.body_timeout_ms = 50;
  start();
  Client header(server_->port()), body(server_->port());
  header.send("GET / HT");
  EXPECT_TRUE(header.ends());
  EXPECT_TRUE(dropped("timeout"));
  body.send("POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 10\r\n\r\nabc");
  EXPECT_TRUE(body.ends());
}

TEST_F(HttpTest, ClosesIdleConnectionsSilently) {
  options_.idle_timeout_ms = 50;
  start();
  Client client(server_->port());
  EXPECT_TRUE(client.ends());
  EXPECT_FALSE(dropped("timeout"));
}

TEST_F(HttpTest, RefusesMoreConnectionsThanItsMost) {
  options_.max_connections = 2;
  start();
  Client first(server_->port()), second(server_->port());
  EXPECT_EQ(first.ask("POST", "/echo", "1").status, 200);
  EXPECT_EQ(second.ask("POST", "/echo", "2").status, 200);
  {
    Client third(server_->port());
    EXPECT_EQ(third.response().status, 503);
  }
  first.close();
  ASSERT_TRUE(eventually([&] { return server_->num_connections() == 1; }));
  Client fourth(server_->port());
  EXPECT_EQ(fourth.ask("POST", "/echo", "4").status, 200);
}

TEST_F(HttpTest, DrainingFinishesAnswersAndTakesNothingNew) {
  start();
  Client idle(server_->port()), busy(server_->port()), unused(server_->port()), never(server_->port());
  ASSERT_EQ(idle.ask("POST", "/echo", "x").status, 200);
  busy.request("GET", "/hold");
  ASSERT_TRUE(eventually([&] { return holding_.load() && server_->num_connections() == 4; }));
  server_->drain();
  EXPECT_TRUE(idle.ends());
  EXPECT_EQ(unused.ask("POST", "/echo", "z").body, "z") << "its request may have been on the way";
  EXPECT_FALSE(server_->wait_drained(1)) << "an answer is still missing";
  {
    Client probe(server_->port()), silent(server_->port());
    const Response late = probe.ask("POST", "/echo", "y");
    EXPECT_EQ(late.body, "y") << "who asks now hears something, once";
    EXPECT_EQ(late.headers.at("connection"), "close");
    EXPECT_TRUE(silent.connected());
  }
  release();
  const Response response = busy.response();
  EXPECT_EQ(response.body, "released");
  EXPECT_EQ(response.headers.at("connection"), "close");
  busy.close();
  Client silent(server_->port());
  EXPECT_TRUE(server_->wait_drained(60'000)) << "which does not wait for later ones";
}

TEST_F(HttpTest, StopsInTheMiddleOfAnswers) {
  start();
  Client client(server_->port());
  client.request("GET", "/hold");
  ASSERT_TRUE(eventually([&] { return holding_.load(); }));
  server_->stop();
  held_.reset();
  server_.reset();
  EXPECT_EQ(client.response().status, 0);
}

TEST_F(HttpTest, SaysWhyItCannotListen) {
  start();
  HttpOptions taken = options_;
  taken.port = server_->port();
  const auto again = HttpServer::start(taken, {});
  ASSERT_FALSE(again);
  EXPECT_NE(again.error().text.find(std::to_string(taken.port)), std::string::npos) << again.error().text;
  EXPECT_NE(again.error().text.find("--port"), std::string::npos);
  taken.host = "256.1.1.1";
  const auto nowhere = HttpServer::start(taken, {});
  ASSERT_FALSE(nowhere);
  EXPECT_NE(nowhere.error().text.find("256.1.1.1"), std::string::npos) << nowhere.error().text;
}

/// Writes a key and its self-signed certificate.
void make_certificate(const Path& certificate_file, const Path& key_file) {
  EVP_PKEY* key = EVP_EC_gen("P-256");
  ASSERT_NE(key, nullptr);
  X509* certificate = X509_new();
  X509_set_version(certificate, 2);
  ASN1_INTEGER_set(X509_get_serialNumber(certificate), 1);
  X509_gmtime_adj(X509_getm_notBefore(certificate), -60);
  X509_gmtime_adj(X509_getm_notAfter(certificate), 3600);
  X509_set_pubkey(certificate, key);
  X509_NAME* name = X509_get_subject_name(certificate);
  X509_NAME_add_entry_by_txt(name, "CN", MBSTRING_ASC, reinterpret_cast<const unsigned char*>("localhost"), -1, -1, 0);
  X509_set_issuer_name(certificate, name);
  ASSERT_GT(X509_sign(certificate, key, EVP_sha256()), 0);
  FILE* file = std::fopen(key_file.c_str(), "w");
  PEM_write_PrivateKey(file, key, nullptr, nullptr, 0, nullptr, nullptr);
  std::fclose(file);
  file = std::fopen(certificate_file.c_str(), "w");
  PEM_write_X509(file, certificate);
  std::fclose(file);
  X509_free(certificate);
  EVP_PKEY_free(key);
}

/// One request over TLS; what came back until the server's end.
std::string ask_tls(int64_t port, const std::string& request) {
  SSL_CTX* context = SSL_CTX_new(TLS_client_method());
  BIO* bio = BIO_new_ssl_connect(context);
  BIO_set_conn_hostname(bio, ("127.0.0.1:" + std::to_string(port)).c_str());
  std::string answer;
  if (BIO_do_connect(bio) == 1 && BIO_write(bio, request.data(), static_cast<int>(request.size())) > 0) {
    char piece[4096];
    for (int got; (got = BIO_read(bio, piece, sizeof(piece))) > 0;) answer.append(piece, static_cast<size_t>(got));
  }
  BIO_free_all(bio);
  SSL_CTX_free(context);
  return answer;
}

TEST_F(HttpTest, SpeaksTls) {
  const TemporaryDirectory dir;
  options_.certificate_file = dir.path() / "cert.pem";
  options_.key_file = dir.path() / "key.pem";
  make_certificate(options_.certificate_file, options_.key_file);
  start();
  const std::string big(300'000, 'y');
  const std::string answer = ask_tls(server_->port(),
                                     "POST /echo HTTP/1.1\r\nHost: h\r\nConnection: close\r\n"
                                     "Content-Length: 300000\r\n\r\n" +
                                         big);
  EXPECT_TRUE(answer.starts_with("HTTP/1.1 200 OK\r\n")) << answer.substr(0, 100);
  EXPECT_TRUE(answer.ends_with("\r\n\r\n" + big));
  Client plain(server_->port());
  plain.request("GET", "/echo");
  plain.response();  // not HTTP, but the server must survive it
  EXPECT_TRUE(eventually([&] { return dropped("tls"); }));
  EXPECT_NE(ask_tls(server_->port(), "GET /stream HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n").find("2\r\nbc"),
            std::string::npos);
}

TEST_F(HttpTest, SaysWhatIsWrongWithACertificate) {
  const TemporaryDirectory dir;
  const Path certificate = dir.path() / "cert.pem", key = dir.path() / "key.pem", other = dir.path() / "other.pem";
  make_certificate(certificate, key);
  make_certificate(dir.path() / "c2.pem", other);
  const auto error = [&](const std::string& c, const std::string& k) {
    HttpOptions options = options_;
    options.certificate_file = c;
    options.key_file = k;
    const auto started = HttpServer::start(options, {});
    EXPECT_FALSE(started);
    return started ? "" : started.error().text;
  };
  EXPECT_NE(error(certificate, "").find("--ssl-keyfile"), std::string::npos);
  EXPECT_NE(error("", key).find("--ssl-certfile"), std::string::npos);
  EXPECT_NE(error("/nonexistent", key).find("/nonexistent"), std::string::npos);
  EXPECT_NE(error(key, key).find(key.string()), std::string::npos);
  EXPECT_NE(error(certificate, other).find(other.string()), std::string::npos);
}

}  // namespace
}  // namespace fathom::serve
