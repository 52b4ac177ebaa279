// The driver on io_uring. One ring for each loop, set up by the loop's thread, with the best flags
// of the ladder that the kernel takes. One io_uring_enter a turn hands over and collects; after a
// sleep another may ask for the rest. Requests that could overfill the completion ring by ending at
// once wait in line until it was emptied. How many are in flight is not limited: a request may wait
// for what one behind it brings about. The kernel keeps what does not fit (IORING_FEAT_NODROP).

#include "iouring/broken.hh"
#include "iouring/driver.hh"
#include "iouring/epoll_call.hh"
#include "iouring/interruptions.hh"
#include "iouring/operation_line.hh"
#include "iouring/pidfds.hh"
#include "iouring/under_way.hh"
#include "iouring/uring_buffers.hh"
#include "iouring/uring_request.hh"
#include "iouring/uring_setup.hh"
#include "lab/base/error.hh"
#include "lab/base/fd.hh"

#include <fcntl.h>
#include <liburing.h>
#include <poll.h>
#include <pthread.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cassert>
#include <memory>
#include <mutex>
#include <span>
#include <utility>
#include <vector>

namespace schedlab::iouring {

namespace {

// What is in the low bits of a completion's user data beside the operation's address.
enum Tag : std::uint64_t {
  tag_request = 0,
  tag_timeout = 1,  // of the request
  tag_ignored = 2,  // a cancellation, whose request tells how it ended
  tag_message = 3,  // a wake-up that this ring sent; above: its place in messages_
  tag_mask = 3,
};
constexpr std::uint64_t wake_data = 4 | tag_ignored;     // the eventfd was written
constexpr std::uint64_t message_data = 8 | tag_ignored;  // a wake-up from another ring
constexpr std::uint64_t drain_data = 12 | tag_ignored;   // the cancellation of everything
constexpr unsigned spare_room = 16;  // completions that others may send at a time
// Of the flags of a completion, those that an operation is told.
constexpr std::uint32_t told = 0xffff0000 | Operation::buffer | Operation::more;
static_assert(Operation::buffer == IORING_CQE_F_BUFFER && Operation::more == IORING_CQE_F_MORE);

struct Completion {
  std::uint64_t user_data;
  int result;
  std::uint32_t flags;
};

__kernel_timespec timespec_of(std::int64_t ns) {
  return {.tv_sec = ns / 1'000'000'000, .tv_nsec = ns % 1'000'000'000};
}

}  // namespace

class UringDriver final : public Driver {
public:
  explicit UringDriver(const DriverOptions& options)
      : wake_fd_(std::make_shared<Fd>(make_wake_fd())) {
    const RingSetUp made = set_up_ring(ring_, options.entries);
    number_ = ring_.ring_fd;
    room_ = made.completions - spare_room;
    can_message_ = made.can_message;
    by_pidfd_ = options.wait_by_pidfd || !made.waits_for_children;
    ::io_uring_ring_dontfork(&ring_);
    ::io_uring_register_ring_fd(&ring_);  // without it a call costs some ns more
    outer_ = std::exchange(of_thread_, this);
    listen();
    static std::once_flag once;  // a child has none of its parent's rings
    std::call_once(once, [] { ::pthread_atfork(nullptr, nullptr, [] { of_thread_ = nullptr; }); });
  }

  ~UringDriver() override {
    if (::getpid() != made_by_) {  // in a forked child the rings are not mapped
      for (auto& group : groups_)
        static_cast<void>(group.release());
      ::close(number_);
      return;
    }
    leave_thread();
    if (!broken_)
      drain();
    for (const auto& receiver : messages_)
      if (receiver)  // nobody will look whether the message arrived
        write_wake(*receiver);
    groups_.clear();
    if (broken_)
      ::close(number_);
    else
      take_down_ring(ring_, under_way_.size() > 0);
  }

  [[nodiscard]] std::string_view name() const noexcept override { return "io_uring"; }

