#pragma once
// Programs beside this one.
//
//   Process process({"sort"}, {.in = Stdio::pipe, .out = Stdio::pipe});
//   const Communicated done = co_await process.communicate("b\na\n");
//
// A child never outlives its Process: destroying one kills and reaps the child if it still runs, as
// when the task that holds it is cancelled. It also dies with this process. Loop's thread only.

#include "iouring/reader.hh"
#include "iouring/writer.hh"
#include "lab/base/child.hh"

#include <chrono>
#include <csignal>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

namespace schedlab::iouring {

enum class Stdio : std::uint8_t {
  inherit,  // ours
  pipe,     // to or from us
  null,     // /dev/null
  out,      // of standard error: where standard output goes
};

struct ProcessOptions {
  Stdio in = Stdio::inherit;
  Stdio out = Stdio::inherit;
  Stdio err = Stdio::inherit;
  // Added to our environment, or replacing it there: {"NAME", "value"}.
  std::vector<std::pair<std::string, std::string>> environment = {};
  // Signals a terminal sends to the whole group do not reach the child.
  bool own_group = false;
};

// What a program printed into pipes and how it ended.
struct Communicated {
  ExitCause cause;
  std::string out;
  std::string err;
};

inline constexpr std::size_t default_output_limit = 64 * 1024 * 1024;

class Process {
public:
  // Starts a program in the running loop; returns when it runs. argv[0] is its path, looked up in
  // PATH if it has no slash. Throws std::system_error (ENOENT, EACCES, EAGAIN, EMFILE ...).
  explicit Process(const std::vector<std::string>& argv, const ProcessOptions& options = {});
  Process(Process&&) noexcept = default;
  Process& operator=(Process&&) noexcept = default;
  // Kills and reaps a child that was not waited for.
  ~Process() = default;

  [[nodiscard]] pid_t pid() const noexcept { return child_.pid(); }

  // The pipes; where there is none, throw std::system_error (EBADF).
  [[nodiscard]] Writer& in() const;
  [[nodiscard]] Reader& out() const;
  [[nodiscard]] Reader& err() const;
  // What was written goes out; then the child reads the end of its input. Nothing happens without
  // a pipe, or again.
  Task<> close_in();

  // Until it has ended; then always the same. When cancelled the child goes on, as long as this
  // object lives.
  Task<ExitCause> wait();
  // Nothing if it still runs after that time.
  Task<std::optional<ExitCause>> wait_for(std::chrono::nanoseconds limit);
  // Sends a signal; nothing happens if it has been waited for.
  void signal(int number) const noexcept;
  void kill() const noexcept { signal(SIGKILL); }
  // Asks it to end with SIGTERM, and if it has not after `grace`, kills it.
  Task<ExitCause> terminate(std::chrono::nanoseconds grace);

  // Writes the input, if there is a pipe for it, and closes that; reads both outputs to their end
  // meanwhile; waits. That the child does not read its input is no error. Throws LimitOverrun if an
  // output is longer than `limit`; the child then runs still.
  Task<Communicated> communicate(std::string input = {}, std::size_t limit = default_output_limit);

private:
  struct InPipe {
    explicit InPipe(Fd fd) : descriptor(std::move(fd), "standard input"), writer(descriptor) {}
    Descriptor descriptor;
    Writer writer;
  };
  struct OutPipe {
    OutPipe(Fd fd, const char* name) : descriptor(std::move(fd), name), reader(descriptor) {}
    Descriptor descriptor;
    Reader reader;
  };
  Task<int> ended(std::chrono::nanoseconds limit);
  Task<> feed(std::string input);
  Task<std::string> collect(OutPipe* pipe, std::size_t limit);

  std::unique_ptr<InPipe> in_;
  std::unique_ptr<OutPipe> out_;
  std::unique_ptr<OutPipe> err_;
  Child child_;
  std::optional<ExitCause> cause_;  // once it was waited for
};

}  // namespace schedlab::iouring
