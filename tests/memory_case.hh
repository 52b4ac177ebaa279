#pragma once
// What tests ask for that let memory run out in a cgroup.

#include "lab/apparatus/memory_cage.hh"
#include "tests/sanitized.hh"

#include <boost/test/unit_test.hpp>

namespace schedlab::testing {

// More than a pool of two workers needs that do nothing.
inline constexpr std::uint64_t little_memory = std::uint64_t{96} << 20;

// For preconditions.
inline boost::test_tools::assertion_result a_cage_may_be_made(boost::unit_test::test_unit_id) {
  const std::string why = sanitized ? "a sanitizer takes more memory than the cgroup has"
                                    : apparatus::memory_cage_refusal(little_memory);
  boost::test_tools::assertion_result result(why.empty());
  result.message() << why;
  return result;
}

}  // namespace schedlab::testing
