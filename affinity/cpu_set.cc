#include "affinity/cpu_set.hh"

#include "lab/base/error.hh"
#include "lab/base/text.hh"

#include <cassert>
#include <cstdlib>
#include <hwloc/bitmap.h>
#include <new>
#include <utility>

namespace schedlab::affinity {

namespace {

// Linux is built for 8192 CPUs at most. The bound keeps a slip of the finger from taking gigabytes.
constexpr unsigned max_cpu = 65'535;

hwloc_bitmap_s* owned(hwloc_bitmap_s* bitmap) {
  if (!bitmap)
    throw std::bad_alloc();
  return bitmap;
}

void check_memory(int result) {
  if (result < 0)
    throw std::bad_alloc();
}

[[noreturn]] void refuse(std::string_view list, std::string_view item, std::string_view why) {
  throw BadInput("'" + std::string(list) + "': '" + std::string(item) + "' " + std::string(why));
}

// One item of a list: "3", "2-5" or "8-14:2".
void add_range(CpuSet& set, std::string_view item, std::string_view list) {
  const auto number = [&](std::string_view text) {
    const auto value = text.starts_with('-') ? std::nullopt : to_number(text);
    if (!value)
      refuse(list, item, "is neither a CPU number nor a range such as 2-5 or 8-14:2");
    if (*value > max_cpu)
      refuse(list, item, "is beyond CPU " + std::to_string(max_cpu));
    return static_cast<unsigned>(*value);
  };
  const auto dash = item.find('-');
  const auto colon = item.find(':');
  const bool is_range = dash != std::string_view::npos;
  if (!is_range) {
    set.add(number(item));
    return;
  }
  const unsigned first = number(item.substr(0, dash));
  const unsigned last = number(item.substr(dash + 1, colon - dash - 1));
  const unsigned step = colon == std::string_view::npos ? 1 : number(item.substr(colon + 1));
  if (last < first)
    refuse(list, item, "runs backward");
  if (step == 0)
    refuse(list, item, "has a step of 0");
  for (unsigned cpu = first; cpu <= last; cpu += step)
    set.add(cpu);
}

}  // namespace

void CpuSet::Free::operator()(hwloc_bitmap_s* bitmap) const noexcept {
  hwloc_bitmap_free(bitmap);
}

CpuSet::CpuSet() : bitmap_(owned(hwloc_bitmap_alloc())) {}

CpuSet::CpuSet(std::initializer_list<unsigned> cpus)
    : CpuSet(from_numbers({cpus.begin(), cpus.size()})) {}

CpuSet::CpuSet(const CpuSet& other) : bitmap_(owned(hwloc_bitmap_dup(other.hwloc()))) {}

CpuSet& CpuSet::operator=(CpuSet other) noexcept {
  std::swap(bitmap_, other.bitmap_);
  return *this;
}

CpuSet CpuSet::from_list(std::string_view list) {
  CpuSet set;
  if (trim(list).empty())
    return set;
  for (const auto item : split(trim(list), ','))
    add_range(set, trim(item), list);
  return set;
}

CpuSet CpuSet::from_numbers(std::span<const unsigned> cpus) {
  CpuSet set;
  for (const unsigned cpu : cpus)
    set.add(cpu);
  return set;
}

CpuSet CpuSet::from_hwloc(const hwloc_bitmap_s* bitmap) {
  CpuSet set;
  check_memory(hwloc_bitmap_copy(set.bitmap_.get(), bitmap));
  return set;
}

void CpuSet::add(unsigned cpu) {
  check_memory(hwloc_bitmap_set(bitmap_.get(), cpu));
}

void CpuSet::remove(unsigned cpu) {
  check_memory(hwloc_bitmap_clr(bitmap_.get(), cpu));
}

bool CpuSet::contains(unsigned cpu) const {
  return hwloc_bitmap_isset(hwloc(), cpu) != 0;
}

bool CpuSet::contains(const CpuSet& subset) const {
  return hwloc_bitmap_isincluded(subset.hwloc(), hwloc()) != 0;
}

bool CpuSet::intersects(const CpuSet& other) const {
  return hwloc_bitmap_intersects(hwloc(), other.hwloc()) != 0;
}

bool CpuSet::empty() const {
  return hwloc_bitmap_iszero(hwloc()) != 0;
}

unsigned CpuSet::count() const {
  const int weight = hwloc_bitmap_weight(hwloc());
  assert(weight >= 0);  // an infinite set is no set of CPUs
  return static_cast<unsigned>(weight);
}

unsigned CpuSet::first() const {
  const int cpu = hwloc_bitmap_first(hwloc());
  assert(cpu >= 0);
  return static_cast<unsigned>(cpu);
}

std::vector<unsigned> CpuSet::cpus() const {
  std::vector<unsigned> numbers;
  numbers.reserve(count());
  for (int cpu = hwloc_bitmap_first(hwloc()); cpu >= 0; cpu = hwloc_bitmap_next(hwloc(), cpu))
    numbers.push_back(static_cast<unsigned>(cpu));
  return numbers;
}

std::string CpuSet::list() const {
  char* text = nullptr;
  check_memory(hwloc_bitmap_list_asprintf(&text, hwloc()));
  const std::unique_ptr<char, decltype(&std::free)> owner(text, std::free);
  return text;
}

CpuSet operator&(const CpuSet& a, const CpuSet& b) {
  CpuSet result;
  check_memory(hwloc_bitmap_and(result.bitmap_.get(), a.hwloc(), b.hwloc()));
  return result;
}

CpuSet operator|(const CpuSet& a, const CpuSet& b) {
  CpuSet result;
  check_memory(hwloc_bitmap_or(result.bitmap_.get(), a.hwloc(), b.hwloc()));
  return result;
}

CpuSet operator-(const CpuSet& a, const CpuSet& b) {
  CpuSet result;
  check_memory(hwloc_bitmap_andnot(result.bitmap_.get(), a.hwloc(), b.hwloc()));
  return result;
}

bool operator==(const CpuSet& a, const CpuSet& b) {
  return hwloc_bitmap_isequal(a.hwloc(), b.hwloc()) != 0;
}

}  // namespace schedlab::affinity
