// The driver on epoll. A request is tried at once and waits for its descriptor only if it would
// block; files and the like go to a few threads. What io_uring does by itself is imitated to the
// letter: results, multishot requests, buffer groups, limits of time.

#include "iouring/broken.hh"
#include "iouring/buffer_group.hh"
#include "iouring/epoll_interest.hh"
#include "lab/base/clock.hh"
#include "lab/base/error.hh"

#include <fcntl.h>
#include <poll.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <cassert>
#include <deque>
#include <memory>
#include <system_error>
#include <unordered_map>
#include <utility>

namespace schedlab::iouring {

namespace {

constexpr int wake_data = -1;          // in place of a descriptor
constexpr unsigned shots_a_turn = 32;  // of a multishot request, then others get their turn
constexpr std::int64_t ns_per_ms = 1'000'000;

}  // namespace

class EpollDriver final : public Driver {
public:
  explicit EpollDriver(const DriverOptions& options)
      : wake_fd_(check(::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK), "eventfd")),
        own_(options.blocking ? nullptr
                              : std::make_unique<BlockingThreads>(options.blocking_threads)),
        threads_(options.blocking ? options.blocking : own_.get()) {
    // Edge-triggered: each write is an event, and nobody has to read.
    epoll_event wanted{};
    wanted.events = EPOLLIN | EPOLLET;
    wanted.data.fd = wake_data;
    check(::epoll_ctl(interest_.epoll(), EPOLL_CTL_ADD, wake_fd_.get(), &wanted), "epoll_ctl");
  }

  ~EpollDriver() override {
    if (::getpid() != made_by_) {  // a forked child shares the epoll and has no threads
      static_cast<void>(own_.release());
      return;
    }
    if (own_)  // those of others have run, or are to be run, before
      for (EpollRequest* at = with_threads_.first(); at; at = at->next)
        static_cast<void>(own_->withdraw(*at));
    own_.reset();
    for (const auto& part : parts_) {
      limits_.unset(*part);
      close_pidfd(*part);
    }
  }

  [[nodiscard]] std::string_view name() const noexcept override { return "epoll"; }

  void submit(const Request& request, Operation& operation) noexcept override {
    ++in_flight_;
    ++requests_;
    operation.part_ = nullptr;
    assert(!request.many || request.timeout_ns == 0);
    const int refused = broken_                             ? end_at_once(request, broken_)
                        : request.fixed_file                ? -EBADF
                        : request.fixed_buffer != no_buffer ? -EFAULT
                                                            : 0;
    if (refused || broken_)
      return finish_operation(operation, refused, 0);
    const std::uint32_t line = waits_in_line_for(request);
    if (line != 0 && interest_.busy(request.fd, line))
      return go_on(make(request, operation, {}), {Tried::Next::wait, 0, request.fd, line});
    const bool simple = !request.many && request.buffer_group == no_buffer &&
                        request.op != Op::close && request.op != Op::cancel_fd;
    if (!simple)
      return attempt(make(request, operation, {}));
    Progress progress;
    const Tried tried = try_call(request, progress, calls_);
    if (tried.next == Tried::Next::done)
      finish_operation(operation, tried.result, 0);
    else
      go_on(make(request, operation, progress), tried);
  }

  void cancel(Operation& operation) noexcept override { end_early(*operation.part_, -ECANCELED); }

  bool register_buffers(std::span<const std::span<std::byte>>) override { return false; }
  bool register_files(std::span<const int>) override { return false; }

  void add_buffers(std::uint16_t group, unsigned count, unsigned size) override {
    if (groups_.contains(group))
      throw_errno(EEXIST, "add_buffers");
    Group& made = groups_.emplace(group, Group{BufferGroup(count, size), {}}).first->second;
    for (unsigned number = 0; number < count; ++number)
      made.free.push_back(static_cast<std::uint16_t>(number));
  }
  void remove_buffers(std::uint16_t group) noexcept override { groups_.erase(group); }
  [[nodiscard]] std::span<std::byte> buffer(std::uint16_t group,
                                            std::uint16_t number) noexcept override {
    return groups_.at(group).memory.at(number);
  }
  void give_back(std::uint16_t group, std::uint16_t number) noexcept override {
    groups_.at(group).free.push_back(number);
  }

