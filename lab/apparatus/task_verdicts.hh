#pragma once
// What the series of io_tasks say of the tutorials' claims about tasks. Pure.

#include "lab/harness/findings.hh"
#include "lab/harness/lab.hh"

#include <cstdint>
#include <string>
#include <string_view>

namespace schedlab::apparatus {

inline constexpr double blocking_call_ns = 5e6;  // of the call beside which a sleeper is late

// "length/1000/tasks": pieces of work of 1000 ns, run as tasks.
std::string length_name(std::int64_t length_ns, std::string_view how);

// C22: confirmed if there was one thread, and it slept about once for each wait of the loop.
harness::Judgement judge_single_thread(const harness::Findings& findings);
// C23: confirmed if the order was always that of the list and the times add up.
harness::Judgement judge_in_order(const harness::Findings& findings);
// C26: confirmed if a thread that waits holds ten times the memory of a task, or more.
harness::Judgement judge_workers_and_tasks(const harness::Findings& findings);
// C72, as far as making and ending goes: task below thread below process.
harness::Judgement judge_ranks(const harness::Findings& findings);
// C74: refuted if updates were lost in one thread, where a wait came between.
harness::Judgement judge_no_shared_memory(const harness::Findings& findings);
// C75: confirmed if threads fall behind tasks at the shortest length, and not at the longest.
harness::Judgement judge_lightweight(const harness::Findings& findings);
// C89: confirmed if the call adds less than a tenth of its length to the sleeper's lateness.
harness::Judgement judge_to_thread(const harness::Findings& findings);

}  // namespace schedlab::apparatus
