#pragma once
// What series of pictures, named STAGE/WAY, say about statements of the tutorials. All pure.

#include "lab/harness/findings.hh"
#include "lab/harness/lab.hh"

#include <string>
#include <string_view>

namespace schedlab::apparatus {

// "pipeline/threads".
std::string image_series(std::string_view stage, std::string_view way);

harness::Judgement judge_threads_fetch_pictures(const harness::Findings& findings);     // C15
harness::Judgement judge_processes_make_thumbnails(const harness::Findings& findings);  // C16
harness::Judgement judge_processes_for_multimedia(const harness::Findings& findings);   // C28
harness::Judgement judge_idle_while_waiting(const harness::Findings& findings);         // C63
harness::Judgement judge_idle_without_concurrency(const harness::Findings& findings);   // C76

}  // namespace schedlab::apparatus