  void submit(const Request& request, Operation& operation) noexcept override {
    assert(!request.many || request.timeout_ns == 0);
    under_way_.enter(operation);
    ++counts_.requests;
    if (broken_)
      return finish(operation, end_at_once(request, broken_), 0);
    interruptions_.submitted(request);
    operation.request_ = &request;
    operation.restarts_ = 0;
    operation.asked_to_end_ = false;
    operation.parts_ = 0;
    if (request.op == Op::wait_child && by_pidfd_ && !watch_child(operation))
      return;
    begin(operation);
  }

  void cancel(Operation& operation) noexcept override {
    operation.asked_to_end_ = true;
    if (broken_)  // about to end
      return;
    if (operation.parts_ == 0) {
      waiting_.remove(operation);
      finish(operation, -ECANCELED, 0);
    } else if (!send_cancel(operation)) {
      owed_cancels_.append(operation);
    }
  }

  void wait(std::int64_t timeout_ns) override {
    if (broken_)
      return wait_for_wake(wake_fd_->get(), timeout_ns);
    const bool owes = !send_owed();
    int result = 0;
    ++counts_.calls;
    if (timeout_ns == 0 || owes || shown() > 0) {
      result = ::io_uring_submit_and_get_events(&ring_);
    } else if (timeout_ns < 0) {
      result = ::io_uring_submit_and_wait(&ring_, 1);
    } else {
      io_uring_cqe* first = nullptr;
      auto timeout = timespec_of(timeout_ns);
      result = ::io_uring_submit_and_wait_timeout(&ring_, &first, 1, &timeout, nullptr);
    }
    if (!is_passing(result))
      throw_errno(-result, "io_uring_enter");
    counts_.overflows += (hidden() & IORING_SQ_CQ_OVERFLOW) != 0;
    collect();
    start_waiting();
    send_owed();
  }

  void break_off(int error) noexcept override {
    broken_ = error;
    leave_thread();
    collect();  // what came before
    waiting_ = {};
    owed_cancels_ = {};
    give_up_ring();
    under_way_.for_each([this](Operation& operation) { finish(operation, -ECANCELED, 0); });
  }

  bool register_buffers(std::span<const std::span<std::byte>> buffers) override {
    ::io_uring_unregister_buffers(&ring_);
    std::vector<iovec> areas;
    for (const auto buffer : buffers)
      areas.push_back({buffer.data(), buffer.size()});
    return areas.empty() || ::io_uring_register_buffers(&ring_, areas.data(),
                                                        static_cast<unsigned>(areas.size())) == 0;
  }
  bool register_files(std::span<const int> files) override {
    ::io_uring_unregister_files(&ring_);
    return files.empty() || ::io_uring_register_files(&ring_, files.data(),
                                                      static_cast<unsigned>(files.size())) == 0;
  }

  void add_buffers(std::uint16_t group, unsigned count, unsigned size) override {
    groups_.resize(std::max<std::size_t>(groups_.size(), group + 1U));
    groups_[group] = std::make_unique<UringBuffers>(ring_, group, count, size);
  }
  void remove_buffers(std::uint16_t group) noexcept override {
    if (group < groups_.size())
      groups_[group].reset();
  }
  [[nodiscard]] std::span<std::byte> buffer(std::uint16_t group,
                                            std::uint16_t number) noexcept override {
    return groups_[group]->at(number);
  }
  void give_back(std::uint16_t group, std::uint16_t number) noexcept override {
    groups_[group]->give_back(number);
  }

  [[nodiscard]] bool idle() const noexcept override {
    return broken_ || (::io_uring_sq_ready(&ring_) == 0 && shown() == 0 && !hidden() &&
                       waiting_.empty() && owed_cancels_.empty() && !owes_listening_);
  }

  void wake() noexcept override {
    if (of_thread_ && of_thread_ != this && send_message(*of_thread_))
      return;
    write_wake(*wake_fd_);
  }

  [[nodiscard]] std::size_t in_flight() const noexcept override { return under_way_.size(); }
  [[nodiscard]] DriverCounts counts() const noexcept override { return counts_; }

private:
  void leave_thread() noexcept {
    UringDriver** at = &of_thread_;
    while (*at && *at != this)
      at = &(*at)->outer_;
    if (*at)
      *at = outer_;
  }

