#pragma once
#include "lab/harness/lab.hh"

#include <string>
#include <vector>

namespace schedlab::cli {

// The labs that names, families and patterns stand for, each once, in the order of the list; all
// for none. Throws BadInput for a name that stands for nothing, with the nearest that exists.
std::vector<const harness::Lab*> select_labs(const std::vector<std::string>& names);

}  // namespace schedlab::cli
