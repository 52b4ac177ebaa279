#include "lab/apparatus/pool_samples.hh"

#include "lab/apparatus/team.hh"
#include "lab/base/clock.hh"

#include <sys/syscall.h>
#include <unistd.h>

namespace schedlab::apparatus {

namespace {

using harness::Check;
using harness::Sample;

constexpr std::uint64_t warm_up = 8;  // trips that do not count: the worker is placed and asleep

}  // namespace

Sample Trips::sample(std::uint64_t operations) {
  stand_on(options_.submitter, options_.usable);
  Sample sample;
  sample.operations = operations;
  begin_sample();
  go(warm_up);
  witness_.begin();
  const auto begin = clock::begin();
  const std::uint64_t sum = go(operations);
  const auto end = clock::end();
  const TaskRecord record = witness_.end();
  sample.elapsed_ns = clock::ns(begin, end);
  sample.proof = prove(record, options_.submitter, sample.elapsed_ns, false);
  sample.values[options_.metric] = sample.elapsed_ns / static_cast<double>(operations);
  wanted_ += operations;
  done_ += sum;
  end_sample(sample);
  return sample;
}

std::vector<Check> Trips::checks() {
  return {{"tasks that were done, each once", wanted_, done_, wanted_ == done_},
          {"samples whose worker was elsewhere, or the caller", 0, misplaced_, misplaced_ == 0}};
}

void Trips::seen_on(unsigned cpu, long thread) noexcept {
  misplaced_ += (options_.worker && *options_.worker != cpu) || thread == ::syscall(SYS_gettid);
}

Sample Batches::sample(std::uint64_t operations) {
  stand_on(std::nullopt, usable_);
  Sample sample;
  sample.operations = operations;
  begin_sample();
  witness_.begin();
  std::uint64_t done = 0;
  const auto begin = clock::begin();
  for (std::uint64_t i = 0; i < operations; ++i)
    done += play();
  const auto end = clock::end();
  const TaskRecord record = witness_.end();
  sample.elapsed_ns = clock::ns(begin, end);
  sample.proof = prove(record, std::nullopt, sample.elapsed_ns, false);
  const auto tasks = operations * in_operation();
  wanted_ += tasks;
  done_ += done;
  sample.values[metric_] = sample.elapsed_ns / static_cast<double>(tasks);
  end_sample(tasks, sample);
  return sample;
}

std::vector<Check> Batches::checks() {
  return {{"tasks that were done, each once", wanted_, done_, wanted_ == done_}};
}

}  // namespace schedlab::apparatus
