#include "affinity/limits.hh"

#include "lab/base/file.hh"
#include "lab/base/text.hh"

#include <algorithm>
#include <string_view>
#include <vector>

namespace schedlab::affinity {

namespace {

// Where the files of one controller are for this process: the directory of its cgroup below the
// directory where the hierarchy is mounted.
struct Place {
  int version = 0;
  std::string path;   // as in /proc/self/cgroup
  std::string top;    // the mount point, with the root of the tests before it
  std::string below;  // "" or "/a/b"
};

struct Mount {
  int version = 0;
  std::string root;  // which cgroup is seen at the mount point
  std::string point;
  std::vector<std::string> controllers;
};

std::vector<std::string> words(std::string_view text, char separator) {
  std::vector<std::string> result;
  for (const auto word : split(text, separator))
    if (!word.empty())
      result.emplace_back(word);
  return result;
}

bool holds(const std::vector<std::string>& list, std::string_view word) {
  return std::find(list.begin(), list.end(), word) != list.end();
}

// The cgroup mounts in /proc/self/mountinfo (proc_pid_mountinfo(5)): the fields after " - " are
// type, source and options of the file system.
std::vector<Mount> cgroup_mounts(const std::string& root) {
  std::vector<Mount> mounts;
  const std::string table = read_text(root + "/proc/self/mountinfo").value_or("");
  for (const auto line : split(table, '\n')) {
    const auto dash = line.find(" - ");
    if (dash == std::string_view::npos)
      continue;
    const auto left = words(line.substr(0, dash), ' ');
    const auto right = words(line.substr(dash + 3), ' ');
    if (left.size() < 5 || right.size() < 3 || !right[0].starts_with("cgroup"))
      continue;
    const int version = right[0] == "cgroup2" ? 2 : 1;
    Mount mount{version, left[3], root + left[4], words(right[2], ',')};
    if (version == 2)
      mount.controllers = words(read_text(mount.point + "/cgroup.controllers").value_or(""), ' ');
    mounts.push_back(std::move(mount));
  }
  return mounts;
}

// What of a cgroup path is below the mount. In a container the mount may show only a part of the
// hierarchy, while the path may be the host's: what is not below the mount is the mount itself.
std::string below_mount(const std::string& path, const std::string& mount_root) {
  const std::string head = mount_root == "/" ? "" : mount_root;
  const bool inside = path.starts_with(head) &&
                      (path.size() == head.size() || path[head.size()] == '/') &&
                      path.find("/..") == std::string::npos;
  const std::string below = inside ? path.substr(head.size()) : "";
  return below == "/" ? "" : below;
}

// Finds the places of controllers. A controller sits in one hierarchy: a v1 one if it is named
// there, else the v2 one, if that has it.
class Controllers {
public:
  explicit Controllers(const std::string& root)
      : mounts_(cgroup_mounts(root)),
        membership_(read_text(root + "/proc/self/cgroup").value_or("")) {}

  [[nodiscard]] std::optional<Place> find(std::string_view controller) const {
    for (const int version : {1, 2})
      if (const auto path = membership(version, controller))
        for (const auto& mount : mounts_)
          if (mount.version == version && holds(mount.controllers, controller))
            return Place{version, *path, mount.point, below_mount(*path, mount.root)};
    return std::nullopt;
  }

private:
  // The path in a line "4:memory:/a/b" (v1) or "0::/a/b" (v2).
  [[nodiscard]] std::optional<std::string> membership(int version,
                                                      std::string_view controller) const {
    for (const auto line : split(membership_, '\n')) {
      const auto first = line.find(':');
      const auto second = line.find(':', first + 1);
      if (second == std::string_view::npos)
        continue;
      const auto names = words(line.substr(first + 1, second - first - 1), ',');
      if (version == 1 ? holds(names, controller) : names.empty())
        return std::string(line.substr(second + 1));
    }
    return std::nullopt;
  }

