#include "procs/feeder_queue.hh"

#include "lab/base/clock.hh"
#include "lab/base/error.hh"

#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <semaphore.h>
#include <sys/eventfd.h>

#include <algorithm>
#include <chrono>
#include <climits>
#include <csignal>
#include <cstring>
#include <exception>
#include <new>
#include <optional>
#include <utility>

namespace schedlab::procs {
namespace {

using Length = std::uint64_t;

constexpr std::int64_t look_again_ns = 100'000'000;

// A lock of a pipe's end, and whether its holder is within a message.
struct EndLock {
  pthread_mutex_t mutex;
  bool within;

  void init() {
    pthread_mutexattr_t robust;
    ::pthread_mutexattr_init(&robust);
    ::pthread_mutexattr_setpshared(&robust, PTHREAD_PROCESS_SHARED);
    ::pthread_mutexattr_setrobust(&robust, PTHREAD_MUTEX_ROBUST);
    check_kernel(-::pthread_mutex_init(&mutex, &robust), "pthread_mutex_init");
    within = false;
  }
};

}  // namespace

struct FeederQueue::Shared {
  sem_t places;
  bool bounded;
  EndLock reading;
  EndLock writing;
  std::atomic<bool> broken{false};
  std::atomic<std::uint32_t> putters{0};  // processes that began to put
  std::atomic<std::uint32_t> closed{0};   // and have closed
};

// Holds an end's lock, and repairs it after a holder that died.
class FeederQueue::Held {
public:
  Held(EndLock& lock, Shared& shared, std::int64_t deadline_ns) noexcept : lock_(&lock) {
    const timespec end = clock::to_timespec(deadline_ns);
    int error = deadline_ns == never
                    ? ::pthread_mutex_lock(&lock.mutex)
                    : ::pthread_mutex_clocklock(&lock.mutex, CLOCK_MONOTONIC, &end);
    if (error == EOWNERDEAD) {
      repair(lock, shared);
      error = 0;
    }
    if (error != 0)
      lock_ = nullptr;
    outcome_ = error != 0 ? Outcome::timed_out : shared.broken ? Outcome::broken : Outcome::done;
  }
  ~Held() {
    if (lock_)
      ::pthread_mutex_unlock(&lock_->mutex);
  }
  Held(const Held&) = delete;
  Held& operator=(const Held&) = delete;

  // By who has just got the lock of a holder that died.
  static void repair(EndLock& lock, Shared& shared) noexcept {
    if (lock.within)
      shared.broken = true;
    ::pthread_mutex_consistent(&lock.mutex);
  }