  void wait(std::int64_t timeout_ns) override {
    if (broken_) {
      if (!done_.load(std::memory_order_relaxed))
        wait_for_wake(wake_fd_.get(), timeout_ns);
      return collect();
    }
    if (!limits_.empty()) {
      const std::int64_t left = limits_.left_ns(clock::now_ns());
      timeout_ns = timeout_ns < 0 ? left : std::min(timeout_ns, left);
    }
    std::array<epoll_event, 256> events;
    const int count = wait_for_events(events.data(), static_cast<int>(events.size()), timeout_ns);
    for (int i = 0; i < count; ++i)
      if (const int fd = events[static_cast<std::size_t>(i)].data.fd; fd != wake_data)
        ready(fd);
    if (!limits_.empty())
      limits_.expire(clock::now_ns());
    collect();
  }

  void break_off(int error) noexcept override {
    broken_ = error;
    collect();
    for (std::size_t i = 0; i < parts_.size(); ++i)
      if (parts_[i]->operation && !parts_[i]->ended)
        end_early(*parts_[i], -ECANCELED);
  }

  [[nodiscard]] bool idle() const noexcept override {
    return interest_.waiting() == 0 && limits_.empty() && !done_.load(std::memory_order_relaxed);
  }

  void wake() noexcept override {
    const std::uint64_t one = 1;
    static_cast<void>(!::write(wake_fd_.get(), &one, sizeof one));
  }

  [[nodiscard]] std::size_t in_flight() const noexcept override { return in_flight_; }
  [[nodiscard]] DriverCounts counts() const noexcept override {
    return {requests_, completed_, calls_ + interest_.calls()};
  }

  // For EpollRequest.
  void limit_reached(EpollRequest& part) noexcept { end_early(part, -ETIME); }
  void run_in_thread(EpollRequest& part) noexcept {
    part.result = call_blocking(*part.request, part.progress);
    EpollRequest* before = done_.load(std::memory_order_relaxed);
    do {
      part.next_done = before;
    } while (!done_.compare_exchange_weak(before, &part, std::memory_order_release,
                                          std::memory_order_relaxed));
    if (!before)  // otherwise somebody has rung and nobody has looked yet
      wake();
  }

private:
  struct Group {
    BufferGroup memory;
    std::deque<std::uint16_t> free;  // in the order in which the kernel would take them
  };

  EpollRequest& make(const Request& request, Operation& operation, const Progress& progress) {
    if (spare_.empty()) {
      parts_.push_back(std::make_unique<EpollRequest>(*this));
      spare_.push_back(parts_.back().get());
    }
    EpollRequest& part = *spare_.back();
    spare_.pop_back();
    part.request = &request;
    part.operation = &operation;
    part.progress = progress;
    part.with_thread = part.ended = false;
    operation.part_ = &part;
    if (request.timeout_ns > 0)
      limits_.set(part, from_now(std::chrono::nanoseconds(request.timeout_ns)));
    return part;
  }

  void finish_operation(Operation& operation, int result, std::uint32_t flags) noexcept {
    --in_flight_;
    ++completed_;
    operation.complete(result, flags);
  }

  void finish(EpollRequest& part, int result, std::uint32_t flags = 0) noexcept {
    if (part.fd >= 0)
      interest_.remove(part);
    limits_.unset(part);
    close_pidfd(part);
    Operation& operation = *part.operation;
    part.ended = true;
    if (!part.pinned)
      spare_.push_back(&part);
    finish_operation(operation, result, flags);
  }

  void close_pidfd(EpollRequest& part) noexcept {
    const int fd = std::exchange(part.progress.pidfd, -1);
    if (fd < 0)
      return;
    interest_.forget(fd);
    ++calls_;
    ::close(fd);
  }

  // A request goes where its try sent it.
  void go_on(EpollRequest& part, Tried tried) noexcept {
    const bool in_line = tried.next == Tried::Next::wait && part.fd == tried.fd &&
                         (tried.events & ~part.events) == 0;
    if (in_line)
      return;
    if (part.fd >= 0)
      interest_.remove(part);
    if (tried.next == Tried::Next::wait) {
      part.round = round_;
      const int error = interest_.add(part, tried.fd, tried.events);
      if (error == 0)
        return;
      tried = {error == -EPERM ? Tried::Next::thread : Tried::Next::done, error};
    }
    if (tried.next == Tried::Next::done)
      finish(part, tried.result);
    else
      give_to_thread(part);
  }

