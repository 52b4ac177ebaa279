#pragma once
// What a fork leaves to be paid later: the first write to each page that parent and child share.

#include "affinity/cpu_set.hh"
#include "lab/apparatus/ballast.hh"
#include "lab/harness/sample.hh"

#include <cstdint>
#include <memory>
#include <string_view>

namespace schedlab::apparatus {

enum class Writer : std::uint8_t {
  nobody_forked,  // the control: no fork before
  child,
  parent,        // while the child lives
  parent_alone,  // when the child has ended: nothing is left to be copied
};
std::string_view to_text(Writer writer) noexcept;

struct FirstWriteOptions {
  unsigned cpu = 0;  // kernel number; parent and child
  affinity::CpuSet usable;
  Ballast ballast;
  std::size_t write_metric = 0;   // ns for a base page
  std::size_t faults_metric = 0;  // page faults for a base page
};

// An operation is a fork, and one write to each base page of the ballast by the writer. Throws what
// load() throws.
std::unique_ptr<harness::Subject> make_first_write(Writer writer, const FirstWriteOptions& options);

}  // namespace schedlab::apparatus
