#pragma once
// An HTTP/1.1 client.
//
//   HttpClient client(Address("127.0.0.1:8080"));             one connection, made when needed
//   HttpResponse response = co_await client.send({.target = "/a"});
//   HttpResponse page = co_await http_get("http://localhost:8080/b");
//
// What a server answers is a result, also 404 or 500. Throws HttpError for an answer that cannot be
// had, std::system_error for the connection (ECONNREFUSED: nobody listens; ECONNRESET). Names are
// not looked up, and there is no TLS. Loop's thread only.

#include "iouring/http_decoder.hh"
#include "iouring/stream.hh"

#include <chrono>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

namespace schedlab::iouring {

struct HttpClientOptions {
  HttpLimits limits = {.body = std::size_t{64} << 20};
  std::chrono::nanoseconds connect_limit = std::chrono::seconds(10);
  // How long the server may take to take a request, if that is more than 64 KiB (of a body in
  // pieces, each piece), and then again to answer with a head.
  std::chrono::nanoseconds head_limit = std::chrono::seconds(30);
  // From the response's head to the end of its body.
  std::chrono::nanoseconds body_limit = std::chrono::seconds(60);
  // How long a request with "Expect: 100-continue" waits before it sends its body all the same.
  std::chrono::nanoseconds continue_limit = std::chrono::seconds(1);
};

// "http://127.0.0.1:8080/path?query": the address as Address takes it, port 80 if none is named.
struct HttpUrl {
  // Throws BadInput: https, a user, a name that would have to be looked up.
  explicit HttpUrl(std::string_view text);
  Address address;
  std::string host;    // for the Host field
  std::string target;  // "/path?query", without a fragment
};

// One connection, kept as long as both sides like. One task at a time: another throws EBUSY.
class HttpClient {
public:
  explicit HttpClient(Address address, HttpClientOptions options = {});
  HttpClient(HttpClient&&) noexcept = default;
  HttpClient& operator=(HttpClient&&) noexcept = default;

  // Sends a request and gives the response. A request that only asks (GET, HEAD, OPTIONS) and met a
  // kept connection that the server was closing is sent once more on a new one. After an error or
  // when cancelled the connection is closed.
  Task<HttpResponse> send(HttpRequest request);
  // All requests one behind the other without waiting for answers (pipelining); the responses in
  // their order. Nothing is sent again.
  Task<std::vector<HttpResponse>> send_all(std::vector<HttpRequest> requests);
  // Makes the connection, unless there is one.
  Task<> connect();
  // Closes it, if there is one.
  Task<> close();

  [[nodiscard]] bool connected() const noexcept { return connection_ != nullptr; }
  // Connections that were made.
  [[nodiscard]] std::uint64_t connections() const noexcept { return connections_; }

private:
  struct Connection {
    Connection(Socket socket, const HttpLimits& limits)
        : stream(std::move(socket)), decoder(HttpDecoder::Side::responses, limits) {}
    Stream stream;
    HttpDecoder decoder;
    bool used = false;
  };
  class Use;

  // Makes a connection, unless one is there on which nothing came that nobody asked for.
  Task<> prepare();
  Task<HttpResponse> exchange(HttpRequest& request);
  // false: the server has decided without the body.
  Task<bool> write(const HttpRequest& request);
  Task<> write_pieces(const HttpRequest& request);
  Task<> write_many(const std::vector<HttpRequest>& requests);
  Task<> read_many(const std::vector<HttpRequest>& requests, std::vector<HttpResponse>& responses);
  Task<> drain();
  Task<bool> may_continue();
  Task<HttpResponse> read(bool is_head);
  Task<> read_head(std::chrono::steady_clock::time_point deadline);
  Task<bool> read_more();

  Address address_;
  HttpClientOptions options_;
  std::string host_;
  std::unique_ptr<Connection> connection_;
  std::uint64_t connections_ = 0;
  bool in_use_ = false;
};

// One request on a connection of its own.
Task<HttpResponse> http_get(std::string url, HttpClientOptions options = {});

}  // namespace schedlab::iouring
