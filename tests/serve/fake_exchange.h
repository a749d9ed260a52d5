// An exchange without a connection: what a handler says is kept for the test.
#pragma once

#include <functional>
#include <string>
#include <utility>

#include "serve/http.h"

namespace fathom::testing {

class FakeExchange final : public serve::Exchange {
 public:
  serve::HttpRequest asked;
  serve::HttpResponse answer;  // of respond() or begin_stream()
  std::string streamed;
  bool ended = false;
  std::function<void()> gone;

  const serve::HttpRequest& request() const override { return asked; }
  void respond(serve::HttpResponse response) override {
    answer = std::move(response);
    ended = true;
  }
  void begin_stream(serve::HttpResponse head) override { answer = std::move(head); }
  void send(std::string_view bytes) override { streamed += bytes; }
  void end() override { ended = true; }
  void on_gone(std::function<void()> handler) override { gone = std::move(handler); }
  void post(std::function<void()> work) override { work(); }
  void aside(std::function<void()> work, std::function<void()> then) override {
    work();
    then();
  }
};

}  // namespace fathom::testing
