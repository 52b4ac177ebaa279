#pragma once
// HTTP/1.1 messages (RFC 9110, 9112): what client and server give and take. Plain values; any
// thread.

#include "iouring/task.hh"

#include <cstddef>
#include <cstdint>
#include <functional>
#include <initializer_list>
#include <optional>
#include <stdexcept>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace schedlab::iouring {

enum class HttpFault : std::uint8_t {
  malformed,        // not HTTP, or in two minds about where it ends
  unknown_version,  // neither HTTP/1.0 nor 1.1
  not_supported,    // a transfer coding other than chunked
  unknown_expectation,
  target_too_long,  // of a request
  head_too_large,   // in bytes or in fields; also a chunk's head, and trailers
  body_too_large,
  overloaded,  // the server has no memory left for the message
  incomplete,  // the peer ended before its message did
  timed_out,
};

// Why a message could not be had from a peer. Failures of the connection itself (refused, reset)
// are std::system_error.
class HttpError final : public std::runtime_error {
public:
  HttpError(HttpFault fault, const std::string& text) : std::runtime_error(text), fault_(fault) {}
  [[nodiscard]] HttpFault fault() const noexcept { return fault_; }
  // What a server answers with: 400, 408, 413, 414, 417, 431, 501, 503, 505.
  [[nodiscard]] int status() const noexcept;

private:
  HttpFault fault_;
};

// Of a message that comes from a peer.
struct HttpLimits {
  std::size_t head = 16 * 1024;  // bytes of first line and fields together
  std::size_t fields = 100;
  std::size_t body = std::size_t{1} << 20;  // bytes, without the heads of chunks
};

// Header fields in their order; names are compared without regard to case.
class HttpHeaders {
public:
  struct Field {
    std::string name;
    std::string value;
  };
  HttpHeaders() = default;
  // As add().
  HttpHeaders(std::initializer_list<std::pair<std::string_view, std::string_view>> fields);

  // Throws BadInput for a name that is no token, or a value with a control character: nobody can
  // smuggle a second field, or a second message, through it.
  void add(std::string_view name, std::string_view value);
  // The value of the first field of that name, or null.
  [[nodiscard]] const std::string* find(std::string_view name) const noexcept;
  // Is the word among the comma separated values of all fields of that name?
  [[nodiscard]] bool has_token(std::string_view name, std::string_view word) const noexcept;

  [[nodiscard]] std::size_t size() const noexcept { return fields_.size(); }
  [[nodiscard]] auto begin() const noexcept { return fields_.begin(); }
  [[nodiscard]] auto end() const noexcept { return fields_.end(); }

private:
  friend class HttpDecoder;
  std::vector<Field> fields_;
};

// A body that comes piece by piece, sent chunked: called until it gives an empty piece.
using HttpPieces = std::function<Task<std::string>()>;

struct HttpRequest {
  std::string method = "GET";
  std::string target = "/";  // path and query
  // Host, Content-Length, Transfer-Encoding and Connection are written by whoever sends; fields of
  // these names, but for Host, are left out.
  HttpHeaders headers = {};
  std::string body = {};
  HttpPieces pieces = {};  // instead of the body
  // false: "Connection: close".
  bool keep_alive = true;
  int version = 11;  // 10 or 11, as it came; sent is always 1.1
};

struct HttpResponse {
  int status = 200;
  std::string reason = {};  // empty: the usual one
  HttpHeaders headers = {};
  std::string body = {};
  HttpPieces pieces = {};
  bool keep_alive = true;
  int version = 11;
};

// "Not Found"; "Unknown Status" for one without a name.
std::string_view http_reason(int status) noexcept;

namespace detail {

bool same_name(std::string_view a, std::string_view b) noexcept;

// How a message's end is told.
struct HttpFraming {
  std::optional<std::size_t> length = {};  // Content-Length
  bool chunked = false;
  std::string_view connection = {};  // of the field of this name
};

// Append the head with its empty line. Throw BadInput for a method, target, status or reason that
// does not go on a line.
void append_head(std::string& out, const HttpRequest& request, std::string_view host,
                 const HttpFraming& framing);
void append_head(std::string& out, const HttpResponse& response, std::string_view date,
                 const HttpFraming& framing);
// One chunk; an empty piece ends the body.
void append_chunk(std::string& out, std::string_view piece);

}  // namespace detail

}  // namespace schedlab::iouring
