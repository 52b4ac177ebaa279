#pragma once
// What tests of HTTP share: a server beside the test's own task, and clients that speak in bytes.

#include "iouring/http.hh"
#include "tests/iouring_io.hh"

#include <chrono>
#include <string>
#include <string_view>
#include <utility>

namespace schedlab::testing {

// A server beside the test's own task, until it goes.
class Served {
public:
  explicit Served(iouring::HttpServer::Handler handler, iouring::HttpServerOptions options = {})
      : server_(std::move(handler), std::move(options)),
        running_(iouring::create_task(server_.serve())) {}

  [[nodiscard]] const iouring::Address& address() const { return server_.address(); }
  [[nodiscard]] const iouring::HttpServerCounts& counts() const { return server_.counts(); }
  // Ends all connections.
  iouring::Task<> stop() {
    running_.cancel();
    const bool cancelled = co_await is_cancelled(end());
    BOOST_TEST(cancelled);
  }
  // Until all connections have ended by themselves.
  iouring::Task<> idle() {
    for (int tries = 0; counts().open > 0 && tries < 5000; ++tries)
      co_await iouring::sleep_for(std::chrono::milliseconds(1));
    BOOST_TEST(counts().open == 0u);
  }

private:
  iouring::Task<> end() { co_await running_; }

  iouring::HttpServer server_;
  iouring::Running<> running_;
};

// "METHOD target" and the body.
inline iouring::Task<iouring::HttpResponse> echo(iouring::HttpRequest request) {
  iouring::HttpResponse response;
  response.body = request.method + " " + request.target + " " + request.body;
  co_return response;
}

// A connection that speaks in bytes.
inline iouring::Task<iouring::Stream> raw_client(const iouring::Address& address) {
  iouring::Socket socket = co_await iouring::connect(address, std::chrono::seconds(10));
  co_return iouring::Stream(std::move(socket));
}

// All that a server answers to these bytes, up to its end of the stream; "reset" if it ends so.
inline iouring::Task<std::string> raw_exchange(const iouring::Address& address, std::string text) {
  iouring::Stream stream = co_await raw_client(address);
  std::string answer;
  try {
    stream.write(text);
    co_await stream.drain();
    answer = co_await stream.read_all(std::size_t{64} << 20);
  } catch (const std::system_error&) {
    answer = "reset";
  }
  co_return answer;
}

inline std::size_t count_of(std::string_view text, std::string_view part) {
  std::size_t count = 0;
  for (std::size_t at = text.find(part); at != std::string_view::npos;
       at = text.find(part, at + part.size()))
    ++count;
  return count;
}

}  // namespace schedlab::testing
