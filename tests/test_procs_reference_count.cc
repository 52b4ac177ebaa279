#include "affinity/pin.hh"
#include "lab/base/random.hh"
#include "procs/bytecode.hh"
#include "procs/reference_count.hh"
#include "procs/thread.hh"
#include "tests/sanitized.hh"

#include <boost/test/unit_test.hpp>

#include <sched.h>

#include <atomic>
#include <barrier>
#include <cstdlib>
#include <deque>

using namespace schedlab;
using namespace schedlab::procs;

namespace {

struct Freed {
  std::atomic<std::uint64_t> times{0};
  static void note(BiasedCount&, void* context) { ++static_cast<Freed*>(context)->times; }
};

template <typename Count>
void hear_of(Count&, Freed&) {}
void hear_of(BiasedCount& count, Freed& freed) {
  count.on_last(Freed::note, &freed);
}

template <typename Count>
void keeps_its_count() {
  CountedThreads registry;
  CountedThread me(registry);
  Count count(me);
  count.add(me);
  BOOST_TEST(count.value() == 2);
  BOOST_TEST(!count.drop(me));
  BOOST_TEST(count.drop(me));
  Count lasting(me);
  lasting.make_immortal();
  for (int i = 0; i < 100; ++i)
    BOOST_TEST(!lasting.drop(me));
  Count many(me);
  many.add_many(me, 5);
  BOOST_TEST(many.value() == 6);
}

// Two threads use one object by turns of a script: each step adds or drops, and who runs next is
// drawn. One thread plays both: interleavings between operations, each with its identity.
template <typename Count>
std::uint64_t play(std::uint64_t seed) {
  CountedThreads registry;
  std::deque<CountedThread> actors;
  for (int i = 0; i < 3; ++i)
    actors.emplace_back(registry);
  Random random(seed);
  Freed freed;
  Count count(actors[0]);
  hear_of(count, freed);
  std::uint64_t ended = 0;
  std::uint64_t premature = 0;
  unsigned references = 1;
  // References are handed from one to another freely: who drops need not be who added.
  while (references > 0) {
    CountedThread& actor = actors[random.below(actors.size())];
    const bool grow = references < 4 && random.below(5) < 2;
    if (grow) {
      count.add(actor);
      ++references;
    } else {
      ended += count.drop(actor);
      --references;
    }
    if (random.below(4) == 0)
      actor.process_queue();
    if (references > 0)
      premature += ended + freed.times;
  }
  // The owner leaves first or last.
  if (random.below(2) == 0)
    actors[0].process_queue();
  actors.clear();
  return ended + freed.times + 10 * premature;
}

// A row of objects of one owner, who hands a reference to each of them to every other thread; then
// all add to them and give them up at the same time.
constexpr std::size_t row_length = 128;
template <typename Count>
struct Entry {
  explicit Entry(const CountedThread& owner) : count(owner) { hear_of(count, freed); }
  Count count;
  Freed freed;
  std::atomic<std::uint64_t> ended{0};
};
template <typename Count>
using Row = std::deque<Entry<Count>>;

void idle_for(std::uint64_t turns) {
  for (std::uint64_t i = 0; i < turns; ++i)
    std::atomic_signal_fence(std::memory_order_seq_cst);
}

template <typename Count>
void use(Row<Count>& row, CountedThread& me, Random& random) {
  for (auto& entry : row) {
    idle_for(random.below(64));
    for (std::uint64_t pairs = random.below(3); pairs > 0; --pairs) {
      entry.count.add(me);
      entry.ended += entry.count.drop(me);
    }
    entry.ended += entry.count.drop(me);
    if (random.below(8) == 0)
      me.process_queue();
  }
}

// Gives how many objects did not end exactly once.
template <typename Count>
std::uint64_t wrong_ends(unsigned others, unsigned rows, std::uint64_t seed) {
  CountedThreads registry;
  std::barrier<> line(others + 1);
  Row<Count> row;
  std::vector<Thread> threads;
  for (unsigned i = 0; i < others; ++i)
    threads.emplace_back(ThreadOptions{.name = "counter", .cpus = {}, .sched = {}}, [&, i] {
      CountedThread me(registry);
      Random random(seed * 17 + i);
      for (unsigned round = 0; round < rows; ++round) {
        line.arrive_and_wait();
        use(row, me, random);
        line.arrive_and_wait();
      }
    });
  std::uint64_t wrong = 0;
  CountedThread owner(registry);
  Random random(seed);
  for (unsigned round = 0; round < rows; ++round) {
    row.clear();
    for (std::size_t i = 0; i < row_length; ++i) {
      row.emplace_back(owner);
      for (unsigned other = 0; other < others; ++other)
        row.back().count.add(owner);
    }
    line.arrive_and_wait();
    use(row, owner, random);
    line.arrive_and_wait();
    owner.process_queue();
    for (const auto& entry : row)
      wrong += entry.ended + entry.freed.times != 1;
  }
  for (auto& thread : threads)
    thread.join();
  return wrong;
}

constexpr unsigned rows = testing::sanitized ? 100 : 400;

}  // namespace

