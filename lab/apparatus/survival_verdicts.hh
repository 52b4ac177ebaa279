#pragma once
// Verdicts on what is said of process pools, from the result of pool_survival.

#include "lab/harness/findings.hh"
#include "lab/harness/lab.hh"
#include "procs/fault.hh"

#include <string>

namespace schedlab::apparatus {

// The names of its series.
std::string step_series(procs::Step step);

// C53, what is counted of processes: kills at every step cost their task at most.
harness::Judgement judge_survival(const harness::Findings& findings);
// C90: work that computes leaves the loop free in a pool, and its crash is an exception there.
harness::Judgement judge_offload(const harness::Findings& findings);

}  // namespace schedlab::apparatus
