#pragma once
// What the lab of the convoy says of the tutorials' statements. Pure.

#include "lab/harness/findings.hh"
#include "lab/harness/lab.hh"
#include "procs/interpreter_lock.hh"

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

namespace schedlab::apparatus {

// Names of the lab's series: "echo/1/interval/5000us", "mixed/interval/1", "one-cpu/64".
std::string convoy_name(std::string_view operation, unsigned computing, procs::LockRule rule,
                        std::int64_t interval_us);
std::string crowd_of_io(procs::LockRule rule, unsigned computing);
std::string one_cpu_name(unsigned threads);

// The series of an operation beside which nothing computes, or null.
const harness::Series* without_computing(const harness::Findings& findings,
                                         std::string_view operation);

// The waits of all measured operations as a share of interval x computing threads: the
// least and the greatest, "0.8 to 1.1". Nothing without any.
std::optional<std::string> wait_by_model(const harness::Findings& findings);

harness::Judgement judge_release_for_io(const harness::Findings& findings);
harness::Judgement judge_one_core(const harness::Findings& findings);
harness::Judgement judge_io_under_the_lock(const harness::Findings& findings);
harness::Judgement judge_convoy(const harness::Findings& findings);

}  // namespace schedlab::apparatus
