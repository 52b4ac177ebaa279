#pragma once
// HTTP/1.1 messages out of the bytes of a connection, whoever reads them:
//
//   HttpDecoder decoder(HttpDecoder::Side::responses);
//   while (!decoder.complete())
//     decoder.received(recv(fd, decoder.room().data(), decoder.room().size(), 0));   0: the end
//   use(decoder.response());
//   decoder.next();
//
// Strict where leniency lets two programs see different messages in the same bytes: a bare CR or
// LF, a folded or nameless field, Content-Length beside Transfer-Encoding or twice, a transfer
// coding other than chunked, no Host or two: all are malformed. One empty line before a message is
// passed over; fields in trailers are checked and dropped. Any thread, one at a time.

#include "iouring/http_message.hh"

#include <cstddef>
#include <memory>
#include <span>
#include <string_view>

namespace schedlab::iouring {

class HttpDecoder {
public:
  enum class Side : std::uint8_t { requests, responses };  // what comes

  explicit HttpDecoder(Side side, const HttpLimits& limits = {});
  HttpDecoder(HttpDecoder&&) noexcept;
  HttpDecoder& operator=(HttpDecoder&&) noexcept;
  ~HttpDecoder();

  // Where the next bytes go, at least 4 KiB; valid until the next call.
  [[nodiscard]] std::span<std::byte> room();
  // So many bytes came there; 0: the stream has ended.
  void received(std::size_t count) noexcept;

  // Is the head of the present message there, or all of it? They take what came so far. Throw
  // HttpError, and from then on always the same.
  [[nodiscard]] bool has_head();
  [[nodiscard]] bool complete();
  // Has nothing of the present message come yet?
  [[nodiscard]] bool untouched() const noexcept;
  // The stream has ended, and nothing of a message is left.
  [[nodiscard]] bool at_end() const noexcept;

  // The present message, from has_head() on; its body from complete() on. May be moved from.
  [[nodiscard]] HttpRequest& request() noexcept;
  [[nodiscard]] HttpResponse& response() noexcept;
  // A response that only the end of the stream ends: no other can follow.
  [[nodiscard]] bool needs_end() const noexcept;

  // Goes on to the next message; the present one is complete.
  void next();
  // The response that comes answers HEAD: it has no body. Before anything of it was looked at.
  void expect_no_body() noexcept;

  // Bytes that came and were not taken yet.
  [[nodiscard]] std::size_t buffered() const noexcept;
  // Bytes of memory for what came, the body included.
  [[nodiscard]] std::size_t memory() const noexcept;

private:
  class State;
  std::unique_ptr<State> state_;
};

}  // namespace schedlab::iouring
