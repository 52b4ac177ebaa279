#include "affinity/pin.hh"
#include "lab/apparatus/ring.hh"
#include "lab/base/child.hh"
#include "lab/base/error.hh"
#include "lab/base/mapping.hh"
#include "tests/left_behind.hh"
#include "tests/task_kind.hh"

#include <boost/test/data/test_case.hpp>
#include <boost/test/unit_test.hpp>
#include <sys/mman.h>

#include <array>
#include <csignal>
#include <vector>

using namespace schedlab;
using namespace schedlab::apparatus;
using harness::Sample;
using testing::belongings;
namespace bdata = boost::unit_test::data;

namespace {

const std::array kinds = {TaskKind::threads, TaskKind::processes};
const affinity::CpuSet usable = affinity::thread_affinity();

RingOptions options_for(TaskKind kind, unsigned count, std::uint64_t size = 0) {
  RingOptions options;
  options.tasks.kind = kind;
  options.count = count;
  options.size = size;
  options.cpu = usable.first();
  options.usable = usable;
  options.metric = 2;
  options.switches_metric = 3;
  return options;
}

// Ones, walked over: what the walk gave, and the words afterwards.
struct Walked {
  std::uint64_t sum;
  std::vector<std::uint64_t> words;
};

Walked walked(std::uint64_t size, std::uint64_t stride, Access access) {
  std::vector<std::uint64_t> words(512, 1);
  const auto sum = walk(reinterpret_cast<std::byte*>(words.data()), size, stride, access);
  return {sum, words};
}

}  // namespace

BOOST_AUTO_TEST_CASE(a_writing_walk_touches_one_word_in_each_stride_and_no_other) {
  for (const auto& [size, stride] :
       {std::pair(4096u, 64u), std::pair(4096u, 8u), std::pair(1024u, 128u), std::pair(100u, 64u),
        std::pair(0u, 64u), std::pair(64u, 4096u)}) {
    const std::size_t touched = (size + stride - 1) / stride;
    const Walked result = walked(size, stride, Access::write);
    BOOST_TEST(result.sum == touched);
    std::vector<std::uint64_t> expected(512, 1);
    for (std::size_t i = 0; i < touched; ++i)
      expected[i * stride / 8] = i + 1;  // the sum so far
    BOOST_TEST(result.words == expected, boost::test_tools::per_element());
  }
}

BOOST_AUTO_TEST_CASE(a_reading_walk_reads_as_many_words_and_changes_none) {
  for (const unsigned stride : {8u, 64u, 512u}) {
    const Walked result = walked(4096, stride, Access::read);
    BOOST_TEST(result.sum == 4096 / stride);
    BOOST_TEST(result.words == std::vector<std::uint64_t>(512, 1),
               boost::test_tools::per_element());
  }
}

// Twelve does not divide a page: the last word in reach would lie half behind it.
BOOST_AUTO_TEST_CASE(a_walk_stays_inside_its_area_whatever_size_and_stride) {
  const Mapping two_pages = Mapping::private_memory(2 * page_size());
  BOOST_REQUIRE_EQUAL(::mprotect(two_pages.data() + page_size(), page_size(), PROT_NONE), 0);
  const ExitCause end = Child::fork([&] {
                          std::signal(SIGSEGV, SIG_DFL);
                          for (const auto access : {Access::read, Access::write})
                            for (const std::size_t size :
                                 {std::size_t{4}, std::size_t{12}, page_size() - 4, page_size()})
                              for (const unsigned stride : {8u, 12u, 20u})
                                walk(two_pages.data() + page_size() - size, size, stride, access);
                          return 0;
                        }).wait();
  BOOST_TEST(end.text() == "exit status 0");
  // The control: one word further is a fault.
  const ExitCause beyond = Child::fork([&] {
                             std::signal(SIGSEGV, SIG_DFL);
                             walk(two_pages.data() + 8, page_size(), 8, Access::read);
                             return 0;
                           }).wait();
  BOOST_TEST((beyond.kind == ExitCause::Kind::signalled));
}

// A member that were passed over would sleep less often than once a lap. A ring of two sleeps and
// does nothing else; in a larger one a task that is woken may preempt the one that woke it, which
// adds a switch for a hop at most.
BOOST_DATA_TEST_CASE(every_member_of_a_ring_is_visited_in_every_lap, bdata::make(kinds), kind) {
  for (const unsigned count : {2u, 3u, 8u}) {
    const auto ring = make_ring(options_for(kind, count, 4096));
    double fewest = 9;
    for (int i = 0; i < 5; ++i)  // the calmest of some: other programs add switches
      fewest = std::min(fewest, ring->sample(1000).values[3]);
    BOOST_TEST(fewest > 0.99, count << " members: " << fewest);
    BOOST_TEST(fewest < (count == 2 ? 1.01 : 2.02), count << " members: " << fewest);
  }
}

BOOST_DATA_TEST_CASE(a_lap_of_a_ring_is_as_many_hops_as_members, bdata::make(kinds), kind) {
  const auto ring = make_ring(options_for(kind, 5));
  const Sample sample = ring->sample(200);
  BOOST_TEST(sample.operations == 200u);
  BOOST_TEST(sample.values[2] * 200 * 5 == sample.elapsed_ns, boost::test_tools::tolerance(1e-9));
  BOOST_TEST(sample.proof.on_cpu);
  BOOST_TEST(sample.proof.counted_switches >= 5u * 200 * 99 / 100);
}

BOOST_DATA_TEST_CASE(a_ring_works_with_every_kind_of_working_set, bdata::make(kinds), kind) {
  for (const std::uint64_t size : {std::uint64_t{0}, std::uint64_t{100}, std::uint64_t{65536}})
    for (const auto access : {Access::read, Access::write})
      for (const bool shared : {false, true}) {
        auto options = options_for(kind, 3, size);
        options.access = access;
        options.shared_pages = shared;
        BOOST_TEST(make_ring(options)->sample(10).elapsed_ns > 0);
      }
}

// The control of the switches counted above.
BOOST_AUTO_TEST_CASE(a_lone_walker_does_its_hops_without_a_switch) {
  const auto alone = make_lone_walker(options_for(TaskKind::threads, 8, 4096));
  std::uint64_t fewest = ~std::uint64_t{0};
  for (int i = 0; i < 5; ++i) {
    const Sample sample = alone->sample(5000);
    fewest = std::min(fewest, sample.proof.counted_switches);
    BOOST_TEST(sample.operations == 5000u);
    BOOST_TEST(sample.values[2] * 5000 == sample.elapsed_ns, boost::test_tools::tolerance(1e-9));
  }
  BOOST_TEST(fewest < 50u);
}

BOOST_DATA_TEST_CASE(a_ring_leaves_nothing_behind, bdata::make(kinds), kind) {
  const auto before = belongings();
  {
    const auto first = make_ring(options_for(kind, 16, 4096));
    const auto second = make_ring(options_for(kind, 2));
    first->sample(10);
    second->sample(10);
  }
  BOOST_TEST(belongings() == before);
}

BOOST_DATA_TEST_CASE(a_ring_that_cannot_be_placed_is_told_and_nothing_is_left, bdata::make(kinds),
                     kind) {
  const auto before = belongings();
  auto options = options_for(kind, 4);
  options.cpu = 4000;
  BOOST_CHECK_THROW(make_ring(options), Unsupported);
  BOOST_TEST(belongings() == before);
}
