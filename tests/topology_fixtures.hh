#pragma once
// Machines that tests run on without having them.

#include "affinity/topology.hh"
#include "lab/base/error.hh"

#include <boost/test/unit_test.hpp>

namespace schedlab {

// One of tests/data/topology; the tests run in the root of the source tree.
inline affinity::Topology fixture(const std::string& name) {
  return affinity::Topology::from_xml("tests/data/topology/" + name + ".xml");
}

inline affinity::Topology synthetic(const std::string& description) {
  return affinity::Topology::from_synthetic(description);
}

// For BOOST_CHECK_EXCEPTION: does the error's text hold this?
inline auto says(std::string text) {
  return [text = std::move(text)](const std::exception& error) {
    const bool found = std::string_view(error.what()).find(text) != std::string_view::npos;
    BOOST_TEST(found, "'" << error.what() << "' does not say '" << text << "'");
    return found;
  };
}

// For preconditions: what cannot be had here throws Unsupported, which says why.
template <typename Attempt>
boost::test_tools::assertion_result possible(Attempt attempt) {
  boost::test_tools::assertion_result result(true);
  try {
    attempt();
  } catch (const Unsupported& why) {
    result = false;
    result.message() << why.what();
  }
  return result;
}

// Asked once, before a test has moved this thread to a CPU and left it there.
inline const std::size_t usable_at_start = affinity::Topology::machine().usable().count();

inline boost::test_tools::assertion_result two_cpus(boost::unit_test::test_unit_id) {
  boost::test_tools::assertion_result result(usable_at_start >= 2);
  result.message() << "needs 2 usable CPUs";
  return result;
}

}  // namespace schedlab
