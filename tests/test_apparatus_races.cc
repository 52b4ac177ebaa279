#include "lab/apparatus/harm.hh"
#include "lab/apparatus/inheritance.hh"
#include "lab/apparatus/interleaving.hh"
#include "lab/apparatus/leftovers.hh"
#include "lab/apparatus/lock_circle.hh"
#include "lab/apparatus/memory_cage.hh"
#include "lab/apparatus/standstill.hh"
#include "lab/apparatus/torn_record.hh"
#include "lab/apparatus/update_race.hh"
#include "lab/base/child.hh"
#include "lab/base/file.hh"
#include "tests/left_behind.hh"
#include "tests/sanitized.hh"
#include "tests/temporary_folder.hh"
#include "tests/topology_fixtures.hh"

#include <boost/test/data/test_case.hpp>
#include <boost/test/unit_test.hpp>
#include <unistd.h>

#include <cmath>
#include <map>
#include <set>

using namespace schedlab;
using namespace schedlab::apparatus;
using harness::Sample;
namespace bdata = boost::unit_test::data;

// For the names of cases.
namespace schedlab::apparatus {
template <typename E>
requires std::is_enum_v<E> std::ostream& operator<<(std::ostream& out, E value) {
  return out << to_text(value);
}
}  // namespace schedlab::apparatus

namespace {

const affinity::CpuSet usable = affinity::Topology::machine().usable();

unsigned first_cpu() {
  return usable.first();
}

std::vector<std::optional<unsigned>> on_one_cpu(std::size_t count = 2) {
  return std::vector<std::optional<unsigned>>(count, first_cpu());
}

std::vector<std::optional<unsigned>> on_two_cpus() {
  const auto cpus = usable.cpus();
  return {cpus[0], cpus[1]};
}

// Half a sanitizer's pace would take minutes.
constexpr std::uint64_t many(std::uint64_t count) {
  return testing::sanitized ? count / 20 : count;
}

void all_checks_hold(harness::Subject& subject) {
  for (const auto& check : subject.checks())
    BOOST_TEST(check.ok, check.name);
}

bool some_check_fails(harness::Subject& subject) {
  const auto checks = subject.checks();
  return std::ranges::any_of(checks, [](const auto& check) { return !check.ok; });
}

// What a check saw, as text.
std::string seen_in(harness::Subject& subject, std::string_view name) {
  for (const auto& check : subject.checks())
    if (check.name == name && check.seen.text())
      return *check.seen.text();
  return "";
}

// Nothing of what a case did is there when it ends. ThreadSanitizer begins a thread of its own with
// the first one of the program: there threads are not counted.
struct LeavesNothing {
  static testing::Belongings look() {
    auto have = testing::belongings();
    if (testing::thread_sanitizer)
      have.threads = 0;
    return have;
  }
  testing::Belongings before = look();
  ~LeavesNothing() { BOOST_TEST(look() == before); }
};

}  // namespace

BOOST_AUTO_TEST_CASE(a_seed_foretells_the_order_and_another_seed_another) {
  const auto once = Interleaving::foretold(7, 3, 5);
  BOOST_TEST(once == Interleaving::foretold(7, 3, 5), boost::test_tools::per_element());
  BOOST_TEST(once.size() == 15u);
  for (std::uint8_t member = 0; member < 3; ++member)
    BOOST_TEST(std::ranges::count(once, member) == 5);
  BOOST_TEST((once != Interleaving::foretold(8, 3, 5)));
}

BOOST_AUTO_TEST_CASE(every_order_of_two_updates_is_drawn_and_four_of_six_lose_one) {
  std::map<std::vector<std::uint8_t>, int> orders;
  for (std::uint64_t seed = 0; seed < 2000; ++seed)
    ++orders[Interleaving::foretold(seed, 2, 2)];
  BOOST_TEST(orders.size() == 6u);
  int losing = 0;
  for (const auto& [order, times] : orders) {
    BOOST_TEST(times > 100);
    losing += order[0] != order[1];  // the second reads before the first has written
  }
  BOOST_TEST(losing == 4);
}