BOOST_AUTO_TEST_CASE(the_last_reference_ends_an_object_and_an_immortal_one_does_not_end) {
  keeps_its_count<PlainCount>();
  keeps_its_count<AtomicCount>();
  keeps_its_count<BiasedCount>();
}

BOOST_AUTO_TEST_CASE(whoever_gives_up_which_reference_an_object_ends_exactly_once) {
  for (std::uint64_t seed = 0; seed < 100'000; ++seed) {
    if (play<BiasedCount>(seed) != 1)
      BOOST_ERROR("seed " << seed);
    if (seed % 10 == 0 && (play<AtomicCount>(seed) != 1 || play<PlainCount>(seed) != 1))
      BOOST_ERROR("seed " << seed);
  }
}

BOOST_AUTO_TEST_CASE(an_object_whose_owner_is_gone_is_ended_by_another) {
  CountedThreads registry;
  CountedThread me(registry);
  Freed freed;
  std::unique_ptr<BiasedCount> count;
  Thread({.name = "owner", .cpus = {}, .sched = {}}, [&] {
    CountedThread owner(registry);
    count = std::make_unique<BiasedCount>(owner);
    count->on_last(Freed::note, &freed);
    count->add(owner);
  }).join();
  BOOST_TEST(!count->drop(me));  // below zero: for the owner's queue, which is closed
  BOOST_TEST(count->value() == 1);
  BOOST_TEST(freed.times == 0u);
  BOOST_TEST(count->drop(me));  // merged by now
}

BOOST_AUTO_TEST_CASE(threads_that_give_up_references_at_once_end_each_object_exactly_once) {
  BOOST_TEST(wrong_ends<BiasedCount>(1, rows, 1) == 0u);
  BOOST_TEST(wrong_ends<BiasedCount>(3, rows / 2, 2) == 0u);
  BOOST_TEST(wrong_ends<AtomicCount>(3, rows / 2, 3) == 0u);
}

