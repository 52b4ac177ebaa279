#pragma once
// What a lab's subject gives back to the harness for each sample: values and their proof.

#include "lab/harness/document.hh"

#include <array>
#include <cstdint>
#include <limits>
#include <vector>

namespace schedlab::harness {

inline constexpr std::size_t max_metrics = 10;  // of a lab; a test holds all labs against it
inline constexpr double not_measured = std::numeric_limits<double>::quiet_NaN();

// What was seen beside the clock while a sample was taken. A sample that fails its proof is kept,
// flagged and left out of the "clean" estimate.
struct Proof {
  bool on_cpu = true;                   // every pinned task was where it belongs, before and after
  std::uint64_t expected_switches = 0;  // 0: no expectation
  std::uint64_t most_switches = 0;      // where more can be in order; 0: what is expected
  std::uint64_t counted_switches = 0;   // voluntary and involuntary, all tasks of the subject
  double wall_ns = 0;                   // the window the counters below cover
  double waited_ns = 0;                 // run-queue wait of all tasks
  double foreign_ns = not_measured;     // CPU time that none of our tasks used, where the tasks
                                        // keep their CPU busy; not measured elsewhere
  std::uint64_t steal_ticks = 0;        // of the CPUs used; filled in by the harness
  std::vector<unsigned> cpus = {};      // seen before and after, kernel numbers, ascending
};

// The ways in which a proof can fail; bits of a mask.
enum Fault : unsigned {
  fault_migrated = 1,
  fault_count = 2,      // fewer switches than the operations need
  fault_preempted = 4,  // more switches than the operations explain
  fault_busy = 8,       // somebody else used the CPU
  fault_steal = 16,
};

// Which of them a proof shows; 0 for a clean sample.
unsigned faults(const Proof& proof) noexcept;

struct Sample {
  std::uint64_t operations = 0;
  double elapsed_ns = 0;  // clocked; the harness scales `operations` by it
  // By index into the lab's metrics; not_measured where the sample says nothing of a metric.
  std::array<double, max_metrics> values;
  Proof proof;

  Sample() { values.fill(not_measured); }
};

// One series, set up and ready: threads started, memory touched, peers waiting. Built, used and
// destroyed by the harness's thread in one replicate process.
class Subject {
public:
  Subject() = default;
  Subject(const Subject&) = delete;
  Subject& operator=(const Subject&) = delete;
  virtual ~Subject() = default;

  // Does `operations` operations and clocks them. Throws only if the machine is broken.
  virtual Sample sample(std::uint64_t operations) = 0;

  // What it can prove of itself beside its samples: page sizes, nodes, the result of the work.
  // Asked once, after the last sample. One that is not ok makes the series invalid.
  virtual std::vector<Check> checks() { return {}; }
};

}  // namespace schedlab::harness
