#include "affinity/pin.hh"
#include "lab/apparatus/handover.hh"
#include "lab/base/child.hh"
#include "lab/base/mapping.hh"
#include "procs/thread.hh"

#include <boost/test/unit_test.hpp>
#include <sys/resource.h>

#include <array>
#include <new>
#include <string>
#include <tuple>

using namespace schedlab;
using namespace schedlab::apparatus;

namespace {

constexpr std::uint32_t turns = 10'000;

// Loses a wake-up now and then, as a broken mechanism would.
struct Forgetful : FutexHandover<true> {
  using FutexHandover::FutexHandover;
  void give(int to) noexcept {
    if (++gives_ < turns / 2)
      FutexHandover::give(to);
  }

private:
  std::atomic<std::uint32_t> gives_{0};
};

// Never waits for its turn.
struct Impatient {
  explicit Impatient(bool) {}
  void give(int) noexcept {}
  void take(int) noexcept {}
};

// Who had the turn, in order. Only the holder of the turn writes: no read-modify-write, so that
// two holders at one time would lose entries.
struct Log {
  std::atomic<std::uint32_t> length{0};
  std::array<std::atomic<char>, turns> holders{};

  void add(char holder) noexcept {
    const auto at = length.load(std::memory_order_relaxed);
    if (at < turns)
      holders[at].store(holder, std::memory_order_relaxed);
    length.store(at + 1, std::memory_order_relaxed);
  }
  bool alternates() const noexcept {
    bool right = length == turns;
    for (std::uint32_t i = 0; i < turns; ++i)
      right = right && holders[i] == (i % 2 == 0 ? 'a' : 'b');
    return right;
  }
};

// What two tasks share, processes or not.
template <typename Mechanism>
struct Table {
  Log log;
  Mechanism mechanism;
  explicit Table(bool processes) : mechanism(processes) {}
};

template <typename Mechanism>
void play_first(Table<Mechanism>& table) noexcept {
  for (std::uint32_t i = 0; i < turns / 2; ++i) {
    table.log.add('a');
    table.mechanism.give(1);
    table.mechanism.take(0);
  }
}

template <typename Mechanism>
void play_second(Table<Mechanism>& table) noexcept {
  for (std::uint32_t i = 0; i < turns / 2; ++i) {
    table.mechanism.take(1);
    table.log.add('b');
    table.mechanism.give(0);
  }
}

struct Setting {
  bool processes;
  bool two_cpus;
};

enum Result { alternated, overlapped, unsupported };

template <typename Mechanism>
Result play(const Setting& setting) {
  const auto cpus = affinity::thread_affinity().cpus();
  const unsigned second = setting.two_cpus ? cpus[1] : cpus[0];
  const Mapping memory = Mapping::shared_memory(sizeof(Table<Mechanism>));
  auto& table = *new (memory.data()) Table<Mechanism>(setting.processes);
  affinity::bind_thread(0, {cpus[0]});
  if (setting.processes) {
    Child partner = Child::fork([&] {
      affinity::bind_thread(0, {second});
      play_second(table);
      return 0;
    });
    play_first(table);
    partner.wait();
  } else {
    procs::Thread partner({.name = "", .cpus = affinity::CpuSet{second}, .sched = {}},
                          [&] { play_second(table); });
    play_first(table);
    partner.join();
  }
  return table.log.alternates() ? alternated : overlapped;
}

// Plays in a process of its own, which is killed if it takes too long: a wake-up was lost.
template <typename Mechanism>
std::string played(const Setting& setting, int patience_ms = 60'000) {
  Child game = Child::fork([&]() -> int {
    try {
      return play<Mechanism>(setting);
    } catch (const Unsupported&) {
      return unsupported;
    }
  });
  const auto end = game.wait_for(patience_ms);
  if (!end)
    return "stuck";
  const std::array<std::string, 3> results = {"alternated", "overlapped", "unsupported"};
  return end->kind == ExitCause::Kind::exited ? results.at(static_cast<std::size_t>(end->value))
                                              : end->text();
}

using Mechanisms =
    std::tuple<PipeHandover, EventfdHandover, FutexHandover<false>, FutexHandover<true>,
               CondvarHandover, UnixHandover, MessageQueueHandover>;

std::vector<Setting> settings() {
  std::vector<Setting> all = {{false, false}, {true, false}};
  if (affinity::thread_affinity().count() > 1)
    all.insert(all.end(), {{false, true}, {true, true}});
  return all;
}

}  // namespace

BOOST_AUTO_TEST_CASE_TEMPLATE(the_turn_alternates_strictly_between_two_tasks, Mechanism,
                              Mechanisms) {
  constexpr bool threads_only = std::is_same_v<Mechanism, FutexHandover<false>>;
  for (const auto& setting : settings()) {
    if (threads_only && setting.processes)
      continue;  // its partner would sleep on another word
    const std::string result = played<Mechanism>(setting);
    if (result == "unsupported")
      BOOST_TEST_MESSAGE("this kernel lacks the mechanism");
    else
      BOOST_TEST(result == "alternated", result << (setting.processes ? ", processes" : ", threads")
                                                << (setting.two_cpus ? ", two CPUs" : ", one CPU"));
  }
}

// The control of the watchdog: each of the cases above would hang on a lost wake-up.
BOOST_AUTO_TEST_CASE(a_lost_wake_up_hits_the_watchdog) {
  for (const auto& setting : settings())
    BOOST_TEST(played<Forgetful>(setting, 1000) == "stuck");
}

// The control of the log.
BOOST_AUTO_TEST_CASE(tasks_that_do_not_wait_for_their_turn_are_found_out) {
  for (const auto& setting : settings())
    BOOST_TEST(played<Impatient>(setting) == "overlapped");
}

BOOST_AUTO_TEST_CASE_TEMPLATE(a_task_alone_hands_over_to_itself, Mechanism, Mechanisms) {
  Child alone = Child::fork([]() -> int {
    try {
      Mechanism mechanism(false);
      for (std::uint32_t i = 0; i < turns; ++i) {
        mechanism.give(0);
        mechanism.take(0);
      }
      return alternated;
    } catch (const Unsupported&) {
      return unsupported;
    }
  });
  const auto end = alone.wait_for(60'000);
  BOOST_TEST_REQUIRE(end.has_value(), "it waits for ever");
  BOOST_TEST((end->value == alternated || end->value == unsupported));
}

BOOST_AUTO_TEST_CASE(a_message_queue_that_cannot_be_had_says_which_limit_to_raise) {
  Child limited = Child::fork([] {
    const rlimit none{0, 0};
    ::setrlimit(RLIMIT_MSGQUEUE, &none);
    try {
      const MessageQueueHandover mechanism(false);
    } catch (const Unsupported& reason) {
      const std::string text = reason.what();
      return text.find("RLIMIT_MSGQUEUE") != text.npos || text.find("CONFIG") != text.npos ? 0 : 1;
    }
    return 2;
  });
  BOOST_TEST(limited.wait().text() == "exit status 0");
}

// The names of the queues are gone as soon as they exist, so that nothing stays when a run is
// killed, and two mechanisms may live together.
BOOST_AUTO_TEST_CASE(message_queues_leave_no_names) {
  try {
    const MessageQueueHandover first(false), second(false);
    const std::string name = "/schedlab-" + std::to_string(::getpid()) + "-0";
    BOOST_TEST(::mq_unlink(name.c_str()) == -1);
    BOOST_TEST(errno == ENOENT);
  } catch (const Unsupported& reason) {
    BOOST_TEST_MESSAGE(reason.what());
  }
}
