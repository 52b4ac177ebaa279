#include "iouring/epoll_interest.hh"

#include "lab/base/error.hh"

#include <sys/epoll.h>

#include <cerrno>

namespace schedlab::iouring {

EpollInterest::EpollInterest() : epoll_(check(::epoll_create1(EPOLL_CLOEXEC), "epoll_create1")) {}

const EpollInterest::Entry* EpollInterest::find(int fd) const noexcept {
  const auto index = static_cast<std::size_t>(fd);
  return fd >= 0 && index < entries_.size() ? &entries_[index] : nullptr;
}

EpollRequest* EpollInterest::first(int fd) const noexcept {
  const Entry* const entry = find(fd);
  return entry ? entry->line.first() : nullptr;
}

bool EpollInterest::busy(int fd, std::uint32_t events) const noexcept {
  for (const EpollRequest* at = first(fd); at; at = at->next)
    if (at->events & events)
      return true;
  return false;
}

bool EpollInterest::known(int fd) const noexcept {
  const Entry* const entry = find(fd);
  return entry && entry->known;
}

int EpollInterest::add(EpollRequest& request, int fd, std::uint32_t events) noexcept {
  if (fd < 0)
    return -EBADF;
  const auto index = static_cast<std::size_t>(fd);
  if (index >= entries_.size())
    entries_.resize(2 * index + 64);
  Entry& entry = entries_[index];
  // What is armed for somebody in line is armed for this file; otherwise it may be for an old one.
  const bool armed = entry.line.first() && (events & ~entry.armed) == 0;
  request.fd = fd;
  request.events = events;
  entry.line.append(request);
  ++waiting_;
  const int error = armed ? 0 : arm(fd);
  if (error)
    remove(request);
  return error;
}

void EpollInterest::remove(EpollRequest& request) noexcept {
  entries_[static_cast<std::size_t>(request.fd)].line.remove(request);
  request.fd = -1;
  --waiting_;
}

int EpollInterest::arm(int fd) noexcept {
  Entry& entry = entries_[static_cast<std::size_t>(fd)];
  epoll_event wanted{};
  for (const EpollRequest* at = entry.line.first(); at; at = at->next)
    wanted.events |= at->events;
  entry.armed = wanted.events;
  wanted.events |= EPOLLONESHOT;
  wanted.data.fd = fd;
  const int first_choice = entry.known ? EPOLL_CTL_MOD : EPOLL_CTL_ADD;
  ++calls_;
  int result = ::epoll_ctl(epoll_.get(), first_choice, fd, &wanted);
  if (result < 0 && (errno == ENOENT || errno == EEXIST)) {
    ++calls_;
    result =
        ::epoll_ctl(epoll_.get(), errno == ENOENT ? EPOLL_CTL_ADD : EPOLL_CTL_MOD, fd, &wanted);
  }
  entry.known = result == 0;
  if (result == 0)
    return 0;
  entry.armed = 0;
  return -errno;
}

void EpollInterest::forget(int fd) noexcept {
  if (!known(fd))
    return;
  entries_[static_cast<std::size_t>(fd)].known = false;
  entries_[static_cast<std::size_t>(fd)].armed = 0;
  ++calls_;
  ::epoll_ctl(epoll_.get(), EPOLL_CTL_DEL, fd, nullptr);
}

}  // namespace schedlab::iouring
