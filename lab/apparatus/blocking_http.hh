#pragma once
// An HTTP client whose calls block: the messages and the decoder of the loop's client, over a plain
// socket. For threads and processes that fetch one thing at a time.

#include "iouring/address.hh"
#include "iouring/http_decoder.hh"
#include "lab/base/fd.hh"

#include <string>
#include <string_view>

namespace schedlab::apparatus {

// One connection, made when needed and kept as long as the server likes. One thread at a time.
class BlockingHttpClient {
public:
  explicit BlockingHttpClient(const iouring::Address& address);

  // A request without a body as it goes over the line, to be sent any number of times.
  [[nodiscard]] std::string text_of(const iouring::HttpRequest& request) const;
  // Sends such a text and waits for the response, half a minute at most for each of its parts. A
  // kept connection that the server was closing is made anew once. Throws std::system_error
  // (ECONNREFUSED, ECONNRESET, EAGAIN where nothing came), iouring::HttpError; then there is no
  // connection.
  iouring::HttpResponse send(std::string_view text);

private:
  iouring::HttpResponse attempt(std::string_view text);
  void connect();
  iouring::HttpResponse exchange(std::string_view text);

  iouring::Address address_;
  iouring::HttpDecoder decoder_;
  Fd fd_;
};

}  // namespace schedlab::apparatus
