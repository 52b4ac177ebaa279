#pragma once
// The command line as values. One table of subcommands and options (options.cc) yields parsing,
// --help, the man page and the shell completions.

#include "lab/harness/lab.hh"

#include <map>
#include <optional>
#include <string>
#include <vector>

namespace schedlab::cli {

enum class Command { list, explain, topology, doctor, run, show, generate };
enum class Colour { automatic, always, never };

struct Options {
  Command command = Command::list;
  std::vector<std::string> arguments;  // as given, the program's name first
  bool json = false;
  Colour colour = Colour::automatic;

  std::vector<std::string> names;  // labs, families, globs; files of show; what to generate

  // topology
  std::string input;
  std::string export_format;
  std::vector<std::string> measured;

  // run
  harness::Preset preset = harness::Preset::quick;
  std::string placement = "all";
  std::map<std::string, std::map<std::string, std::string>> values;  // lab -> parameter -> text
  std::map<std::string, double> predictions;                         // "lab.metric" -> base unit
  std::optional<unsigned> processes;
  std::optional<std::uint64_t> seed;
  std::string output;
  bool strict = false;
  std::string label;
  bool redact = false;
  std::string driver = "auto";
  bool plan = false;
  bool progress = true;
};

// What is left to do when parsing ends the program: --help, --version, or a usage error.
struct Finished {
  int status = 0;
  std::string out;
  std::string err;
};

// Gives the options, or what to print and the exit status. Never prints.
struct Parsed {
  std::optional<Options> options;
  Finished finished;
};
Parsed parse(int argc, const char* const* argv);

// The man page (troff) or a completion script: "man", "bash", "zsh", "fish". Throws BadInput for
// another word.
std::string generate(const std::string& what);

}  // namespace schedlab::cli
