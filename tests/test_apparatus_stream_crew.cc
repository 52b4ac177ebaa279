#include "affinity/pin.hh"
#include "lab/apparatus/loaded_chase.hh"
#include "lab/apparatus/memory_load.hh"
#include "lab/apparatus/stream_crew.hh"
#include "lab/base/clock.hh"
#include "lab/base/error.hh"
#include "tests/topology_fixtures.hh"

#include <boost/test/unit_test.hpp>

#include <algorithm>
#include <atomic>
#include <cmath>
#include <set>
#include <string>
#include <vector>

using namespace schedlab;
using namespace schedlab::apparatus;

namespace {

const affinity::CpuSet usable = affinity::thread_affinity();

StreamMemoryOptions memory_options(std::uint64_t chunks, std::uint64_t chunk = 4096) {
  StreamMemoryOptions options;
  for (const unsigned cpu : usable.cpus())
    options.owners.push_back({cpu, -1});
  options.usable = usable;
  options.chunk = chunk;
  options.chunks = chunks;
  return options;
}

std::size_t failed(const std::vector<harness::Check>& checks) {
  return static_cast<std::size_t>(
      std::ranges::count_if(checks, [](const auto& check) { return !check.ok; }));
}

constexpr std::size_t rate = 0, share = 1, common = 2;

}  // namespace

BOOST_AUTO_TEST_CASE(a_part_is_three_page_aligned_arrays_whose_chunks_come_in_turn) {
  const StreamPart part(memory_options(3, 4096 + 256));
  const auto first = part.chunk(0);
  for (const double* array : {first.a, first.b, first.c})
    BOOST_TEST(reinterpret_cast<std::uintptr_t>(array) % page_size() == 0u);
  BOOST_TEST(first.count == (4096u + 256u) / 8);
  for (std::size_t i = 1; i < part.chunks(); ++i) {
    BOOST_TEST(part.chunk(i).a == part.chunk(i - 1).a + first.count);
    BOOST_TEST(part.chunk(i).c == part.chunk(i - 1).c + first.count);
  }
  BOOST_TEST((part.chunk(2).a + first.count <= first.b));
  BOOST_TEST((part.chunk(2).b + first.count <= first.c));
  BOOST_TEST(part.wrong() == 0u);

  StreamPart turns(memory_options(3));
  std::string taken;
  for (int i = 0; i < 7; ++i)
    taken += std::to_string(turns.take());
  BOOST_TEST(taken == "0120120");
}

BOOST_AUTO_TEST_CASE(all_parts_are_dealt_out_once_or_each_worker_has_its_own) {
  StreamMemoryOptions options = memory_options(1);
  options.owners.assign(7, {usable.first(), -1});  // owners take turns on one CPU: they do not spin
  StreamMemory memory(options);
  for (std::size_t workers = 1; workers <= memory.parts(); ++workers) {
    std::multiset<StreamPart*> dealt;
    for (const auto& lot : deal(memory, workers, Deal::all)) {
      BOOST_TEST(lot.parts.size() >= memory.parts() / workers);
      BOOST_TEST(lot.parts.size() <= memory.parts() / workers + 1);
      dealt.insert(lot.parts.begin(), lot.parts.end());
    }
    BOOST_TEST(dealt.size() == memory.parts());
    BOOST_TEST(std::set(dealt.begin(), dealt.end()).size() == memory.parts());
    const auto own = deal(memory, workers, Deal::one_each);
    for (std::size_t i = 0; i < workers; ++i)
      BOOST_TEST((own[i].parts == std::vector{&memory.part(i)}));
  }
}

