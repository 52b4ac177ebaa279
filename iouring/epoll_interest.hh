#pragma once
// Who waits for which descriptor, and what epoll is told of it. Interest lasts for one event and is
// stated anew for each wait, so that a descriptor that was closed behind the driver's back, and its
// number given to another file, is not taken for the old one.

#include "iouring/epoll_request.hh"
#include "lab/base/fd.hh"

#include <vector>

namespace schedlab::iouring {

class EpollInterest {
public:
  // Throws std::system_error.
  EpollInterest();

  [[nodiscard]] int epoll() const noexcept { return epoll_.get(); }

  // Puts a request last in line for these events. 0 or -errno: -EPERM for what cannot be waited
  // for, such as a file.
  int add(EpollRequest& request, int fd, std::uint32_t events) noexcept;
  void remove(EpollRequest& request) noexcept;
  // Epoll has reported the descriptor and will not do so again by itself.
  void disarmed(int fd) noexcept { entries_[static_cast<std::size_t>(fd)].armed = 0; }
  // States the interest of those in line. 0 or -errno.
  int arm(int fd) noexcept;
  // The descriptor is about to be closed, with nobody in line.
  void forget(int fd) noexcept;

  [[nodiscard]] EpollRequest* first(int fd) const noexcept;
  // Is somebody in line for one of these events?
  [[nodiscard]] bool busy(int fd, std::uint32_t events) const noexcept;
  // Did anybody ever wait for it? Then it is no file.
  [[nodiscard]] bool known(int fd) const noexcept;
  [[nodiscard]] std::size_t waiting() const noexcept { return waiting_; }
  [[nodiscard]] std::uint64_t calls() const noexcept { return calls_; }

private:
  struct Entry {
    RequestList line;
    std::uint32_t armed = 0;
    bool known = false;  // to epoll
  };
  // Null for a number beyond all that were waited for.
  [[nodiscard]] const Entry* find(int fd) const noexcept;

  Fd epoll_;
  std::vector<Entry> entries_;  // by descriptor
  std::size_t waiting_ = 0;
  std::uint64_t calls_ = 0;
};

}  // namespace schedlab::iouring
