#include "lab/apparatus/leftovers.hh"

#include "lab/base/text.hh"

#include <signal.h>
#include <unistd.h>

#include <atomic>
#include <cerrno>
#include <chrono>
#include <system_error>

namespace schedlab::apparatus {

namespace {

std::string head_of(std::string_view what) {
  return "schedlab-" + std::string(what) + "-";
}

bool is_gone(std::string_view number) {
  const auto pid = to_number(number.substr(0, number.find('.')));
  return pid && *pid > 0 && ::kill(static_cast<pid_t>(*pid), 0) != 0 && errno == ESRCH;
}

void remove_folder(const std::filesystem::path& folder, std::error_code& error) {
  for (const auto& entry : std::filesystem::directory_iterator(folder, error))
    if (entry.is_regular_file(error))
      ::unlink(entry.path().c_str());  // refused in a cgroup, whose files are not ours
  ::rmdir(folder.c_str());
}

}  // namespace

std::string name_of_ours(std::string_view what) {
  static std::atomic<unsigned> made{0};
  const unsigned before = made.fetch_add(1, std::memory_order_relaxed);
  return head_of(what) + std::to_string(::getpid()) +
         (before > 0 ? "." + std::to_string(before) : "");
}

void remove_leftovers(const std::filesystem::path& folder, std::string_view what,
                      int minutes) noexcept {
  try {
    const std::string head = head_of(what);
    const auto youngest =
        std::filesystem::file_time_type::clock::now() - std::chrono::minutes(minutes);
    std::error_code error;
    for (const auto& entry : std::filesystem::directory_iterator(folder, error)) {
      const std::string name = entry.path().filename();
      if (!name.starts_with(head) || !is_gone(std::string_view(name).substr(head.size())))
        continue;
      const auto changed = entry.last_write_time(error);
      if (!error && changed <= youngest)
        remove_folder(entry.path(), error);
    }
  } catch (const std::exception&) {
    // What cannot be looked at stays where it is.
  }
}

}  // namespace schedlab::apparatus
