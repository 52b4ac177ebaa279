#include "lab/apparatus/area.hh"

#include "affinity/memory.hh"
#include "lab/base/child.hh"
#include "lab/base/error.hh"
#include "lab/harness/numbers.hh"
#include "tests/topology_fixtures.hh"

#include <sys/mman.h>
#include <sys/prctl.h>

#include <algorithm>

using namespace schedlab;
using namespace schedlab::apparatus;
namespace ut = boost::unit_test;

namespace {

constexpr std::size_t mib = 1 << 20;

AreaOptions options_of(std::uint64_t size, Pages pages) {
  AreaOptions options;
  options.size = size;
  options.pages = pages;
  return options;
}

boost::test_tools::assertion_result can_have_huge_pages(ut::test_unit_id) {
  return possible([] { const Area area(options_of(4 * mib, Pages::huge)); });
}

// Turns transparent huge pages off for this process, for a scope.
class WithoutHugePages {
public:
  WithoutHugePages() { ::prctl(PR_SET_THP_DISABLE, 1, 0, 0, 0); }
  WithoutHugePages(const WithoutHugePages&) = delete;
  WithoutHugePages& operator=(const WithoutHugePages&) = delete;
  ~WithoutHugePages() { ::prctl(PR_SET_THP_DISABLE, 0, 0, 0, 0); }
};

bool all_ok(const std::vector<harness::Check>& checks) {
  return std::ranges::all_of(checks, &harness::Check::ok);
}

}  // namespace

BOOST_AUTO_TEST_CASE(an_area_is_zero_and_begins_on_a_page_and_holds_what_was_asked_for) {
  for (const std::uint64_t size : {std::uint64_t{0}, std::uint64_t{1}, std::uint64_t{3 * mib}}) {
    const Area area(options_of(size, Pages::base));
    BOOST_TEST(area.size() >= std::max<std::uint64_t>(size, 1));
    BOOST_TEST(area.size() % size_of(Pages::base) == 0u);
    BOOST_TEST(reinterpret_cast<std::uintptr_t>(area.data()) % size_of(Pages::base) == 0u);
    BOOST_TEST(
        std::ranges::all_of(area.bytes(), [](std::byte byte) { return byte == std::byte{}; }));
    area.bytes().back() = std::byte{1};
  }
}

BOOST_AUTO_TEST_CASE(base_pages_are_proven) {
  const Area area(options_of(8 * mib, Pages::base));
  BOOST_TEST(area.granted() == 1.0);
  BOOST_TEST(area.checks().size() == 1u);
  BOOST_TEST(all_ok(area.checks()));
}

BOOST_AUTO_TEST_CASE(huge_pages_are_proven, *ut::precondition(can_have_huge_pages)) {
  const Area area(options_of(8 * mib, Pages::huge));
  BOOST_TEST(area.granted() >= 0.95);
  BOOST_TEST(reinterpret_cast<std::uintptr_t>(area.data()) % size_of(Pages::huge) == 0u);
  BOOST_TEST(all_ok(area.checks()));
}

// What the check is for: pages that become huge behind its back.
BOOST_AUTO_TEST_CASE(base_pages_that_were_collapsed_are_noticed,
                     *ut::precondition(can_have_huge_pages)) {
  constexpr int collapse = 25;  // MADV_COLLAPSE, Linux 6.1
  const Area area(options_of(8 * mib, Pages::base));
  BOOST_TEST_REQUIRE(::madvise(area.data(), area.size(), MADV_HUGEPAGE) == 0);
  if (::madvise(area.data(), area.size(), collapse) != 0) {
    BOOST_TEST_MESSAGE("this kernel does not collapse on request");
    return;
  }
  BOOST_TEST(area.granted() < 0.5);
  BOOST_TEST(!all_ok(area.checks()));
}

BOOST_AUTO_TEST_CASE(huge_pages_that_are_refused_are_told_with_a_next_step,
                     *ut::precondition(can_have_huge_pages)) {
  const WithoutHugePages without;
  BOOST_CHECK_EXCEPTION(Area(options_of(8 * mib, Pages::huge)), Unsupported,
                        says("0 % of 8.00 MiB lie on huge pages"));
  BOOST_CHECK_EXCEPTION(Area(options_of(8 * mib, Pages::huge)), Unsupported, says("echo "));
}

BOOST_AUTO_TEST_CASE(every_page_is_on_the_node_asked_for) {
  auto options = options_of(mib, Pages::base);
  options.node = affinity::allowed_nodes().front();
  const Area area(options);
  const auto checks = area.checks();
  BOOST_TEST_REQUIRE(checks.size() == 2u);
  BOOST_TEST(all_ok(checks));
  BOOST_TEST(*checks[1].seen.number() == static_cast<double>(mib / size_of(Pages::base)));
}

BOOST_AUTO_TEST_CASE(a_node_that_does_not_exist_is_named) {
  auto options = options_of(mib, Pages::base);
  options.node = 900;
  BOOST_CHECK_EXCEPTION(Area{options}, BadInput, says("node 900"));
}

BOOST_AUTO_TEST_CASE(a_shared_area_is_seen_by_a_child) {
  for (const bool shared : {true, false}) {
    auto options = options_of(mib, Pages::base);
    options.shared = shared;
    const Area area(options);
    Child child = Child::fork([&] {
      area.bytes().back() = std::byte{7};
      return 0;
    });
    BOOST_TEST(child.wait().success());
    BOOST_TEST(((area.bytes().back() == std::byte{7}) == shared));
  }
}

BOOST_AUTO_TEST_CASE(more_than_half_of_the_memory_is_too_large) {
  BOOST_TEST(too_large(0, ~std::uint64_t{0}) == "");
  BOOST_TEST(too_large(1, mib) == "");
  const std::string refusal = too_large(2, std::uint64_t{1} << 50);
  BOOST_TEST(refusal.starts_with("2 x 1048576 GiB is more than half of the memory left here ("),
             refusal);
  BOOST_TEST(too_large(~std::uint64_t{0}, mib) != "");  // the product does not overflow
}

BOOST_AUTO_TEST_CASE(the_words_for_pages_are_read_as_they_are_written) {
  for (const auto pages : {Pages::base, Pages::huge})
    BOOST_TEST((pages_from(to_text(pages)) == pages));
  BOOST_CHECK_THROW(pages_from("large"), std::invalid_argument);
}
