#include "lab/apparatus/task_memory.hh"

#include "iouring/event.hh"
#include "iouring/frame_pool.hh"
#include "iouring/sleep.hh"
#include "iouring/start.hh"
#include "lab/apparatus/memory_rollup.hh"
#include "lab/apparatus/team.hh"
#include "lab/base/clock.hh"
#include "lab/base/error.hh"
#include "lab/base/file.hh"
#include "lab/base/futex.hh"
#include "lab/base/mapping.hh"
#include "lab/base/text.hh"

#include <malloc.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <thread>
#include <vector>

namespace schedlab::apparatus {

namespace {

using harness::Check;
using harness::Sample;
using iouring::Task;

constexpr std::size_t steps = 8;

// What was held after each step.
struct Held {
  std::array<Point, steps + 1> frames{};
  std::array<Point, steps + 1> resident{};
  std::array<Point, steps + 1> reserved{};

  void note(std::size_t step, std::uint64_t waiting, double frame_bytes) {
    const auto x = static_cast<double>(waiting);
    const Footprint now = footprint();
    frames[step] = {x, frame_bytes};
    resident[step] = {x, now.resident};
    reserved[step] = {x, now.reserved};
  }
};

// Of `most`, how many wait after a step.
std::uint64_t waiting_after(std::size_t step, std::uint64_t most) {
  return most * step / steps;
}

class Waiting : public harness::Subject {
public:
  explicit Waiting(const TaskMemoryOptions& options) : options_(options) {}

  Sample sample(std::uint64_t operations) final {
    stand_on(options_.cpu, options_.usable);
    Sample sample;
    sample.operations = operations;
    std::array<double, 3> sums{};
    witness_.begin();
    const auto begin = clock::begin();
    for (std::uint64_t i = 0; i < operations; ++i) {
      // What others gave back would be taken again, and nothing would grow.
      iouring::release_free_frames();
      ::malloc_trim(0);
      const Held held = hold();
      sums[0] += slope(held.frames);
      sums[1] += slope(held.resident);
      sums[2] += slope(held.reserved);
    }
    sample.elapsed_ns = clock::ns(begin, clock::end());
    sample.proof = prove(witness_.end(), options_.cpu, sample.elapsed_ns, false);
    const auto share = 1 / static_cast<double>(operations);
    if (sums[0] > 0)
      sample.values[options_.frame_metric] = sums[0] * share;
    sample.values[options_.resident_metric] = sums[1] * share;
    sample.values[options_.reserved_metric] = sums[2] * share;
    wanted_ += operations * options_.most;
    return sample;
  }

  std::vector<Check> checks() override {
    return {{"that waited, and ended when they were let go", wanted_, ended_, wanted_ == ended_}};
  }

protected:
  virtual Held hold() = 0;
  [[nodiscard]] const TaskMemoryOptions& options() const noexcept { return options_; }
  std::uint64_t ended_ = 0;

private:
  TaskMemoryOptions options_;
  Witness witness_;
  std::uint64_t wanted_ = 0;
};

class WaitingTasks final : public Waiting {
  using Waiting::Waiting;

  Held hold() override {
    Held held;
    iouring::LoopOptions how;
    how.driver.choice = options().driver;
    iouring::Loop loop(how);
    loop.run(fill(held));
    return held;
  }

  Task<> fill(Held& held) {
    iouring::Event go;
    std::vector<iouring::Running<>> running(options().most);  // touched before the first reading
    const auto before = iouring::frame_counts().bytes;
    for (std::size_t step = 0; step <= steps; ++step) {
      const auto first = step == 0 ? 0 : waiting_after(step - 1, options().most);
      const auto last = waiting_after(step, options().most);
      for (auto i = first; i < last; ++i)
        running[i] = iouring::create_task(wait(go));
      while (go.waiting() < last)
        co_await iouring::yield();
      held.note(step, last, static_cast<double>(iouring::frame_counts().bytes - before));
    }
    go.set();
    for (auto& one : running)
      co_await one;
  }
  Task<> wait(iouring::Event& go) {
    co_await go.wait();
    ++ended_;
  }
};

class WaitingThreads final : public Waiting {
  using Waiting::Waiting;

  Held hold() override {
    Held held;
    std::atomic<std::uint32_t> go{0};
    std::atomic<std::uint64_t> waiting{0};
    std::atomic<std::uint64_t> ended{0};
    {
      std::vector<std::jthread> threads;
      threads.reserve(options().most);
      const auto wait = [&] {
        waiting.fetch_add(1, std::memory_order_relaxed);
        while (go.load(std::memory_order_acquire) == 0)
          futex_wait(go, 0, false);
        ended.fetch_add(1, std::memory_order_relaxed);
      };
      const auto let_go = [&] {
        go.store(1, std::memory_order_release);
        futex_wake(go, static_cast<int>(options().most), false);
      };
      try {
        for (std::size_t step = 0; step <= steps; ++step) {
          const auto wanted = waiting_after(step, options().most);
          while (threads.size() < wanted)
            threads.emplace_back(wait);
          while (waiting.load(std::memory_order_relaxed) < wanted)
            std::this_thread::yield();
          held.note(step, wanted, 0);
        }
      } catch (const std::system_error& error) {
        let_go();
        throw Unsupported(std::string("no more threads can be started (") + error.what() +
                          "); raise pids.max of the cgroup or ulimit -u");
      }
      let_go();
    }
    ended_ += ended.load(std::memory_order_relaxed);
    return held;
  }
};

}  // namespace

Footprint footprint() {
  Footprint now;
  const auto statm = read_text("/proc/self/statm");
  if (statm) {
    const auto words = split(*statm, ' ');
    const auto page = static_cast<double>(page_size());
    if (words.size() > 1) {
      now.reserved = page * static_cast<double>(to_number(words[0]).value_or(0));
      now.resident = page * static_cast<double>(to_number(words[1]).value_or(0));
    }
  }
  if (const auto counted = memory_rollup(::getpid()))
    now.resident = counted->resident;
  return now;
}

double slope(std::span<const Point> points) noexcept {
  double x = 0, y = 0;
  for (const Point& point : points) {
    x += point.x;
    y += point.y;
  }
  x /= static_cast<double>(points.size());
  y /= static_cast<double>(points.size());
  double covariance = 0, variance = 0;
  for (const Point& point : points) {
    covariance += (point.x - x) * (point.y - y);
    variance += (point.x - x) * (point.x - x);
  }
  return covariance / variance;
}

std::unique_ptr<harness::Subject> make_waiting_tasks(const TaskMemoryOptions& options) {
  return std::make_unique<WaitingTasks>(options);
}

std::unique_ptr<harness::Subject> make_waiting_threads(const TaskMemoryOptions& options) {
  return std::make_unique<WaitingThreads>(options);
}

}  // namespace schedlab::apparatus
