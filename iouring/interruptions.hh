#pragma once
// Which requests are begun again when they ended with -EINTR and nobody asked for their end.

#include "iouring/driver.hh"

#include <algorithm>
#include <cstdint>
#include <vector>

namespace schedlab::iouring {

class Interruptions {
public:
  static constexpr std::uint8_t most = 16;  // times for one request

  void submitted(const Request& request) {
    std::erase(ended_, request.fd);
    if (request.op == Op::cancel_fd)
      ended_.push_back(request.fd);
  }

  // Not a close, whose descriptor may be somebody else's by now, and nothing on a descriptor on
  // which cancel_fd ended everything.
  [[nodiscard]] bool may_begin_again(const Request& request) const noexcept {
    return request.op != Op::close && std::ranges::find(ended_, request.fd) == ended_.end();
  }

private:
  std::vector<int> ended_;  // by cancel_fd, with no request since
};

}  // namespace schedlab::iouring
