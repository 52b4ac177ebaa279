#pragma once
#include "lab/base/fd.hh"

#include <cstdint>
#include <span>
#include <string>

namespace schedlab::harness {

// Reads the time that the hypervisor took from some CPUs, in ticks of 10 ms, between samples. Where
// it has taken none since boot, as on bare metal, nothing is read any more: with hundreds of CPUs
// /proc/stat costs more than a sample, and a lab that loses time then sees it all the same.
class StealReader {
public:
  StealReader();
  // Sum over the CPUs (kernel numbers; none: the whole machine), 0 where the kernel does not say.
  [[nodiscard]] std::uint64_t ticks(std::span<const unsigned> cpus);

private:
  Fd stat_;
  std::string text_;
};

// The sum of the steal column of /proc/stat for these CPUs (none: the "cpu" line).
std::uint64_t steal_ticks(std::string_view proc_stat, std::span<const unsigned> cpus);

}  // namespace schedlab::harness
