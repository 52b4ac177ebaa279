#pragma once
// What the series of pool_dispatch say of the tutorials' claims about executors. Pure.

#include "lab/harness/findings.hh"
#include "lab/harness/lab.hh"

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

namespace schedlab::apparatus {

inline constexpr double wanted_efficiency = 0.9;

// "length/1000/pool": pieces of 1000 ns; by "calls" or by a pool.
std::string piece_name(std::int64_t length_ns, std::string_view how);
// "size/wait/64": pieces that wait, or compute, by 64 workers.
std::string size_name(std::string_view kind, std::int64_t workers);
// Python's default number of workers: min(32, CPUs + 4).
std::int64_t python_workers(std::int64_t cpus) noexcept;

// The length of pieces from which on a pool, of threads ("pool") or "processes", does 90 % of what
// its workers could; in ns.
std::optional<harness::Estimate> break_even(const harness::Findings& findings,
                                            std::string_view pool);
// As words: "from pieces of 21 us [18 25] on".
std::string break_even_text(const harness::Findings& findings, std::string_view pool);

// The number of workers that takes the least time a piece, of those that were measured.
std::optional<std::int64_t> best_size(const harness::Findings& findings, std::string_view kind);

// C52: confirmed if Python's default size takes at most a tenth longer than the best, for pieces
// that compute and for pieces that wait; refuted if it takes more for either.
harness::Judgement judge_default_size(const harness::Findings& findings);
// C54: confirmed if submit and get take at most 1.3 times the same hand-over made by hand,
// blocking.
harness::Judgement judge_abstraction(const harness::Findings& findings);
// C66: confirmed if a pool of processes takes longer to have than one of threads, and its pieces
// must be longer before it does 90 %, intervals apart; refuted if either is the other way round.
harness::Judgement judge_process_overhead(const harness::Findings& findings);

}  // namespace schedlab::apparatus
