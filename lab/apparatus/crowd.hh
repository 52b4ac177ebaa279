#pragma once
// A crowd of threads sleeps until one tells all, again and again: how long until the last of them
// goes on, and how often they were switched. And a semaphore that wakes one.

#include "lab/apparatus/crew.hh"

#include <memory>
#include <string>
#include <string_view>

namespace schedlab::apparatus {

struct CrowdOptions {
  std::string way;
  CrewOptions crew;  // the teller is the first, the others wait
  // Indexes of the metrics that a sample fills in.
  std::size_t latency = 0;   // ns: from before the telling until the last one goes on; the median
  std::size_t switches = 1;  // context switches of those who wait, for each time each is told
};

// An operation is a telling. Ways: "event", "eventfd" (as a flag: who is told leaves it readable),
// where those who are told have nothing more to do; "requeue", "wake-all", "std", conditions, where
// each must have the mutex before it goes on. "requeue" and "wake-all" are one condition that does
// and does not let the sleepers go over to the mutex. Before each telling the teller sleeps for a
// moment, so that the others do. Checked: all heard each telling.
std::unique_ptr<harness::Subject> make_crowd(const CrowdOptions& options);

// Two threads of the crew and a semaphore each way. An operation is a wake-up, half of a round
// trip. Ways: "procs", "std", "sem_t", "eventfd".
std::unique_ptr<harness::Subject> make_semaphore_wake(const CrowdOptions& options);

}  // namespace schedlab::apparatus
