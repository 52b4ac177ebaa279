// A second method for io_wakeup, of plain libc: a process wakes another at fixed times, and gets no
// answer or is woken by one of the same kind, for which it sleeps. The stamp of CLOCK_MONOTONIC
// travels with the wake-up, as the message of a pipe, in a shared page beside an eventfd or a futex
// word; whoever is woken subtracts it from its own reading. Who had not waited for long when the
// stamp was made is left out: he may have been awake. Prints the median over fresh processes of the
// median one-way nanoseconds, of the median nanoseconds of the waking call, and of the sleeps for
// one wake-up.
//
//   second_rest CPU CPU eventfd|futex|pipe alone|answered INTERVAL_US WAKEUPS REPETITIONS
#include "tests/peers/second.hh"

#include <linux/futex.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <atomic>
#include <csignal>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <new>
#include <string_view>
#include <vector>

using namespace second;

namespace {

constexpr std::size_t most = 1 << 16;
constexpr std::int64_t start_up = 20'000'000;    // until both are there
constexpr std::int64_t falling_asleep = 20'000;  // who waits for less long may still be awake
constexpr std::int64_t was_awake = -1;

// What an eventfd or a futex needs beside it to carry a stamp.
struct Line {
  std::atomic<std::uint32_t> word{0};
  std::atomic<std::int64_t> sent[most];
};

struct Shared {
  Line there;
  Line back;
  std::int64_t called[most];
  std::int64_t seen[most];
  long sleeps = 0;
};

struct Plan {
  std::size_t cpus[2];
  std::string_view mechanism;
  bool answered;
  std::int64_t interval;  // from a call, or its answer, to the next call
  std::size_t wakeups;
};

struct Reading {
  double one_way;
  double call;
  double sleeps;
};

class Wire {
public:
  Wire(Line& line, std::string_view mechanism) : line_(line), mechanism_(mechanism) {
    if (mechanism == "pipe")
      must(::pipe(ends_), "pipe");
    else if (mechanism == "eventfd")
      must(ends_[0] = ends_[1] = ::eventfd(0, EFD_SEMAPHORE), "eventfd");
  }
  ~Wire() {
    ::close(ends_[0]);
    ::close(ends_[1]);
  }

  // Gives the stamp before the call.
  std::int64_t send(std::uint32_t number) {
    const std::int64_t stamp = now();
    if (mechanism_ == "pipe") {
      must(::write(ends_[1], &stamp, sizeof stamp), "write");
      return stamp;
    }
    line_.sent[number].store(stamp, std::memory_order_release);
    if (mechanism_ == "eventfd") {
      const std::uint64_t one = 1;
      must(::write(ends_[1], &one, sizeof one), "write");
    } else {
      line_.word.store(number + 1, std::memory_order_release);
      ::syscall(SYS_futex, &line_.word, FUTEX_WAKE, 1, nullptr, nullptr, 0);
    }
    return stamp;
  }

  // Gives the nanoseconds from the stamp until now, or was_awake.
  std::int64_t receive(std::uint32_t number) {
    const std::int64_t begin = now();
    std::int64_t stamp = await(number);
    const std::int64_t seen = now();
    if (mechanism_ != "pipe")
      stamp = line_.sent[number].load(std::memory_order_acquire);
    return stamp - begin < falling_asleep ? was_awake : seen - stamp;
  }

private:
  // Gives the stamp where it comes with the wake-up.
  std::int64_t await(std::uint32_t number) {
    std::int64_t stamp = 0;
    if (mechanism_ == "pipe") {
      must(::read(ends_[0], &stamp, sizeof stamp), "read");
      return stamp;
    }
    if (mechanism_ == "eventfd") {
      std::uint64_t count = 0;
      must(::read(ends_[0], &count, sizeof count), "read");
    } else {
      while (line_.word.load(std::memory_order_acquire) == number)
        ::syscall(SYS_futex, &line_.word, FUTEX_WAIT, number, nullptr, nullptr, 0);
    }
    return stamp;
  }

  Line& line_;
  std::string_view mechanism_;
  int ends_[2] = {-1, -1};
};

struct Wires {
  Wires(Shared& shared, std::string_view mechanism)
      : there(shared.there, mechanism), back(shared.back, mechanism) {}
  Wire there;
  Wire back;
};

void sleeper(Shared& shared, Wires& wires, const Plan& plan) {
  pin(plan.cpus[1]);
  rusage before{}, after{};
  ::getrusage(RUSAGE_SELF, &before);
  for (std::uint32_t i = 0; i < plan.wakeups; ++i) {
    shared.seen[i] = wires.there.receive(i);
    if (plan.answered)
      wires.back.send(i);
  }
  ::getrusage(RUSAGE_SELF, &after);
  shared.sleeps = after.ru_nvcsw - before.ru_nvcsw;
}

void waker(Shared& shared, Wires& wires, const Plan& plan) {
  pin(plan.cpus[0]);
  std::int64_t due = now() + start_up;
  for (std::uint32_t i = 0; i < plan.wakeups; ++i) {
    while (now() < due) {
    }
    const std::int64_t stamp = wires.there.send(i);
    shared.called[i] = now() - stamp;
    if (plan.answered)
      wires.back.receive(i);
    due = now() + plan.interval;
  }
}

double middle(const std::int64_t* values, std::size_t count) {
  std::vector<std::int64_t> all(values, values + count);
  std::erase(all, was_awake);
  if (all.empty())
    std::exit(1);
  return median(all, [](std::int64_t value) { return static_cast<double>(value); });
}

Reading measure(const Plan& plan) {
  void* page =
      ::mmap(nullptr, sizeof(Shared), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
  if (page == MAP_FAILED)
    must(-1, "mmap");
  auto* shared = new (page) Shared;
  {
    Wires wires(*shared, plan.mechanism);
    for (int side = 0; side < 2; ++side) {
      if (must(::fork(), "fork") > 0)
        continue;
      ::prctl(PR_SET_PDEATHSIG, SIGKILL);
      side == 0 ? waker(*shared, wires, plan) : sleeper(*shared, wires, plan);
      ::_exit(0);
    }
    for (int i = 0; i < 2; ++i) {
      int status = 0;
      must(::wait(&status), "wait");
      if (status != 0)
        std::exit(1);
    }
  }
  const Reading reading{middle(shared->seen, plan.wakeups), middle(shared->called, plan.wakeups),
                        static_cast<double>(shared->sleeps) / static_cast<double>(plan.wakeups)};
  ::munmap(page, sizeof(Shared));
  return reading;
}

}  // namespace

int main(int argc, char** argv) {
  if (argc != 8)
    return 2;
  const std::string_view mechanism = argv[3];
  const std::string_view answer = argv[4];
  const Plan plan{{number(argv[1]), number(argv[2])},
                  mechanism,
                  answer == "answered",
                  static_cast<std::int64_t>(number(argv[5])) * 1000,
                  number(argv[6])};
  const std::size_t repetitions = number(argv[7]);
  const bool known = (mechanism == "eventfd" || mechanism == "futex" || mechanism == "pipe") &&
                     (plan.answered || answer == "alone");
  if (!known || plan.wakeups == 0 || plan.wakeups > most || repetitions == 0 ||
      plan.cpus[0] == plan.cpus[1])
    return 2;
  std::vector<Reading> readings(repetitions);
  for (Reading& reading : readings)
    reading = measure(plan);
  std::printf("%.1f %.1f %.3f\n", median(readings, [](const Reading& r) { return r.one_way; }),
              median(readings, [](const Reading& r) { return r.call; }),
              median(readings, [](const Reading& r) { return r.sleeps; }));
  return 0;
}
