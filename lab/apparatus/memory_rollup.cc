#include "lab/apparatus/memory_rollup.hh"

#include "lab/base/file.hh"
#include "lab/base/text.hh"

#include <string>

namespace schedlab::apparatus {

std::optional<MemoryRollup> memory_rollup(pid_t process) {
  const auto text = read_text("/proc/" + std::to_string(process) + "/smaps_rollup");
  if (!text || !number_behind(*text, "Rss:"))
    return std::nullopt;
  const auto bytes = [&](std::string_view key) {
    return 1024 * static_cast<double>(number_behind(*text, key).value_or(0));
  };
  return MemoryRollup{bytes("Rss:"), bytes("Pss:"),
                      bytes("Private_Clean:") + bytes("Private_Dirty:")};
}

}  // namespace schedlab::apparatus
