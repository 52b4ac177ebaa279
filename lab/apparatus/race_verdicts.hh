#pragma once
// The claims that race_updates decides. Pure.

#include "lab/harness/findings.hh"
#include "lab/harness/lab.hh"

#include <string_view>
#include <vector>

namespace schedlab::apparatus {

// The series whose names begin so and in which this share was measured, in their order.
std::vector<const harness::Series*> series_with(const harness::Findings& findings,
                                                std::string_view head, std::string_view metric);

// C13: confirmed if a plain series surely lost updates, refuted if none did between CPUs.
harness::Judgement judge_races_occur(const harness::Findings& findings);

// C69: refuted if processes lost updates or a kill left half a record.
harness::Judgement judge_processes_are_safe(const harness::Findings& findings);

// C94, for races: confirmed if of runs of some length less than one in 20 showed the race, refuted
// if more than half did in runs of every length.
harness::Judgement judge_races_hide(const harness::Findings& findings);

}  // namespace schedlab::apparatus
