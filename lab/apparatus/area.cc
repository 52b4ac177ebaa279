#include "lab/apparatus/area.hh"

#include "affinity/limits.hh"
#include "affinity/memory.hh"
#include "lab/base/error.hh"
#include "lab/base/file.hh"
#include "lab/base/text.hh"
#include "lab/harness/numbers.hh"

#include <fmt/format.h>
#include <sys/mman.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <stdexcept>

namespace schedlab::apparatus {

namespace {

constexpr double enough_granted = 0.95;
constexpr const char* thp = "/sys/kernel/mm/transparent_hugepage/";

// The number of KiB in a line such as "AnonHugePages:    2048 kB".
std::uint64_t kib_of(std::string_view line) {
  line = trim(line.substr(line.find(':') + 1));
  return static_cast<std::uint64_t>(to_number(line.substr(0, line.find(' '))).value_or(0));
}

// Does a line of smaps begin a mapping ("7f00-7f20 rw-p ..."), and does it overlap the bytes?
bool is_header(std::string_view line) {
  const auto dash = line.find('-');
  return dash != std::string_view::npos && dash < line.find(' ') && line.find(':') > dash;
}
bool overlaps(std::string_view header, std::span<const std::byte> bytes) {
  const std::string text(header.substr(0, header.find(' ')));
  const auto dash = text.find('-');
  const auto begin = std::stoull(text.substr(0, dash), nullptr, 16);
  const auto end = std::stoull(text.substr(dash + 1), nullptr, 16);
  const auto first = reinterpret_cast<std::uintptr_t>(bytes.data());
  return begin < first + bytes.size() && first < end;
}

// Bytes of the mappings under an area that lie on huge pages, and that are resident at all.
struct Resident {
  std::uint64_t huge = 0;
  std::uint64_t all = 0;
};
Resident resident(std::span<const std::byte> bytes) {
  Resident found;
  bool inside = false;
  const std::string smaps = read_input("/proc/self/smaps", std::size_t{64} << 20);
  for (const auto line : split(smaps, '\n')) {
    if (is_header(line))
      inside = overlaps(line, bytes);
    else if (inside && line.starts_with("Rss:"))
      found.all += kib_of(line) * 1024;
    else if (inside && (line.starts_with("AnonHugePages:") || line.starts_with("ShmemPmdMapped:")))
      found.huge += kib_of(line) * 1024;
  }
  return found;
}

std::string why_no_huge_pages() {
  const std::string enabled(trim(read_text(std::string(thp) + "enabled").value_or("")));
  if (enabled.empty())
    return "the kernel has no transparent huge pages";
  if (enabled.find("[never]") != std::string::npos)
    return fmt::format("transparent huge pages are off; echo madvise > {}enabled allows them", thp);
  return "the kernel had no huge page left; echo 1 > /proc/sys/vm/compact_memory may make some";
}

std::uint64_t available_memory() {
  const auto kib = number_behind(read_text("/proc/meminfo").value_or(""), "MemAvailable:");
  const auto available = kib ? static_cast<std::uint64_t>(*kib) * 1024 : ~std::uint64_t{0};
  const auto limits = affinity::cgroup_limits();
  return std::min(available, limits.memory_max.value_or(available));
}

}  // namespace

std::string_view to_text(Pages pages) noexcept {
  return pages == Pages::huge ? "huge" : "base";
}

Pages pages_from(std::string_view word) {
  if (word == "huge")
    return Pages::huge;
  if (word == "base")
    return Pages::base;
  throw std::invalid_argument("no such kind of page: " + std::string(word));
}

std::uint64_t size_of(Pages pages) {
  if (pages == Pages::base)
    return page_size();
  const auto text = read_text(fmt::format("{}hpage_pmd_size", thp));
  return static_cast<std::uint64_t>(to_number(trim(text.value_or("0"))).value_or(0));
}

Area::Area(const AreaOptions& options) : options_(options) {
  const std::uint64_t page = size_of(options.pages);
  if (page == 0)
    throw Unsupported(why_no_huge_pages());
  const std::uint64_t size = (std::max<std::uint64_t>(options.size, 1) + page - 1) / page * page;
  mapping_ =
      options.shared ? Mapping::shared_memory(size + page) : Mapping::private_memory(size + page);
  const auto start = reinterpret_cast<std::uintptr_t>(mapping_.data());
  bytes_ = mapping_.bytes().subspan((page - start % page) % page, size);
  // A kernel without the feature has nothing to refuse.
  const int advice = options.pages == Pages::huge ? MADV_HUGEPAGE : MADV_NOHUGEPAGE;
  if (::madvise(bytes_.data(), size, advice) < 0 && errno != EINVAL)
    throw_errno(errno, "madvise", to_text(options.pages));
  if (options.node)
    affinity::set_memory_policy(bytes_, affinity::Policy::bind, {{*options.node}});
  std::memset(bytes_.data(), 0, size);  // a write gives each page its frame
  if (options.pages == Pages::huge && granted() < enough_granted)
    throw Unsupported(fmt::format("only {:.0f} % of {} lie on huge pages: {}", 100 * granted(),
                                  harness::quantity(static_cast<double>(size), "B"),
                                  why_no_huge_pages()));
}

double Area::granted() const {
  const Resident found = resident(bytes_);
  if (found.all == 0)
    return 0;
  const double huge = static_cast<double>(std::min<std::uint64_t>(found.huge, size()));
  const double share = huge / static_cast<double>(size());
  return options_.pages == Pages::huge ? share : 1 - share;
}

std::vector<harness::Check> Area::checks() const {
  const double share = granted();
  std::vector<harness::Check> checks = {
      {fmt::format("share of memory on {} pages", to_text(options_.pages)), 1.0, share,
       share >= enough_granted}};
  if (!options_.node)
    return checks;
  const auto nodes = affinity::nodes_of(bytes_);
  const auto right = std::ranges::count(nodes, static_cast<int>(*options_.node));
  checks.push_back({fmt::format("pages on node {}", *options_.node), nodes.size(), right,
                    right == static_cast<std::ptrdiff_t>(nodes.size())});
  return checks;
}

std::string too_large(std::uint64_t count, std::uint64_t size) {
  const std::uint64_t limit = available_memory() / 2;
  if (count == 0 || size <= limit / count)
    return "";
  return fmt::format("{} x {} is more than half of the memory left here ({})", count,
                     harness::quantity(static_cast<double>(size), "B"),
                     harness::quantity(static_cast<double>(2 * limit), "B"));
}

}  // namespace schedlab::apparatus
