#pragma once
// The CLI11 description of the command line, for the files that walk over it.

#include "lab/cli/options.hh"

#include <memory>
#include <string>

namespace CLI {
class App;
}

namespace schedlab::cli {

// All subcommands and options; parsing writes into `options`, which must outlive it.
std::unique_ptr<CLI::App> make_command_line(Options& options);

// "schedlab 0.1.0 (git ..., clang 19.1.7, debugoptimized)".
std::string version_text();

}  // namespace schedlab::cli
