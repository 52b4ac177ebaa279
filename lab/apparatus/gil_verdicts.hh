#pragma once
// What the lab of threads under an interpreter lock says of the tutorials' statements. Pure.

#include "lab/apparatus/crossover.hh"
#include "lab/harness/findings.hh"
#include "lab/harness/lab.hh"

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

namespace schedlab::apparatus {

// Names of the lab's series: "10/interval", "hash/4096/released".
std::string tasks_name(unsigned tasks, std::string_view way);
std::string hash_name(std::uint64_t block, std::string_view way);

// The most tasks that were measured; 0 without any.
unsigned most_tasks(const harness::Findings& findings);

// The name of the series that another one is compared with; of one that stands for itself, its own.
using ReferenceOf = std::string(const harness::Series& series);

// Adds to each series whose reference was measured a metric made of `of` of both, process by
// process: reference / own, by how much it is faster, or own / reference, by how much it is slower.
void add_speedups(harness::LabResult& result, const harness::MetricInfo& of,
                  const harness::MetricInfo& speedup, ReferenceOf* reference_of);
void add_multiples(harness::LabResult& result, const harness::MetricInfo& of,
                   const harness::MetricInfo& multiple, ReferenceOf* reference_of);

// From which block on two threads that hash without the lock beat one thread.
std::optional<Crossover> break_even(const harness::Findings& findings);
// "from 4.1 KiB [3.9 4.4] on".
std::string text_of_bytes(const Crossover& crossover);

harness::Judgement judge_one_at_a_time(const harness::Findings& findings);
harness::Judgement judge_parallelism_lost(const harness::Findings& findings);
harness::Judgement judge_released_hashing(const harness::Findings& findings);
harness::Judgement judge_processes_escape(const harness::Findings& findings);
harness::Judgement judge_threads_for_computing(const harness::Findings& findings);
harness::Judgement judge_own_locks(const harness::Findings& findings);
harness::Judgement judge_two_counting_threads(const harness::Findings& findings);
harness::Judgement judge_ten_threads(const harness::Findings& findings);
harness::Judgement judge_less_than_a_third(const harness::Findings& findings);
harness::Judgement judge_results(const harness::Findings& findings);
harness::Judgement judge_limited_to_io(const harness::Findings& findings);
harness::Judgement judge_loops_in_threads(const harness::Findings& findings);

}  // namespace schedlab::apparatus