// What the others are measured against: a plain count that threads share loses references.
BOOST_AUTO_TEST_CASE(a_plain_count_that_is_shared_is_lost) {
  if (testing::thread_sanitizer)
    return;  // it sees the race, or has a thread of its own in what is forked
  if (affinity::thread_affinity().count() < 2)
    return;  // nobody to lose them to
  const auto cpus = affinity::thread_affinity().cpus();
  std::int64_t off = 0;
  for (int tries = 0; tries < 200 && off == 0; ++tries) {
    CountedThreads registry;
    CountedThread me(registry);
    PlainCount count(me);
    count.add_many(me, 1'000'000'000);
    std::vector<Thread> threads;
    for (const unsigned cpu : {cpus.front(), cpus.back()})
      threads.emplace_back(
          ThreadOptions{.name = "counter", .cpus = affinity::CpuSet{cpu}, .sched = {}}, [&] {
            for (int i = 0; i < 2'000'000; ++i) {
              count.add(me);
              std::atomic_signal_fence(std::memory_order_seq_cst);
              count.drop(me);
              std::atomic_signal_fence(std::memory_order_seq_cst);
            }
          });
    for (auto& thread : threads)
      thread.join();
    off = count.value() - 1'000'000'001;
  }
  BOOST_TEST(off != 0);
}

namespace {

template <typename Count>
std::optional<std::int64_t> count(std::int64_t limit, Constants constants) {
  CountedThreads registry;
  CountedThread counted(registry);
  InterpreterLock lock;
  InterpreterThread thread(lock);
  HoldInterpreter hold(thread);
  const Code<Count> code(count_to(limit), constants, counted);
  std::optional<std::int64_t> result;
  {
    Machine<Count> machine(code, thread, counted);
    result = machine.run();
    BOOST_TEST((result == machine.run()));
  }
  for (std::size_t i = 0; i < 3; ++i)
    BOOST_TEST(code.references(i) == 0);
  return result;
}

}  // namespace

BOOST_AUTO_TEST_CASE(a_program_counts_and_gives_every_reference_back) {
  for (const auto constants : {Constants::immortal, Constants::counted})
    for (const std::int64_t limit : {0, 1, 10'000}) {
      BOOST_TEST(count<PlainCount>(limit, constants).value() == limit);
      BOOST_TEST(count<AtomicCount>(limit, constants).value() == limit);
      BOOST_TEST(count<BiasedCount>(limit, constants).value() == limit);
    }
}

BOOST_AUTO_TEST_CASE(a_program_that_would_leave_its_bounds_is_refused) {
  CountedThreads registry;
  CountedThread me(registry);
  const auto refused = [&](std::vector<Instruction> instructions) {
    BOOST_CHECK_THROW(Code<PlainCount>({std::move(instructions), {1}, 1, {}}, {}, me),
                      std::invalid_argument);
  };
  refused({});
  refused({{Opcode::stop}});                                                // pops from nothing
  refused({{Opcode::push_constant, 1}, {Opcode::stop}});                    // no such constant
  refused({{Opcode::push_local, 1}, {Opcode::stop}});                       // no such local
  refused({{Opcode::call, 0}, {Opcode::push_local}, {Opcode::stop}});       // no such native
  refused({{Opcode::push_constant}});                                       // falls off the end
  refused({{Opcode::push_constant}, {Opcode::jump_back, 0}});               // the stack grows
  refused({{Opcode::push_constant}, {Opcode::jump_unless, 9}});             // beyond the end
  refused({{Opcode::jump_back, 1}, {Opcode::push_local}, {Opcode::stop}});  // forward
  Code<PlainCount>({{{Opcode::push_constant}, {Opcode::stop}}, {1}, 0, {}}, {}, me);
}

BOOST_AUTO_TEST_CASE(a_native_call_runs_with_the_lock_or_without_it) {
  struct Seen {
    InterpreterThread* thread;
    std::vector<bool> held;
  };
  CountedThreads registry;
  CountedThread counted(registry);
  InterpreterLock lock;
  InterpreterThread thread(lock);
  HoldInterpreter hold(thread);
  Seen seen{&thread, {}};
  const Native look{[](void* context) {
                      auto& into = *static_cast<Seen*>(context);
                      into.held.push_back(into.thread->holds());
                    },
                    &seen};
  const Code<AtomicCount> code({.instructions = {{Opcode::call, 0},
                                                 {Opcode::call_released, 0},
                                                 {Opcode::push_constant, 0},
                                                 {Opcode::stop}},
                                .constants = {7},
                                .locals = 0,
                                .natives = {look}},
                               Constants::counted, counted);
  Machine<AtomicCount> machine(code, thread, counted);
  BOOST_TEST(machine.run().value() == 7);
  BOOST_TEST(seen.held == (std::vector<bool>{true, false}), boost::test_tools::per_element());
}

BOOST_AUTO_TEST_CASE(a_program_ends_where_its_thread_is_asked_to_leave) {
  InterpreterLock lock({.rule = LockRule::ticks});
  CountedThreads registry;
  CountedThread counted(registry);
  const Code<BiasedCount> code(count_to(1'000'000'000), Constants::counted, counted);
  InterpreterThread thread(lock);
  HoldInterpreter hold(thread);
  Machine<BiasedCount> machine(code, thread, counted);
  thread.request_exit();
  BOOST_TEST(!machine.run());
  BOOST_TEST(!thread.holds());
  BOOST_TEST(code.references(1) == 0);  // what it held was given up
}

namespace {

// Runs a program whose constants are counted in two threads, on CPUs of their own where there are
// two, and gives how many references were lost or found.
std::int64_t lost_references(const InterpreterLockOptions& options, std::int64_t limit) {
  const auto cpus = affinity::thread_affinity().cpus();
  CountedThreads registry;
  CountedThread owner(registry);
  const Code<PlainCount> code(count_to(limit), Constants::counted, owner);
  InterpreterLock lock(options);
  std::atomic<unsigned> ready{0}, ended{0};
  std::vector<Thread> threads;
  for (const unsigned cpu : {cpus.front(), cpus.back()})
    threads.emplace_back(
        ThreadOptions{.name = "program", .cpus = affinity::CpuSet{cpu}, .sched = {}}, [&] {
          InterpreterThread thread(lock);
          CountedThread counted(registry);
          Machine<PlainCount> machine(code, thread, counted);
          ++ready;
          while (ready < 2)
            ::sched_yield();
          HoldInterpreter hold(thread);
          ended += machine.run().has_value();
        });
  for (auto& thread : threads)
    thread.join();
  BOOST_TEST(ended == 2u);
  std::int64_t lost = 0;
  for (std::size_t i = 0; i < code.program().constants.size(); ++i)
    lost += std::abs(code.references(i));
  return lost;
}

}  // namespace

// A program's constants are shared: with the lock plain counts keep them, whoever is switched out.
BOOST_AUTO_TEST_CASE(plain_counts_of_shared_constants_are_kept_by_the_lock) {
  BOOST_TEST(lost_references({.interval_ns = 100'000}, 300'000) == 0);
  BOOST_TEST(lost_references({.rule = LockRule::ticks}, 20'000) == 0);
}

BOOST_AUTO_TEST_CASE(plain_counts_without_the_lock_lose_references) {
  if (testing::thread_sanitizer)
    return;  // it sees the race, or has a thread of its own in what is forked
  if (affinity::thread_affinity().count() < 2)
    return;  // nobody to lose them to
  std::int64_t lost = 0;
  for (int tries = 0; tries < 200 && lost == 0; ++tries)
    lost = lost_references({.rule = LockRule::none}, 1'000'000);
  BOOST_TEST(lost > 0);
}
