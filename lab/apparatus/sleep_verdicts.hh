#pragma once
// What the series of sleepers and of small programs of waits say about statements of asynchronous
// programming: their names, and verdicts. All pure.

#include "lab/harness/findings.hh"
#include "lab/harness/lab.hh"

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

namespace schedlab::apparatus {

inline constexpr std::int64_t many_sleepers = 10'000;

// Names of series: "10000/epoll", "1/epoll/no-slack", "coroutines/epoll".
std::string crowd_name(std::int64_t sleepers, std::string_view arm);
std::string alone_name(std::string_view arm, bool slack);
std::string program_name(std::string_view program, std::string_view driver);

// Does one thread serve the sleepers of a series? Yes where 99 % go on within a tenth of a period,
// no where more than 1 % are late by a whole one: then it falls behind. Nothing between the two.
std::optional<bool> keeps_up(const harness::Series& series);

harness::Judgement judge_computing_in_a_loop(const harness::Findings& findings);     // C25
harness::Judgement judge_sleep(const harness::Findings& findings);                   // C43
harness::Judgement judge_two_threads(const harness::Findings& findings);             // C49
harness::Judgement judge_two_processes(const harness::Findings& findings);           // C50
harness::Judgement judge_two_coroutines(const harness::Findings& findings);          // C51
harness::Judgement judge_await_blocks_no_thread(const harness::Findings& findings);  // C71
harness::Judgement judge_many_waits(const harness::Findings& findings);              // C85
harness::Judgement judge_awaits_in_sequence(const harness::Findings& findings);      // C87
harness::Judgement judge_create_task(const harness::Findings& findings);             // C88

}  // namespace schedlab::apparatus
