#include "lab/apparatus/spawn.hh"

#include "lab/apparatus/smallest_program.hh"
#include "lab/apparatus/spawn_way.hh"
#include "lab/apparatus/team.hh"
#include "lab/base/clock.hh"
#include "lab/base/error.hh"
#include "lab/base/mapping.hh"
#include "lab/harness/statistics.hh"
#include "lab/harness/tool_info.hh"

#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <stdexcept>
#include <vector>

namespace schedlab::apparatus {

namespace {

class Spawn final : public harness::Subject {
public:
  Spawn(std::string_view way, const SpawnCostOptions& options)
      : name_(way), options_(options), ballast_(load(options.ballast)),
        memory_(Mapping::shared_memory(sizeof(SpawnStamps))), way_(make_task_way(way)) {
    if (!way_)
      way_ = make_program_way(way);
    if (!way_)
      throw std::invalid_argument("no such way to start a task: " + name_);
  }

  harness::Sample sample(std::uint64_t operations) override {
    stand_on(options_.cpu, options_.usable);
    Times times(operations);
    witness_.begin();
    const auto begin = clock::begin();
    for (std::uint64_t i = 0; i < operations; ++i)
      start_one(times);
    harness::Sample sample;
    sample.operations = operations;
    sample.elapsed_ns = clock::ns(begin, clock::end());
    sample.proof = prove(witness_.end(), options_.cpu, sample.elapsed_ns, false);
    fill_in(sample, times);
    return sample;
  }

  std::vector<harness::Check> checks() override {
    std::vector<harness::Check> all = {
        {"children that ended as they should", started_, ended_well_, started_ == ended_well_}};
    if (ballast_)
      for (auto& check : ballast_->checks())
        all.push_back(std::move(check));
    return all;
  }

private:
  // Of each child of a sample: the times have a long tail, which a mean would be ruled by.
  struct Times {
    std::vector<double> whole, blocked, begun, join;
    double faults = 0;
    double right = 0;

    explicit Times(std::uint64_t children) {
      for (auto* list : {&whole, &blocked, &begun, &join})
        list->reserve(children);
    }
  };

  void start_one(Times& times) {
    SpawnStamps& stamps = *new (memory_.data()) SpawnStamps;
    const auto begin = clock::begin();
    way_->start(stamps);
    const auto returned = clock::end();
    const bool well = way_->join(stamps);
    const auto done = clock::end();
    ++started_;
    ended_well_ += well;
    times.whole.push_back(clock::ns(begin, done));
    times.blocked.push_back(clock::ns(begin, returned));
    if (stamps.begun != 0)
      times.begun.push_back(clock::ns(begin, stamps.begun));
    if (stamps.ended != 0)
      times.join.push_back(clock::ns(stamps.ended, done));
    times.faults += static_cast<double>(stamps.faults);
    const bool after = stamps.ended == 0 || clock::ns(stamps.ended, done) >= 0;
    times.right += well && after && way_->right(stamps);
  }

  void fill_in(harness::Sample& sample, const Times& times) const {
    const SpawnMetrics& to = options_.metrics;
    const auto each = static_cast<double>(sample.operations);
    sample.values[to.whole] = harness::median(times.whole);
    sample.values[to.blocked] = harness::median(times.blocked);
    if (times.begun.size() == sample.operations)
      sample.values[to.begun] = harness::median(times.begun);
    if (times.join.size() == sample.operations)
      sample.values[to.join] = harness::median(times.join);
    if (times.faults > 0)
      sample.values[to.faults] = times.faults / each;
    sample.values[to.right] = times.right / each;
  }

  std::string name_;
  SpawnCostOptions options_;
  std::shared_ptr<const Area> ballast_;
  Mapping memory_;
  std::unique_ptr<SpawnWay> way_;
  Witness witness_;
  std::uint64_t started_ = 0;
  std::uint64_t ended_well_ = 0;
};

}  // namespace

const std::vector<std::string_view>& clone_flag_sets() {
  static const std::vector<std::string_view> sets = {
      "none", "fs", "files", "vm", "vm+vfork", "vm+fs", "vm+files", "vm+sighand", "all", "thread"};
  return sets;
}

std::unique_ptr<harness::Subject> make_spawn(std::string_view way,
                                             const SpawnCostOptions& options) {
  return std::make_unique<Spawn>(way, options);
}

std::string spawn_refusal(std::string_view way) {
  const bool on_our_memory =
      way.starts_with("clone/") && (way.find("vm") != std::string_view::npos ||
                                    way.ends_with("/all") || way.ends_with("/thread"));
  if (on_our_memory && harness::tool_info().sanitizers != "none")
    return "a sanitizer cannot follow a child that runs on its parent's memory";
  if (way == "clone3" && ::syscall(SYS_clone3, nullptr, 0) != 0 && errno == ENOSYS)
    return "clone3 is refused here (before Linux 5.3, or by a seccomp filter)";
  if (way == "vfork-exec-dynamic" && !is_dynamic("/bin/true"))
    return "/bin/true is missing or statically linked";
  if (way == "spawn" || way.find("exec") != std::string_view::npos) {
    try {
      const SmallestProgram program;
    } catch (const std::exception& error) {
      return error.what();
    }
  }
  return "";
}

}  // namespace schedlab::apparatus
