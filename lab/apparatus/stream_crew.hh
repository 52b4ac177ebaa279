#pragma once
// Several pinned workers that stream at the same time, each over memory that a worker on its node
// wrote first.
//
// The memory is a set of parts, one for each owner, and a part is a row of chunks that are taken in
// turn. Whoever streams goes on where the last one ended, whatever its kernel was, so that a chunk
// is not met again before all the others of its part: samples may be far shorter than the arrays
// without finding them in a cache.

#include "lab/apparatus/area.hh"
#include "lab/apparatus/start_line.hh"
#include "lab/apparatus/stream.hh"
#include "lab/apparatus/team.hh"
#include "lab/base/cache_line.hh"
#include "lab/harness/sample.hh"

#include <algorithm>
#include <cstdint>
#include <exception>
#include <functional>
#include <memory>
#include <optional>
#include <vector>

namespace schedlab::apparatus {

struct StreamMemoryOptions {
  struct Owner {
    unsigned cpu = 0;  // kernel numbers
    int node = -1;     // where its pages must be found; -1: anywhere
  };
  std::vector<Owner> owners;
  affinity::CpuSet usable;
  std::uint64_t chunk = cache_line;  // bytes of each array in a chunk, a multiple of a line
  std::uint64_t chunks = 1;          // in each part
  Pages pages = Pages::base;

  // Where a team of the owners stands.
  [[nodiscard]] std::vector<std::optional<unsigned>> places() const;
};

// What one owner has of the three arrays. Used by one thread at a time.
class alignas(line_pair) StreamPart {
public:
  // Built by its owner. Throws what Area throws.
  explicit StreamPart(const StreamMemoryOptions& options);

  [[nodiscard]] std::size_t chunks() const noexcept { return results_.size(); }
  [[nodiscard]] StreamArrays chunk(std::size_t index) const noexcept {
    return arrays_.part(index * chunk_count_, chunk_count_);
  }
  // All chunks at once.
  [[nodiscard]] StreamArrays whole() const noexcept { return arrays_; }
  // The chunk whose turn it is.
  std::size_t take() noexcept {
    const std::size_t index = next_;
    next_ = index + 1 == results_.size() ? 0 : index + 1;
    return index;
  }
  // What every element of a chunk's c must be; to be told after a pass over it.
  void expect(std::size_t index, double result) noexcept { results_[index] = result; }
  void expect_everywhere(double result) noexcept { std::ranges::fill(results_, result); }

  // How many elements are not what they must be.
  [[nodiscard]] std::uint64_t wrong() const noexcept;
  // The share of its chunks that begin on a node; some hundred of them are looked at.
  [[nodiscard]] double share_on(int node) const;
  // The share of its bytes on pages of the kind asked for.
  [[nodiscard]] double granted() const { return area_.granted(); }

private:
  std::uint64_t array_bytes_;
  Area area_;
  StreamArrays arrays_;
  std::size_t chunk_count_;  // elements
  std::size_t next_ = 0;
  std::vector<double> results_;
};

// The parts of all owners. For one thread, which may lend parts to others.
class StreamMemory {
public:
  // Has each owner build its part. Throws what one of them threw.
  explicit StreamMemory(const StreamMemoryOptions& options);

  [[nodiscard]] std::size_t parts() const noexcept { return parts_.size(); }
  [[nodiscard]] StreamPart& part(std::size_t index) noexcept { return *parts_[index]; }
  // Elements of each array in a chunk.
  [[nodiscard]] std::size_t chunk_count() const noexcept { return parts_[0]->chunk(0).count; }

  // The scalar of the next run: another each time, so that a result that stayed is found out.
  double next_scalar() noexcept;
  // Counts sums of `read` that were not what they must be.
  void add_wrong_sums(std::uint64_t count) noexcept { wrong_sums_ += count; }

