#include "lab/apparatus/timing_habits.hh"

#include "lab/apparatus/started_loops.hh"
#include "lab/apparatus/team.hh"
#include "lab/base/child.hh"
#include "lab/base/clock.hh"
#include "lab/base/error.hh"
#include "lab/base/fd.hh"
#include "lab/base/keep.hh"
#include "lab/base/mapping.hh"

#include <fcntl.h>
#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cmath>

namespace schedlab::apparatus {

namespace {

struct Span {
  std::int64_t begin_ns = 0;
  std::int64_t end_ns = 0;
  [[nodiscard]] double ns() const noexcept { return static_cast<double>(end_ns - begin_ns); }
};

class HabitualTiming final : public harness::Subject {
public:
  explicit HabitualTiming(const TimingHabitOptions& options)
      : options_(options), shared_(Mapping::shared_memory(sizeof(Span))),
        null_(check(::open("/dev/null", O_WRONLY | O_CLOEXEC), "open", "/dev/null")) {}

  harness::Sample sample(std::uint64_t operations) override {
    stand_on(options_.cpu, options_.usable);
    double clocked_ns = 0, work_ns = 0, error_ns = 0;
    witness_.begin();
    for (std::uint64_t i = 0; i < operations; ++i) {
      Span outer;
      outer.begin_ns = clock::now_ns();
      play();
      outer.end_ns = clock::now_ns();
      const double seen_ns = options_.habit == TimingHabit::rounding
                                 ? std::round(outer.ns() / hundredth_ns) * hundredth_ns
                                 : outer.ns();
      clocked_ns += outer.ns();
      work_ns += inner().ns();
      error_ns += std::abs(seen_ns - inner().ns());
    }
    const TaskRecord record = witness_.end();
    harness::Sample sample;
    sample.operations = operations;
    sample.elapsed_ns = clocked_ns;
    sample.proof = prove(record, options_.cpu, clocked_ns, false);
    sample.values[options_.work] = work_ns / static_cast<double>(operations);
    sample.values[options_.error] = error_ns / std::max(work_ns, 1.0);
    return sample;
  }

private:
  static constexpr double hundredth_ns = 1e7;

  [[nodiscard]] Span& inner() const noexcept { return *shared_.as<Span>(); }
  void work() const noexcept {
    inner().begin_ns = clock::now_ns();
    keep(count_up(options_.loops));
    inner().end_ns = clock::now_ns();
  }
  void play() const {
    switch (options_.habit) {
    case TimingHabit::none:
    case TimingHabit::rounding:
      return work();
    case TimingHabit::start_up:
      return procs::Thread({}, [this] { work(); }).join();
    case TimingHabit::process:
      Child::fork([this] {
        work();
        return 0;
      }).wait();
      return;
    case TimingHabit::print: {
      work();
      std::array<char, 80> line;
      const auto end = fmt::format_to_n(line.data(), line.size(),
                                        "Task completed with count = {}\n", options_.loops);
      static_cast<void>(!::write(null_.get(), line.data(), end.size));
      return;
    }
    }
  }

  TimingHabitOptions options_;
  Mapping shared_;  // the span of the work, which may be another process's
  Fd null_;
  Witness witness_;
};

constexpr std::array<std::string_view, 5> words = {"none", "start-up", "process", "print",
                                                   "rounding"};

}  // namespace

std::string_view to_text(TimingHabit habit) noexcept {
  return words[static_cast<std::size_t>(habit)];
}

TimingHabit timing_habit(std::string_view word) {
  return static_cast<TimingHabit>(std::ranges::find(words, word) - words.begin());
}

std::unique_ptr<harness::Subject> make_timing_habit(const TimingHabitOptions& options) {
  return std::make_unique<HabitualTiming>(options);
}

}  // namespace schedlab::apparatus
