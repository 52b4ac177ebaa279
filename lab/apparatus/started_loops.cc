#include "lab/apparatus/started_loops.hh"

#include "lab/apparatus/team.hh"
#include "lab/base/cache_line.hh"
#include "lab/base/clock.hh"
#include "lab/base/error.hh"
#include "lab/base/keep.hh"
#include "procs/fork_server.hh"
#include "procs/process.hh"
#include "procs/sealed_memory.hh"

#include <algorithm>
#include <array>
#include <cstring>
#include <optional>
#include <stdexcept>
#include <string>

namespace schedlab::apparatus {

namespace {

using harness::Check;
using harness::Sample;
using harness::Value;
using procs::StartMethod;

// What a task says of its loop, in memory that its process finds by a descriptor.
struct alignas(line_pair) Desk {
  std::int64_t begin_ns = 0;
  std::int64_t end_ns = 0;
  std::uint64_t count = 0;
};

struct Order {
  std::uint64_t loops = 0;
  std::uint32_t task = 0;
};

constexpr int desks_fd = 3;  // in the child

void count(Desk& desk, std::uint64_t loops) noexcept {
  desk.begin_ns = clock::now_ns();
  desk.count = count_up(loops);
  desk.end_ns = clock::now_ns();
}

int count_in_process(std::span<const std::byte> argument) {
  Order order;
  std::memcpy(&order, argument.data(), sizeof order);
  const auto memory = procs::SealedMemory::attach(Fd(desks_fd));
  count(memory.as<Desk>()[order.task], order.loops);
  return 0;
}

StartMethod method_of(StartAs way) noexcept {
  if (way == StartAs::fork)
    return StartMethod::fork;
  return way == StartAs::exec ? StartMethod::exec : StartMethod::forkserver;
}

class StartedLoops final : public harness::Subject {
public:
  explicit StartedLoops(const StartedLoopsOptions& options)
      : options_(options), cpus_(affinity::CpuSet::from_numbers(options.cpus)),
        memory_(procs::SealedMemory::make(options.tasks * sizeof(Desk), "loops")) {
    if (options.way == StartAs::forkserver)
      server_.emplace();
  }

  Sample sample(std::uint64_t operations) override {
    stand_on(std::nullopt, cpus_);
    double time_ns = 0, start_ns = 0, work_ns = 0;
    witness_.begin();
    for (std::uint64_t i = 0; i < operations; ++i) {
      for (auto& desk : desks())
        desk = {};
      const std::int64_t begun_ns = clock::now_ns();
      run();
      time_ns += static_cast<double>(clock::now_ns() - begun_ns);
      const auto all = desks();
      const auto first = std::ranges::min_element(all, {}, &Desk::begin_ns);
      const auto latest = std::ranges::max_element(all, {}, &Desk::begin_ns);
      const auto last = std::ranges::max_element(all, {}, &Desk::end_ns);
      start_ns += static_cast<double>(latest->begin_ns - begun_ns);
      work_ns += static_cast<double>(last->end_ns - first->begin_ns);
      wrong_ += static_cast<std::uint64_t>(std::ranges::count_if(
          all, [&](const Desk& desk) { return desk.count != options_.loops; }));
    }
    const TaskRecord record = witness_.end();
    const auto share = static_cast<double>(operations);
    Sample sample;
    sample.operations = operations;
    sample.elapsed_ns = time_ns;
    sample.proof = prove(record, std::nullopt, time_ns, false);
    sample.values[options_.time] = time_ns / share;
    // Of calls the last loop begins when the others are done: that is no start.
    if (options_.way != StartAs::calls)
      sample.values[options_.start] = start_ns / share;
    sample.values[options_.work] = work_ns / share;
    return sample;
  }

  std::vector<Check> checks() override {
    return {{"results that are not the number counted to", Value(0), Value(wrong_), wrong_ == 0}};
  }

private:
  [[nodiscard]] std::span<Desk> desks() const noexcept {
    return {memory_.as<Desk>(), options_.tasks};
  }

  void run() {
    switch (options_.way) {
    case StartAs::calls:
      for (auto& desk : desks())
        count(desk, options_.loops);
      return;
    case StartAs::threads:
      return run_threads();
    case StartAs::fork:
    case StartAs::exec:
    case StartAs::forkserver:
      return run_processes();
    }
  }

  void run_threads() {
    std::vector<procs::Thread> threads;
    for (auto& desk : desks())
      threads.emplace_back(procs::ThreadOptions{},
                           [&desk, loops = options_.loops] { count(desk, loops); });
    for (auto& thread : threads)
      thread.join();
  }

  void run_processes() {
    procs::ProcessOptions how;
    how.method = method_of(options_.way);
    how.fds = {{memory_.fd().get(), desks_fd}};
    how.server = server_ ? &*server_ : nullptr;
    how.despite_threads = true;  // the harness's threads share nothing with the loop
    std::vector<procs::Process> processes;
    for (std::uint32_t task = 0; task < options_.tasks; ++task) {
      const Order order{options_.loops, task};
      processes.push_back(
          procs::Process::start<count_in_process>(how, std::as_bytes(std::span(&order, 1))));
    }
    for (auto& process : processes)
      if (const auto ending = process.wait(); !ending.success())
        throw std::runtime_error("a process that counts: " + ending.text());
  }

  StartedLoopsOptions options_;
  affinity::CpuSet cpus_;
  procs::SealedMemory memory_;
  std::optional<procs::ForkServer> server_;
  Witness witness_;
  std::uint64_t wrong_ = 0;
};

constexpr std::array<std::string_view, 5> words = {"serial", "threads", "fork", "exec",
                                                   "forkserver"};

}  // namespace

std::uint64_t count_up(std::uint64_t limit) noexcept {
  std::uint64_t count = 0;
  for (std::uint64_t i = 0; i < limit; ++i) {
    ++count;
    launder(count);
  }
  return count;
}

std::string_view to_text(StartAs way) noexcept {
  return words[static_cast<std::size_t>(way)];
}

StartAs start_as(std::string_view word) {
  return static_cast<StartAs>(std::ranges::find(words, word) - words.begin());
}

std::unique_ptr<harness::Subject> make_started_loops(const StartedLoopsOptions& options) {
  return std::make_unique<StartedLoops>(options);
}

}  // namespace schedlab::apparatus
