#include "lab/base/child.hh"
#include "lab/base/clock.hh"
#include "lab/base/error.hh"
#include "procs/barrier.hh"
#include "procs/condition.hh"
#include "procs/event.hh"
#include "procs/fair_mutex.hh"
#include "procs/mcs_lock.hh"
#include "procs/mutex.hh"
#include "procs/pi_mutex.hh"
#include "procs/robust_mutex.hh"
#include "procs/rw_lock.hh"
#include "procs/sealed_memory.hh"
#include "procs/semaphore.hh"
#include "procs/ticket_lock.hh"
#include "tests/left_behind.hh"
#include "tests/waits.hh"

#include <boost/test/unit_test.hpp>

#include <csignal>
#include <cstdlib>
#include <linux/filter.h>
#include <linux/futex.h>
#include <linux/seccomp.h>
#include <sched.h>
#include <sys/prctl.h>
#include <sys/syscall.h>

using namespace schedlab;
using namespace schedlab::procs;
using namespace std::chrono_literals;
using testing::asleep;
using testing::comes_true;

namespace {

using Number = std::atomic<std::uint64_t>;

// An object of several processes. Their mappings are the same, or an exec'd one's own.
template <typename T>
class Shared {
public:
  template <typename... Arguments>
  explicit Shared(const Arguments&... arguments)
      : memory_(SealedMemory::make(sizeof(T), "lock_deaths")),
        object_(new (memory_.data()) T(arguments...)) {}
  T* operator->() const noexcept { return object_; }
  T& operator*() const noexcept { return *object_; }
  [[nodiscard]] const Fd& fd() const noexcept { return memory_.fd(); }

private:
  SealedMemory memory_;
  T* object_;
};

// What a lock guards: two words that are equal whenever nobody has it.
template <typename Lock>
struct Guarded {
  Guarded() : lock(Sharing::processes) {}
  Lock lock;
  Number first{0};
  Number second{0};
  std::atomic<std::uint32_t> step{0};

  [[nodiscard]] bool whole() const { return first.load() == second.load(); }
};

void kill_now(Child& child) {
  child.signal(SIGKILL);
  BOOST_TEST((child.wait().text() == "killed by SIGKILL"));
}

[[noreturn]] void stay() {
  for (;;)
    ::pause();
}

// Runs until it is killed in the critical section, at a step: 1 before the first word is written, 2
// between the two, 3 after both.
template <typename Lock>
Child holder_at(Guarded<Lock>& guarded, std::uint32_t step) {
  guarded.step = 0;
  Child child = Child::fork([&guarded, step]() -> int {
    guarded.lock.lock();
    for (std::uint32_t now = 1;; ++now) {
      if (now == step) {
        guarded.step = now;
        stay();
      }
      (now == 1 ? guarded.first : guarded.second).fetch_add(1);
    }
  });
  BOOST_TEST(comes_true([&] { return guarded.step == step; }));
  return child;
}

bool is(const std::system_error& error, std::errc code) {
  return error.code() == code;
}
bool owner_dead(const std::system_error& error) {
  return is(error, std::errc::owner_dead);
}
bool not_recoverable(const std::system_error& error) {
  return is(error, std::errc::state_not_recoverable);
}

template <typename Lock>
struct Race {
  Lock lock{Sharing::processes};
  Number plain{0};
};
struct NodesInside {
  explicit NodesInside(Sharing) {}
  McsLock lock_{Patience{10}};
  McsLock::Node nodes[4];
  std::atomic<unsigned> next{0};
  McsLock::Node& own() {
    thread_local const unsigned mine = next.fetch_add(1);
    return nodes[mine];
  }
  void lock() { lock_.lock(own()); }
  void unlock() { lock_.unlock(own()); }
};
struct Tickets : TicketLock {
  explicit Tickets(Sharing) : TicketLock(Patience{10}) {}
};

template <typename Lock>
void race_of_processes() {
  constexpr std::uint64_t each = 5000;
  const Shared<Race<Lock>> race;
  std::vector<Child> children;
  for (int i = 0; i < 3; ++i)
    children.push_back(Child::fork([&race] {
      for (std::uint64_t turn = 0; turn < each; ++turn) {
        race->lock.lock();
        race->plain.store(race->plain.load(std::memory_order_relaxed) + 1,
                          std::memory_order_relaxed);
        if (turn % 256 == 0)
          ::sched_yield();
        race->lock.unlock();
      }
      return 0;
    }));
  for (auto& child : children)
    BOOST_TEST(child.wait().success());
  BOOST_TEST(race->plain.load() == 3 * each);
}

struct Belongs {
  testing::Belongings before = testing::belongings();
  ~Belongs() { BOOST_TEST(testing::belongings() == before); }
};

}  // namespace

