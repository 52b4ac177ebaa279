#pragma once
// What the driver on epoll keeps of a request that did not end at once.

#include "iouring/blocking_threads.hh"
#include "iouring/epoll_call.hh"
#include "iouring/timers.hh"

namespace schedlab::iouring {

class EpollDriver;

// In one list at a time: of those that wait for a descriptor, or of those given to threads.
class EpollRequest final : public Timer, public BlockingWork {
public:
  explicit EpollRequest(EpollDriver& owner) noexcept : driver(owner) {}

  EpollDriver& driver;
  const Request* request = nullptr;
  Operation* operation = nullptr;
  Progress progress;
  EpollRequest* previous = nullptr;
  EpollRequest* next = nullptr;
  int fd = -1;               // waited for; -1: given to a thread, or being tried
  std::uint32_t events = 0;  // waited for
  std::uint64_t round = 0;   // when it was last tried
  bool with_thread = false;
  bool pinned = false;  // somebody up the stack still looks at it
  bool ended = false;   // while pinned
  int result = 0;       // of the thread
  EpollRequest* next_done = nullptr;

private:
  void expired() noexcept override;
  void run() noexcept override;
};

// First in, first out.
class RequestList {
public:
  [[nodiscard]] EpollRequest* first() const noexcept { return first_; }
  void append(EpollRequest& request) noexcept {
    request.previous = last_;
    request.next = nullptr;
    (last_ ? last_->next : first_) = &request;
    last_ = &request;
  }
  void remove(EpollRequest& request) noexcept {
    (request.previous ? request.previous->next : first_) = request.next;
    (request.next ? request.next->previous : last_) = request.previous;
    request.previous = request.next = nullptr;
  }

private:
  EpollRequest* first_ = nullptr;
  EpollRequest* last_ = nullptr;
};

}  // namespace schedlab::iouring
