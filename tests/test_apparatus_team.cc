#include "affinity/pin.hh"
#include "lab/apparatus/team.hh"
#include "lab/base/clock.hh"
#include "lab/base/error.hh"
#include "lab/base/file.hh"
#include "tests/left_behind.hh"
#include "tests/sanitized.hh"
#include "tests/task_kind.hh"

#include <boost/test/data/test_case.hpp>
#include <boost/test/unit_test.hpp>
#include <sys/prctl.h>

#include <array>
#include <atomic>
#include <csignal>

using namespace schedlab;
using namespace schedlab::apparatus;
using testing::belongings;
namespace bdata = boost::unit_test::data;

namespace schedlab::testing {

// One number for each member, in memory that processes share as well.
class Board {
public:
  explicit Board(std::size_t members)
      : memory_(Mapping::shared_memory(members * sizeof(std::atomic<std::uint64_t>))) {}
  std::atomic<std::uint64_t>& operator[](std::size_t member) const {
    return memory_.as<std::atomic<std::uint64_t>>()[member];
  }

private:
  Mapping memory_;
};

}  // namespace schedlab::testing

namespace {

using testing::Board;
using testing::thread_sanitizer;

const std::array kinds = {TaskKind::threads, TaskKind::processes};
const affinity::CpuSet usable = affinity::thread_affinity();
constexpr unsigned no_such_cpu = 4000;

using Places = std::vector<std::optional<unsigned>>;

const Places hopeless[] = {{std::optional(no_such_cpu)},
                           {usable.first(), no_such_cpu},
                           {no_such_cpu, no_such_cpu, usable.first()}};

// Every usable CPU twice, so that a machine with one has more than one member too.
Places all_places() {
  Places places;
  for (const unsigned cpu : usable.cpus())
    places.insert(places.end(), {cpu, cpu});
  return places;
}

// Runs `body` in a process of its own; gives how it ended within 10 s, and what it said.
std::pair<std::string, std::string> ended(const std::function<void()>& body) {
  Pipe said = make_pipe();
  Child child = Child::fork([&] {
    ::dup2(said.write.get(), STDERR_FILENO);
    body();
    return 0;
  });
  said.write = Fd();
  const auto cause = child.wait_for(10'000);
  if (!cause)
    return {"still running", ""};
  std::array<char, 256> text{};
  const auto got = ::read(said.read.get(), text.data(), text.size());
  return {cause->text(), std::string(text.data(), static_cast<std::size_t>(got))};
}

}  // namespace

BOOST_DATA_TEST_CASE(members_are_where_they_were_placed, bdata::make(kinds), kind) {
  const Places places = all_places();
  const Board cpu(places.size()), allowed(places.size());
  Team team({.kind = kind}, places, usable, [&](unsigned member, std::uint64_t) {
    cpu[member] = affinity::current_cpu();
    allowed[member] = affinity::thread_affinity().count();
  });
  team.start(1);
  const auto records = team.finish();
  BOOST_TEST(records.size() == places.size());
  for (std::size_t member = 0; member < places.size(); ++member) {
    BOOST_TEST(cpu[member] == *places[member]);
    BOOST_TEST(allowed[member] == 1u);
    BOOST_TEST(records[member].cpu_before == *places[member]);
    BOOST_TEST(records[member].cpu_after == *places[member]);
  }
}

BOOST_DATA_TEST_CASE(a_member_without_a_place_may_run_wherever_is_usable, bdata::make(kinds),
                     kind) {
  const affinity::Pin pin(usable.first());  // what a member would inherit
  const Board allowed(1);
  Team team({.kind = kind}, {std::nullopt}, usable, [&](unsigned, std::uint64_t) {
    allowed[0] = affinity::thread_affinity() == usable ? 1 : 2;
  });
  team.start(1);
  team.finish();
  BOOST_TEST(allowed[0] == 1u);
}

BOOST_DATA_TEST_CASE(every_member_plays_its_role_once_at_each_start, bdata::make(kinds), kind) {
  const Places places = all_places();
  const Board calls(places.size()), rounds(places.size());
  Team team({.kind = kind}, places, usable, [&](unsigned member, std::uint64_t wanted) {
    ++calls[member];
    rounds[member] += wanted;
  });
  for (const std::uint64_t wanted : {7u, 0u, 5u}) {
    team.start(wanted);
    team.finish();
  }
  for (std::size_t member = 0; member < places.size(); ++member) {
    BOOST_TEST(calls[member] == 3u);
    BOOST_TEST(rounds[member] == 12u);
  }
}

BOOST_DATA_TEST_CASE(a_record_is_of_the_role_and_of_nothing_else, bdata::make(kinds), kind) {
  Team team({.kind = kind}, {usable.first()}, usable, [&](unsigned, std::uint64_t rounds) {
    for (std::uint64_t i = 0; i < rounds; ++i)
      clock::sleep_for(1'000'000);
  });
  for (const std::uint64_t rounds : {9u, 4u}) {
    team.start(rounds);
    BOOST_TEST(team.finish()[0].voluntary == rounds);
  }
}

BOOST_DATA_TEST_CASE(the_destructor_leaves_no_thread_process_or_descriptor, bdata::make(kinds),
                     kind) {
  const auto before = belongings();
  for (int i = 0; i < 3; ++i) {
    Team team({.kind = kind}, all_places(), usable, [](unsigned, std::uint64_t) {});
    const auto during = belongings();
    BOOST_TEST((during.threads > before.threads) == (kind == TaskKind::threads));
    BOOST_TEST(during.children == (kind == TaskKind::processes));
    team.start(1);
    team.finish();
  }
  BOOST_TEST(belongings() == before);
}

BOOST_DATA_TEST_CASE(a_place_that_cannot_be_had_is_told_and_nothing_is_left, bdata::make(kinds),
                     kind) {
  const auto before = belongings();
  BOOST_REQUIRE_EQUAL(hopeless[0].size(), 1u);
  for (const auto& places : hopeless)
    BOOST_CHECK_EXCEPTION(Team({.kind = kind}, places, usable, [](unsigned, std::uint64_t) {}),
                          Unsupported, [](const auto& error) {
                            return std::string(error.what()).find("CPU 4000") != std::string::npos;
                          });
  BOOST_TEST(belongings() == before);
}

BOOST_AUTO_TEST_CASE(the_death_of_a_member_process_ends_the_program_and_says_so) {
  if (thread_sanitizer) {
    BOOST_TEST_MESSAGE("the thread sanitizer keeps signals back during a system call of ours");
    return;
  }
  const auto [cause, said] = ended([] {
    Team team({.kind = TaskKind::processes}, {usable.first(), usable.first()}, usable,
              [](unsigned member, std::uint64_t) {
                if (member == 1)
                  std::raise(SIGKILL);
              });
    team.start(1);
    team.finish();
  });
  BOOST_TEST(cause == "exit status 1");
  BOOST_TEST(said == "a partner process of a measurement was killed\n");
}

// The control: teams that are dismissed, also while others live, raise no alarm.
BOOST_AUTO_TEST_CASE(a_member_process_that_is_dismissed_ends_nothing) {
  const auto [cause, said] = ended([] {
    const auto idle = [](unsigned, std::uint64_t) {};
    const TaskOptions options{.kind = TaskKind::processes};
    Team living(options, {usable.first()}, usable, idle);
    for (int i = 0; i < 20; ++i) {
      Team team(options, all_places(), usable, idle);
      team.start(1);
      team.finish();
    }
    living.start(1);
    living.finish();
  });
  BOOST_TEST(cause == "exit status 0");
  BOOST_TEST(said == "");
}

BOOST_AUTO_TEST_CASE(a_thread_is_moved_to_a_cpu_and_back_to_all) {
  for (const unsigned cpu : usable.cpus()) {
    stand_on(cpu, usable);
    BOOST_TEST(affinity::current_cpu() == cpu);
    BOOST_TEST((affinity::thread_affinity() == affinity::CpuSet{cpu}));
  }
  stand_on(std::nullopt, usable);
  BOOST_TEST((affinity::thread_affinity() == usable));
}

BOOST_DATA_TEST_CASE(members_and_caller_get_the_slack_and_the_caller_gives_it_back,
                     bdata::make(kinds), kind) {
  const TaskOptions options{.kind = kind, .slack_ns = 77'000};
  const int before = ::prctl(PR_GET_TIMERSLACK);
  const Board slack(1);
  Team team(options, {std::nullopt}, usable, [&](unsigned, std::uint64_t) {
    slack[0] = static_cast<std::uint64_t>(::prctl(PR_GET_TIMERSLACK));
  });
  team.start(1);
  team.finish();
  BOOST_TEST(slack[0] == 77'000u);
  {
    const TaskScope scope(options);
    BOOST_TEST(::prctl(PR_GET_TIMERSLACK) == 77'000);
  }
  BOOST_TEST(::prctl(PR_GET_TIMERSLACK) == before);
}

BOOST_AUTO_TEST_CASE(a_kind_of_task_has_a_word_and_a_word_a_kind) {
  for (const auto kind : kinds)
    BOOST_TEST((task_kind(to_text(kind)) == kind));
}
