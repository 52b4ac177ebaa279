#pragma once
// Which requests are begun again when they ended with -EINTR and nobody asked for their end.

#include "iouring/driver.hh"

#include <cstddef>
#include <cstdint>
#include <vector>

namespace schedlab::iouring {

class Interruptions {
public:
  static constexpr std::uint8_t most = 16;  // times for one request

  // To be told of each request. Costs the same however many descriptors were ended before.
  void submitted(const Request& request) {
    if (!has_descriptor(request))
      return;
    const auto fd = static_cast<std::size_t>(request.fd);
    if (fd < ended_.size())
      ended_[fd] = request.op == Op::cancel_fd;
    else if (request.op == Op::cancel_fd)
      note(fd);
  }

  // Not a close, whose descriptor may be somebody else's by now, and nothing on a descriptor on
  // which cancel_fd ended everything.
  [[nodiscard]] bool may_begin_again(const Request& request) const noexcept {
    if (request.op == Op::close)
      return false;
    const auto fd = static_cast<std::size_t>(request.fd);
    return !has_descriptor(request) || fd >= ended_.size() || !ended_[fd];
  }

private:
  static bool has_descriptor(const Request& request) noexcept {
    return request.fd >= 0 && !request.fixed_file && request.op != Op::wait_child;
  }
  void note(std::size_t fd) {
    ended_.resize(fd + 1);
    ended_[fd] = true;
  }

  std::vector<bool> ended_;  // by descriptor: by cancel_fd, with no request since
};

}  // namespace schedlab::iouring
