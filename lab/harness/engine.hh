#pragma once
// Measures the series of a plan inside one process: set up, calibrate, warm up, rounds.
//
// Series of a group are alive together and take turns: each round visits all of them in the order
// of a cyclic Latin square, every second round backward, so that a drift of the machine falls on
// all alike. The iteration count of a series is found once, by the first process, and used by all.

#include "lab/harness/plan.hh"

#include <atomic>
#include <cstdint>
#include <map>
#include <string>
#include <vector>

namespace schedlab::harness {

// What a replicate process is told.
struct Request {
  std::string lab;
  Settings settings;
  std::string usable;      // the CPUs that the plan was made for, kernel list
  unsigned process = 0;    // number of the replicate
  std::uint64_t seed = 0;  // of this replicate
  double budget_s = 1;
  std::map<std::string, std::uint64_t> operations;  // by series; empty: calibrate
};

struct RawSeries {
  std::string name;
  std::uint64_t operations = 0;  // in one sample; 0: nothing was measured
  std::vector<Sample> samples;   // in the order they were taken
  std::vector<Check> checks;     // what the subject proved of itself
  std::string failure;           // why it was not measured, though planned
};

// Where the kernel put this process, to prove that replicates differ.
struct Layout {
  std::uint64_t text = 0;
  std::uint64_t heap = 0;
  std::uint64_t stack = 0;
};

// What a replicate process gives back.
struct Reply {
  std::vector<RawSeries> series;  // in the plan's order, skipped ones empty
  unsigned rounds_planned = 0;
  unsigned rounds_cut = 0;   // the most rounds that any group had to leave out
  double clock_pair_ns = 0;  // cost of one begin() and end()
  Layout layout;
};

// Where a replicate is, for the parent's progress line; lies in memory shared with it, so that
// nobody is woken to tell.
struct Progress {
  std::atomic<std::uint32_t> series{0};  // index into the plan
  std::atomic<std::uint32_t> round{0};
  std::atomic<std::uint32_t> rounds{0};
  std::atomic<std::uint32_t> done_permille{0};
  std::atomic<double> estimate{0};  // first metric of the sample just taken
};

// How many rounds a preset asks for.
unsigned rounds_of(Preset preset) noexcept;

// How many samples' time a series takes in a process, the rounds, a warm-up, and the search for
// its count of operations if they are not known yet.
double turns_of(unsigned rounds, bool operations_known) noexcept;

// How long the engine makes a sample (0.2 to 20 ms), so that `turns` of them, of `series` series,
// keep a process's budget together with what stands around them.
double sample_target_ns(double budget_s, double turns, std::size_t series) noexcept;

// `progress` may be null.
Reply measure(const Plan& plan, const Request& request, Progress* progress);

}  // namespace schedlab::harness
