#pragma once
// How a thread passes the time until another one has done something.

#include <cstdint>
#include <string_view>

namespace schedlab::procs {

enum class Waiting : std::uint8_t {
  spin,      // asks again and again and never sleeps: the fastest, and a CPU is lost to it
  block,     // sleeps in the kernel at once
  adaptive,  // asks for a while, then sleeps
};
std::string_view to_text(Waiting waiting) noexcept;
// "spin", "block" or "adaptive"; throws std::invalid_argument for another word.
Waiting waiting_from(std::string_view word);

// Can what a spinning waiter waits for happen meanwhile? Not where affinity leaves the calling
// thread one CPU: there the one it waits for cannot run. Asks the kernel; throws std::system_error.
bool spinning_helps();

// A way to wait as one thread may use it: how often it asks before it sleeps.
struct Patience {
  static constexpr std::uint32_t forever = UINT32_MAX;
  std::uint32_t spins = 0;

  // For the calling thread. Where spinning cannot help, it is 0 whatever was asked for.
  static Patience of(Waiting waiting);
  // For a thread whose partner may run beside it, or may not.
  static Patience of(Waiting waiting, bool helps) noexcept;
};

}  // namespace schedlab::procs
