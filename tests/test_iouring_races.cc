// Races that happen, counted: each outcome often enough, never both, never neither, and nothing
// that was sent is lost. A seed replays a sweep of delays.

#include "iouring/perform.hh"
#include "iouring/to_thread.hh"
#include "lab/base/child.hh"
#include "lab/base/random.hh"
#include "tests/iouring_case.hh"

#include <fcntl.h>
#include <signal.h>
#include <sys/time.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <chrono>
#include <functional>
#include <limits>
#include <thread>

using namespace schedlab;
using namespace schedlab::iouring;
using namespace schedlab::testing;
using namespace std::chrono_literals;

namespace {

constexpr int races = 10'000;

void spin(std::uint64_t rounds) {
  for (; rounds > 0; --rounds)
    std::atomic_signal_fence(std::memory_order_seq_cst);
}

// A thread that writes one byte for each word it is given, some time later.
class LateWriter {
public:
  LateWriter(const Fd& fd, std::uint64_t seed) : thread_([this, &fd, seed] { write(fd, seed); }) {}
  ~LateWriter() { wanted_.store(over, std::memory_order_release); }
  void tell() { wanted_.fetch_add(1, std::memory_order_release); }
  // Writes later after races that its byte won, and earlier after others: whatever the machine, and
  // a sanitizer, make of a delay, both sides win some.
  void steer(bool won) {
    const std::uint64_t most = most_rounds_.load(std::memory_order_relaxed);
    const std::uint64_t step = most / 64 + 1;
    most_rounds_.store(won ? std::min(most + step, longest) : std::max(most - step, shortest),
                       std::memory_order_relaxed);
  }

private:
  static constexpr int over = std::numeric_limits<int>::max();
  static constexpr std::uint64_t shortest = 100, longest = 1'000'000;
  void write(const Fd& fd, std::uint64_t seed) {
    Random random(seed);
    for (int done = 0;; ++done) {
      int wanted = 0;
      while ((wanted = wanted_.load(std::memory_order_acquire)) <= done)
        std::this_thread::yield();
      if (wanted == over)
        return;
      spin(random.below(most_rounds_.load(std::memory_order_relaxed)));
      static_cast<void>(!::write(fd.get(), "x", 1));
    }
  }

  std::atomic<int> wanted_ = 0;
  std::atomic<std::uint64_t> most_rounds_ = 400;
  std::jthread thread_;
};

struct Outcomes {
  int received = 0;
  int cut_short = 0;  // cancelled, or out of time
  int neither = 0;
  int lost = 0;  // bytes that nobody got
};

void check_outcomes(const Outcomes& seen, int count) {
  BOOST_TEST_MESSAGE(seen.received << " received, " << seen.cut_short << " cut short, of "
                                   << count);
  BOOST_TEST(seen.received >= count / 20);
  BOOST_TEST(seen.cut_short >= count / 20);
  BOOST_TEST(seen.neither == 0);
  BOOST_TEST(seen.lost == 0);
  BOOST_TEST(seen.received + seen.cut_short == count);
}

// Receives the byte of a race; both sides win some on any machine. What is not received must come
// to the next to receive, soon: within `patience_ns`.
class Racer {
public:
  Racer(DriverChoice choice, const Pair& pair, std::int64_t patience_ns)
      : bench_(choice), pair_(pair), patience_ns_(patience_ns), writer_(pair.far, 7) {}