  // STREAM's validation, exact, of every element; the page size, and the nodes. Done by the owners,
  // once after the last run.
  const std::vector<harness::Check>& checks();

private:
  void on_owners(const std::function<void(unsigned)>& work) const;

  StreamMemoryOptions options_;
  std::vector<std::unique_ptr<StreamPart>> parts_;
  std::uint64_t runs_ = 0;
  std::uint64_t wrong_sums_ = 0;
  std::vector<harness::Check> checks_;  // empty: not looked at since the last run
};

// How the parts of a memory are dealt out to workers.
enum class Deal : std::uint8_t {
  one_each,  // worker i has part i, and others are left alone
  all,       // each part has a worker
};

// What one worker streams over: its parts in turn.
struct alignas(line_pair) StreamLot {
  std::vector<StreamPart*> parts;
  std::size_t turn = 0;
};
// A lot for each of at most as many workers as there are parts.
std::vector<StreamLot> deal(StreamMemory& memory, std::size_t workers, Deal how);

class StreamCrew {
public:
  // Each worker has a CPU of its own (kernel numbers, all different).
  StreamCrew(const std::vector<unsigned>& cpus, const affinity::CpuSet& usable);

  struct Run {
    double window_ns = 0;  // from the first begin to the last end
    double common_ns = 0;  // of it, from the last begin to the first end: all were streaming
    std::uint64_t wrong_sums = 0;
    harness::Proof proof;
  };
  [[nodiscard]] std::size_t workers() const noexcept { return places_.size(); }
  struct Work {
    StreamKernel kernel = StreamKernel::read;
    StreamPass pass = nullptr;
    double scalar = 0;
    bool whole = false;  // a pass takes a whole part, not a chunk of it
  };
  // Has every worker do `rounds` passes over its lot, all beginning together.
  Run run(std::vector<StreamLot>& lots, const Work& work, std::uint64_t rounds);

private:
  struct alignas(line_pair) Times {
    std::uint64_t begin = 0;  // ticks of the clock
    std::uint64_t end = 0;
    std::uint64_t sum = 0;
  };
  void play(unsigned member, std::uint64_t rounds) noexcept;

  std::vector<std::optional<unsigned>> places_;
  std::vector<Times> times_;
  std::vector<StreamLot>* lots_ = nullptr;  // both written before the team is started
  Work work_;
  StartLine line_;
  Team team_;
};

struct StreamSubject {
  StreamKernel kernel = StreamKernel::triad;
  Stores stores = Stores::ordinary;
  VectorSet set = VectorSet::baseline;
  // Indexes of the metrics that a sample fills in.
  std::size_t rate_metric = 0;    // bytes a second of all workers, by STREAM's rule
  std::size_t share_metric = 1;   // the same for one worker
  std::size_t common_metric = 2;  // the share of the window in which all were streaming
};
// An operation is a chunk for each worker of the crew; with the library's stores the whole of what
// it has, in one call, because what memcpy does depends on the length.
std::unique_ptr<harness::Subject> make_stream(std::shared_ptr<StreamCrew> crew,
                                              std::shared_ptr<StreamMemory> memory, Deal how,
                                              const StreamSubject& subject);

// Something that several series of a process share: made by the first that asks, gone with the last
// that holds it. Where it cannot be made, all are told the same. For one thread.
template <typename T>
class Shared {
public:
  explicit Shared(std::function<std::shared_ptr<T>()> make) : make_(std::move(make)) {}

  std::shared_ptr<T> get() {
    if (failure_)
      std::rethrow_exception(failure_);
    if (auto there = held_.lock())
      return there;
    try {
      const auto made = make_();
      held_ = made;
      return made;
    } catch (...) {
      failure_ = std::current_exception();
      throw;
    }
  }

private:
  std::function<std::shared_ptr<T>()> make_;
  std::weak_ptr<T> held_;
  std::exception_ptr failure_;
};

}  // namespace schedlab::apparatus
