#include "lab/apparatus/chase.hh"

#include "affinity/pin.hh"
#include "lab/base/error.hh"
#include "lab/base/random.hh"
#include "tests/topology_fixtures.hh"

#include <boost/test/data/test_case.hpp>

#include <algorithm>
#include <map>
#include <set>

using namespace schedlab;
using namespace schedlab::apparatus;
namespace bdata = boost::unit_test::data;

namespace {

constexpr Pattern patterns[] = {Pattern::random, Pattern::page_local, Pattern::chained};
constexpr std::uint64_t kib = 1024;

// Memory that begins on a page.
class Memory {
public:
  explicit Memory(std::size_t size) : mapping_(Mapping::private_memory(size)) {}
  [[nodiscard]] std::span<std::byte> bytes() const { return mapping_.bytes(); }
  [[nodiscard]] std::uint64_t place(const Link* link, std::uint64_t stride) const {
    return offset(link) / stride;
  }
  [[nodiscard]] std::uint64_t offset(const Link* link) const {
    return static_cast<std::uint64_t>(reinterpret_cast<const std::byte*>(link) - mapping_.data());
  }

private:
  Mapping mapping_;
};

// The links of one way around, in order.
std::vector<const Link*> tour(const Link* start, std::uint64_t length) {
  std::vector<const Link*> links;
  for (const Link* at = start; links.size() < length; at = at->next)
    links.push_back(at);
  return links;
}

std::vector<std::uint64_t> places_of(const Memory& memory, const std::vector<const Link*>& links,
                                     std::uint64_t stride) {
  std::vector<std::uint64_t> places;
  for (const auto* link : links)
    places.push_back(memory.place(link, stride));
  return places;
}

}  // namespace

namespace schedlab::apparatus {
std::ostream& operator<<(std::ostream& out, Pattern pattern) {
  return out << to_text(pattern);
}
}  // namespace schedlab::apparatus

BOOST_DATA_TEST_CASE(a_chase_is_one_cycle_through_every_place, bdata::make(patterns), pattern) {
  const Memory memory(4096 * kib);
  for (const std::uint64_t stride : {64u, 128u, 256u, 4096u})
    for (const std::uint64_t size :
         {stride, 2 * stride, 24 * kib, 42 * kib, 700 * kib, 4096 * kib}) {
      if (size < stride)
        continue;
      const ChaseOptions options{.stride = stride, .pattern = pattern};
      const auto length = chase_length(size, options);
      const Link* start = write_chase(memory.bytes().first(size), options);
      BOOST_TEST_REQUIRE(cycle_length(start, 2 * length) == length, stride << " " << size);
      const auto links = tour(start, length);
      BOOST_TEST(std::set<const Link*>(links.begin(), links.end()).size() == length);
      auto places = places_of(memory, links, stride);
      std::ranges::sort(places);
      places.erase(std::unique(places.begin(), places.end()), places.end());
      BOOST_TEST(places.size() == size / stride);
      BOOST_TEST(places.back() == size / stride - 1);
    }
}

// What the cycle's way of being drawn is for: an ordinary permutation is one cycle in one of n.
BOOST_AUTO_TEST_CASE(an_ordinary_permutation_is_hardly_ever_one_cycle) {
  constexpr std::size_t places = 64;
  std::vector<Link> links(places);
  int whole = 0;
  for (std::uint64_t seed = 0; seed < 200; ++seed) {
    std::vector<std::size_t> order(places);
    for (std::size_t i = 0; i < places; ++i)
      order[i] = i;
    Random random(seed);
    shuffle(order, random);
    for (std::size_t i = 0; i < places; ++i)
      links[i].next = &links[order[i]];
    whole += cycle_length(&links[0], 2 * places) == places;
  }
  BOOST_TEST(whole < 20);  // 3 expected
}

BOOST_AUTO_TEST_CASE(a_cycle_longer_than_the_limit_has_no_length) {
  const Memory memory(8 * kib);
  const Link* start = write_chase(memory.bytes(), {});
  BOOST_TEST(cycle_length(start, 128) == 128u);
  BOOST_TEST(cycle_length(start, 127) == 0u);
}

// Four places have six cycles. 600 draws of each are expected, with a deviation of 22.
BOOST_AUTO_TEST_CASE(every_cycle_is_equally_likely) {
  const Memory memory(4096);
  std::map<std::vector<std::uint64_t>, int> drawn;
  for (std::uint64_t seed = 0; seed < 3600; ++seed) {
    const Link* start = write_chase(memory.bytes().first(256), {.seed = seed});
    ++drawn[places_of(memory, tour(start, 4), 64)];
  }
  BOOST_TEST(drawn.size() == 6u);
  for (const auto& [order, count] : drawn)
    BOOST_TEST((count > 490 && count < 710), count);
}

