#include "lab/apparatus/blocking_http.hh"

#include "iouring/http_client.hh"
#include "lab/base/error.hh"

#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/socket.h>

#include <cerrno>
#include <utility>

namespace schedlab::apparatus {

namespace {

using iouring::HttpDecoder;
using iouring::HttpResponse;

constexpr timeval patience{30, 0};  // of a blocking call: a test must end

iouring::HttpLimits limits() {
  return iouring::HttpClientOptions().limits;
}

// A call again as long as something cut it short: io_uring interrupts the calls of a thread that
// has a ring, and one with a limit of time (SO_RCVTIMEO) is not begun again by the kernel.
template <typename F>
auto undisturbed(F call) {
  auto result = call();
  while (result < 0 && errno == EINTR)
    result = call();
  return result;
}

}  // namespace

BlockingHttpClient::BlockingHttpClient(const iouring::Address& address)
    : address_(address), decoder_(HttpDecoder::Side::responses, limits()) {}

std::string BlockingHttpClient::text_of(const iouring::HttpRequest& request) const {
  std::string text;
  iouring::detail::append_head(text, request, address_.text(), {});
  return text;
}

HttpResponse BlockingHttpClient::send(std::string_view text) {
  const bool kept = static_cast<bool>(fd_);
  try {
    return attempt(text);
  } catch (const std::system_error& error) {
    const int value = error.code().value();
    if (!kept || (value != ECONNRESET && value != EPIPE))
      throw;
  }
  return attempt(text);
}

HttpResponse BlockingHttpClient::attempt(std::string_view text) {
  try {
    connect();
    return exchange(text);
  } catch (...) {
    fd_ = Fd();
    throw;
  }
}

void BlockingHttpClient::connect() {
  if (fd_)
    return;
  fd_ = Fd(check(::socket(address_.family(), SOCK_STREAM | SOCK_CLOEXEC, 0), "socket"));
  for (const int way : {SO_RCVTIMEO, SO_SNDTIMEO})
    check(::setsockopt(fd_.get(), SOL_SOCKET, way, &patience, sizeof patience), "setsockopt");
  const int connected =
      undisturbed([this] { return ::connect(fd_.get(), address_.get(), address_.length()); });
  if (connected < 0 && errno != EISCONN)  // a signal had cut it short
    throw_errno(errno, "connect", address_.text());
  const int on = 1;  // as the library's connections
  if (!address_.is_unix())
    check(::setsockopt(fd_.get(), IPPROTO_TCP, TCP_NODELAY, &on, sizeof on), "setsockopt");
  decoder_ = HttpDecoder(HttpDecoder::Side::responses, limits());
}

HttpResponse BlockingHttpClient::exchange(std::string_view text) {
  const ssize_t sent =
      check(undisturbed([&] { return ::send(fd_.get(), text.data(), text.size(), MSG_NOSIGNAL); }),
            "send");
  if (static_cast<std::size_t>(sent) != text.size())
    throw_errno(EPROTO, "send");
  while (!decoder_.complete()) {
    const auto room = decoder_.room();
    const ssize_t count =
        check(undisturbed([&] { return ::recv(fd_.get(), room.data(), room.size(), 0); }), "recv");
    decoder_.received(static_cast<std::size_t>(count));
    if (decoder_.at_end())
      throw_errno(ECONNRESET, "recv");
  }
  HttpResponse response = std::move(decoder_.response());
  const bool keeps = response.keep_alive && !decoder_.needs_end();
  decoder_.next();
  if (!keeps)
    fd_ = Fd();
  return response;
}

}  // namespace schedlab::apparatus
