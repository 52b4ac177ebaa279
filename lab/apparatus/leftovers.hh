#pragma once
// Names in a file system that tell whose they are, for what cannot be nameless: if their process is
// killed, the next one takes them away.

#include <filesystem>
#include <string>
#include <string_view>

namespace schedlab::apparatus {

// "schedlab-WHAT-PID", and once it has been called in this process before "schedlab-WHAT-PID.1".
std::string name_of_ours(std::string_view what);

// Removes what processes that are gone have left in a folder under such names: a folder with the
// files in it, or a cgroup, which goes only if nobody is in it. What has changed within the last
// `minutes` stays: a process of another container is not seen from here. Never throws.
void remove_leftovers(const std::filesystem::path& folder, std::string_view what,
                      int minutes = 10) noexcept;

}  // namespace schedlab::apparatus