BOOST_AUTO_TEST_CASE(a_seed_gives_one_order_and_another_seed_another) {
  const Memory memory(64 * kib);
  const auto order = [&](std::uint64_t seed, Pattern pattern) {
    const ChaseOptions options{.pattern = pattern, .window = 16 * kib, .seed = seed};
    return places_of(memory, tour(write_chase(memory.bytes(), options), 1024), 64);
  };
  for (const auto pattern : patterns) {
    BOOST_TEST((order(7, pattern) == order(7, pattern)));
    BOOST_TEST((order(7, pattern) != order(8, pattern)));
  }
}

BOOST_AUTO_TEST_CASE(every_line_and_every_word_of_a_stride_is_used_equally_often) {
  for (const std::uint64_t stride : {64u, 128u, 256u, 1024u, 4096u}) {
    std::map<std::uint64_t, int> lines, words;
    for (std::uint64_t place = 0; place < 4096; ++place) {
      const auto offset = place_offset(place, stride);
      BOOST_TEST_REQUIRE(offset < stride);
      ++lines[offset / 64];
      ++words[offset % 64];
    }
    BOOST_TEST(lines.size() == stride / 64);
    BOOST_TEST(words.size() == 8u);
    for (const auto& [line, count] : lines)
      BOOST_TEST(count == static_cast<int>(4096 * 64 / stride));
    for (const auto& [word, count] : words)
      BOOST_TEST(count == 512);
  }
}

// One line of each of 64 pages: no two in the same set of a cache that a page's offset selects, and
// on huge pages not in the same set of a TLB of small pages either.
BOOST_AUTO_TEST_CASE(one_line_of_each_page_is_another_line_in_each) {
  for (const std::uint64_t page : {std::uint64_t{4096}, std::uint64_t{2} << 20}) {
    std::set<std::uint64_t> sets, small_pages;
    for (std::uint64_t place = 0; place < 64; ++place) {
      sets.insert(place_offset(place, page) / 64 % 64);
      small_pages.insert(place_offset(place, page) / 4096 % 16);
    }
    BOOST_TEST(sets.size() == 64u);
    BOOST_TEST(small_pages.size() == (page == 4096 ? 1u : 16u));
  }
}

BOOST_AUTO_TEST_CASE(page_local_order_finishes_a_window_before_the_next) {
  const Memory memory(1024 * kib);
  const auto windows_entered = [&](Pattern pattern) {
    const ChaseOptions options{.pattern = pattern, .window = 64 * kib};
    const auto places =
        places_of(memory, tour(write_chase(memory.bytes(), options), 16 * kib), 64 * kib);
    int changes = places.front() != places.back();
    for (std::size_t i = 1; i < places.size(); ++i)
      changes += places[i] != places[i - 1];
    return changes;
  };
  BOOST_TEST(windows_entered(Pattern::page_local) == 16);
  BOOST_TEST(windows_entered(Pattern::random) > 10000);  // 15 of 16 steps leave the window
}

BOOST_AUTO_TEST_CASE(windows_come_in_random_order) {
  const Memory memory(1024 * kib);
  std::set<std::vector<std::uint64_t>> orders;
  for (std::uint64_t seed = 0; seed < 10; ++seed) {
    const ChaseOptions options{.pattern = Pattern::page_local, .window = 64 * kib, .seed = seed};
    auto windows =
        places_of(memory, tour(write_chase(memory.bytes(), options), 16 * kib), 64 * kib);
    windows.erase(std::unique(windows.begin(), windows.end()), windows.end());
    orders.insert(windows);
  }
  BOOST_TEST(orders.size() == 10u);
}

BOOST_AUTO_TEST_CASE(a_long_pattern_visits_the_same_lines_in_another_order_on_each_lap) {
  const Memory memory(64 * kib);
  constexpr std::size_t lines = 1024;
  const ChaseOptions options{.pattern = Pattern::chained};
  const Link* start = write_chase(memory.bytes(), options)->next;
  auto links = tour(start, lines * chained_laps);
  // Begin where a lap does: at the first link of another word than the one before it.
  std::map<std::uint64_t, std::set<std::uint64_t>> followers;
  std::map<std::uint64_t, int> visits;
  for (std::size_t i = 0; i < links.size(); ++i) {
    const auto line = memory.place(links[i], 64);
    ++visits[line];
    followers[line].insert(memory.place(links[(i + 1) % links.size()], 64));
  }
  BOOST_TEST(visits.size() == lines);
  std::size_t always_other = 0;
  for (const auto& [line, count] : visits) {
    BOOST_TEST_REQUIRE(count == static_cast<int>(chained_laps));
    always_other += followers[line].size() == chained_laps;
  }
  BOOST_TEST(always_other > lines * 95 / 100);
}