  // Cancels after a while.
  int cancel() {
    Recorded operation;
    operation.request = moving(Op::recv, pair_.near, area_);
    bench_->submit(operation.request, operation);
    bench_->wait(0);
    writer_.tell();
    if (random_.below(2) == 0)
      bench_->wait(static_cast<std::int64_t>(random_.below(200'000)));
    if (!operation.ended())
      bench_->cancel(operation);
    return end(operation);
  }
  // With a limit of time; in one of ten it is over for certain, in another never.
  int limit() {
    const auto which = random_.below(10);
    Recorded operation;
    operation.request = moving(Op::recv, pair_.near, area_);
    operation.request.timeout_ns = which == 0   ? 1'000
                                   : which == 1 ? 10'000'000'000
                                                : 1 + static_cast<int>(random_.below(120'000));
    bench_->submit(operation.request, operation);
    if (which != 0)
      writer_.tell();
    const int result = end(operation);
    if (which == 0)
      writer_.tell();
    return result;
  }
  void note(int result) {
    writer_.steer(result == 1);
    if (result == 1)
      ++seen.received;
    else
      ++(result == -ECANCELED || result == -ETIME ? seen.cut_short : seen.neither);
    if (result == 1)
      return;
    Request rest = moving(Op::recv, pair_.near, area_);
    rest.timeout_ns = patience_ns_;
    if (bench_.run(rest) != 1)
      ++seen.lost;
  }

  Outcomes seen;

private:
  int end(Recorded& operation) {
    bench_.end(operation);
    BOOST_TEST_REQUIRE(operation.ends.size() == 1u);
    return operation.result();
  }

  Bench bench_;
  const Pair& pair_;
  std::int64_t patience_ns_;
  LateWriter writer_;
  Random random_{8};
  std::array<char, 1> area_{};
};

constexpr std::int64_t patience_ns = 20'000'000'000;

bool nothing_is_left(const Pair& pair) {
  char byte;
  return ::recv(pair.near.get(), &byte, 1, MSG_DONTWAIT) == -1;
}

Task<bool> receive_one(int fd) {
  char byte = 0;
  co_return co_await perform({.op = Op::recv, .fd = fd, .length = 1, .address = &byte}) == 1;
}

Task<bool> is_received(Running<bool>& running) {
  try {
    co_return co_await running;
  } catch (const Cancelled&) {
  }
  co_return false;
}

Task<> race_tasks(const Pair& pair, Outcomes& seen) {
  LateWriter writer(pair.far, 9);
  Random random(10);
  for (int i = 0; i < races; ++i) {
    auto running = create_task(receive_one(pair.near.get()));
    co_await turns(1);
    writer.tell();
    if (random.below(2) == 0)
      co_await sleep_for(std::chrono::nanoseconds(random.below(200'000)));
    running.cancel();
    const bool won = co_await is_received(running);
    writer.steer(won);
    ++(won ? seen.received : seen.cut_short);
    if (!won && !co_await receive_one(pair.near.get()))
      ++seen.lost;
  }
}

std::atomic<int> signals = 0;

// Interrupts this thread again and again.
void begin_interrupting() {
  struct sigaction action {};
  action.sa_handler = [](int) { signals.fetch_add(1); };  // without SA_RESTART
  ::sigaction(SIGALRM, &action, nullptr);
  const itimerval often{{0, 300}, {0, 300}};
  ::setitimer(ITIMER_REAL, &often, nullptr);
}

Task<> send_numbers(int fd, int count) {
  for (int i = 0; i < count; ++i) {
    co_await perform({.op = Op::send, .fd = fd, .length = sizeof i, .address = &i}, "send");
    if (i % 8 == 0)
      co_await sleep_for(200us);
  }
}

Task<int> receive_numbers(int fd, int count) {
  int wrong = 0;
  for (int i = 0; i < count; ++i) {
    int number = -1;
    const int size = co_await perform({.op = Op::recv,
                                       .fd = fd,
                                       .flags = MSG_WAITALL,
                                       .length = sizeof number,
                                       .address = &number},
                                      "recv");
    wrong += size != sizeof number || number != i;
  }
  co_return wrong;
}

Task<bool> work_under_signals() {
  constexpr int count = 2'000;
  const Pair pair;
  auto sending = create_task(send_numbers(pair.far.get(), count));
  auto receiving = create_task(receive_numbers(pair.near.get(), count));
  int in_threads = 0;
  for (int i = 0; i < 50; ++i)
    in_threads += co_await to_thread([] {
      const timespec rest{0, 500'000};
      return ::nanosleep(&rest, nullptr) == 0 ? 1 : 0;  // its thread takes no signals
    });
  co_await sending;
  const int wrong = co_await receiving;
  co_return wrong == 0 && in_threads == 50 && signals.load() >= 50;
}

}  // namespace

BOOST_DATA_TEST_CASE(a_cancel_races_with_the_data_and_none_are_lost, on_all_drivers, choice) {
  const Pair pair;
  Racer racer(choice, pair, patience_ns);
  for (int i = 0; i < races; ++i)
    racer.note(racer.cancel());
  check_outcomes(racer.seen, races);
  BOOST_TEST(nothing_is_left(pair));  // no byte twice
}

BOOST_DATA_TEST_CASE(a_limit_of_time_races_with_the_data_and_none_are_lost, on_all_drivers,
                     choice) {
  // With io_uring both orders of a request and its linked timeout: the kernel tells of the time
  // first when it was over, and of the request first when it succeeded.
  const Pair pair;
  Racer racer(choice, pair, patience_ns);
  for (int i = 0; i < races; ++i)
    racer.note(racer.limit());
  check_outcomes(racer.seen, races);
  BOOST_TEST(nothing_is_left(pair));
}

BOOST_DATA_TEST_CASE(a_race_that_takes_a_success_for_a_cancel_is_seen_to_lose_data, on_all_drivers,
                     choice) {
  const Pair pair;
  Racer racer(choice, pair, 2'000'000);
  for (int i = 0; i < 200; ++i) {
    const int result = racer.limit();
    racer.note(result == 1 ? -ETIME : result);
  }
  BOOST_TEST(racer.seen.lost > 0);
}

BOOST_DATA_TEST_CASE(cancelling_a_task_races_with_its_data_and_none_are_lost, on_all_drivers,
                     choice) {
  const Pair pair;
  Outcomes seen;
  Loop loop(on(choice));
  loop.run(race_tasks(pair, seen));
  check_outcomes(seen, races);
  BOOST_TEST(nothing_is_left(pair));
}

BOOST_DATA_TEST_CASE(signals_that_interrupt_every_wait_lose_nothing, on_all_drivers, choice) {
  const bool right = Child::fork([choice] {
                       begin_interrupting();
                       Loop loop(on(choice));
                       return loop.run(work_under_signals()) ? 0 : 1;
                     })
                         .wait()
                         .success();
  BOOST_TEST(right);
}
