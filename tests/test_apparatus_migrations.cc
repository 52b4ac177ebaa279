#include "lab/apparatus/migration_counter.hh"

#include "affinity/pin.hh"
#include "lab/apparatus/chase.hh"
#include "lab/apparatus/mover.hh"
#include "lab/apparatus/workers.hh"
#include "tests/topology_fixtures.hh"

#include <algorithm>
#include <ostream>

namespace schedlab::harness {

static std::ostream& operator<<(std::ostream& out, const Value& value) {
  return value.text() ? out << *value.text() : out << *value.number();
}

}  // namespace schedlab::harness

using namespace schedlab;
using namespace schedlab::apparatus;
using harness::Check;
using harness::Sample;
namespace ut = boost::unit_test;

namespace {

const affinity::CpuSet usable = affinity::thread_affinity();

boost::test_tools::assertion_result two_cpus_and_a_counter(ut::test_unit_id unit) {
  auto result = two_cpus(unit);
  if (result && !MigrationCounter().read()) {
    result = false;
    result.message() << "needs /proc/thread-self/sched";
  }
  return result;
}

// A mover between the first and the last usable CPU, or one that stays where it is.
std::unique_ptr<harness::Subject> mover(bool moves, std::uint64_t size = 8192) {
  MoverOptions options;
  options.first = usable.first();
  options.second = moves ? usable.cpus().back() : options.first;
  options.usable = usable;
  AreaOptions area;
  area.size = size;
  options.area = std::make_shared<SharedArea>(area);
  options.size = size;
  options.metric = 3;
  return make_mover(options);
}

const Check& find(const std::vector<Check>& checks, std::string_view part) {
  const auto found = std::ranges::find_if(
      checks, [&](const Check& check) { return check.name.find(part) != std::string::npos; });
  BOOST_TEST_REQUIRE((found != checks.end()), "a check that says '" << part << "'");
  return *found;
}

std::unique_ptr<harness::Subject> workers(bool pinned, TaskKind kind) {
  WorkersOptions options;
  options.tasks.kind = kind;
  options.usable = usable;
  for (const unsigned cpu : usable.cpus())
    options.places.push_back(pinned ? std::optional(cpu) : std::nullopt);
  options.size = 16384;
  return make_workers(options);
}

}  // namespace

BOOST_AUTO_TEST_CASE(the_count_is_read_out_of_the_kernels_text) {
  BOOST_TEST(migrations_in("cat (1, #threads: 1)\nse.vruntime : 1.5\n"
                           "se.nr_migrations                             :                   17\n"
                           "nr_switches : 3\n")
                 .value() == 17u);
  BOOST_TEST(migrations_in("se.nr_migrations:0\n").value() == 0u);
}

BOOST_AUTO_TEST_CASE(a_text_without_the_count_or_with_half_of_it_gives_nothing) {
  for (const auto* text : {"", "nr_switches : 3\n", "se.nr_migrations", "se.nr_migrations : ",
                           "se.nr_migrations : x\n", "se.nr_migrations : 17"})
    BOOST_TEST(!migrations_in(text).has_value(), text);
}

BOOST_AUTO_TEST_CASE(every_forced_move_is_counted, *ut::precondition(two_cpus_and_a_counter)) {
  const affinity::Pin start(usable.first());
  const MigrationCounter counter;
  const auto before = counter.read().value();
  for (int i = 0; i < 25; ++i) {
    const affinity::Pin there(usable.cpus().back());  // and back at the end of the scope
  }
  BOOST_TEST(counter.read().value() - before == 50u);
}

BOOST_AUTO_TEST_CASE(a_task_that_is_told_to_stay_is_not_counted,
                     *ut::precondition(two_cpus_and_a_counter)) {
  const affinity::Pin start(usable.first());
  const MigrationCounter counter;
  const auto before = counter.read().value();
  for (int i = 0; i < 25; ++i) {
    const affinity::Pin here(usable.first());
  }
  BOOST_TEST(counter.read().value() == before);
}

BOOST_AUTO_TEST_CASE(a_mover_proves_each_of_its_moves, *ut::precondition(two_cpus)) {
  const auto subject = mover(true);
  const Sample sample = subject->sample(20);
  BOOST_TEST(sample.operations == 20u);
  BOOST_TEST(sample.proof.on_cpu);
  BOOST_TEST(sample.proof.expected_switches == 40u);
  BOOST_TEST(sample.proof.counted_switches >= 40u);
  BOOST_TEST(sample.proof.cpus.size() == 2u);
  BOOST_TEST(sample.values[3] > 0);
  subject->sample(5);
  const auto checks = subject->checks();
  const Check& arrived = find(checks, "on the CPU it was sent to");
  BOOST_TEST(arrived.ok);
  BOOST_TEST(arrived.expected == harness::Value(50));
  BOOST_TEST(arrived.seen == harness::Value(50));
}

BOOST_AUTO_TEST_CASE(the_kernel_counts_what_a_mover_forces_and_nothing_of_the_control,
                     *ut::precondition(two_cpus_and_a_counter)) {
  for (const bool moves : {true, false}) {
    const auto subject = mover(moves);
    subject->sample(30);
    const auto checks = subject->checks();
    const Check& counted = find(checks, "the kernel counted");
    BOOST_TEST(counted.ok);
    BOOST_TEST(counted.expected == harness::Value(moves ? 60 : 0));
    BOOST_TEST(counted.seen == harness::Value(moves ? 60 : 0));
  }
}

BOOST_AUTO_TEST_CASE(a_control_switches_nowhere_and_keeps_its_cpu) {
  const auto subject = mover(false);
  const Sample sample = subject->sample(50);
  BOOST_TEST(sample.proof.expected_switches == 0u);
  BOOST_TEST(sample.proof.on_cpu);
  BOOST_TEST(sample.proof.cpus == std::vector<unsigned>{usable.first()},
             boost::test_tools::per_element());
}

BOOST_AUTO_TEST_CASE(pinned_workers_are_on_as_many_cpus_as_they_have_places) {
  for (const auto kind : {TaskKind::threads, TaskKind::processes}) {
    const auto subject = workers(true, kind);
    const Sample sample = subject->sample(2);
    BOOST_TEST(sample.proof.on_cpu);
    BOOST_TEST(sample.values[0] > 0);                // step
    BOOST_TEST(sample.values[3] == usable.count());  // CPUs seen
    BOOST_TEST(sample.values[2] > 0);                // running
    if (MigrationCounter().read())
      BOOST_TEST(sample.values[1] == 0);
    for (const auto& check : subject->checks())
      BOOST_TEST(check.ok, check.name);
    BOOST_TEST(!subject->checks().empty());
  }
}

BOOST_AUTO_TEST_CASE(unpinned_workers_promise_nothing_of_where_they_run) {
  const auto subject = workers(false, TaskKind::threads);
  const Sample sample = subject->sample(2);
  BOOST_TEST(sample.proof.on_cpu);
  BOOST_TEST(sample.values[3] >= 1);
  BOOST_TEST(sample.values[3] <= usable.count());
  BOOST_TEST(subject->checks().empty());
}