BOOST_AUTO_TEST_CASE(a_sample_counts_the_bytes_of_all_workers_and_proves_where_they_were) {
  const auto memory = std::make_shared<StreamMemory>(memory_options(5));
  const auto crew = std::make_shared<StreamCrew>(usable.cpus(), usable);
  for (const auto word : stream_kernel_words()) {
    const auto kernel = stream_kernel_from(word);
    const auto subject =
        make_stream(crew, memory, Deal::all, {.kernel = kernel, .stores = Stores::ordinary});
    const auto sample = subject->sample(13);
    const double bytes = 13.0 * 4096 / 8 * static_cast<double>(stream_bytes(kernel));
    BOOST_TEST(sample.operations == 13u);
    BOOST_TEST(sample.elapsed_ns > 0);
    BOOST_TEST(sample.values[share] * sample.elapsed_ns * 1e-9 == bytes,
               boost::test_tools::tolerance(1e-9));
    BOOST_TEST(sample.values[rate] == sample.values[share] * usable.count(),
               boost::test_tools::tolerance(1e-9));
    BOOST_TEST((sample.values[common] >= 0 && sample.values[common] <= 1));
    BOOST_TEST(sample.proof.on_cpu);
    BOOST_TEST(sample.proof.cpus == usable.cpus(), boost::test_tools::per_element());
    BOOST_TEST(failed(subject->checks()) == 0u);
  }
}

BOOST_AUTO_TEST_CASE(the_library_copies_all_that_a_worker_has_in_one_call) {
  const auto memory = std::make_shared<StreamMemory>(memory_options(5));
  const auto crew = std::make_shared<StreamCrew>(usable.cpus(), usable);
  const auto subject = make_stream(crew, memory, Deal::all,
                                   {.kernel = StreamKernel::copy, .stores = Stores::library});
  const auto sample = subject->sample(2);
  BOOST_TEST(sample.values[share] * sample.elapsed_ns * 1e-9 == 2.0 * 5 * 4096 * 2,
             boost::test_tools::tolerance(1e-9));
  for (std::size_t part = 0; part < memory->parts(); ++part)
    for (std::size_t chunk = 0; chunk < 5; ++chunk)
      BOOST_TEST(memory->part(part).chunk(chunk).c[0] == stream_a);
  BOOST_TEST(failed(subject->checks()) == 0u);
}

BOOST_AUTO_TEST_CASE(what_runs_left_is_validated_for_every_width_and_way_of_dealing) {
  const auto memory = std::make_shared<StreamMemory>(memory_options(3));
  for (std::size_t workers = 1; workers <= usable.count(); ++workers) {
    auto cpus = usable.cpus();
    cpus.resize(workers);
    const auto crew = std::make_shared<StreamCrew>(cpus, usable);
    for (const auto how : {Deal::all, Deal::one_each})
      for (const auto kernel : {StreamKernel::triad, StreamKernel::read, StreamKernel::copy,
                                StreamKernel::write, StreamKernel::scale}) {
        const auto subject = make_stream(crew, memory, how, {.kernel = kernel});
        for (const std::uint64_t rounds : {0u, 1u, 2u, 7u})
          subject->sample(rounds);
        BOOST_TEST(failed(subject->checks()) == 0u);
      }
  }
}

// The control: one word that changed behind the workers' backs, in an array that is read or in the
// one that is written.
BOOST_AUTO_TEST_CASE(a_word_that_changed_fails_the_checks_of_the_series) {
  for (const bool in_result : {false, true}) {
    const auto memory = std::make_shared<StreamMemory>(memory_options(2));
    const auto crew = std::make_shared<StreamCrew>(std::vector{usable.first()}, usable);
    const auto subject = make_stream(crew, memory, Deal::one_each, {.kernel = StreamKernel::copy});
    subject->sample(2);
    const auto chunk = memory->part(0).chunk(1);
    (in_result ? chunk.c : chunk.b)[17] = 1e9;
    const auto checks = subject->checks();
    BOOST_TEST(failed(checks) == 1u);
    BOOST_TEST(*checks.front().seen.number() == 1);
    subject->sample(2);
    BOOST_TEST(failed(subject->checks()) == (in_result ? 0u : 1u));  // a copy mends its result
  }
}

