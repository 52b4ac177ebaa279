#pragma once
// Runs the program as a user does and looks at what came back.

#include "lab/base/child.hh"
#include "lab/harness/document.hh"

#include <cstddef>
#include <string>
#include <string_view>
#include <vector>

namespace schedlab::tests {

// The program under test; the environment variable SCHEDLAB.
std::string program();

// Runs it to its end with these arguments, and kills it after a minute.
Output run_program(std::vector<std::string> arguments, const SpawnOptions& options = {});

// Processes whose environment holds NAME=VALUE: what a run that was given it has left behind.
std::vector<pid_t> processes_with(const std::string& name, const std::string& value);

// Waits until there are at least (or: no more than) so many of them; false after `seconds`.
bool wait_for_processes(const std::string& name, const std::string& value, std::size_t at_least,
                        std::size_t at_most, int seconds);

// Is a warning with this code anywhere in the document?
bool has_warning(const harness::Document& document, std::string_view code);

// How many lines a text has.
std::size_t lines(std::string_view text);

}  // namespace schedlab::tests
