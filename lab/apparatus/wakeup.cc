#include "lab/apparatus/wakeup.hh"

#include "iouring/probe.hh"
#include "lab/apparatus/handover.hh"
#include "lab/apparatus/waking.hh"
#include "lab/base/error.hh"

#include <liburing.h>
#include <sys/epoll.h>

#include <stdexcept>
#include <string>
#include <type_traits>

namespace schedlab::apparatus {

namespace {

// Below, as in handover.hh: give(to) wakes a side, take(me) waits until it was woken.

// An eventfd that is waited for as an event loop does: by epoll_wait, then read.
class EpollHandover {
public:
  static constexpr double calls = 3;  // write, epoll_wait, read

  explicit EpollHandover(bool) {
    for (auto& door : doors_) {
      door.event = Fd(check(::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK), "eventfd"));
      door.epoll = Fd(check(::epoll_create1(EPOLL_CLOEXEC), "epoll_create1"));
      epoll_event wanted{};
      wanted.events = EPOLLIN;
      check(::epoll_ctl(door.epoll.get(), EPOLL_CTL_ADD, door.event.get(), &wanted), "epoll_ctl");
    }
  }
  void give(int to) noexcept { ::eventfd_write(doors_[to].event.get(), 1); }
  void take(int me) noexcept {
    epoll_event seen;
    while (::epoll_wait(doors_[me].epoll.get(), &seen, 1, -1) < 1) {  // EINTR, or woken for nothing
    }
    eventfd_t count;
    ::eventfd_read(doors_[me].event.get(), &count);
  }

private:
  struct Door {
    Fd event;
    Fd epoll;
  };
  Door doors_[2];  // by who waits
};

// A completion put into the other thread's ring by IORING_OP_MSG_RING.
class RingHandover {
public:
  explicit RingHandover(bool) {
    const iouring::Probe probe = iouring::quick_probe();
    if (!probe.usable)
      throw Unsupported("io_uring: " + probe.cause + "; " + probe.fix);
    if (!probe.supports(IORING_OP_MSG_RING))
      throw Unsupported("io_uring: this kernel has no MSG_RING; boot Linux 5.18 or later");
    flags_ = probe.setup_flags;
  }
  RingHandover(const RingHandover&) = delete;
  RingHandover& operator=(const RingHandover&) = delete;
  ~RingHandover() {
    for (auto& end : ends_)
      if (end.made)
        ::io_uring_queue_exit(&end.ring);
  }
  // By the thread that will wait on it: a ring may be bound to the thread that made it.
  void open(unsigned me) {
    io_uring_params params{};
    params.flags = flags_;
    check_kernel(::io_uring_queue_init_params(8, &ends_[me].ring, &params), "io_uring_setup");
    ends_[me].made = true;
    ::io_uring_register_ring_fd(
        &ends_[me].ring);  // as the driver does; without it a call is dearer
  }
  void give(int to) noexcept {
    io_uring& own = ends_[1 - to].ring;
    io_uring_sqe* const sqe = ::io_uring_get_sqe(&own);
    ::io_uring_prep_msg_ring(sqe, ends_[to].ring.ring_fd, 0, message, 0);
    ::io_uring_sqe_set_data64(sqe, 0);
    sqe->flags |= IOSQE_CQE_SKIP_SUCCESS;
    ::io_uring_submit(&own);
  }
  void take(int me) noexcept {
    io_uring& own = ends_[me].ring;
    for (bool woken = false; !woken;) {
      io_uring_cqe* cqe = nullptr;
      if (::io_uring_wait_cqe(&own, &cqe) < 0)  // EINTR
        continue;
      woken = cqe->user_data == message;
      ::io_uring_cqe_seen(&own, cqe);
    }
  }

private:
  static constexpr std::uint64_t message = 1;
  struct End {
    io_uring ring{};
    bool made = false;
  };
  unsigned flags_ = 0;
  End ends_[2];
};

template <typename Handover>
constexpr double calls_of_a_wakeup() {
  if constexpr (requires { Handover::calls; })
    return Handover::calls;
  return 2;
}

// Two threads that block in a call.
template <typename Handover>
class Blocking final : public Waking {
public:
  explicit Blocking(const WakeupOptions& options) : Waking(options), handover_(false) {
    open_both();
  }

private:
  void open([[maybe_unused]] Side side) override {
    if constexpr (requires { handover_.open(side); })
      handover_.open(side);
  }
  void play(Side side, std::uint64_t rounds) noexcept override {
    if (side == waker_side)
      wake(rounds);
    else
      answer(rounds);
  }
  void wake(std::uint64_t rounds) noexcept {
    for (std::uint64_t i = 0; i < rounds; ++i) {
      rest();
      before_call();
      handover_.give(sleeper_side);
      after_call();
      handover_.take(waker_side);
      answered();
    }
  }
  void answer(std::uint64_t rounds) noexcept {
    for (std::uint64_t i = 0; i < rounds; ++i) {
      handover_.take(sleeper_side);
      woken();
      handover_.give(waker_side);
    }
  }
  [[nodiscard]] double calls_after(std::uint64_t rounds) const noexcept override {
    return 2 * calls_of_a_wakeup<Handover>() * static_cast<double>(rounds);
  }

  Handover handover_;
};

template <typename Handover>
std::unique_ptr<harness::Subject> make_blocking(const WakeupOptions& options) {
  return std::make_unique<Blocking<Handover>>(options);
}

constexpr std::string_view post_head = "post-";

}  // namespace

const std::vector<std::string_view>& wakeup_mechanisms() {
  static const std::vector<std::string_view> names = {
      "futex", "eventfd", "pipe", "epoll", "msg_ring", "post-io_uring", "post-epoll"};
  return names;
}

std::string_view driver_of(std::string_view mechanism) noexcept {
  if (mechanism.starts_with(post_head))
    return mechanism.substr(post_head.size());
  return mechanism == "msg_ring" ? "io_uring" : "";
}

std::unique_ptr<harness::Subject> make_wakeup(std::string_view mechanism,
                                              const WakeupOptions& options) {
  if (mechanism == "futex")
    return make_blocking<FutexHandover<false>>(options);
  if (mechanism == "eventfd")
    return make_blocking<EventfdHandover>(options);
  if (mechanism == "pipe")
    return make_blocking<PipeHandover>(options);
  if (mechanism == "epoll")
    return make_blocking<EpollHandover>(options);
  if (mechanism == "msg_ring")
    return make_blocking<RingHandover>(options);
  if (mechanism == "post-io_uring" || mechanism == "post-epoll")
    return make_post_wakeup(driver_of(mechanism), options);
  throw std::logic_error("no such mechanism: " + std::string(mechanism));
}

}  // namespace schedlab::apparatus
