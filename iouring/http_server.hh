#pragma once
// A small HTTP/1.1 server that stays small whatever its clients do.
//
//   Task<HttpResponse> answer(HttpRequest request) {
//     co_return HttpResponse{.body = "you asked for " + request.target};
//   }
//   HttpServer server(answer);                        127.0.0.1, a port that the kernel chooses
//   auto running = create_task(server.serve());       until it is cancelled
//
// Connections are kept and requests may be pipelined; while more than HttpServerOptions::marks of
// answers wait to be read, no further request is. When all connections are in use, a new one takes
// the place of the one that has kept the server waiting for its request longest. Malformed requests
// are answered and the connection is closed. Loop's thread only.

#include "iouring/http_decoder.hh"
#include "iouring/stream.hh"

#include <chrono>
#include <cstdint>
#include <functional>
#include <memory>

namespace schedlab::iouring {

struct HttpServerOptions {
  Address address = Address(":0");  // the loopback; "*:8080" is everywhere
  HttpLimits limits = {};
  std::size_t connections = 1024;
  std::size_t requests = std::size_t{1} << 20;  // of one connection, then it is closed
  std::size_t memory = std::size_t{256} << 20;  // bytes of what came and what waits to go
  WaterMarks marks = {};                        // of the answers of one connection
  std::chrono::nanoseconds idle_limit = std::chrono::seconds(60);   // to a request's first byte
  std::chrono::nanoseconds head_limit = std::chrono::seconds(10);   // from there to its head
  std::chrono::nanoseconds body_limit = std::chrono::seconds(30);   // from there to its end
  std::chrono::nanoseconds write_limit = std::chrono::seconds(30);  // until the peer makes room
};

struct HttpServerCounts {
  std::uint64_t connections = 0;
  std::uint64_t requests = 0;   // that were answered by the handler
  std::uint64_t refused = 0;    // answered with 4xx or 5xx by the server itself
  std::uint64_t failed = 0;     // requests whose handler threw: 500
  std::uint64_t timed_out = 0;  // connections closed for one of the limits of time
  std::uint64_t evicted = 0;    // that made room for others
  std::uint64_t lost = 0;       // that a client reset
  std::size_t open = 0;         // connections now
  std::size_t most_open = 0;
  std::size_t memory = 0;  // bytes of what came and what waits to go, now
  std::size_t most_memory = 0;
};

class HttpServer {
public:
  // Makes the answer to a request; runs in the connection's task, one at a time in each. What it
  // throws becomes 500. The body of an answer to HEAD is not sent.
  using Handler = std::function<Task<HttpResponse>(HttpRequest)>;

  // Binds and listens, without a wait. Throws std::system_error (EADDRINUSE, EACCES ...).
  explicit HttpServer(Handler handler, HttpServerOptions options = {});
  HttpServer(HttpServer&&) noexcept = default;
  HttpServer& operator=(HttpServer&&) noexcept = default;
  ~HttpServer();

  // Where it listens; port 0 has become the one that the kernel chose.
  [[nodiscard]] const Address& address() const noexcept;
  // Serves until it is cancelled; then all connections end. The object may go before that. Throws
  // std::system_error if the listener fails for good.
  Task<> serve();
  [[nodiscard]] const HttpServerCounts& counts() const noexcept;

private:
  struct State;
  class Connection;
  class Place;
  std::shared_ptr<State> state_;
};

}  // namespace schedlab::iouring