  // Ends all that is in flight without completing it.
  void drain() noexcept {
    draining_ = true;
    for (; !waiting_.empty(); waiting_.remove_first())
      under_way_.leave(*waiting_.first());
    bool asked = false;
    while (under_way_.size() > 0) {
      io_uring_sqe* const sqe = asked ? nullptr : take_sqe();
      if (sqe) {
        ::io_uring_prep_cancel64(sqe, 0, IORING_ASYNC_CANCEL_ANY | IORING_ASYNC_CANCEL_ALL);
        ::io_uring_sqe_set_data64(sqe, drain_data);
        asked = true;
      }
      if (!is_passing(::io_uring_submit_and_wait(&ring_, 1)))
        return;
      collect();
      if (given_up_)  // before Linux 5.19 only the end of the ring ends them
        return;
    }
  }

  // Others may send their messages to the ring's number until they know better: it stays in use.
  void give_up_ring() noexcept {
    const int own = ::fcntl(number_, F_DUPFD_CLOEXEC, 0);
    if (own >= 0) {
      ::dup3(wake_fd_->get(), number_, O_CLOEXEC);
      ring_.ring_fd = own;
    }
    take_down_ring(ring_, true);
  }

  // An entry, or null if the kernel takes none now.
  io_uring_sqe* take_sqe() noexcept {
    if (::io_uring_sq_space_left(&ring_) == 0) {
      ++counts_.calls;
      ::io_uring_submit(&ring_);
    }
    return ::io_uring_get_sqe(&ring_);
  }

  void begin(Operation& operation) noexcept {
    operation.parts_ = 0;
    operation.timed_out_ = false;
    if (!waiting_.empty() || !start(operation))
      waiting_.append(operation);
  }

  // Makes the entries of a request; false if there is no room for them.
  bool start(Operation& operation) noexcept {
    const Request& request = *operation.request_;
    const unsigned parts = request.timeout_ns > 0 ? 2 : 1;
    if (shown() + ::io_uring_sq_ready(&ring_) + parts > room_)
      return false;
    if (::io_uring_sq_space_left(&ring_) < parts) {
      ++counts_.calls;
      ::io_uring_submit(&ring_);
      if (::io_uring_sq_space_left(&ring_) < parts)
        return false;
    }
    io_uring_sqe* const sqe = ::io_uring_get_sqe(&ring_);
    prepare(*sqe, request);
    if (const Fd* const child = pidfds_.find(operation))
      ::io_uring_prep_poll_add(sqe, child->get(), POLLIN);
    ::io_uring_sqe_set_data(sqe, &operation);
    operation.parts_ = static_cast<std::uint8_t>(parts);
    if (parts == 2) {
      sqe->flags |= IOSQE_IO_LINK;
      io_uring_sqe* const limit = ::io_uring_get_sqe(&ring_);
      operation.limit_[0] = request.timeout_ns / 1'000'000'000;
      operation.limit_[1] = request.timeout_ns % 1'000'000'000;
      static_assert(sizeof operation.limit_ == sizeof(__kernel_timespec));
      ::io_uring_prep_link_timeout(limit, reinterpret_cast<__kernel_timespec*>(operation.limit_),
                                   0);
      ::io_uring_sqe_set_data64(limit, reinterpret_cast<std::uint64_t>(&operation) | tag_timeout);
    }
    return true;
  }

  // Opens what becomes readable when the child ends; false if the request has ended already.
  bool watch_child(Operation& operation) noexcept {
    Progress progress;
    const Tried tried = try_call(*operation.request_, progress, counts_.calls);
    if (tried.next == Tried::Next::done)
      finish(operation, tried.result, 0);
    else
      pidfds_.add(operation, Fd(progress.pidfd));
    return tried.next != Tried::Next::done;
  }

  void start_waiting() noexcept {
    while (!waiting_.empty() && start(*waiting_.first()))
      waiting_.remove_first();
  }

