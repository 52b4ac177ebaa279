#pragma once
// A memory cgroup of a small size, for what is to run out of memory without anybody else's harm.

#include "lab/apparatus/cage.hh"

#include <cstdint>
#include <string>

namespace schedlab::apparatus {

// A Cage without swap. What its members touch from entering on counts.
class MemoryCage : public Cage {
public:
  // `limit` in bytes. Throws Unsupported, with the reason, where no such cgroup can be made or its
  // limit does not read back.
  explicit MemoryCage(std::uint64_t limit);

  // How often the kernel has killed for want of memory in it. Throws std::system_error if it does
  // not say.
  [[nodiscard]] std::uint64_t oom_kills() const;
};

// Why there can be none here; empty if there can.
std::string memory_cage_refusal(std::uint64_t limit);

// Touches so much memory and keeps it; the caller may not survive that. Ask for some times what the
// cage holds, and no more: if it does not hold, nothing is harmed.
void use_up_memory(std::uint64_t bytes) noexcept;

}  // namespace schedlab::apparatus
