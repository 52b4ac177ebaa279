#pragma once
// What test cases of process pools have in common.

#include "tests/pool_tasks.hh"
#include "tests/sanitized.hh"

#include <boost/test/unit_test.hpp>

#include <ostream>
#include <string_view>
#include <vector>

// For the names of test cases.
namespace schedlab::procs {
inline std::ostream& operator<<(std::ostream& out, Step step) {
  return out << to_text(step);
}
inline std::ostream& operator<<(std::ostream& out, StartMethod method) {
  return out << to_text(method);
}
}  // namespace schedlab::procs

namespace schedlab::testing {

// A fork of a process with threads is the end of it under ThreadSanitizer.
inline std::vector<procs::StartMethod> methods() {
  if (thread_sanitizer)
    return {procs::StartMethod::exec, procs::StartMethod::forkserver};
  return {procs::StartMethod::fork, procs::StartMethod::exec, procs::StartMethod::forkserver};
}

// However many of its workers a test kills.
inline procs::ProcessPoolOptions options(procs::StartMethod start, unsigned workers = 2) {
  return {.workers = workers, .start = start, .most_restarts = 100'000};
}

// Says what is missing, where it is.
inline bool holds(const std::string& text, std::string_view part) {
  const bool found = text.find(part) != text.npos;
  if (!found)
    BOOST_TEST_MESSAGE("'" << text << "' lacks '" << part << "'");
  return found;
}

}  // namespace schedlab::testing
