#pragma once
// The subcommands. Each prints its result on standard output and gives the exit status; errors are
// thrown (BadInput, Unsupported, std::system_error) and become a message and a status in main.

#include "lab/cli/options.hh"

namespace schedlab::cli {

// Exit statuses; scripts read them.
enum Status : int {
  status_done = 0,
  status_failure = 1,
  status_usage = 2,
  status_invalid = 3,  // with --strict
  status_regression = 4,
  status_nothing_ran = 77,
  status_interrupted = 130,
};

int list_labs(const Options& options);
int explain_lab(const Options& options);
int show_topology(const Options& options);
int show_doctor(const Options& options);
int run_labs(const Options& options);
int show_files(const Options& options);

}  // namespace schedlab::cli
