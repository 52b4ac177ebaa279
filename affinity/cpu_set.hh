#pragma once
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

struct hwloc_bitmap_s;

namespace schedlab::affinity {

// A set of CPUs by the kernel's numbers, of any size (an hwloc bitmap, never a cpu_set_t). A value:
// copies are independent. Not to be shared between threads while one writes.
class CpuSet {
public:
  CpuSet();
  CpuSet(std::initializer_list<unsigned> cpus);
  CpuSet(const CpuSet& other);
  CpuSet(CpuSet&& other) noexcept = default;
  CpuSet& operator=(CpuSet other) noexcept;
  ~CpuSet() = default;

  // The kernel's list format, "0,2-5,8-14:2". Throws BadInput that names the text.
  static CpuSet from_list(std::string_view list);
  static CpuSet from_numbers(std::span<const unsigned> cpus);
  // Takes a copy of an hwloc bitmap.
  static CpuSet from_hwloc(const hwloc_bitmap_s* bitmap);

  void add(unsigned cpu);
  void remove(unsigned cpu);
  [[nodiscard]] bool contains(unsigned cpu) const;
  [[nodiscard]] bool contains(const CpuSet& subset) const;
  [[nodiscard]] bool intersects(const CpuSet& other) const;
  [[nodiscard]] bool empty() const;
  [[nodiscard]] unsigned count() const;
  // The smallest CPU number; the set must not be empty.
  [[nodiscard]] unsigned first() const;
  // In ascending order.
  [[nodiscard]] std::vector<unsigned> cpus() const;
  // The kernel's list format; "" when empty.
  [[nodiscard]] std::string list() const;

  [[nodiscard]] const hwloc_bitmap_s* hwloc() const noexcept { return bitmap_.get(); }

  friend CpuSet operator&(const CpuSet& a, const CpuSet& b);
  friend CpuSet operator|(const CpuSet& a, const CpuSet& b);
  friend CpuSet operator-(const CpuSet& a, const CpuSet& b);
  friend bool operator==(const CpuSet& a, const CpuSet& b);

private:
  struct Free {
    void operator()(hwloc_bitmap_s* bitmap) const noexcept;
  };
  std::unique_ptr<hwloc_bitmap_s, Free> bitmap_;
};

}  // namespace schedlab::affinity
