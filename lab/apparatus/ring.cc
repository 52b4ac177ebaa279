#include "lab/apparatus/ring.hh"

#include "lab/apparatus/loop.hh"
#include "lab/base/keep.hh"
#include "lab/base/mapping.hh"

#include <algorithm>
#include <array>
#include <vector>

namespace schedlab::apparatus {

namespace {

using harness::Sample;

// Laps that refill the caches with the ring's own lines before the clock starts.
constexpr std::uint64_t settling = 2;
constexpr std::uint64_t touch_all = 0;  // "rounds" of the call that gives every page its frame

// What a task of the ring does for a hop. It is kept in local variables and one page of code: with
// more processes than the CPU has address space tags, every switch flushes the TLB, and each page
// that the loop itself touches would be charged to the switch.
struct Station {
  int in = -1;
  int out = -1;
  std::byte* area = nullptr;
  std::uint64_t size = 0;
  std::uint64_t stride = 0;
  Access access = Access::read;

  void give() const noexcept {
    const char token = 't';
    static_cast<void>(!::write(out, &token, 1));
  }
  void take() const noexcept {
    char token;
    static_cast<void>(!::read(in, &token, 1));
  }
  void work() const noexcept { keep(walk(area, size, stride, access)); }
};

Mapping make_area(const RingOptions& options) {
  const std::size_t size = std::max<std::size_t>(options.size, page_size());
  return options.shared_pages ? Mapping::shared_memory(size) : Mapping::private_memory(size);
}

class Ring : public harness::Subject {
public:
  explicit Ring(const RingOptions& options)
      : options_(options), scope_(options.tasks), pipes_(make_pipes(options.count)),
        areas_(make_areas(options)),
        team_(options.tasks, std::vector<std::optional<unsigned>>(options.count - 1, options.cpu),
              options.usable,
              [this](unsigned member, std::uint64_t laps) { play(member + 1, laps); }) {
    stand_on(options_.cpu, options_.usable);
    touch(0);
    team_.start(touch_all);
    team_.finish();
  }

  Sample sample(std::uint64_t operations) override {
    stand_on(options_.cpu, options_.usable);
    team_.start(settling + operations);
    const auto window_begin = clock::begin();
    witness_.begin();
    lead(settling);
    const auto begin = clock::begin();
    lead(operations);
    const auto end = clock::end();
    std::vector<TaskRecord> records = {witness_.end()};
    const auto window_end = clock::end();
    const auto members = team_.finish();
    records.insert(records.end(), members.begin(), members.end());

    Sample sample;
    sample.operations = operations;
    sample.elapsed_ns = clock::ns(begin, end);
    const std::vector<std::optional<unsigned>> places(options_.count, options_.cpu);
    sample.proof = prove(records, places, clock::ns(window_begin, window_end), true);
    const std::uint64_t hops = options_.count * (settling + operations);
    sample.proof.expected_switches = hops;
    if (options_.tasks.policy == procs::SchedPolicy::other && options_.count > 2)
      sample.proof.most_switches = 2 * hops;  // wakers may be preempted, and then sleep later
    sample.values[options_.switches_metric] =
        static_cast<double>(sample.proof.counted_switches) / static_cast<double>(hops);
    sample.values[options_.metric] =
        sample.elapsed_ns / static_cast<double>(operations * options_.count);
    return sample;
  }

private:
  static std::vector<Pipe> make_pipes(unsigned count) {
    std::vector<Pipe> pipes;
    for (unsigned i = 0; i < count; ++i)
      pipes.push_back(make_pipe());
    return pipes;
  }

  static std::vector<Mapping> make_areas(const RingOptions& options) {
    std::vector<Mapping> areas;
    for (unsigned i = 0; i < (options.shared_pages ? 1 : options.count); ++i)
      areas.push_back(make_area(options));
    return areas;
  }

  [[nodiscard]] std::byte* area(unsigned task) const noexcept {
    return areas_[task % areas_.size()].data();
  }

  // Pages that are shared have been written by task 0 before the others read them.
  void touch(unsigned task) noexcept {
    const bool first = task == 0 || !options_.shared_pages;
    keep(walk(area(task), options_.size, page_size(), first ? Access::write : Access::read));
  }

  [[nodiscard]] Station station(unsigned task) const noexcept {
    return {.in = pipes_[task].read.get(),
            .out = pipes_[(task + 1) % options_.count].write.get(),
            .area = area(task),
            .size = options_.size,
            .stride = options_.stride,
            .access = options_.access};
  }

  // Task 0 sends the token off and works when it comes back.
  void lead(std::uint64_t laps) noexcept {
    const Station here = station(0);
    for (std::uint64_t i = 0; i < laps; ++i) {
      here.give();
      here.take();
      here.work();
    }
  }

  void play(unsigned task, std::uint64_t laps) noexcept {
    if (laps == touch_all)
      touch(task);
    const Station here = station(task);
    for (std::uint64_t i = 0; i < laps; ++i) {
      here.take();
      here.work();
      here.give();
    }
  }

  RingOptions options_;
  TaskScope scope_;  // as long as the ring, so that members inherit it and samples do not change it
  std::vector<Pipe> pipes_;  // by reader
  std::vector<Mapping> areas_;
  Witness witness_;
  Team team_;
};

}  // namespace

std::uint64_t walk(std::byte* area, std::uint64_t size, std::uint64_t stride,
                   Access access) noexcept {
  std::uint64_t sum = 0;
  if (access == Access::read) {
    for (std::uint64_t at = 0; at + 8 <= size; at += stride)
      sum += *reinterpret_cast<const volatile std::uint64_t*>(area + at);
    return sum;
  }
  for (std::uint64_t at = 0; at + 8 <= size; at += stride) {
    auto& word = *reinterpret_cast<volatile std::uint64_t*>(area + at);
    sum += word;
    word = sum;
  }
  return sum;
}

std::unique_ptr<harness::Subject> make_ring(const RingOptions& options) {
  return std::make_unique<Ring>(options);
}

std::unique_ptr<harness::Subject> make_lone_walker(const RingOptions& options) {
  struct Alone {
    Pipe pipe = make_pipe();
    Mapping area;
  };
  auto alone = std::make_shared<Alone>(Alone{.area = make_area(options)});
  keep(walk(alone->area.data(), options.size, page_size(), Access::write));
  const Station here{.in = alone->pipe.read.get(),
                     .out = alone->pipe.write.get(),
                     .area = alone->area.data(),
                     .size = options.size,
                     .stride = options.stride,
                     .access = options.access};
  return make_loop({options.cpu, options.usable, options.metric},
                   [alone, here](std::uint64_t hops) noexcept {
                     const Station local = here;
                     for (std::uint64_t i = 0; i < hops; ++i) {
                       local.give();
                       local.take();
                       local.work();
                     }
                   });
}

}  // namespace schedlab::apparatus