  [[nodiscard]] Outcome outcome() const noexcept { return outcome_; }
  // From the first byte of a message to its last.
  void within(bool now) noexcept { lock_->within = now; }

private:
  EndLock* lock_;
  Outcome outcome_;
};

FeederQueue::Shared& FeederQueue::shared() const noexcept {
  return *memory_.as<Shared>();
}

FeederQueue::FeederQueue(std::size_t bound)
    : memory_(Mapping::shared_memory(sizeof(Shared))), pipe_(make_pipe()) {
  auto* shared = new (memory_.data()) Shared;
  shared->bounded = bound != unbounded;
  const auto places = static_cast<unsigned>(std::min<std::size_t>(bound, SEM_VALUE_MAX));
  check(::sem_init(&shared->places, 1, places), "sem_init");
  shared->reading.init();
  shared->writing.init();
  // Neither side ever waits within read or write, so that each can be called away.
  for (const Fd* end : {&pipe_.read, &pipe_.write})
    check(::fcntl(end->get(), F_SETFL, O_NONBLOCK), "fcntl(O_NONBLOCK)");
}

FeederQueue::~FeederQueue() {
  stopping_ = true;
  if (stop_)
    ::eventfd_write(stop_.get(), 1);
  {
    const std::lock_guard lock(mutex_);
    closing_ = true;
    items_.clear();
  }
  changed_.notify_all();
}

void FeederQueue::join(Side side) noexcept {
  (side == Side::sender ? pipe_.read : pipe_.write) = Fd();
  if (side == Side::sender)
    count_as_putter();
}

void FeederQueue::count_as_putter() noexcept {
  if (!std::exchange(putter_, true))
    ++shared().putters;
}

Outcome FeederQueue::put(Bytes item, std::int64_t deadline_ns) {
  return put([item = std::move(item)] { return item; }, deadline_ns);
}

Outcome FeederQueue::put(Encode item, std::int64_t deadline_ns) {
  if (const Outcome outcome = take_place(deadline_ns); outcome != Outcome::done)
    return outcome;
  {
    const std::lock_guard lock(mutex_);
    items_.push_back(std::move(item));
    if (!feeder_.joinable()) {
      count_as_putter();
      // Not before: a fork would share it, and who goes would call the feeders of all away.
      stop_ = Fd(check(::eventfd(0, EFD_CLOEXEC), "eventfd"));
      feeder_ = Thread({.name = "feeder"}, [this] { feed(); });
    }
  }
  changed_.notify_all();
  return Outcome::done;
}

// Nobody gives places back in a queue that has broken meanwhile.
Outcome FeederQueue::take_place(std::int64_t deadline_ns) noexcept {
  while (shared().bounded && !shared().broken) {
    const timespec end = clock::to_timespec(std::min(deadline_ns, clock::now_ns() + look_again_ns));
    if (::sem_clockwait(&shared().places, CLOCK_MONOTONIC, &end) == 0)
      break;
    if (errno == ETIMEDOUT && clock::now_ns() >= deadline_ns)
      return Outcome::timed_out;
  }
  return shared().broken ? Outcome::broken : Outcome::done;
}

void FeederQueue::close() {
  {
    const std::lock_guard lock(mutex_);
    if (!std::exchange(closing_, true) && putter_ && !feeder_.joinable()) {
      ++shared().closed;
      pipe_.write = Fd();
    }
  }
  changed_.notify_all();
}

void FeederQueue::join_feeder() {
  join_feeder_for(never);
}

bool FeederQueue::join_feeder_for(std::int64_t timeout_ns) {
  std::unique_lock lock(mutex_);
  const auto ended = [this] { return fed_ || !feeder_.joinable(); };
  if (timeout_ns == never)
    changed_.wait(lock, ended);
  else
    changed_.wait_for(lock, std::chrono::nanoseconds(timeout_ns), ended);
  return ended();
}

void FeederQueue::feed() {
  sigset_t pipe;
  ::sigemptyset(&pipe);
  ::sigaddset(&pipe, SIGPIPE);
  ::pthread_sigmask(SIG_BLOCK, &pipe, nullptr);
  std::unique_lock lock(mutex_);
  Outcome outcome = Outcome::done;
  while (outcome == Outcome::done) {
    changed_.wait(lock, [this] { return !items_.empty() || closing_; });
    if (items_.empty())
      break;
    const Encode encode = std::move(items_.front());
    items_.pop_front();
    lock.unlock();
    try {
      outcome = write_message(encode());
    } catch (...) {
      ++dropped_;
      ::sem_post(&shared().places);
    }
    lock.lock();
  }
  if (outcome == Outcome::done)
    ++shared().closed;
  pipe_.write = Fd();
  fed_ = true;
  changed_.notify_all();
}

Outcome FeederQueue::write_message(const Bytes& bytes) noexcept {
  // Who holds the lock may itself wait for a pipe that nobody reads.
  std::optional<Held> held;
  do
    held.emplace(shared().writing, shared(), clock::now_ns() + look_again_ns);
  while (held->outcome() == Outcome::timed_out && !stopping_);
  if (held->outcome() != Outcome::done)
    return held->outcome();
  const Length length = bytes.size();
  std::byte head[sizeof length];
  std::memcpy(head, &length, sizeof length);
  held->within(true);
  // A pipe takes so little at once or not at all.
  Outcome outcome = write_all(head, sizeof head);
  const bool begun = outcome == Outcome::done;
  if (begun)
    outcome = write_all(bytes.data(), bytes.size());
  if (outcome == Outcome::done || (outcome == Outcome::timed_out && !begun))
    held->within(false);
  else
    shared().broken = true;
  return outcome;
}

Outcome FeederQueue::write_all(const std::byte* from, std::size_t size) noexcept {
  for (std::size_t done = 0; done < size;) {
    const ssize_t wrote = ::write(pipe_.write.get(), from + done, size - done);
    ++sent_.calls;
    if (wrote > 0) {
      done += static_cast<std::size_t>(wrote);
      sent_.kernel_bytes += static_cast<std::uint64_t>(wrote);
    } else if (errno != EAGAIN && errno != EINTR) {
      return Outcome::gone;  // nobody can get any more
    }
    if (done == size)
      break;
    pollfd doors[2] = {{.fd = pipe_.write.get(), .events = POLLOUT, .revents = 0},
                       {.fd = stop_.get(), .events = POLLIN, .revents = 0}};
    ::poll(doors, 2, -1);
    if (doors[1].revents)
      return Outcome::timed_out;
  }
  return Outcome::done;
}

Outcome FeederQueue::get(Bytes& item, std::int64_t deadline_ns) {
  Held held(shared().reading, shared(), deadline_ns);
  if (held.outcome() != Outcome::done)
    return held.outcome();
  Outcome outcome = wait_for_message(deadline_ns);
  if (outcome != Outcome::done)
    return outcome;
  // From its first byte on a message is read to its end, whatever the deadline: half of one is
  // none.
  held.within(true);
  Length length = 0;
  std::byte head[sizeof length];
  outcome = read_all(head, sizeof head);
  if (outcome == Outcome::closed || outcome == Outcome::gone) {
    held.within(false);
    return outcome;
  }
  if (outcome == Outcome::done) {
    std::memcpy(&length, head, sizeof length);
    outcome = read_body(item, length);
  }
  if (outcome != Outcome::done) {
    shared().broken = true;
    return Outcome::broken;
  }
  held.within(false);
  if (shared().bounded)
    ::sem_post(&shared().places);
  return Outcome::done;
}

// Until there is something to read, or the end of the stream.
Outcome FeederQueue::wait_for_message(std::int64_t deadline_ns) noexcept {
  for (;;) {
    const std::int64_t left_ns =
        deadline_ns == never ? look_again_ns : deadline_ns - clock::now_ns();
    const timespec slice = clock::to_timespec(std::clamp<std::int64_t>(left_ns, 0, look_again_ns));
    pollfd door{.fd = pipe_.read.get(), .events = POLLIN, .revents = 0};
    if (::ppoll(&door, 1, &slice, nullptr) > 0)
      return Outcome::done;
    if (shared().broken || writer_died())
      return Outcome::broken;
    if (left_ns <= 0)
      return Outcome::timed_out;
  }
}

// Within a message. As long as another putter lives the pipe has no end that would tell.
bool FeederQueue::writer_died() noexcept {
  EndLock& writing = shared().writing;
  const int error = ::pthread_mutex_trylock(&writing.mutex);
  if (error == EBUSY)
    return false;
  if (error == EOWNERDEAD)
    Held::repair(writing, shared());
  ::pthread_mutex_unlock(&writing.mutex);
  return shared().broken;
}

Outcome FeederQueue::read_body(Bytes& item, std::uint64_t length) noexcept {
  try {
    item.resize(length);
  } catch (const std::exception&) {
    return Outcome::too_long;
  }
  return read_all(item.data(), length);
}

Outcome FeederQueue::read_all(std::byte* to, std::size_t size) noexcept {
  for (std::size_t done = 0; done < size;) {
    const ssize_t got = ::read(pipe_.read.get(), to + done, size - done);
    ++received_.calls;
    if (got > 0) {
      done += static_cast<std::size_t>(got);
      received_.kernel_bytes += static_cast<std::uint64_t>(got);
      continue;
    }
    if (got == 0)
      return done > 0 ? Outcome::broken : at_end_of_stream();
    if (const Outcome outcome = wait_for_message(never); outcome != Outcome::done)
      return outcome;
  }
  return Outcome::done;
}

Outcome FeederQueue::at_end_of_stream() const noexcept {
  return shared().closed == shared().putters ? Outcome::closed : Outcome::gone;
}

Traffic FeederQueue::traffic(Side side) const noexcept {
  const Counts& counts = side == Side::sender ? sent_ : received_;
  return {.kernel_bytes = counts.kernel_bytes, .copied_bytes = 0, .calls = counts.calls};
}

}  // namespace schedlab::procs
