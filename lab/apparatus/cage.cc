#include "lab/apparatus/cage.hh"

#include "lab/apparatus/leftovers.hh"
#include "lab/base/clock.hh"
#include "lab/base/error.hh"
#include "lab/base/fd.hh"
#include "lab/base/file.hh"
#include "lab/base/text.hh"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <optional>

namespace schedlab::apparatus {

namespace {

namespace fs = std::filesystem;

// Asked of a cgroup that was left a moment ago.
constexpr int tries_to_remove = 200;

struct Parent {
  int version = 0;
  fs::path folder;
};

bool listed(std::string_view list, char separator, std::string_view word) {
  return std::ranges::any_of(split(list, separator),
                             [&](std::string_view one) { return trim(one) == word; });
}

// The end of the line of /proc/self/cgroup that names this controller; "" is that of v2.
std::optional<std::string> membership(std::string_view controller) {
  const std::string text = read_text("/proc/self/cgroup").value_or("");
  for (const auto line : split(text, '\n')) {
    const auto first = line.find(':'), second = line.find(':', first + 1);
    if (second == std::string_view::npos)
      continue;
    if (listed(line.substr(first + 1, second - first - 1), ',', controller))
      return std::string(line.substr(second + 1));
  }
  return std::nullopt;
}

// Where the controller of a version is mounted.
std::optional<fs::path> mount_of(int version, std::string_view controller) {
  const std::string text = read_text("/proc/self/mounts").value_or("");
  for (const auto line : split(text, '\n')) {
    const auto fields = split(line, ' ');
    if (fields.size() < 4)
      continue;
    const bool fits = version == 2 ? fields[2] == "cgroup2"
                                   : fields[2] == "cgroup" && listed(fields[3], ',', controller);
    if (fits)
      return fs::path(std::string(fields[1]));
  }
  return std::nullopt;
}

// In a container the mount may show the own cgroup as its root.
fs::path below(const fs::path& mount, const std::string& path) {
  const fs::path part = fs::path(path).relative_path();
  std::error_code error;
  return !part.empty() && fs::is_directory(mount / part, error) ? mount / part : mount;
}

Parent find_parent(const std::string& controller) {
  const auto v1 = membership(controller);
  if (const auto mount = mount_of(1, controller); v1 && mount)
    return {1, below(*mount, *v1)};
  const auto v2 = membership("");
  if (const auto mount = mount_of(2, controller); v2 && mount) {
    const fs::path own = below(*mount, *v2);
    if (listed(read_text(own / "cgroup.subtree_control").value_or(""), ' ', controller))
      return {2, own};
    throw Unsupported(
        "the cgroup of this process hands no " + controller + " control on (" +
        (own / "cgroup.subtree_control").string() +
        "): run it in one that does, as systemd-run --user --scope -p Delegate=" + controller);
  }
  throw Unsupported("there is no " + controller +
                    " cgroup: mount one, as on any system with systemd");
}

}  // namespace

Cage::Cage(std::string_view controller) {
  const Parent parent = find_parent(std::string(controller));
  version_ = parent.version;
  remove_leftovers(parent.folder, controller, 0);
  folder_ = parent.folder / name_of_ours(controller);
  members_ = folder_ / "cgroup.procs";
  if (::mkdir(folder_.c_str(), 0755) != 0)
    throw Unsupported("no " + std::string(controller) + " cgroup can be made in " +
                      parent.folder.string() + " (" + errno_text(errno) +
                      "): run as root or in a delegated cgroup");
}

Cage::~Cage() {
  // The kernel counts a dead member for a moment longer.
  for (int i = 0; ::rmdir(folder_.c_str()) != 0 && errno == EBUSY && i < tries_to_remove; ++i)
    clock::sleep_for(1'000'000);
}

void Cage::set(const std::string& file, const std::string& value) const {
  const fs::path path = folder_ / file;
  const Fd fd(::open(path.c_str(), O_WRONLY | O_CLOEXEC));
  if (!fd || ::write(fd.get(), value.data(), value.size()) != static_cast<ssize_t>(value.size()))
    throw Unsupported(path.string() + " cannot be set (" + errno_text(errno) +
                      "): run as root or in a delegated cgroup");
  if (read_text(path) != value)
    throw Unsupported(path.string() + ": the limit does not read back");
}

bool Cage::enter(const std::string& members) noexcept {
  const Fd fd(::open(members.c_str(), O_WRONLY | O_CLOEXEC));
  return fd && ::write(fd.get(), "0", 1) == 1;
}

}  // namespace schedlab::apparatus