BOOST_FIXTURE_TEST_SUITE(lock_deaths, Belongs)

BOOST_AUTO_TEST_CASE(processes_exclude_each_other) {
  race_of_processes<Mutex>();
  race_of_processes<FairMutex>();
  race_of_processes<Tickets>();
  race_of_processes<NodesInside>();
  race_of_processes<RobustMutex>();
  race_of_processes<PiMutex>();
  race_of_processes<RwLock>();
}

namespace {

constexpr const char* other_side = "LOCK_DEATHS_OTHER_SIDE";

// A program that was exec'd and maps the memory elsewhere.
[[noreturn]] void be_another_program() {
  const auto memory = SealedMemory::attach(Fd(9));
  auto& guarded = *memory.as<Guarded<RobustMutex>>();
  guarded.lock.lock();
  guarded.first.fetch_add(1);
  guarded.step = 1;
  stay();
}

}  // namespace

BOOST_AUTO_TEST_CASE(a_robust_mutex_works_across_exec_and_outlives_its_owner) {
  if (std::getenv(other_side))
    be_another_program();
  const Shared<Guarded<RobustMutex>> guarded;
  Child other = Child::exec({self_exe, "--run_test=lock_deaths/a_robust_mutex_works_across*"},
                            {.fds = {{guarded.fd().get(), 9}}, .environment = {{other_side, "1"}}});
  BOOST_TEST_REQUIRE(comes_true([&] { return guarded->step == 1; }));
  BOOST_TEST(!guarded->lock.try_lock());
  kill_now(other);
  BOOST_TEST(guarded->lock.lock([&] { guarded->second.store(guarded->first.load()); }));
  BOOST_TEST(guarded->whole());
  guarded->lock.unlock();
  BOOST_TEST(!guarded->lock.lock([] {}));
  guarded->lock.unlock();
}

BOOST_AUTO_TEST_CASE(whoever_dies_in_a_robust_mutex_at_whatever_step_the_next_one_repairs) {
  const Shared<Guarded<RobustMutex>> guarded;
  int torn = 0;
  for (int turn = 0; turn < 60; ++turn) {
    const auto step = static_cast<std::uint32_t>(turn % 3 + 1);
    Child holder = holder_at(*guarded, step);
    // Two wait already, one of whom dies as well, before or after the holder.
    Child waiter = Child::fork([&guarded] {
      guarded->lock.lock([&] { guarded->second.store(guarded->first.load()); });
      const bool whole = guarded->whole();
      guarded->lock.unlock();
      return whole ? 0 : 1;
    });
    Child victim = Child::fork([&guarded]() -> int {
      guarded->lock.lock([&] { guarded->second.store(guarded->first.load()); });
      stay();
    });
    BOOST_TEST_REQUIRE((asleep(waiter) && asleep(victim)));
    torn += guarded->whole() ? 0 : 1;
    if (turn % 2 == 0)
      kill_now(victim);
    kill_now(holder);
    if (turn % 2 != 0) {
      // It has the lock, or will; dead it leaves it to the other.
      BOOST_TEST(asleep(victim));
      kill_now(victim);
    }
    BOOST_TEST(waiter.wait().success());
    guarded->lock.lock([&] { guarded->second.store(guarded->first.load()); });
    BOOST_TEST(guarded->whole());
    guarded->lock.unlock();
  }
  BOOST_TEST(torn == 20);  // the deaths between the two words
}

BOOST_AUTO_TEST_CASE(a_holder_that_calls_exec_has_left_the_lock) {
  const Shared<Guarded<RobustMutex>> guarded;
  Child child = Child::fork([&guarded] {
    guarded->lock.lock();
    ::execl("/bin/true", "true", nullptr);
    return 1;
  });
  BOOST_TEST(child.wait().success());
  BOOST_TEST(guarded->lock.lock([] {}));
  guarded->lock.unlock();
}

BOOST_AUTO_TEST_CASE(what_nobody_repairs_nobody_gets_any_more) {
  const Shared<Guarded<RobustMutex>> guarded;
  Child holder = holder_at(*guarded, 2);
  kill_now(holder);
  BOOST_CHECK_EXCEPTION(guarded->lock.lock(), std::system_error, owner_dead);
  BOOST_CHECK_EXCEPTION(guarded->lock.lock(), std::system_error, not_recoverable);
  BOOST_CHECK_EXCEPTION(guarded->lock.try_lock(), std::system_error, not_recoverable);
  BOOST_CHECK_EXCEPTION(guarded->lock.lock([] {}), std::system_error, not_recoverable);

  const Shared<Guarded<RobustMutex>> another;
  holder = holder_at(*another, 2);
  kill_now(holder);
  BOOST_CHECK_THROW(
      another->lock.try_lock_for(1h, [] { throw std::length_error("beyond repair"); }),
      std::length_error);
  BOOST_CHECK_EXCEPTION(another->lock.lock([] {}), std::system_error, not_recoverable);
}

