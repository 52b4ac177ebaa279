#pragma once
// What locks and their friends are used for, each in several ways, ours and those of the libraries:
// how fast it goes, and how often it came out wrong.

#include "lab/apparatus/crew.hh"

#include <memory>
#include <string>
#include <string_view>
#include <vector>

namespace schedlab::apparatus {

struct UseOptions {
  std::string way;           // one of the ways below
  CrewOptions crew;          // who
  std::uint64_t number = 0;  // of what the use says
  // Indexes of the metrics that a sample fills in.
  std::size_t cost = 0;      // ns: wall time for an operation
  std::size_t rate = 1;      // operations in a second
  std::size_t switches = 2;  // context switches for an operation
  std::size_t spurious = 3;  // wake-ups that found nothing, for an operation
  std::size_t wrong = 4;     // of a million operations, those that came out wrong
  std::size_t inside = 5;    // the most that were inside at a time
};

// Threads enter what only three may be in at a time. An operation is an entry; at least `number`
// entries are made. Ways: "procs", "std", "sem_t", "none". Checked: never more than three and at
// some time three.
std::unique_ptr<harness::Subject> make_limit(const UseOptions& options);

// Two words that belong together: the first thread raises both, the others read both and compare.
// An operation is a reading; wrong are those that saw two different ones. Ways: "none", "mutex",
// "std", "rw", "seqlock". Needs two threads. Checked: nothing is wrong but without a lock.
std::unique_ptr<harness::Subject> make_pair_of_words(const UseOptions& options);

// Threads read a table, and one operation in a hundred less `number` changes it. Ways: "procs",
// "std" (std::shared_mutex), "mutex", "std-mutex". Checked: no reading was torn.
std::unique_ptr<harness::Subject> make_reading(const UseOptions& options);

// Threads count words in one hash table. Ways: "gil" (our interpreter lock, given up every 5 ms),
// "one-lock", "sharded" (64 locks and tables). Checked: no count is missing.
std::unique_ptr<harness::Subject> make_dictionary(const UseOptions& options);

// Threads cut texts into words with a function that keeps its place in a static variable. Ways:
// "none", "coarse" (one lock around each whole text), "per-object" (each place has its own lock,
// and the static variable is gone). Wrong are texts whose words came out wrong. Checked: none but
// without a lock.
std::unique_ptr<harness::Subject> make_words(const UseOptions& options);

// Half of the threads put items into a buffer of 16, half take them out. An operation is an item.
// Ways: "procs", "std" (condition variables), "semaphores" (two and a mutex of ours). Needs an even
// number of threads. Checked: what came out is what went in.
std::unique_ptr<harness::Subject> make_bounded_buffer(const UseOptions& options);

// Threads meet. An operation is a meeting of all. Ways: "procs", "std", "pthread". Checked: nobody
// was a round ahead.
std::unique_ptr<harness::Subject> make_meeting(const UseOptions& options);

}  // namespace schedlab::apparatus