  std::vector<Mount> mounts_;
  std::string membership_;
};

// The directories from the process's own cgroup up to the mount.
std::vector<std::string> levels(const Place& place) {
  std::vector<std::string> directories;
  for (std::string below = place.below;; below.resize(below.rfind('/'))) {
    directories.push_back(place.top + below);
    if (below.empty())
      return directories;
  }
}

std::optional<std::uint64_t> number_in(const std::string& path) {
  const auto text = read_text(path);
  const auto number = text ? to_number(trim(*text)) : std::nullopt;
  if (!number || *number < 0)  // "max", or -1: no limit
    return std::nullopt;
  return static_cast<std::uint64_t>(*number);
}

struct Quota {
  std::optional<double> cpus;
  std::string source;
};

Quota quota_at(const std::string& directory, int version) {
  std::optional<std::int64_t> quota, period;
  const std::string path = directory + (version == 2 ? "/cpu.max" : "/cpu.cfs_quota_us");
  const std::string text = read_text(path).value_or("");
  if (version == 2) {
    const auto fields = words(text, ' ');
    if (fields.size() == 2) {
      quota = to_number(fields[0]);
      period = to_number(fields[1]);
    }
  } else {
    quota = to_number(text);
    period = to_number(read_text(directory + "/cpu.cfs_period_us").value_or(""));
  }
  if (!quota || !period || *quota <= 0 || *period <= 0)
    return {};
  return {static_cast<double>(*quota) / static_cast<double>(*period), path};
}

Quota smallest_quota(const Place& place) {
  Quota smallest;
  for (const auto& directory : levels(place)) {
    Quota quota = quota_at(directory, place.version);
    if (quota.cpus && (!smallest.cpus || *quota.cpus < *smallest.cpus))
      smallest = std::move(quota);
  }
  return smallest;
}

std::optional<std::uint64_t> smallest_number(const Place& place, const std::string& file) {
  // v1 writes "no limit" as the largest multiple of the page size.
  constexpr std::uint64_t no_limit = 1ull << 62;
  std::optional<std::uint64_t> smallest;
  for (const auto& directory : levels(place))
    if (const auto number = number_in(directory + "/" + file))
      if (*number < no_limit && (!smallest || *number < *smallest))
        smallest = number;
  return smallest;
}

// The nearest of a cgroup and its parents that has the file: a v2 cgroup without the controller
// takes part in its parent's set.
std::optional<std::string> nearest_text(const Place& place, const std::string& file) {
  for (const auto& directory : levels(place))
    if (auto text = read_text(directory + "/" + file); text && !trim(*text).empty())
      return text;
  return std::nullopt;
}

void read_cpuset(const Place& place, CgroupLimits& limits) {
  const bool v2 = place.version == 2;
  if (const auto cpus = nearest_text(place, v2 ? "cpuset.cpus.effective" : "cpuset.effective_cpus"))
    limits.cpuset = CpuSet::from_list(*cpus);
  limits.memory_nodes = nearest_text(place, v2 ? "cpuset.mems.effective" : "cpuset.effective_mems");
}

}  // namespace

CgroupLimits cgroup_limits(const std::string& root) {
  const Controllers controllers(root);
  CgroupLimits limits;
  if (const auto cpu = controllers.find("cpu")) {
    limits.version = cpu->version;
    limits.path = cpu->path;
    Quota quota = smallest_quota(*cpu);
    limits.quota_cpus = quota.cpus;
    limits.quota_source = std::move(quota.source);
  }
  if (const auto cpuset = controllers.find("cpuset"))
    read_cpuset(*cpuset, limits);
  if (const auto memory = controllers.find("memory"))
    limits.memory_max =
        smallest_number(*memory, memory->version == 2 ? "memory.max" : "memory.limit_in_bytes");
  if (const auto pids = controllers.find("pids"))
    limits.pids_max = smallest_number(*pids, "pids.max");
  return limits;
}

std::optional<Throttling> cgroup_throttling(const std::string& root) {
  const auto cpu = Controllers(root).find("cpu");
  std::optional<Throttling> sum;
  if (!cpu)
    return sum;
  for (const auto& directory : levels(*cpu)) {
    const std::string statistics = read_text(directory + "/cpu.stat").value_or("");
    for (const auto line : split(statistics, '\n')) {
      const auto fields = words(line, ' ');
      const auto value = fields.size() == 2 ? to_number(fields[1]) : std::nullopt;
      if (!value)
        continue;
      const auto count = static_cast<std::uint64_t>(*value);
      if (fields[0] == "nr_throttled")
        sum.emplace(sum.value_or(Throttling{})).periods += count;
      else if (fields[0] == "throttled_time")  // v1, nanoseconds
        sum.emplace(sum.value_or(Throttling{})).time_ns += count;
      else if (fields[0] == "throttled_usec")  // v2, microseconds
        sum.emplace(sum.value_or(Throttling{})).time_ns += 1000 * count;
    }
  }
  return sum;
}

std::optional<std::string> oom_kill_file(const std::string& root) {
  const auto memory = Controllers(root).find("memory");
  if (!memory)
    return std::nullopt;
  const std::string file = memory->version == 2 ? "/memory.events" : "/memory.oom_control";
  for (const auto& directory : levels(*memory))
    if (read_text(directory + file))
      return directory + file;
  return std::nullopt;
}

}  // namespace schedlab::affinity