BOOST_AUTO_TEST_CASE(threads_play_what_the_seed_foretells_and_play_it_again) {
  const LeavesNothing nothing;
  const auto subject = make_seeded_updates({.cpu = first_cpu(), .usable = usable, .seed = 42});
  const Sample sample = subject->sample(many(400));
  all_checks_hold(*subject);
  BOOST_TEST(sample.values[0] > 0.1);
  const auto again = make_seeded_updates({.cpu = first_cpu(), .usable = usable, .seed = 42});
  BOOST_TEST(again->sample(many(400)).values[0] == sample.values[0]);
  const auto other = make_seeded_updates({.cpu = first_cpu(), .usable = usable, .seed = 4242});
  BOOST_TEST(other->sample(many(400)).values[0] != sample.values[0]);
}

BOOST_DATA_TEST_CASE(a_mend_loses_nothing,
                     bdata::make({Update::atomic, Update::lock, Update::sharded,
                                  Update::file_locked}) *
                         bdata::make({TaskKind::threads, TaskKind::processes}),
                     update, kind) {
  const LeavesNothing nothing;
  const bool on_file = update == Update::file_locked;
  for (const bool apart : {false, true}) {
    if (apart && usable.count() < 2)
      continue;
    const auto subject = make_update_race({.tasks = {.kind = kind},
                                           .places = apart ? on_two_cpus() : on_one_cpu(),
                                           .usable = usable,
                                           .update = update,
                                           .window = 10});
    BOOST_TEST(subject->sample(many(on_file ? 5'000 : 200'000)).values[0] == 0.0);
    all_checks_hold(*subject);
  }
}

BOOST_DATA_TEST_CASE(a_plain_update_loses_between_two_cpus,
                     bdata::make({Update::plain, Update::file}) *
                         bdata::make({TaskKind::threads, TaskKind::processes}),
                     update, kind) {
  if (!two_cpus(0))
    return;
  const LeavesNothing nothing;
  const auto subject = make_update_race({.tasks = {.kind = kind},
                                         .places = on_two_cpus(),
                                         .usable = usable,
                                         .update = update,
                                         .window = 100});
  // On a busy machine the two do not always run at the same time.
  int lossy = 0;
  for (int i = 0; i < 400 && lossy < 5; ++i) {
    const double lost = subject->sample(many(update == Update::file ? 5'000 : 50'000)).values[0];
    BOOST_TEST(lost >= 0.0);
    BOOST_TEST(lost < 1.0);  // two updates are always left, by the worst of orders
    lossy += lost > 0;
  }
  BOOST_TEST(lossy == 5);
  all_checks_hold(*subject);  // that the tasks did their updates; a loss is no failure here
}

BOOST_DATA_TEST_CASE(on_one_cpu_an_update_is_lost_if_the_thread_yields_in_the_middle,
                     bdata::make({TaskKind::threads, TaskKind::processes}), kind) {
  const LeavesNothing nothing;
  UpdateRaceOptions options{
      .tasks = {.kind = kind}, .places = on_one_cpu(), .usable = usable, .run = 1000, .seed = 5};
  BOOST_TEST(make_update_race(options)->sample(20).values[2] <= 0.5);
  options.yield_one_in = 10;
  const auto yielding = make_update_race(options);
  const Sample sample = yielding->sample(20);
  BOOST_TEST(sample.values[2] >= 0.5);
  BOOST_TEST(sample.values[0] > 0.01);
  // More than one run can have, which yields 200 times: the proof is of all of them.
  BOOST_TEST(sample.proof.counted_switches > 400u);
  options.update = Update::lock;  // yields inside the lock as well
  const auto mended = make_update_race(options);
  BOOST_TEST(mended->sample(20).values[2] == 0.0);
  all_checks_hold(*mended);
}