BOOST_AUTO_TEST_CASE(a_robust_mutex_gives_up_in_time) {
  const Shared<Guarded<RobustMutex>> guarded;
  Child holder = holder_at(*guarded, 1);
  BOOST_TEST(!guarded->lock.try_lock_for(2ms, [] {}));
  kill_now(holder);
  BOOST_TEST(guarded->lock.try_lock_for(2ms, [] {}));
  guarded->lock.unlock();
}

BOOST_AUTO_TEST_CASE(a_pi_mutex_whose_holder_dies_is_broken_for_all) {
  {
    const Shared<Guarded<PiMutex>> guarded;
    Child holder = holder_at(*guarded, 2);
    kill_now(holder);
    BOOST_CHECK_EXCEPTION(guarded->lock.lock(), std::system_error, owner_dead);
    BOOST_CHECK_EXCEPTION(guarded->lock.lock(), std::system_error, owner_dead);
    BOOST_TEST(!guarded->lock.try_lock());
  }
  const Shared<Guarded<PiMutex>> guarded;
  Child holder = holder_at(*guarded, 2);
  std::vector<Child> waiters;
  for (int i = 0; i < 2; ++i) {
    waiters.push_back(Child::fork([&guarded] {
      try {
        guarded->lock.lock();
      } catch (const std::system_error& error) {
        return owner_dead(error) ? 0 : 2;
      }
      return 1;
    }));
    BOOST_TEST_REQUIRE(asleep(waiters.back()));
  }
  kill_now(holder);
  for (auto& waiter : waiters)
    BOOST_TEST(waiter.wait().text() == "exit status 0");
  BOOST_CHECK_EXCEPTION(guarded->lock.lock(), std::system_error, owner_dead);
}

BOOST_AUTO_TEST_CASE(a_pi_mutex_is_known_by_the_number_of_the_thread_also_after_a_fork) {
  const Shared<Guarded<PiMutex>> guarded;
  guarded->lock.lock();  // this thread's number is known now
  guarded->lock.unlock();
  Child holder = holder_at(*guarded, 1);
  BOOST_TEST(!guarded->lock.try_lock());
  BOOST_TEST(!guarded->lock.try_lock_for(1ms));
  kill_now(holder);
}

// Without owners there is nothing that could come back: what the others are for.
BOOST_AUTO_TEST_CASE(plain_locks_stay_shut_after_their_holders) {
  const auto stays_shut = []<typename Lock>(std::type_identity<Lock>) {
    const Shared<Guarded<Lock>> guarded;
    Child holder = holder_at(*guarded, 2);
    kill_now(holder);
    BOOST_TEST(!guarded->lock.try_lock_for(20ms));
    BOOST_TEST(!guarded->whole());
  };
  stays_shut(std::type_identity<Mutex>());
  stays_shut(std::type_identity<FairMutex>());
  stays_shut(std::type_identity<RwLock>());
}

BOOST_AUTO_TEST_CASE(a_unit_dies_with_its_process_and_a_sleeper_leaves_the_semaphore_alone) {
  const Shared<Semaphore> semaphore(2U, Sharing::processes);
  Child owner = Child::fork([&semaphore]() -> int {
    semaphore->acquire();
    stay();
  });
  BOOST_TEST(comes_true([&] { return semaphore->available() == 1; }));
  kill_now(owner);
  BOOST_TEST(semaphore->try_acquire());
  BOOST_TEST(!semaphore->try_acquire_for(20ms));  // lost for good
  Child sleeper = Child::fork([&semaphore] {
    semaphore->acquire();
    return 0;
  });
  BOOST_TEST_REQUIRE(asleep(sleeper));
  kill_now(sleeper);
  semaphore->release();
  BOOST_TEST(semaphore->try_acquire_for(1h));
}

