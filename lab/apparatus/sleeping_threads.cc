// What the sleepers of a loop stand beside: a thread for each, and a kernel's timer for each.

#include "lab/apparatus/sleepers.hh"
#include "lab/apparatus/team.hh"
#include "lab/base/clock.hh"
#include "lab/base/error.hh"
#include "lab/base/fd.hh"

#include <pthread.h>
#include <sys/epoll.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/timerfd.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <optional>

namespace schedlab::apparatus {

namespace {

constexpr std::int64_t least_lead_ns = 300'000;
constexpr std::int64_t lead_of_a_thread_ns = 15'000;
constexpr std::int64_t lead_of_a_timerfd_ns = 1'500;
constexpr std::uint64_t spare_files = 64;

// Bytes of the calling thread's stack, its thread-local data included, that lie in memory.
std::uint64_t resident_stack() noexcept {
  pthread_attr_t attributes;
  if (::pthread_getattr_np(::pthread_self(), &attributes) != 0)
    return 0;
  void* begin = nullptr;
  std::size_t size = 0;
  ::pthread_attr_getstack(&attributes, &begin, &size);
  ::pthread_attr_destroy(&attributes);
  const std::size_t page = page_size();
  std::array<unsigned char, 64> resident;
  std::uint64_t bytes = 0;
  auto* at = static_cast<std::byte*>(begin);
  for (std::size_t left = size; left >= page;) {
    const std::size_t pages = std::min(left / page, resident.size());
    if (::mincore(at, pages * page, resident.data()) == 0)
      for (std::size_t i = 0; i < pages; ++i)
        bytes += resident[i] & 1 ? page : 0;
    at += pages * page;
    left -= pages * page;
  }
  return bytes;
}

// A thread for each, all on one CPU.
class ThreadSleepers final : public harness::Subject {
public:
  explicit ThreadSleepers(const SleepersOptions& options)
      : options_(options), table_(options),
        lead_(least_lead_ns + lead_of_a_thread_ns * static_cast<std::int64_t>(options.sleepers)),
        team_({.slack_ns = options.slack_ns},
              std::vector<std::optional<unsigned>>(options.sleepers, options.cpu), options.usable,
              [this](unsigned me, std::uint64_t rounds) { role(me, rounds); }) {
    team_.start(0);
    team_.finish();
  }

  harness::Sample sample(std::uint64_t operations) override {
    stand_on(options_.cpu, options_.usable);
    harness::Sample sample;
    lead_.play([&](std::int64_t lead_ns) {
      table_.plan(operations, clock::now_ns() + lead_ns);
      attempt(operations, sample);
      return last_set_ns_.load(std::memory_order_relaxed) - begun_ns_;
    });
    table_.fill_in(sample);
    return sample;
  }
  std::vector<harness::Check> checks() override { return {table_.check(), lead_.check()}; }

private:
  void attempt(std::uint64_t operations, harness::Sample& sample) {
    last_set_ns_.store(0, std::memory_order_relaxed);
    const auto cpu_ns = clock::process_cpu_ns();
    const auto begin = clock::begin();
    begun_ns_ = clock::now_ns();
    team_.start(operations);
    const auto records = team_.finish();
    const auto end = clock::end();
    const auto used_ns = clock::process_cpu_ns() - cpu_ns;
    sample = {};
    sample.operations = operations;
    sample.elapsed_ns = clock::ns(begin, end);
    const std::vector<std::optional<unsigned>> places(options_.sleepers, options_.cpu);
    sample.proof = prove(records, places, sample.elapsed_ns, false);
    sample.proof.expected_switches = table_.sleeps();
    sample.proof.most_switches = 4 * table_.sleeps();  // who wakes may preempt who runs
    sample.values[options_.cpu_time] =
        static_cast<double>(used_ns) / static_cast<double>(table_.sleeps());
    sample.values[options_.calls] = 1;
    sample.values[options_.memory] =
        static_cast<double>(stacks_.load()) / static_cast<double>(options_.sleepers);
  }

  void role(unsigned me, std::uint64_t rounds) noexcept {
    if (rounds == 0) {
      stacks_.fetch_add(resident_stack());
      return;
    }
    for (std::uint64_t round = 0; round < rounds; ++round) {
      if (round == 0)
        set_at(clock::now_ns());
      clock::sleep_until(table_.due_ns(me, round));
      table_.note(me, round, clock::now_ns());
    }
  }
  void set_at(std::int64_t now_ns) noexcept {
    std::int64_t last = last_set_ns_.load(std::memory_order_relaxed);
    while (last < now_ns && !last_set_ns_.compare_exchange_weak(last, now_ns)) {
    }
  }

