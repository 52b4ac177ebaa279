#include "lab/apparatus/task_rules.hh"

#include "iouring/gather.hh"
#include "iouring/sleep.hh"
#include "lab/apparatus/looped.hh"
#include "lab/apparatus/work_length.hh"

#include <algorithm>
#include <chrono>
#include <filesystem>
#include <iterator>
#include <utility>
#include <vector>

namespace schedlab::apparatus {

namespace {

using harness::Check;
using harness::Sample;
using iouring::Task;

LoopedOptions looped(const TaskRuleOptions& options, bool busy) {
  return {.cpu = options.cpu, .usable = options.usable, .driver = options.driver, .busy = busy};
}

std::size_t threads_of_this_process() {
  const std::filesystem::directory_iterator tasks("/proc/self/task");
  return static_cast<std::size_t>(std::distance(begin(tasks), end(tasks)));
}

class WaitsInOneThread final : public Looped {
public:
  explicit WaitsInOneThread(const TaskRuleOptions& options)
      : Looped(looped(options, false)), options_(options) {}

  std::vector<Check> checks() override {
    return {{std::string(waiting_thread_check), 1, most_threads_, most_threads_ == 1}};
  }

private:
  static constexpr std::uint64_t sleepers = 100;

  Task<> play(std::uint64_t operations, Sample& sample) override {
    kernel_waits_ = 0;
    const auto begin = clock::begin();
    for (std::uint64_t i = 0; i < operations; ++i) {
      std::vector<Task<>> tasks;
      tasks.reserve(sleepers);
      for (std::uint64_t j = 0; j < sleepers; ++j)
        tasks.push_back(sleep());
      const auto calls_before = loop().driver().counts().calls;
      co_await iouring::gather(std::move(tasks));
      kernel_waits_ += loop().driver().counts().calls - calls_before;
    }
    sample.elapsed_ns = clock::ns(begin, clock::end());
    sample.values[options_.time_metric] =
        sample.elapsed_ns / static_cast<double>(operations * sleepers);
    most_threads_ = std::max(most_threads_, threads_seen_);
  }
  void counted(const TaskRecord& record, Sample& sample) override {
    if (kernel_waits_ > 0)
      sample.values[options_.ratio_metric] =
          static_cast<double>(record.voluntary) / static_cast<double>(kernel_waits_);
  }
  Task<> sleep() {
    co_await iouring::sleep_for(std::chrono::microseconds(100));
    // By the first that wakes, while the others wait to go on.
    if (threads_seen_ == 0)
      threads_seen_ = threads_of_this_process();
  }

  TaskRuleOptions options_;
  std::uint64_t kernel_waits_ = 0;
  std::size_t threads_seen_ = 0;
  std::size_t most_threads_ = 0;
};

class GatherInOrder final : public Looped {
public:
  explicit GatherInOrder(const TaskRuleOptions& options)
      : Looped(looped(options, true)), options_(options), steps_(steps_for(20'000)) {}

  std::vector<Check> checks() override {
    return {{std::string(in_order_check), gathers_, in_order_, gathers_ == in_order_}};
  }

private:
  Task<> play(std::uint64_t operations, Sample& sample) override {
    double parts_ns = 0;
    const auto begin = clock::begin();
    for (std::uint64_t i = 0; i < operations; ++i) {
      place_ = 0;
      const auto ends = co_await iouring::gather(part(parts_ns, 0), part(parts_ns, 2));
      in_order_ += std::get<0>(ends) && std::get<1>(ends);
    }
    sample.elapsed_ns = clock::ns(begin, clock::end());
    gathers_ += operations;
    sample.values[options_.time_metric] = sample.elapsed_ns / static_cast<double>(2 * operations);
    sample.values[options_.ratio_metric] = parts_ns / sample.elapsed_ns;
  }
  // Begins and ends at the places in the order where it should?
  Task<bool> part(double& parts_ns, int first_place) {
    const bool begins_right = place_++ == first_place;
    const auto begin = clock::begin();
    compute(steps_);
    parts_ns += clock::ns(begin, clock::end());
    const bool ends_right = place_++ == first_place + 1;
    const bool in_order = begins_right && ends_right;
    co_return in_order;
  }

  TaskRuleOptions options_;
  std::uint64_t steps_;
  int place_ = 0;
  std::uint64_t gathers_ = 0;
  std::uint64_t in_order_ = 0;
};

class Updates final : public Looped {
public:
  Updates(bool yields, const TaskRuleOptions& options)
      : Looped(looped(options, true)), yields_(yields), options_(options) {}

  std::vector<Check> checks() override {
    return {
        {"threads of the process", 1, threads_of_this_process(), threads_of_this_process() == 1}};
  }

private:
  Task<> play(std::uint64_t operations, Sample& sample) override {
    const std::uint64_t each = (operations + 1) / 2;
    counter_ = 0;
    const auto begin = clock::begin();
    co_await iouring::gather(add(each), add(each));
    sample.elapsed_ns = clock::ns(begin, clock::end());
    const auto all = static_cast<double>(2 * each);
    sample.operations = 2 * each;
    sample.values[options_.time_metric] = sample.elapsed_ns / all;
    sample.values[options_.ratio_metric] = (all - static_cast<double>(counter_)) / all;
  }
  Task<> add(std::uint64_t times) {
    for (std::uint64_t i = 0; i < times; ++i) {
      const std::uint64_t seen = counter_;
      if (yields_)
        co_await iouring::yield();
      counter_ = seen + 1;
    }
  }

  bool yields_;
  TaskRuleOptions options_;
  volatile std::uint64_t counter_ = 0;  // or the loop without a wait would be one addition
};

}  // namespace

std::unique_ptr<harness::Subject> make_waits_in_one_thread(const TaskRuleOptions& options) {
  return std::make_unique<WaitsInOneThread>(options);
}

std::unique_ptr<harness::Subject> make_gather_in_order(const TaskRuleOptions& options) {
  return std::make_unique<GatherInOrder>(options);
}

std::unique_ptr<harness::Subject> make_updates(bool yields, const TaskRuleOptions& options) {
  return std::make_unique<Updates>(yields, options);
}

}  // namespace schedlab::apparatus