BOOST_AUTO_TEST_CASE(sleepers_that_are_killed_leave_locks_to_the_others) {
  const auto goes_on = []<typename Lock>(std::type_identity<Lock>) {
    const Shared<Guarded<Lock>> guarded;
    guarded->lock.lock();
    const auto enter = [&guarded] {
      guarded->lock.lock();
      guarded->lock.unlock();
      return 0;
    };
    Child victim = Child::fork(enter);
    BOOST_TEST_REQUIRE(asleep(victim));
    Child other = Child::fork(enter);
    BOOST_TEST_REQUIRE(asleep(other));
    kill_now(victim);
    guarded->lock.unlock();
    BOOST_TEST(other.wait().success());
    BOOST_TEST(guarded->lock.try_lock_for(1h));
  };
  goes_on(std::type_identity<Mutex>());
  goes_on(std::type_identity<RwLock>());
  goes_on(std::type_identity<PiMutex>());
}

// What it says of itself: a ticket cannot be given back by the dead.
BOOST_AUTO_TEST_CASE(a_fair_mutex_waits_for_the_owner_of_a_ticket_though_it_is_dead) {
  const Shared<FairMutex> fair(Sharing::processes, 0ns);
  fair->lock();
  Child victim = Child::fork([&fair] {
    fair->lock();
    return 0;
  });
  BOOST_TEST_REQUIRE(asleep(victim));
  kill_now(victim);
  fair->unlock();
  BOOST_TEST(!fair->try_lock_for(20ms));
}

namespace {
struct Meeting {
  Mutex mutex{Sharing::processes};
  Condition condition{mutex};
  Barrier barrier{3, Sharing::processes};
  Event event{Sharing::processes};
  int told = 0;
  std::atomic<int> heard{0};
};
}  // namespace

BOOST_AUTO_TEST_CASE(processes_meet_at_barriers_events_and_conditions) {
  const Shared<Meeting> meeting;
  const auto attend = [&meeting] {
    meeting->event.wait();
    for (int round = 0; round < 200; ++round)
      meeting->barrier.arrive_and_wait();
    std::unique_lock held(meeting->mutex);
    meeting->condition.wait(held, [&] { return meeting->told == 1; });
    ++meeting->heard;
    return 0;
  };
  Child first = Child::fork(attend);
  Child second = Child::fork(attend);
  Child victim = Child::fork([&meeting] {
    std::unique_lock held(meeting->mutex);
    meeting->condition.wait(held, [] { return false; });
    return 0;
  });
  BOOST_TEST_REQUIRE((asleep(first) && asleep(second) && asleep(victim)));
  kill_now(victim);
  meeting->event.set();
  int last = 0;
  for (int round = 0; round < 200; ++round)
    last += meeting->barrier.arrive_and_wait() ? 1 : 0;
  BOOST_TEST(last <= 200);
  BOOST_TEST((asleep(first) && asleep(second)));
  {
    std::unique_lock held(meeting->mutex);
    meeting->told = 1;
    meeting->condition.notify_all(held);
  }
  BOOST_TEST(first.wait().success());
  BOOST_TEST(second.wait().success());
  BOOST_TEST(meeting->heard.load() == 2);
}

namespace {

// From now on the kernel knows no FUTEX_LOCK_PI2, nor, if `both`, FUTEX_LOCK_PI.
bool forget_lock_pi(bool both) {
  const auto operation = offsetof(seccomp_data, args[1]);
  sock_filter filter[] = {
      BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(seccomp_data, nr)),
      BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_futex, 0, 5),
      BPF_STMT(BPF_LD | BPF_W | BPF_ABS, operation),
      BPF_STMT(BPF_ALU | BPF_AND | BPF_K, FUTEX_CMD_MASK & 0x7f),
      BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, 13, 1, 0),
      BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, both ? 6u : 13u, 0, 1),
      BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | ENOSYS),
      BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
  };
  const sock_fprog program{sizeof filter / sizeof *filter, filter};
  return ::prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0 &&
         ::prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program) == 0;
}

}  // namespace

BOOST_AUTO_TEST_CASE(without_the_newer_call_a_pi_mutex_takes_the_older_one) {
  const Shared<Guarded<PiMutex>> guarded;
  Child holder = holder_at(*guarded, 2);
  Child older = Child::fork(
      [&guarded] { return forget_lock_pi(false) && !guarded->lock.try_lock_for(5ms) ? 0 : 1; });
  BOOST_TEST(older.wait().success());
  Child none = Child::fork([&guarded] {
    try {
      return forget_lock_pi(true) && guarded->lock.try_lock_for(5ms) ? 1 : 2;
    } catch (const std::system_error& error) {
      return error.code() == std::errc::function_not_supported ? 0 : 3;
    }
  });
  BOOST_TEST(none.wait().text() == "exit status 0");
  kill_now(holder);
}

BOOST_AUTO_TEST_SUITE_END()