  SleepersOptions options_;
  Timetable table_;
  Lead lead_;
  std::int64_t begun_ns_ = 0;
  std::atomic<std::int64_t> last_set_ns_{0};
  std::atomic<std::uint64_t> stacks_{0};
  Team team_;  // last: its members use the rest
};

// A timer of the kernel for each, and one thread that waits for all.
class TimerfdSleepers final : public harness::Subject {
public:
  explicit TimerfdSleepers(const SleepersOptions& options)
      : options_(options), table_(options),
        lead_(least_lead_ns + lead_of_a_timerfd_ns * static_cast<std::int64_t>(options.sleepers)),
        epoll_(check(::epoll_create1(EPOLL_CLOEXEC), "epoll_create1")),
        rounds_of_(options.sleepers) {
    for (std::uint64_t i = 0; i < options.sleepers; ++i) {
      timers_.emplace_back(
          check(::timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC | TFD_NONBLOCK), "timerfd_create"));
      epoll_event wanted{};
      wanted.events = EPOLLIN;
      wanted.data.u64 = i;
      check(::epoll_ctl(epoll_.get(), EPOLL_CTL_ADD, timers_.back().get(), &wanted), "epoll_ctl");
    }
  }

  harness::Sample sample(std::uint64_t operations) override {
    stand_on(options_.cpu, options_.usable);
    const TaskScope scope({.slack_ns = options_.slack_ns});
    harness::Sample sample;
    lead_.play([&](std::int64_t lead_ns) {
      table_.plan(operations, clock::now_ns() + lead_ns);
      return attempt(operations, sample);
    });
    table_.fill_in(sample);
    return sample;
  }
  std::vector<harness::Check> checks() override { return {table_.check(), lead_.check()}; }

private:
  // How long it took to set all of them.
  std::int64_t attempt(std::uint64_t operations, harness::Sample& sample) {
    std::ranges::fill(rounds_of_, std::uint64_t{0});
    calls_ = 0;
    witness_.begin();
    const auto cpu_ns = clock::process_cpu_ns();
    const auto begin = clock::begin();
    const std::int64_t begun_ns = clock::now_ns();
    for (std::uint64_t i = 0; i < options_.sleepers; ++i)
      set(i, 0);
    const std::int64_t set_ns = clock::now_ns() - begun_ns;
    wait_for_all(operations);
    const auto end = clock::end();
    const auto used_ns = clock::process_cpu_ns() - cpu_ns;
    const TaskRecord record = witness_.end();
    const auto sleeps = static_cast<double>(table_.sleeps());
    sample = {};
    sample.operations = operations;
    sample.elapsed_ns = clock::ns(begin, end);
    sample.proof = prove(record, options_.cpu, sample.elapsed_ns, false);
    sample.values[options_.cpu_time] = static_cast<double>(used_ns) / sleeps;
    sample.values[options_.calls] = static_cast<double>(calls_) / sleeps;
    return set_ns;
  }

  void set(std::uint64_t sleeper, std::uint64_t round) noexcept {
    itimerspec due{};
    due.it_value = clock::to_timespec(table_.due_ns(sleeper, round));
    ++calls_;
    ::timerfd_settime(timers_[sleeper].get(), TFD_TIMER_ABSTIME, &due, nullptr);
  }

  void wait_for_all(std::uint64_t rounds) noexcept {
    std::array<epoll_event, 256> events;
    for (std::uint64_t left = rounds * options_.sleepers; left > 0;) {
      ++calls_;
      const int count =
          ::epoll_wait(epoll_.get(), events.data(), static_cast<int>(events.size()), -1);
      for (int i = 0; i < count; ++i) {
        const std::uint64_t sleeper = events[static_cast<std::size_t>(i)].data.u64;
        std::uint64_t expirations = 0;
        ++calls_;
        if (::read(timers_[sleeper].get(), &expirations, sizeof expirations) < 0)
          continue;
        const std::uint64_t round = rounds_of_[sleeper]++;
        table_.note(sleeper, round, clock::now_ns());
        --left;
        if (round + 1 < rounds)
          set(sleeper, round + 1);
      }
    }
  }

  SleepersOptions options_;
  Timetable table_;
  Lead lead_;
  Fd epoll_;
  std::vector<Fd> timers_;
  std::vector<std::uint64_t> rounds_of_;  // that each has slept
  std::uint64_t calls_ = 0;
  Witness witness_;
};

}  // namespace

std::string too_many_timerfds(std::uint64_t sleepers) {
  rlimit limit{};
  ::getrlimit(RLIMIT_NOFILE, &limit);
  if (limit.rlim_cur == RLIM_INFINITY || sleepers + spare_files <= limit.rlim_cur)
    return "";
  return "a timerfd for each takes " + std::to_string(sleepers) + " open files, and " +
         std::to_string(limit.rlim_cur) + " are allowed; raise ulimit -n";
}

std::unique_ptr<harness::Subject> make_thread_sleepers(const SleepersOptions& options) {
  return std::make_unique<ThreadSleepers>(options);
}
std::unique_ptr<harness::Subject> make_timerfd_sleepers(const SleepersOptions& options) {
  return std::make_unique<TimerfdSleepers>(options);
}

}  // namespace schedlab::apparatus