  bool send_cancel(Operation& operation) noexcept {
    io_uring_sqe* const sqe = take_sqe();
    if (!sqe)
      return false;
    ::io_uring_prep_cancel(sqe, &operation, 0);
    ::io_uring_sqe_set_data64(sqe, tag_ignored);
    return true;
  }

  // What the kernel did not take when it was due; false if it still does not.
  bool send_owed() noexcept { return (owed_cancels_.empty() && !owes_listening_) || send_late(); }
  bool send_late() noexcept {
    for (; !owed_cancels_.empty(); owed_cancels_.remove_first())
      if (!send_cancel(*owed_cancels_.first()))
        return false;
    if (owes_listening_)
      listen();
    return !owes_listening_;
  }

  [[nodiscard]] unsigned shown() const noexcept { return ::io_uring_cq_ready(&ring_); }
  // Completions that the kernel shows only when it is entered.
  [[nodiscard]] unsigned hidden() const noexcept {
    return IO_URING_READ_ONCE(*ring_.sq.kflags) & (IORING_SQ_TASKRUN | IORING_SQ_CQ_OVERFLOW);
  }

  // At most one ring full, so that who is ready gets a turn. A kernel that slept until something
  // ended shows just that (since 6.13) and keeps what ended with it. It is asked for the rest, of
  // which it then does at most 20 pieces: what these bring about is handed over in one call, and by
  // one notice to the device. More than that waits for the next call.
  void collect() noexcept {
    if (shown() <= 1 && hidden()) {
      ++counts_.calls;
      ::io_uring_get_events(&ring_);
    }
    for (unsigned left = room_; left > 0 && shown() > 0; --left) {
      const io_uring_cqe& entry = ring_.cq.cqes[*ring_.cq.khead & ring_.cq.ring_mask];
      const Completion copy{entry.user_data, result_of(entry.res), entry.flags};
      ::io_uring_cq_advance(&ring_, 1);  // what completes may submit, which needs room
      handle(copy);
    }
  }

  void handle(const Completion& it) noexcept {
    const auto tag = it.user_data & tag_mask;
    if (tag == tag_ignored) {
      if (it.user_data == wake_data && !draining_ && !broken_)
        listen();
      if (it.user_data == drain_data && it.result < 0 && it.result != -ENOENT)
        given_up_ = true;
      return;
    }
    if (tag == tag_message) {
      auto& receiver = messages_[it.user_data >> 2];
      if (it.result < 0)
        write_wake(*receiver);
      receiver.reset();
      return;
    }
    auto& operation = *reinterpret_cast<Operation*>(it.user_data & ~std::uint64_t{tag_mask});
    if (tag == tag_timeout) {
      // -ETIME, or what the kernel was told as it cut the request short: -EALREADY where that
      // runs already, 1 from a WAITID.
      operation.timed_out_ = it.result != -ECANCELED && it.result != -ENOENT;
    } else if (it.flags & IORING_CQE_F_MORE) {
      ++counts_.completed;
      if (!draining_)
        operation.complete(it.result, it.flags & told);
      return;
    } else {
      operation.result_ = it.result;
      operation.flags_ = it.flags & told;
    }
    if (--operation.parts_ == 0)
      conclude(operation);
  }

  // All parts of a request are in.
  void conclude(Operation& operation) noexcept {
    const Fd* const child = pidfds_.find(operation);
    if (child && operation.result_ >= 0 && !draining_) {
      Progress progress{.pidfd = child->get()};
      operation.result_ = try_call(*operation.request_, progress, counts_.calls).result;
    }
    const bool cut_short = operation.result_ == -ECANCELED || operation.result_ == -EINTR;
    if (!owed_cancels_.empty())
      owed_cancels_.remove(operation);
    if (operation.result_ == -EINVAL && operation.request_->op == Op::cancel_fd && !draining_)
      operation.result_ = cancel_each(operation.request_->fd);
    if (cut_short && operation.timed_out_)
      return finish(operation, -ETIME, 0);
    if (operation.result_ != -EINTR || operation.asked_to_end_ || draining_ || broken_ ||
        operation.restarts_ == Interruptions::most ||
        !interruptions_.may_begin_again(*operation.request_))
      return finish(operation, operation.result_, operation.flags_);
    ++operation.restarts_;
    begin(operation);
  }

