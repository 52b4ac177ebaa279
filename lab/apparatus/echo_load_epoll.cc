#include "lab/apparatus/echo_load_ways.hh"
#include "lab/base/error.hh"

#include <sys/epoll.h>
#include <sys/socket.h>

#include <array>
#include <cerrno>

namespace schedlab::apparatus {

namespace {

class EpollLoad final : public EchoLoad {
public:
  explicit EpollLoad(const EchoLoadOptions& options)
      : EchoLoad(options), epoll_(check(::epoll_create1(EPOLL_CLOEXEC), "epoll_create1")) {
    for (std::size_t line = 0; line < connections(); ++line) {
      epoll_event event{};
      event.events = EPOLLIN;
      event.data.u64 = line;
      check(::epoll_ctl(epoll_.get(), EPOLL_CTL_ADD, fd(line), &event), "epoll_ctl");
    }
  }

  [[nodiscard]] std::string_view name() const noexcept override { return "epoll"; }

private:
  void exchange() override {
    for (std::size_t line = 0; line < connections() && may_begin(); ++line)
      send(line);
    std::array<epoll_event, 128> ready;
    while (!done()) {
      const int count = ::epoll_wait(epoll_.get(), ready.data(), ready.size(), 0);
      if (count <= 0) {
        idle();
        continue;
      }
      for (std::size_t i = 0; i < static_cast<std::size_t>(count); ++i)
        receive(ready[i].data.u64);
    }
  }

  void send(std::size_t line) {
    auto message = next_message(line);
    stamp_sent();
    while (!message.empty()) {
      const auto sent = ::send(fd(line), message.data(), message.size(), MSG_NOSIGNAL);
      if (sent <= 0)
        fail(sent < 0 ? -errno : 0);
      message = message.subspan(static_cast<std::size_t>(sent));
    }
  }

  void receive(std::size_t line) {
    const auto got = ::recv(fd(line), area_.data(), area_.size(), MSG_DONTWAIT);
    stamp_received();
    if (got < 0 && (errno == EAGAIN || errno == EINTR))
      return;
    if (got <= 0)
      fail(got < 0 ? -errno : 0);
    if (take(line, std::span(area_).first(static_cast<std::size_t>(got))) && may_begin())
      send(line);
  }

  Fd epoll_;
  std::array<std::byte, 16384> area_{};
};

}  // namespace

std::unique_ptr<EchoLoad> make_epoll_load(const EchoLoadOptions& options) {
  return std::make_unique<EpollLoad>(options);
}

}  // namespace schedlab::apparatus
