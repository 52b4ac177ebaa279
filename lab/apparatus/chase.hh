#pragma once
// The dependent chase: loads of which each yields the address of the next, so that none can begin
// before the one before it has ended. Its time per load is a latency, whatever the core could
// overlap.
//
// The lines are visited in one cycle, drawn with equal probability from all that there are
// (Sattolo 1986): a plain random permutation falls apart into cycles, of which a walk sees one.

#include "lab/apparatus/area.hh"
#include "lab/apparatus/loop.hh"
#include "lab/base/cache_line.hh"
#include "lab/harness/sample.hh"

#include <cstddef>
#include <cstdint>
#include <exception>
#include <memory>
#include <span>
#include <string_view>
#include <vector>

namespace schedlab::apparatus {

// A word of the memory that is walked.
struct Link {
  const Link* next;
};

enum class Pattern : std::uint8_t {
  random,      // any line may follow any other
  page_local,  // the lines of a window of pages before those of the next: the TLB misses once for
               // each of its pages; lines in a window and windows in random order
  chained,     // as random, in another order on each of chained_laps laps: a prefetcher that has
               // learnt which line followed which is wrong
};
inline constexpr unsigned chained_laps = 4;

std::string_view to_text(Pattern pattern) noexcept;
// "random", "page-local" or "long".
Pattern pattern_from(std::string_view word);

struct ChaseOptions {
  // Bytes from one place to the next, a power of two and at least a line. A place of several lines
  // uses one of them, in turn, so that all sets of a cache get the same number.
  std::uint64_t stride = cache_line;
  Pattern pattern = Pattern::random;
  std::uint64_t window = 64 * 4096;  // bytes, for page_local: pages that a first-level TLB holds
  std::uint64_t seed = 1;
};

// Where place i lies within its stride: a line, and a word of it. Of any run of places as long as
// a power of `stride / line` (of 8, for words) each line (word) is used equally often. In a stride
// of more than 64 lines neighbours differ by 65 lines, so that where the host's pages are smaller
// than ours they do not meet in one set of its TLB entries.
std::uint64_t place_offset(std::uint64_t place, std::uint64_t stride) noexcept;

// Writes the pattern into an area, over whatever was there, and gives one of its links. Takes some
// 10 ns a place. Throws std::invalid_argument for a stride or an area that does not do.
const Link* write_chase(std::span<std::byte> area, const ChaseOptions& options);

// Follows `loads` links and gives the one it ended on, to go on from there.
const Link* walk(const Link* from, std::uint64_t loads) noexcept;

// Throws every line that walk(from, loads) will load out of all caches. Unsupported where a process
// may not (can_flush).
bool can_flush() noexcept;
void flush(const Link* from, std::uint64_t loads);

// How many loads it takes from `start` back to it, or 0 if more than `limit`.
std::uint64_t cycle_length(const Link* start, std::uint64_t limit) noexcept;

// How many loads a chase takes until it is back where it began.
std::uint64_t chase_length(std::uint64_t size, const ChaseOptions& options) noexcept;

// Memory that the series of a process take in turns: made by the first that asks, kept for the
// others. Where it cannot be had, all are told the same. For one thread.
class SharedArea {
public:
  explicit SharedArea(const AreaOptions& options) : options_(options) {}

  // What the constructor of Area throws. The calling thread is the one that touches it.
  std::span<std::byte> bytes();
  // Asked of the kernel once: a large area takes milliseconds to look through.
  const std::vector<harness::Check>& checks();

private:
  AreaOptions options_;
  std::unique_ptr<Area> area_;
  std::exception_ptr failure_;
  std::vector<harness::Check> checks_;
};

// A subject whose operation is one load, of a chase over area.bytes().subspan(offset, size). The
// memory is made and the pattern written by the CPU that walks it. Series that are alive together
// need parts of their own.
struct ChaseSubject {
  LoopOptions loop;
  std::shared_ptr<SharedArea> area;
  std::uint64_t offset = 0;
  std::uint64_t size = 0;
  ChaseOptions chase = {};  // its seed goes with where the memory lies, drawn for each process
  // Loads after writing that bring the caches to a steady state: a lap, or so many of it, which
  // throw 64 MiB of other lines out.
  std::uint64_t settle = 1u << 20;
  std::uint64_t warm = 1u << 12;  // at most so many before each sample, not clocked
  // Flush the lines before each sample: every load goes to memory, however large the caches. Then a
  // chase is to have least_flushed loads, more than the longest sample.
  bool flushed = false;
};
inline constexpr std::uint64_t least_flushed = 1u << 20;
std::unique_ptr<harness::Subject> make_chase(const ChaseSubject& subject);
// Seconds that it takes, roughly: to fault in, to write, and to settle at the pace of memory.
double chase_set_up_s(const ChaseSubject& subject) noexcept;

}  // namespace schedlab::apparatus
