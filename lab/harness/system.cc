#include "lab/harness/system.hh"

#include "lab/base/error.hh"
#include "lab/base/file.hh"
#include "lab/base/text.hh"

#include <dirent.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <memory>

namespace schedlab::harness {

std::optional<std::string> System::text(std::string_view path) const {
  const auto whole = read_text(root_ + std::string(path));
  if (!whole || trim(*whole).empty())
    return std::nullopt;
  return std::string(trim(*whole));
}

std::optional<std::int64_t> System::number(std::string_view path) const {
  const auto whole = text(path);
  return whole ? to_number(*whole) : std::nullopt;
}

std::optional<affinity::CpuSet> System::cpus(std::string_view path) const {
  const auto list = read_text(root_ + std::string(path));
  if (!list)
    return std::nullopt;
  // What kernels with NO_HZ_FULL print for a mask that was never allocated, as nohz_full is unless
  // it is on the kernel's command line.
  if (trim(*list).empty() || trim(*list) == "(null)")
    return affinity::CpuSet();
  return affinity::CpuSet::from_list(trim(*list));
}

std::string System::objection(std::string_view path) const {
  errno = 0;
  const auto whole = read_text(root_ + std::string(path));
  return std::string(path) + ": " + (whole ? "is empty" : errno_text(errno));
}

bool System::exists(std::string_view path) const {
  return ::access((root_ + std::string(path)).c_str(), F_OK) == 0;
}

namespace {
struct Close {
  void operator()(DIR* folder) const noexcept { ::closedir(folder); }
};
}  // namespace

std::vector<std::string> System::names(std::string_view folder) const {
  std::vector<std::string> found;
  const std::unique_ptr<DIR, Close> open(::opendir((root_ + std::string(folder)).c_str()));
  if (!open)
    return found;
  while (const dirent* entry = ::readdir(open.get()))
    if (entry->d_name[0] != '.')
      found.emplace_back(entry->d_name);
  std::sort(found.begin(), found.end());
  return found;
}

std::optional<std::string> value_of(std::string_view text, std::string_view key) {
  for (const auto line : split(text, '\n')) {
    const auto colon = line.find(':');
    const auto end = colon == std::string_view::npos ? line.find(' ') : colon;
    if (end != std::string_view::npos && trim(line.substr(0, end)) == key)
      return std::string(trim(line.substr(end + 1)));
  }
  return std::nullopt;
}

std::optional<std::int64_t> number_of(std::string_view text, std::string_view key) {
  const auto value = value_of(text, key);
  return value ? to_number(value->substr(0, value->find(' '))) : std::nullopt;
}

std::string chosen(std::string_view text) {
  const auto open = text.find('[');
  const auto close = text.find(']', open == std::string_view::npos ? 0 : open);
  if (open == std::string_view::npos || close == std::string_view::npos)
    return std::string(trim(text));
  return std::string(text.substr(open + 1, close - open - 1));
}

std::vector<std::string> words_of(std::string_view text) {
  std::vector<std::string> words;
  constexpr std::string_view space = " \t\r\n";
  while (!(text = trim(text)).empty()) {
    const auto end = std::min(text.find_first_of(space), text.size());
    words.emplace_back(text.substr(0, end));
    text.remove_prefix(end);
  }
  return words;
}

std::string cpu_file(unsigned cpu, std::string_view rest) {
  return "/sys/devices/system/cpu/cpu" + std::to_string(cpu) + "/" + std::string(rest);
}

}  // namespace schedlab::harness
