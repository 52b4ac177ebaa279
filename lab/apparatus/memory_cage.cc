#include "lab/apparatus/memory_cage.hh"

#include "lab/base/error.hh"
#include "lab/base/file.hh"
#include "lab/base/keep.hh"
#include "lab/base/text.hh"

#include <sys/mman.h>

#include <cstring>

namespace schedlab::apparatus {

MemoryCage::MemoryCage(std::uint64_t limit) : Cage("memory") {
  set(version() == 2 ? "memory.max" : "memory.limit_in_bytes", std::to_string(limit));
  // Without swap control there may be no swap either: then there is nothing to set.
  const std::string swap = version() == 2 ? "memory.swap.max" : "memory.swappiness";
  if (std::filesystem::exists(folder() / swap))
    set(swap, "0");
  static_cast<void>(oom_kills());
}

std::uint64_t MemoryCage::oom_kills() const {
  const auto file = folder() / (version() == 2 ? "memory.events" : "memory.oom_control");
  if (const auto count = number_behind(read_text(file).value_or(""), "oom_kill "))
    return static_cast<std::uint64_t>(*count);
  throw Unsupported(file.string() + " does not count kills: Linux 4.13 does");
}

std::string memory_cage_refusal(std::uint64_t limit) {
  try {
    const MemoryCage cage(limit);
    return "";
  } catch (const Unsupported& why) {
    return why.what();
  }
}

void use_up_memory(std::uint64_t bytes) noexcept {
  constexpr std::size_t chunk = 1 << 20;
  for (std::uint64_t used = 0; used < bytes; used += chunk) {
    void* more = ::mmap(nullptr, chunk, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (more != MAP_FAILED)
      std::memset(more, 1, chunk);
    keep(more);
  }
}

}  // namespace schedlab::apparatus
