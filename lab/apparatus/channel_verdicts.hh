#pragma once
// What ipc_throughput's series are called, and what the claims that it tests come to.

#include "lab/harness/findings.hh"
#include "lab/harness/lab.hh"

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace schedlab::apparatus {

std::string stream_name(std::string_view relation, std::string_view channel, std::string_view tasks,
                        std::string_view size, std::string_view capacity);
std::string state_name(std::string_view relation, bool owned, std::int64_t write);
std::string queue_join_name(std::size_t bytes, bool get_first);

// Less and more than a pipe holds, 64 KiB.
inline constexpr std::size_t queue_join_sizes[] = {65'000, 66'000};

// The series of a channel that were measured, invalid ones as well, of the closest relation of two
// CPUs and the smallest capacity, by ascending size.
std::vector<const harness::Series*> streams_of(const harness::Findings& findings,
                                               std::string_view channel, std::string_view tasks);
// "4.00 KiB", of a series' messages.
std::string size_of(const harness::Series& series);

harness::Judgement judge_queue_join(const harness::Findings& findings);     // C37
harness::Judgement judge_queues(const harness::Findings& findings);         // C39
harness::Judgement judge_pipes(const harness::Findings& findings);          // C40
harness::Judgement judge_shared_memory(const harness::Findings& findings);  // C41
harness::Judgement judge_shared_state(const harness::Findings& findings);   // C95

}  // namespace schedlab::apparatus
