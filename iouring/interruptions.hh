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
    if (has_descriptor(request))
      note(request.fd, request.op == Op::cancel_fd);
    if (request.op == Op::splice)
      note(request.second_fd, false);
  }

  // Not a close, whose descriptor may be somebody else's by now, and nothing on a descriptor on
  // which cancel_fd ended everything.
  [[nodiscard]] bool may_begin_again(const Request& request) const noexcept {
    if (request.op == Op::close || (request.op == Op::splice && is_ended(request.second_fd)))
      return false;
    return !has_descriptor(request) || !is_ended(request.fd);
  }

private:
  static bool has_descriptor(const Request& request) noexcept {
    return request.fd >= 0 && !request.fixed_file && request.op != Op::wait_child;
  }
  // A negative number is beyond all.
  [[nodiscard]] bool is_ended(int fd) const noexcept {
    const auto at = static_cast<std::size_t>(fd);
    return at < ended_.size() && ended_[at];
  }
  void note(int fd, bool ended) {
    const auto at = static_cast<std::size_t>(fd);
    if (at < ended_.size()) {
      ended_[at] = ended;
    } else if (ended) {
      ended_.resize(at + 1);
      ended_[at] = true;
    }
  }

  std::vector<bool> ended_;  // by descriptor: by cancel_fd, with no request since
};

}  // namespace schedlab::iouring