  void give_to_thread(EpollRequest& part) noexcept {
    part.with_thread = true;
    with_threads_.append(part);
    try {
      threads_->submit(part);
    } catch (const std::system_error& error) {
      with_threads_.remove(part);
      part.with_thread = false;
      finish(part, -error.code().value());
    }
  }

  void attempt(EpollRequest& part) noexcept {
    const Request& request = *part.request;
    if (request.many)
      return attempt_many(part);
    if (request.op == Op::close)
      return close(part);
    if (request.op == Op::cancel_fd)
      return finish(part, cancel_all(request.fd));
    std::uint32_t flags = 0;
    const Tried tried = request.buffer_group == no_buffer ? try_call(request, part.progress, calls_)
                                                          : try_with_buffer(part, flags);
    if (tried.next == Tried::Next::done)
      finish(part, tried.result, flags);
    else
      go_on(part, tried);
  }

  // After a buffer that was filled so far: is the next attempt to be left until there are data?
  // Without a buffer, whether that ends it is seen then; a part of a buffer was all there was.
  bool is_enough(const EpollRequest& part, int result) noexcept {
    const auto& group = groups_.at(part.request->buffer_group);
    return group.free.empty() || static_cast<unsigned>(result) < group.memory.size();
  }

  void attempt_many(EpollRequest& part) noexcept {
    const bool was_pinned = std::exchange(part.pinned, true);
    for (unsigned shots = 0; shots < shots_a_turn && !part.ended; ++shots) {
      std::uint32_t flags = 0;
      const Tried tried = part.request->op == Op::accept
                              ? try_call(*part.request, part.progress, calls_)
                              : try_with_buffer(part, flags);
      const bool more = tried.result > 0 || (tried.result == 0 && part.request->op == Op::accept);
      if (tried.next != Tried::Next::done) {
        go_on(part, tried);
        break;
      }
      if (!more) {
        finish(part, tried.result);
        break;
      }
      ++completed_;
      part.operation->complete(tried.result, flags | Operation::more);
      if (!part.ended && flags != 0 && is_enough(part, tried.result))
        break;
    }
    part.pinned = was_pinned;
    if (part.ended) {
      if (!was_pinned)
        spare_.push_back(&part);
    } else if (part.fd < 0) {
      go_on(part, {Tried::Next::wait, 0, part.request->fd, POLLIN});
    }
  }

  // A buffer is taken when there are data; without any the request ends, also before they come.
  Tried try_with_buffer(EpollRequest& part, std::uint32_t& flags) noexcept {
    const auto group = groups_.find(part.request->buffer_group);
    if (group == groups_.end() || group->second.free.empty())
      return {Tried::Next::done, -ENOBUFS};
    const std::uint16_t number = group->second.free.front();
    const auto area = group->second.memory.at(number);
    Request filled = *part.request;
    filled.address = area.data();
    filled.flags &= ~static_cast<std::uint32_t>(MSG_WAITALL);
    const auto size = static_cast<std::uint32_t>(area.size());
    filled.length = filled.length == 0 ? size : std::min(filled.length, size);
    const Tried tried = try_call(filled, part.progress, calls_);
    if (tried.next == Tried::Next::done && tried.result > 0) {
      group->second.free.pop_front();
      flags = Operation::buffer | std::uint32_t{number} << 16;
    }
    return tried;
  }

  // Those in line are tried in their order; who finds nothing leaves nothing to those behind.
  void ready(int fd) noexcept {
    interest_.disarmed(fd);
    const std::uint64_t round = ++round_;
    std::uint32_t exhausted = 0;
    for (EpollRequest* at = interest_.first(fd); at;) {
      const std::uint32_t line = waits_in_line_for(*at->request);
      if (at->round >= round || (line & exhausted)) {
        at = at->next;
        continue;
      }
      at->round = round;
      const std::uint64_t ended = completed_;
      attempt(*at);
      if (completed_ == ended)
        exhausted |= line;
      at = interest_.first(fd);  // completing may have changed the line
    }
    if (interest_.first(fd))
      interest_.arm(fd);
  }

  // False for what has begun in a thread: its end will tell.
  bool end_early(EpollRequest& part, int result) noexcept {
    if (part.with_thread) {
      if (!threads_->withdraw(part))
        return false;
      with_threads_.remove(part);
      part.with_thread = false;
    }
    finish(part, part.progress.done > 0 ? part.progress.done : result);
    return true;
  }

