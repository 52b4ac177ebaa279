#pragma once
// What the findings of lock_primitives say of the claims. Pure.

#include "lab/harness/findings.hh"
#include "lab/harness/lab.hh"

#include <string_view>
#include <vector>

namespace schedlab::apparatus {

// The series of a use that were measured, of a way or ("") of all.
std::vector<const harness::Series*> series_of(const harness::Findings& findings,
                                              std::string_view use, std::string_view way);

harness::Judgement judge_semaphore(const harness::Findings& findings);
harness::Judgement judge_event(const harness::Findings& findings);
harness::Judgement judge_condition(const harness::Findings& findings);
harness::Judgement judge_torn(const harness::Findings& findings);
harness::Judgement judge_process_safe(const harness::Findings& findings);
harness::Judgement judge_library(const harness::Findings& findings);
harness::Judgement judge_dictionary(const harness::Findings& findings);

}  // namespace schedlab::apparatus
