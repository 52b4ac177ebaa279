#include "affinity/memory.hh"
#include "affinity/pin.hh"
#include "lab/apparatus/node_memory.hh"
#include "lab/apparatus/page_moves.hh"
#include "lab/base/error.hh"
#include "tests/topology_fixtures.hh"

#include <algorithm>

using namespace schedlab;
using namespace schedlab::apparatus;
using harness::Check;
using harness::Sample;
namespace ut = boost::unit_test;

namespace {

constexpr std::uint64_t size = 1 << 20;
constexpr std::size_t some_pages = 16;
const affinity::CpuSet usable = affinity::thread_affinity();

boost::test_tools::assertion_result can_place(ut::test_unit_id) {
  return possible([] {
    const auto memory = Mapping::private_memory(page_size());
    affinity::set_memory_policy(memory.bytes(), affinity::Policy::first_touch, {});
    affinity::nodes_of(memory.bytes());
    affinity::pages_by_node();
  });
}

unsigned a_node() {
  return affinity::allowed_nodes().front();
}

NodeMemoryOptions options_for(std::map<unsigned, double> shares) {
  NodeMemoryOptions options;
  options.size = size;
  options.nodes = {a_node()};
  options.writer = usable.first();
  options.usable = usable;
  options.shares = std::move(shares);
  return options;
}

std::shared_ptr<NodeMemory> memory_on_node() {
  return std::make_shared<NodeMemory>(options_for({{a_node(), 1.0}}));
}

PageMoveOptions page_options(bool stay = false) {
  PageMoveOptions options;
  options.pages = some_pages;
  options.from = affinity::allowed_nodes().front();
  options.to = affinity::allowed_nodes().back();
  options.stay = stay;
  options.cpu = usable.first();
  options.usable = usable;
  return options;
}

bool all_ok(const std::vector<Check>& checks) {
  return !checks.empty() && std::ranges::all_of(checks, &Check::ok);
}

}  // namespace

BOOST_AUTO_TEST_SUITE(placed, *ut::precondition(can_place))

BOOST_AUTO_TEST_CASE(node_memory_proves_the_node_of_every_page) {
  const auto memory = memory_on_node();
  memory->make();
  const auto checks = memory->checks();
  BOOST_TEST_REQUIRE(checks.size() == 1u);
  BOOST_TEST(checks[0].ok);
  BOOST_TEST((checks[0].seen == harness::Value(size / page_size())));
}

BOOST_AUTO_TEST_CASE(memory_that_is_not_where_it_was_to_be_fails_its_check) {
  NodeMemory memory(options_for({{a_node() + 700, 1.0}}));
  memory.make();
  BOOST_TEST(!memory.checks().at(0).ok);
  BOOST_TEST((memory.checks().at(0).seen == harness::Value(0)));
}

BOOST_AUTO_TEST_CASE(equal_shares_may_differ_by_a_page_but_not_by_half) {
  NodeMemory memory(options_for({{a_node(), 0.5}, {a_node() + 700, 0.5}}));
  memory.make();
  BOOST_TEST(!memory.checks().at(0).ok);
  BOOST_TEST(!memory.checks().at(1).ok);
}

BOOST_AUTO_TEST_CASE(memory_on_a_node_that_is_not_there_is_refused_every_time) {
  auto options = options_for({});
  options.nodes = {900};
  const auto memory = std::make_shared<NodeMemory>(options);
  for (int i = 0; i < 2; ++i)
    BOOST_CHECK_EXCEPTION(memory->make(), BadInput, says("node 900"));
}

BOOST_AUTO_TEST_CASE(its_chase_is_one_cycle_over_all_places) {
  const auto memory = memory_on_node();
  memory->make();
  BOOST_TEST(memory->places() == size / 256);
  BOOST_TEST(cycle_length(memory->start(), 2 * memory->places()) == memory->places());
}

BOOST_AUTO_TEST_CASE(a_memory_chase_does_more_loads_than_a_lap_has) {
  const auto memory = memory_on_node();
  const auto subject = make_memory_chase({usable.first(), usable, 2}, memory);
  const std::uint64_t loads = 3 * memory->places() + 5;
  const Sample sample = subject->sample(loads);
  BOOST_TEST(sample.operations == loads);
  BOOST_TEST(sample.elapsed_ns > 0);
  BOOST_TEST(sample.values[2] > 0);
  BOOST_TEST(sample.proof.on_cpu);
  BOOST_TEST(all_ok(subject->checks()));
}

BOOST_AUTO_TEST_CASE(readers_read_every_word_of_their_turn) {
  const auto memory = memory_on_node();
  MemoryReadOptions options;
  options.cpus = usable.cpus();
  options.usable = usable;
  options.bytes = size / 4;
  options.metric = 1;
  const auto subject = make_memory_read(options, memory);
  const Sample sample = subject->sample(6);  // more than all turns
  BOOST_TEST(sample.values[1] == 6.0 * (size / 4) / sample.elapsed_ns * 1e9,
             boost::test_tools::tolerance(1e-9));
  BOOST_TEST(sample.proof.on_cpu);
  BOOST_TEST(all_ok(subject->checks()));
}

BOOST_AUTO_TEST_CASE(a_reader_of_other_words_than_there_were_fails_its_check) {
  const auto memory = memory_on_node();
  MemoryReadOptions options;
  options.cpus = {usable.first()};
  options.usable = usable;
  options.bytes = size;
  const auto subject = make_memory_read(options, memory);
  auto* word = const_cast<std::byte*>(memory->bytes().data()) + size - 1;
  *word = *word ^ std::byte{1};
  subject->sample(1);
  const auto checks = subject->checks();
  const auto read = std::ranges::find(checks, "passes that read what is there", &Check::name);
  BOOST_TEST_REQUIRE((read != checks.end()));
  BOOST_TEST(!read->ok);
}

BOOST_AUTO_TEST_CASE(flushed_memory_keeps_its_content) {
  const auto memory = Mapping::private_memory(3 * page_size());
  std::ranges::fill(memory.bytes(), std::byte{7});
  flush_lines(memory.bytes());
  flush_lines({});
  BOOST_TEST(std::ranges::count(memory.bytes(), std::byte{7}) ==
             static_cast<std::ptrdiff_t>(memory.size()));
}

BOOST_AUTO_TEST_CASE(pages_go_there_and_back_and_are_found_on_both_nodes) {
  for (const bool stay : {false, true}) {
    const auto subject = make_page_mover(page_options(stay));
    const Sample sample = subject->sample(3);
    BOOST_TEST(sample.values[1] == some_pages);
    BOOST_TEST(sample.values[0] > 0);
    BOOST_TEST(all_ok(subject->checks()));
  }
}

BOOST_AUTO_TEST_CASE(a_process_has_its_pages_moved_as_far_as_there_are_nodes) {
  const bool two = affinity::allowed_nodes().size() > 1;
  const auto subject = make_process_mover(page_options());
  const Sample sample = subject->sample(2);
  BOOST_TEST((sample.values[1] >= static_cast<double>(some_pages)) == two);
  BOOST_TEST(all_ok(subject->checks()));
}

BOOST_AUTO_TEST_SUITE_END()