BOOST_AUTO_TEST_CASE(a_word_that_read_should_not_have_seen_fails_its_sum) {
  const auto memory = std::make_shared<StreamMemory>(memory_options(2));
  const auto crew = std::make_shared<StreamCrew>(std::vector{usable.first()}, usable);
  const auto subject = make_stream(crew, memory, Deal::one_each, {.kernel = StreamKernel::read});
  double& word = memory->part(0).chunk(0).a[5];
  word = 0.5;
  subject->sample(2);
  word = stream_a;  // it is right again when the elements are looked at
  BOOST_TEST(failed(subject->checks()) == 1u);
}

BOOST_AUTO_TEST_CASE(a_node_that_the_pages_are_not_on_fails_its_check) {
  auto options = memory_options(2);
  for (auto& owner : options.owners)
    owner.node = 4000;  // not allowed, and so not looked for
  BOOST_TEST(StreamMemory(options).checks().size() == 2u);
  const StreamPart part(options);
  try {
    BOOST_TEST(part.share_on(4000) == 0.0);
  } catch (const std::system_error& refused) {
    BOOST_TEST_MESSAGE("the node of a page cannot be read here: " << refused.what());
  }
}

BOOST_AUTO_TEST_CASE(memory_that_cannot_be_had_is_told_to_all_that_share_it) {
  int attempts = 0;
  Shared<StreamMemory> shared([&]() -> std::shared_ptr<StreamMemory> {
    ++attempts;
    auto options = memory_options(1);
    options.owners.front().cpu = 4000;
    return std::make_shared<StreamMemory>(options);
  });
  BOOST_CHECK_EXCEPTION(shared.get(), Unsupported, says("4000"));
  BOOST_CHECK_EXCEPTION(shared.get(), Unsupported, says("4000"));
  BOOST_TEST(attempts == 1);
}

BOOST_AUTO_TEST_CASE(what_is_shared_is_made_once_and_goes_with_its_last_holder) {
  int made = 0;
  Shared<int> shared([&] { return std::make_shared<int>(++made); });
  {
    const auto one = shared.get(), other = shared.get();
    BOOST_TEST(one == other);
    BOOST_TEST(made == 1);
  }
  BOOST_TEST(*shared.get() == 2);
}

