#pragma once
// Python's own answer to a lab's question, in the same session: an interpreter of this machine runs
// a script that does on command what a subject of ours does, clocked by itself.
//
// The script is a text of the lab; it defines `def sample(operations)`, which does that many and
// gives a dict of numbers, among them "ns", the time they took by its own clock. Its arguments are
// in sys.argv[1:]; output of its own goes to stderr. Processes that it starts call
// die_with_parent(), or a script that is killed leaves them behind.

#include "affinity/cpu_set.hh"
#include "lab/harness/lab.hh"
#include "lab/harness/sample.hh"

#include <map>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace schedlab::apparatus {

// For labs that take `--set LAB.python=`.
inline constexpr harness::Param python_param = {
    .name = "python",
    .help = "the same in python3: none, auto (the one in PATH), or a path",
    .kind = harness::Param::Kind::text,
    .smoke = "none",
    .quick = "none",
    .full = "none"};

struct Python {
  std::string path;       // as it was started
  std::string version;    // "CPython 3.11.7"; empty: it cannot be used
  std::string objection;  // then why, and the next step
};

// The interpreter that the parameter asks for; nothing for "none". It is started once, to be asked
// for its version, and remembered by its word. One that cannot be used gives its objection.
std::optional<Python> find_python(const std::string& word);

class PythonSession {
public:
  // Starts the interpreter on these CPUs, which dies with this process. Throws std::system_error,
  // and std::runtime_error with the end of what the script wrote to stderr if it ended at once.
  PythonSession(const Python& python, std::string_view script,
                const std::vector<std::string>& arguments, const affinity::CpuSet& cpus);
  PythonSession(const PythonSession&) = delete;
  PythonSession& operator=(const PythonSession&) = delete;
  ~PythonSession();

  // What sample(operations) gave. Throws std::runtime_error if the script failed, or took longer.
  std::map<std::string, double> ask(std::uint64_t operations, int timeout_ms = 60'000);

private:
  struct Wires;
  std::unique_ptr<Wires> wires_;
};

struct PythonOptions {
  Python python;
  std::string_view script;  // lives as long as the program
  std::vector<std::string> arguments = {};
  std::vector<unsigned> cpus = {};  // kernel numbers; empty: all of `usable`
  affinity::CpuSet usable;
  std::size_t metric = 0;  // ns for one operation
  // Other keys of the dict, and the metrics that they are.
  std::vector<std::pair<std::string, std::size_t>> values = {};
};

// A subject whose operation is one of the script's. Where the dict has "done", it must be the
// number of operations.
std::unique_ptr<harness::Subject> make_python(const PythonOptions& options);

}  // namespace schedlab::apparatus