// The largest of up to a hundred samples, or the first above `enough`: on a busy machine two tasks
// do not always run at the same time, and a sample is ended early.
static double most_in(harness::Subject& subject, std::uint64_t operations, std::size_t metric,
                      double enough) {
  double most = 0;
  for (int i = 0; i < 100 && most <= enough; ++i) {
    const double value = subject.sample(operations).values[metric];
    BOOST_TEST(value >= 0.0);
    BOOST_TEST(value <= 1.0);
    most = std::max(most, value);
  }
  all_checks_hold(subject);
  return most;
}

BOOST_AUTO_TEST_CASE(long_runs_between_cpus_show_the_race_and_mended_ones_never_do,
                     *boost::unit_test::precondition(two_cpus)) {
  const LeavesNothing nothing;
  UpdateRaceOptions options{
      .places = on_two_cpus(), .usable = usable, .run = 30'000, .skew_ns = 10'000};
  BOOST_TEST(most_in(*make_update_race(options), 10, 2, 0.3) > 0.3);
  options.update = Update::atomic;
  const auto mended = make_update_race(options);
  const Sample sample = mended->sample(20);
  BOOST_TEST(sample.values[2] == 0.0);
  BOOST_TEST(std::isnan(sample.values[1]));  // the meetings are part of the time
  all_checks_hold(*mended);
}

