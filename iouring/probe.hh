#pragma once
// Can io_uring be used here, and what of it? By trying, never by version: a ring is set up, a NOP
// goes through it, and the kernel is asked for its operations. All functions may be called from
// any thread.

#include <cstdint>
#include <string>
#include <vector>

namespace schedlab::iouring {

struct Probe {
  bool usable = false;
  // Where it is not usable: the cause in words and the exact fix.
  std::string cause;
  std::string fix;
  int error = 0;  // errno of io_uring_setup, or of the first enter or register that was refused

  // Where it is usable.
  std::uint32_t setup_flags = 0;  // the best rung of the set-up ladder that the kernel takes
  std::uint32_t features = 0;     // IORING_FEAT_ bits
  std::vector<unsigned> opcodes;  // supported, ascending
  unsigned largest_ring = 0;      // entries of the largest ring that memlock lets through, or 0

  [[nodiscard]] bool supports(unsigned opcode) const noexcept;
};

// Tries the set-up ladder with a small ring. Neither throws nor leaves anything open. The search
// for the largest ring takes some milliseconds and charges the memlock limit of this user, which
// the kernel gives back shortly after.
Probe probe();

// The same without the search for the largest ring.
Probe quick_probe();

// Names of the IORING_SETUP_ or IORING_FEAT_ bits that are set, "SINGLE_ISSUER|DEFER_TASKRUN".
// A bit without a name here is "bit20".
std::string setup_names(std::uint32_t flags);
std::string feature_names(std::uint32_t features);

}  // namespace schedlab::iouring