BOOST_AUTO_TEST_CASE(a_walk_follows_as_many_links_as_it_was_told) {
  const Memory memory(64 * kib);
  const Link* start = write_chase(memory.bytes(), {});
  const auto links = tour(start, 1024);
  for (const std::uint64_t loads : {0u, 1u, 15u, 16u, 17u, 100u, 1023u})
    BOOST_TEST(walk(start, loads) == links[loads]);
  BOOST_TEST(walk(start, 1024) == start);
  BOOST_TEST(walk(walk(start, 333), 444) == walk(start, 777));
}

BOOST_AUTO_TEST_CASE(flushing_changes_nothing_but_the_caches) {
  const Memory memory(64 * kib);
  const Link* start = write_chase(memory.bytes(), {});
  const auto before = tour(start, 1024);
  if (can_flush())
    flush(start, 500);
  else
    BOOST_CHECK_THROW(flush(start, 500), Unsupported);
  BOOST_TEST((tour(start, 1024) == before));
}

BOOST_AUTO_TEST_CASE(a_stride_or_area_that_does_not_do_is_refused) {
  const Memory memory(64 * kib);
  for (const std::uint64_t stride : {0u, 8u, 32u, 96u, 192u})
    BOOST_CHECK_THROW(write_chase(memory.bytes(), {.stride = stride}), std::invalid_argument);
  BOOST_CHECK_THROW(write_chase(memory.bytes().first(100), {.stride = 128}), std::invalid_argument);
  BOOST_CHECK_THROW(write_chase(memory.bytes().subspan(8), {}), std::invalid_argument);
  BOOST_CHECK_THROW(write_chase({}, {}), std::invalid_argument);
  BOOST_CHECK_THROW(pattern_from("shuffled"), std::invalid_argument);
  for (const auto pattern : patterns)
    BOOST_TEST(pattern_from(to_text(pattern)) == pattern);
}

namespace {

ChaseSubject subject_of(std::uint64_t area, std::uint64_t size) {
  AreaOptions memory;
  memory.size = area;
  ChaseSubject subject;
  const auto usable = affinity::thread_affinity();
  subject.loop = {usable.first(), usable, 2};
  subject.area = std::make_shared<SharedArea>(memory);
  subject.size = size;
  return subject;
}

}  // namespace

BOOST_AUTO_TEST_CASE(an_operation_of_the_subject_is_a_load) {
  const affinity::Pin pin(affinity::thread_affinity());
  const auto chase = make_chase(subject_of(64 * kib, 16 * kib));
  for (const std::uint64_t operations : {1u, 100u, 5000u}) {
    const auto sample = chase->sample(operations);
    BOOST_TEST(sample.operations == operations);
    BOOST_TEST(sample.values[2] * static_cast<double>(operations) == sample.elapsed_ns,
               boost::test_tools::tolerance(1e-9));
    BOOST_TEST(sample.proof.on_cpu);
  }
  const auto checks = chase->checks();
  BOOST_TEST_REQUIRE(!checks.empty());
  for (const auto& check : checks)
    BOOST_TEST(check.ok, check.name);
}

BOOST_AUTO_TEST_CASE(a_flushed_chase_too_short_for_a_sample_is_refused) {
  auto subject = subject_of(64 * kib, 64 * kib);
  subject.flushed = true;
  BOOST_CHECK_THROW(make_chase(subject), std::invalid_argument);
}

BOOST_AUTO_TEST_CASE(memory_that_cannot_be_had_is_told_to_all_who_ask) {
  AreaOptions memory;
  memory.size = std::uint64_t{1} << 50;
  SharedArea area(memory);
  std::string first;
  try {
    (void)area.bytes();
  } catch (const std::system_error& failure) {
    first = failure.what();
  }
  BOOST_TEST(!first.empty());
  BOOST_CHECK_EXCEPTION((void)area.bytes(), std::system_error, says(first));
  BOOST_TEST(area.checks().empty());
}