BOOST_AUTO_TEST_CASE(a_crowd_anywhere_does_all_its_updates) {
  const LeavesNothing nothing;
  const auto subject = make_update_race(
      {.places = std::vector<std::optional<unsigned>>(5), .usable = usable, .run = 20'000});
  subject->sample(5);
  all_checks_hold(*subject);
}

BOOST_DATA_TEST_CASE(a_writer_that_is_killed_tears_what_it_does_not_publish,
                     bdata::make({Writing::memory, Writing::memory_published, Writing::file_pieces,
                                  Writing::file, Writing::file_renamed}),
                     writing) {
  const LeavesNothing nothing;
  const testing::TemporaryFolder folder;
  {
    const auto subject = make_torn_record(
        {.writing = writing, .usable = usable, .folder = folder.path(), .seed = 11});
    if (writing == Writing::memory || writing == Writing::file_pieces) {
      BOOST_TEST(most_in(*subject, 20, 0, 0) > 0);
    } else {
      subject->sample(testing::sanitized ? 20 : 60);
      all_checks_hold(*subject);
    }
  }
  BOOST_TEST(std::filesystem::is_empty(folder.path()));
}

BOOST_AUTO_TEST_CASE(records_ask_for_a_folder_that_can_be_written) {
  BOOST_CHECK_EXCEPTION(
      make_torn_record(
          {.writing = Writing::file, .usable = usable, .folder = "/proc/self/no-such-folder"}),
      Unsupported, says("/proc/self/no-such-folder"));
}

BOOST_AUTO_TEST_CASE(what_a_killed_process_left_is_taken_away_and_ours_is_not) {
  const testing::TemporaryFolder folder;
  const std::filesystem::path root = folder.path();
  Child gone = Child::fork([] { return 0; });
  const std::string theirs = "schedlab-records-" + std::to_string(gone.pid());
  gone.wait();
  for (const auto& name :
       {theirs, theirs + ".3", name_of_ours("records"), std::string("schedlab-records-x"),
        std::string("schedlab-records-0"), std::string("other-") + std::to_string(gone.pid())}) {
    std::filesystem::create_directory(root / name);
    write_output(root / name / "record", "left");
  }
  remove_leftovers(root, "records", 10);  // too young
  BOOST_TEST(testing::entries(root.c_str()) == 6);
  remove_leftovers(root, "records", 0);
  BOOST_TEST(testing::entries(root.c_str()) == 4);
  BOOST_TEST(!std::filesystem::exists(root / theirs));
  remove_leftovers(root / "nowhere", "records", 0);
}

BOOST_DATA_TEST_CASE(mends_take_all_their_pairs_and_keep_neighbours_apart,
                     bdata::make({Taking::circular, Taking::ordered, Taking::scoped,
                                  Taking::back_off}) *
                         bdata::make({2u, 3u, 5u}) * bdata::make({false, true}),
                     taking, threads, yields) {
  const LeavesNothing nothing;
  const auto subject = make_lock_circle({.places = std::vector<std::optional<unsigned>>(threads),
                                         .usable = usable,
                                         .taking = taking,
                                         .yields = yields});
  const Sample sample = subject->sample(many(400));
  BOOST_TEST(std::isnan(sample.values[0]) == (taking != Taking::circular));
  all_checks_hold(*subject);
}

BOOST_AUTO_TEST_CASE(who_yields_between_two_locks_deadlocks_on_one_cpu_and_who_does_not_hardly) {
  const LeavesNothing nothing;
  LockCircleOptions options{.places = on_one_cpu(5), .usable = usable, .yields = true};
  BOOST_TEST(make_lock_circle(options)->sample(500).values[0] > 0.1);
  options.yields = false;
  BOOST_TEST(make_lock_circle(options)->sample(500).values[0] < 0.1);
}

BOOST_AUTO_TEST_CASE(threads_that_hold_for_longer_than_they_are_apart_deadlock,
                     *boost::unit_test::precondition(two_cpus)) {
  const LeavesNothing nothing;
  LockCircleOptions options{
      .places = on_two_cpus(), .usable = usable, .hold_ns = 50'000, .skew_ns = 20'000};
  BOOST_TEST(most_in(*make_lock_circle(options), 50, 0, 0.3) > 0.3);
  options.taking = Taking::ordered;
  const auto mended = make_lock_circle(options);
  BOOST_TEST(std::isnan(mended->sample(50).values[0]));
  all_checks_hold(*mended);
}

BOOST_AUTO_TEST_CASE(the_odds_follow_from_hold_and_skew) {
  BOOST_TEST(expected_odds(0, 1000) == 0.0);
  BOOST_TEST(expected_odds(1000, 1000) == 1.0);
  BOOST_TEST(expected_odds(5000, 1000) == 1.0);
  BOOST_TEST(expected_odds(100, 1000) == 0.19, boost::test_tools::tolerance(1e-12));
}

BOOST_DATA_TEST_CASE(a_scene_ends_as_it_should_and_its_cycle_is_told,
                     bdata::make({Scene::deadlock, Scene::lucky, Scene::consistent, Scene::gated}) *
                         bdata::make({2u, 5u}),
                     scene, threads) {
  const LeavesNothing nothing;
  const auto subject = make_standstill({.scene = scene,
                                        .threads = threads,
                                        .places = on_one_cpu(),
                                        .usable = usable,
                                        .patience_ns = 3'000'000});
  const Sample sample = subject->sample(5);
  all_checks_hold(*subject);
  BOOST_TEST(sample.values[0] == (scene == Scene::deadlock ? 1.0 : 0.0));
  const bool cyclic = scene == Scene::deadlock || scene == Scene::lucky;
  BOOST_TEST(sample.values[1] == (cyclic ? 1.0 : 0.0));
  const std::string text = seen_in(*subject, cycle_check);
  for (unsigned i = 0; i < threads; ++i) {
    const std::string lock = "lock " + std::to_string(i);
    BOOST_TEST((text.find("holds " + lock + " (standstill.cc:") != std::string::npos) == cyclic);
    BOOST_TEST((text.find("wants " + lock + " (standstill.cc:") != std::string::npos) == cyclic);
  }
}

namespace {

std::vector<Harm> harms_without_a_cage() {
  const auto all = all_harms();
  std::vector<Harm> harms(all.begin(), all.end());
  std::erase(harms, Harm::memory);
  return harms;
}

boost::test_tools::assertion_result can_make_a_cage(boost::unit_test::test_unit_id) {
  return possible([] { const MemoryCage cage(cage_bytes); });
}

void suffer(Harm harm) {
  const LeavesNothing nothing;
  for (const auto kind : {TaskKind::threads, TaskKind::processes}) {
    const auto subject =
        make_harm({.harm = harm, .kind = kind, .cpu = first_cpu(), .usable = usable});
    const Sample sample = subject->sample(3);
    all_checks_hold(*subject);
    const bool deadly = harm != Harm::none && harm != Harm::leak;
    const bool thread = kind == TaskKind::threads;
    BOOST_TEST(sample.values[0] == (deadly && thread ? 0.0 : 1.0));
    if (deadly && thread) {
      BOOST_TEST(std::isnan(sample.values[1]));
      continue;
    }
    BOOST_TEST(sample.values[1] == (thread ? 1.0 : 0.0));
    BOOST_TEST(sample.values[2] == (thread && harm == Harm::leak ? leaked_descriptors : 0));
  }
}

}  // namespace

BOOST_DATA_TEST_CASE(a_process_dies_alone_and_a_thread_takes_all_with_it,
                     bdata::make(harms_without_a_cage()), harm) {
  suffer(harm);
}

BOOST_AUTO_TEST_CASE(who_runs_out_of_memory_dies_alone_or_takes_all_with_it_and_it_is_counted,
                     *boost::unit_test::precondition(can_make_a_cage)) {
  suffer(Harm::memory);
}

BOOST_AUTO_TEST_CASE(a_cage_counts_no_kill_that_did_not_happen_and_goes_with_its_object,
                     *boost::unit_test::precondition(can_make_a_cage)) {
  const LeavesNothing nothing;
  for (int i = 0; i < 2; ++i) {
    const MemoryCage cage(cage_bytes);
    Child inside = Child::fork([&] { return cage.enter() ? 0 : 1; });
    BOOST_TEST(inside.wait().success());
    BOOST_TEST(cage.oom_kills() == 0u);
  }
}

BOOST_AUTO_TEST_CASE(what_is_inherited_and_what_stays_shared) {
  const LeavesNothing nothing;
  // Of thing by start: what is passed, and what stays shared.
  const auto found = [](Thing thing, Start start) {
    const Sample sample =
        make_inheritance({.thing = thing, .start = start, .cpu = first_cpu(), .usable = usable})
            ->sample(2);
    return std::pair(sample.values[0], sample.values[1]);
  };
  for (const auto thing : all_things()) {
    BOOST_TEST_CONTEXT(to_text(thing)) {
      BOOST_TEST((found(thing, Start::thread) == std::pair(1.0, 1.0)));
      const bool memory = thing == Thing::global || thing == Thing::privately;
      BOOST_TEST((found(thing, Start::fork) == std::pair(1.0, memory ? 0.0 : 1.0)));
      const auto executed = found(thing, Start::exec);
      BOOST_TEST(executed.first == (thing == Thing::descriptor ? 1.0 : 0.0));
      BOOST_TEST(executed.second == 0.0);
    }
  }
}

BOOST_AUTO_TEST_CASE(each_page_that_is_written_is_copied_once_and_none_that_is_read) {
  const LeavesNothing nothing;
  const auto written = make_copy_on_write({.writes = true, .cpu = first_cpu(), .usable = usable});
  BOOST_TEST(written->sample(3).values[0] >= 1.0);
  all_checks_hold(*written);
  const auto read = make_copy_on_write({.writes = false, .cpu = first_cpu(), .usable = usable});
  const double faults = read->sample(3).values[0];
  if (!testing::sanitized)  // whose own bookkeeping of each page is written
    BOOST_TEST(faults < 0.2);
  all_checks_hold(*read);
}

BOOST_AUTO_TEST_CASE(what_follows_the_join_is_printed_last_in_thousands_of_runs) {
  const LeavesNothing nothing;
  for (const bool anywhere : {false, true}) {
    const auto subject =
        make_two_threads({.cpu = first_cpu(), .anywhere = anywhere, .usable = usable});
    subject->sample(many(5'000));
    all_checks_hold(*subject);
    BOOST_TEST(!some_check_fails(*subject));
  }
}
