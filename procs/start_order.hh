#pragma once
// What a process is told that procs starts, and what it tells back. For the files of this folder.

#include "lab/base/fd.hh"
#include "lab/base/mapping.hh"
#include "procs/callable.hh"

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace schedlab::procs::detail {

// The second word of the command line of such a process.
inline constexpr std::string_view child_word = "procs-child";

// What to play, and how. A copy travels as a memfd.
struct Order {
  CallableId body;
  std::string name;                     // at most 15 bytes
  std::vector<unsigned long> cpu_mask;  // empty: as its parent
  std::vector<int> fds;                 // numbers in the child of what is handed over
  std::span<const std::byte> argument;  // of the caller, or of `memory`
  Mapping memory;

  [[nodiscard]] Fd write() const;
  // Throws Unsupported if this is none.
  static Order read(const Fd& fd);
};

// What is told through the pipe of a process, in the order in which it happens.
enum class Told : unsigned char {
  running,  // placed, and about to call the body
  failed,   // could not be placed; why
  threw,    // the body ended by an exception; its text
  ended,    // how the process ended: an ExitCause, told by the forkserver
};

// At most some thousand bytes of `text` are told. Neither throws nor raises SIGPIPE where nobody
// listens any more.
void tell(int pipe, Told what, std::string_view text = {}) noexcept;

struct Message {
  Told what;
  std::string text;
};
// The next message; nothing at the end of the pipe, or when `timeout_ms` has passed (negative: no
// limit), or when `unless` has become readable and no message is there
// (-1: none).
std::optional<Message> hear(const Fd& pipe, int timeout_ms, int unless = -1);

// Takes its name and plays the body: tells "running" or "failed", and gives the exit status. What
// the body throws is told, and is exit status 1.
int play(const Order& order, int pipe) noexcept;

}  // namespace schedlab::procs::detail