  // How many were asked to end, or -EBADF.
  int cancel_all(int fd) noexcept {
    ++calls_;
    if (::fcntl(fd, F_GETFD) < 0)
      return -errno;
    std::vector<EpollRequest*> wanted;
    for (EpollRequest* at = interest_.first(fd); at; at = at->next)
      wanted.push_back(at);
    for (EpollRequest* at = with_threads_.first(); at; at = at->next)
      if (is_on(*at->request, fd))
        wanted.push_back(at);
    // Each is looked for again, because completing may end others and begin new ones.
    int count = 0;
    for (EpollRequest* const part : wanted)
      if (!part->ended && is_on(*part->request, fd) && end_early(*part, -ECANCELED))
        ++count;
    return count;
  }

  // Only of a file may it take long.
  void close(EpollRequest& part) noexcept {
    const int fd = part.request->fd;
    if (interest_.first(fd))
      cancel_all(fd);
    if (!interest_.known(fd)) {
      struct stat status;
      ++calls_;
      if (::fstat(fd, &status) == 0 && S_ISREG(status.st_mode))
        return give_to_thread(part);
    }
    interest_.forget(fd);
    ++calls_;
    const int result = ::close(fd);
    finish(part, result < 0 ? -errno : 0);
  }

  // What threads have done, in the order in which they did it.
  void collect() noexcept {
    if (!done_.load(std::memory_order_relaxed))
      return;
    EpollRequest* last_first = done_.exchange(nullptr, std::memory_order_acquire);
    EpollRequest* first = nullptr;
    while (last_first) {
      EpollRequest* const next = last_first->next_done;
      last_first->next_done = first;
      first = last_first;
      last_first = next;
    }
    while (first) {
      EpollRequest& part = *first;
      first = part.next_done;
      with_threads_.remove(part);
      part.with_thread = false;
      const bool again = part.request->op == Op::splice && part.result == -EAGAIN &&
                         (part.request->flags & SPLICE_F_NONBLOCK) == 0 && !broken_;
      if (again)
        attempt(part);
      else
        finish(part, part.result);
    }
  }

  // How many, none also when a signal came. Throws std::system_error.
  int wait_for_events(epoll_event* events, int most, std::int64_t timeout_ns) {
    ++calls_;
    int count = -1;
    errno = ENOSYS;
    if (fine_) {
      const timespec timeout = clock::to_timespec(timeout_ns);
      count = ::epoll_pwait2(interest_.epoll(), events, most, timeout_ns < 0 ? nullptr : &timeout,
                             nullptr);
      fine_ = count >= 0 || errno == EINTR;
    }
    if (!fine_) {  // before Linux 5.11, or refused by a filter
      const std::int64_t ms = timeout_ns < 0 ? -1 : (timeout_ns + ns_per_ms - 1) / ns_per_ms;
      count = ::epoll_wait(interest_.epoll(), events, most,
                           static_cast<int>(std::min<std::int64_t>(ms, 3'600'000)));
    }
    if (count < 0 && errno != EINTR)
      throw_errno(errno, "epoll_wait");
    return std::max(count, 0);
  }

  const pid_t made_by_ = ::getpid();
  EpollInterest interest_;
  Fd wake_fd_;
  bool fine_ = true;  // epoll_pwait2 works
  Timers limits_;
  std::vector<std::unique_ptr<EpollRequest>> parts_;  // all that were ever needed at once
  std::vector<EpollRequest*> spare_;
  RequestList with_threads_;
  std::unordered_map<std::uint16_t, Group> groups_;
  std::uint64_t round_ = 0;
  int broken_ = 0;  // errno of the wait that was refused
  std::size_t in_flight_ = 0;
  std::uint64_t requests_ = 0;
  std::uint64_t completed_ = 0;
  std::uint64_t calls_ = 0;
  alignas(64) std::atomic<EpollRequest*> done_{nullptr};  // by threads; last first
  std::unique_ptr<BlockingThreads> own_;
  BlockingThreads* threads_;
};

void EpollRequest::expired() noexcept {
  driver.limit_reached(*this);
}

void EpollRequest::run() noexcept {
  driver.run_in_thread(*this);
}

std::unique_ptr<Driver> make_epoll_driver(const DriverOptions& options) {
  return std::make_unique<EpollDriver>(options);
}

}  // namespace schedlab::iouring