namespace {

// The largest lead that one of two spinning workers had over the other, in rounds, seen by either
// after each round of a line for `expected` workers.
std::int64_t largest_lead(unsigned expected, std::uint64_t rounds) {
  StartLine line(expected);
  struct alignas(line_pair) Counter {
    std::atomic<std::int64_t> value{0};
    std::int64_t lead = 0;
  } counters[2];
  const auto cpus = usable.cpus();
  Team team({}, {cpus[0], cpus[1]}, usable, [&](unsigned member, std::uint64_t count) {
    auto& mine = counters[member];
    auto& other = counters[1 - member];
    for (std::uint64_t i = 0; i < count; ++i) {
      if (member == 1 && i % 64 == 0)  // one of them is late now and then
        clock::sleep_for(50'000);
      line.wait();
      mine.lead = std::max(mine.lead, mine.value.fetch_add(1) - other.value.load());
    }
  });
  team.start(rounds);
  team.finish();
  return std::max(counters[0].lead, counters[1].lead);
}

}  // namespace

BOOST_AUTO_TEST_CASE(nobody_leaves_the_start_line_before_all_are_there,
                     *boost::unit_test::precondition(two_cpus)) {
  BOOST_TEST(largest_lead(2, 5'000) <= 1);
}

// The control: a line that expects one holds nobody up.
BOOST_AUTO_TEST_CASE(a_line_for_one_holds_nobody_up, *boost::unit_test::precondition(two_cpus)) {
  BOOST_TEST(largest_lead(1, 5'000) > 1);
}

BOOST_AUTO_TEST_CASE(a_worker_that_does_not_come_is_not_waited_for_for_ever) {
  StartLine line(2);
  BOOST_TEST(line.all_met().ok);
  BOOST_TEST(!line.wait());
  BOOST_TEST(!line.all_met().ok);
  BOOST_TEST(line.wait());  // the second of the same round
  BOOST_TEST(!line.all_met().ok);
}

BOOST_AUTO_TEST_CASE(a_load_moves_bytes_from_start_to_stop_and_leaves_what_it_should) {
  for (const auto kernel : {StreamKernel::read, StreamKernel::triad}) {
    MemoryLoad load({.memory = memory_options(40, 1024), .kernel = kernel});
    BOOST_TEST(load.bytes() == 0u);
    BOOST_TEST(load.pause_ns() > 0);
    for (const std::uint64_t delay : {0u, 1'000u}) {
      const std::uint64_t before = load.bytes();
      load.start(delay);
      clock::sleep_for(2'000'000);
      const auto records = load.stop();
      const std::uint64_t after = load.bytes();
      BOOST_TEST(after > before);
      BOOST_TEST((after - before) % (3 * 1024) == 0u);
      BOOST_TEST(records.size() == usable.count());
      clock::sleep_for(2'000'000);
      BOOST_TEST(load.bytes() == after);
    }
    BOOST_TEST(failed(load.checks()) == 0u);
  }
}

BOOST_AUTO_TEST_CASE(a_loaded_chase_gives_both_numbers_and_an_idle_one_the_latency_alone,
                     *boost::unit_test::precondition(two_cpus)) {
  LoadedChaseOptions options;
  const auto cpus = usable.cpus();
  options.chaser = cpus[0];
  options.usable = usable;
  options.size = 1 << 20;
  options.load.memory = memory_options(40, 1024);
  options.load.memory.owners = {{cpus[1], -1}};
  const auto chase = std::make_shared<LoadedChase>(options);
  for (const auto& delay :
       {std::optional<std::uint64_t>(), std::optional<std::uint64_t>(0), {std::uint64_t{500}}}) {
    const auto subject = make_loaded_chase(chase, delay);
    const auto sample = subject->sample(200'000);
    BOOST_TEST(sample.operations == 200'000u);
    BOOST_TEST(sample.values[0] * 200'000 == sample.elapsed_ns, boost::test_tools::tolerance(1e-9));
    BOOST_TEST(std::isnan(sample.values[1]) == !delay);
    const std::size_t seen = delay ? 2 : 1;
    BOOST_TEST(sample.proof.cpus.size() == seen);
    BOOST_TEST(sample.proof.on_cpu);
    BOOST_TEST(failed(subject->checks()) == 0u);
  }
  BOOST_TEST(chase->checks().size() == 3u);  // pages of the chase; values and pages of the load
  BOOST_TEST((affinity::thread_affinity() == affinity::CpuSet{cpus[0]}));
  stand_on(std::nullopt, usable);
}

BOOST_AUTO_TEST_CASE(spinning_workers_get_different_cpus_or_none) {
  const auto machine = synthetic("pack:2 [numa] core:2 pu:2");
  const auto apart = [&](const char* place, unsigned count) {
    return cpus_apart(machine, affinity::parse_placement(place, machine), count);
  };
  for (const char* place : {"all", "compact", "scatter", "per-core"})
    for (unsigned count = 1; count <= 8; ++count) {
      const auto cpus = apart(place, count);
      BOOST_TEST(std::set(cpus.begin(), cpus.end()).size() == count);
    }
  BOOST_TEST(apart("all", 0).size() == 8u);
  BOOST_TEST(apart("cpus:1,5", 0).size() == 2u);
  BOOST_TEST(apart("package:1", 0).size() == 4u);
  BOOST_TEST(apart("same-pu", 0).size() == 1u);
  BOOST_CHECK_EXCEPTION(apart("all", 9), Unsupported, says("each of 9 workers"));
  BOOST_CHECK_EXCEPTION(apart("cpus:1,5", 3), Unsupported, says("--place cpus:1,5"));
  BOOST_CHECK_EXCEPTION(apart("same-pu", 2), Unsupported, says("same-pu"));
  BOOST_CHECK_EXCEPTION(apart("unpinned", 1), Unsupported, says("must be pinned"));
}