  // What cancel_fd does, for kernels before Linux 5.19.
  int cancel_each(int fd) noexcept {
    int count = 0;
    under_way_.for_each([&](Operation& operation) {
      if (!is_on(*operation.request_, fd))
        return;
      cancel(operation);
      ++count;
    });
    return count;
  }

  void finish(Operation& operation, int result, std::uint32_t flags) noexcept {
    under_way_.leave(operation);
    ++counts_.completed;
    pidfds_.erase(operation);
    if (!draining_)
      operation.complete(result, flags);
  }

  // Wake-ups from threads without a ring come through the eventfd.
  void listen() noexcept {
    io_uring_sqe* const sqe = take_sqe();
    owes_listening_ = !sqe;
    if (!sqe)
      return;
    ::io_uring_prep_read(sqe, wake_fd_->get(), &woken_, sizeof woken_, 0);
    ::io_uring_sqe_set_data64(sqe, wake_data);
  }

  static void write_wake(const Fd& eventfd) noexcept {
    const std::uint64_t one = 1;
    static_cast<void>(!::write(eventfd.get(), &one, sizeof one));
  }

  // A wake-up by message, from the ring of the calling thread to this one; false if it must go
  // through the eventfd. That the message failed is seen now, or by the sender's next wait on
  // kernels that deliver later; the eventfd stays open until then.
  bool send_message(UringDriver& sender) noexcept {
    const auto place = std::ranges::find(sender.messages_, nullptr);
    if (!sender.can_message_ || place == sender.messages_.end())
      return false;
    io_uring_sqe* const sqe = sender.take_sqe();
    if (!sqe)
      return false;
    *place = wake_fd_;
    const auto data =
        static_cast<std::uint64_t>(place - sender.messages_.begin()) << 2 | tag_message;
    ::io_uring_prep_msg_ring(sqe, number_, 0, message_data, 0);
    ::io_uring_sqe_set_data64(sqe, data);
    ++sender.counts_.calls;
    const int submitted = ::io_uring_submit(&sender.ring_);
    return submitted >= 0 && ::io_uring_sq_ready(&sender.ring_) == 0 &&
           !has_failed(sender.ring_, data);
  }

  static constinit thread_local UringDriver* of_thread_;

  const pid_t made_by_ = ::getpid();
  io_uring ring_{};
  int number_ = -1;               // the ring's descriptor
  std::shared_ptr<Fd> wake_fd_;   // shared with messages under way to this ring
  UringDriver* outer_ = nullptr;  // another ring of this thread
  unsigned room_ = 0;             // completions that the ring holds
  bool can_message_ = false;      // MSG_RING works, from Linux 5.18 on
  bool by_pidfd_ = false;         // children are waited for by poll and waitid
  bool draining_ = false;         // nothing is completed any more
  bool given_up_ = false;         // the kernel cannot end all requests at once
  bool owes_listening_ = false;   // the kernel took no entry for it
  int broken_ = 0;                // errno of the wait that was refused
  UnderWay under_way_;
  Interruptions interruptions_;
  OperationLine waiting_;                                 // for room in the rings
  OperationLine owed_cancels_;                            // likewise, of requests in flight
  std::array<std::shared_ptr<Fd>, spare_room> messages_;  // sent, and to whom
  std::vector<std::unique_ptr<UringBuffers>> groups_;     // by number
  PidFds pidfds_;
  std::uint64_t woken_ = 0;  // where the eventfd is read to
  DriverCounts counts_;
};

constinit thread_local UringDriver* UringDriver::of_thread_ = nullptr;

std::unique_ptr<Driver> make_uring_driver(const DriverOptions& options) {
  return std::make_unique<UringDriver>(options);
}

}  // namespace schedlab::iouring
