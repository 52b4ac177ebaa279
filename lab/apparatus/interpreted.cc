#include "lab/apparatus/interpreted.hh"

#include "lab/apparatus/team.hh"
#include "lab/base/cache_line.hh"
#include "lab/base/clock.hh"
#include "lab/base/keep.hh"

#include <algorithm>
#include <optional>
#include <variant>

namespace schedlab::apparatus {

namespace {

using harness::Check;
using harness::Sample;
using harness::Value;
using procs::BiasedCount;
using procs::Code;
using procs::LockRule;
using procs::Opcode;
using procs::PlainCount;

// What a member says of its part; shared, since it may be a process.
struct alignas(line_pair) Desk {
  std::uint64_t begin = 0;  // ticks
  std::uint64_t end = 0;
  std::int64_t cpu_ns = 0;
  std::uint64_t wrong = 0;  // results
  procs::LockCounts counts;
};

// FNV-1a, 64 bits: a byte depends on all before it, so that it takes as long as it is long.
struct Hash {
  std::vector<unsigned char> bytes;
  std::uint64_t value = 0;

  static void run(void* context) {
    auto& hash = *static_cast<Hash*>(context);
    std::uint64_t value = 14695981039346656037u;
    for (const unsigned char byte : hash.bytes)
      value = (value ^ byte) * 1099511628211u;
    hash.value += value;
    keep(hash.value);
  }
};

// count_to(), with a call in front of its body.
procs::Program count_and_call(std::int64_t limit, procs::Native native, bool release) {
  procs::Program program = procs::count_to(limit);
  constexpr std::uint32_t body = 6;
  for (auto& [opcode, argument] : program.instructions)
    if (opcode == Opcode::jump_unless && argument > body)
      ++argument;
  program.instructions.insert(program.instructions.begin() + body,
                              {release ? Opcode::call_released : Opcode::call, 0});
  program.natives = {native};
  return program;
}

template <typename Count>
class Interpreted final : public harness::Subject {
public:
  explicit Interpreted(const InterpretedOptions& options)
      : options_(options), members_(options.spread == Spread::serial ? 1 : options.tasks),
        shared_(Mapping::shared_memory(members_ * sizeof(Desk))), trace_(trace_length),
        places_(members_),
        team_(TaskOptions{.kind = options.spread == Spread::processes ? TaskKind::processes
                                                                      : TaskKind::threads},
              places_, affinity::CpuSet::from_numbers(options.cpus),
              [this](unsigned member, std::uint64_t) { play(member); }) {}

  Sample sample(std::uint64_t operations) override {
    Sample sample;
    procs::LockCounts counts;
    double time_ns = 0, cpu_ns = 0;
    std::uint64_t switches = 0;
    for (std::uint64_t i = 0; i < operations; ++i) {
      lock_.emplace(lock_options(&trace_));
      team_.start(1);
      const auto records = team_.finish();
      const double took_ns = extent_ns();
      time_ns += took_ns;
      add(prove(records, places_, took_ns, false, members_ > options_.cpus.size()), sample.proof);
      for (const auto& desk : desks()) {
        counts += desk.counts;
        wrong_ += desk.wrong;
        cpu_ns += static_cast<double>(desk.cpu_ns);
      }
      switches += lock_->switches();
    }
    overlaps_ = trace_.overlaps();
    const auto share = static_cast<double>(operations);
    sample.operations = operations;
    sample.elapsed_ns = time_ns;
    sample.values[options_.time] = time_ns / share;
    sample.values[options_.running] = cpu_ns / time_ns;
    sample.values[options_.held] = static_cast<double>(counts.held_ns) / time_ns;
    sample.values[options_.waits] = static_cast<double>(counts.waits) / share;
    // Processes share no lock that could change hands.
    if (options_.spread != Spread::processes)
      sample.values[options_.switches] = static_cast<double>(switches) / share;
    if (options_.spread == Spread::threads && options_.rule == LockRule::interval &&
        options_.tasks > 1)
      sample.values[options_.turns] =
          static_cast<double>(switches) * static_cast<double>(options_.interval_ns) / time_ns;
    return sample;
  }

  std::vector<Check> checks() override {
    std::vector<Check> checks = {
        {std::string(results_check), Value(0), Value(wrong_), wrong_ == 0}};
    if (options_.rule != LockRule::none && options_.spread != Spread::processes)
      checks.push_back({std::string(overlaps_check), Value(0), Value(overlaps_), overlaps_ == 0});
    return checks;
  }

private:
  static constexpr std::size_t trace_length = 1024;

  [[nodiscard]] std::span<Desk> desks() const noexcept { return {shared_.as<Desk>(), members_}; }
  [[nodiscard]] procs::InterpreterLockOptions lock_options(procs::HolderTrace* trace) const {
    return {
        .rule = options_.rule, .interval_ns = options_.interval_ns, .times = true, .trace = trace};
  }
  [[nodiscard]] double extent_ns() const noexcept {
    const auto first = std::ranges::min_element(desks(), {}, &Desk::begin);
    const auto last = std::ranges::max_element(desks(), {}, &Desk::end);
    return clock::ns(first->begin, last->end);
  }

  void play(unsigned member) {
    if (options_.spread != Spread::processes)
      return interpret(*lock_, desks()[member]);
    procs::InterpreterLock own(lock_options(nullptr));
    interpret(own, desks()[member]);
  }

  // A member's part: its task, or one task after the other.
  void interpret(procs::InterpreterLock& lock, Desk& desk) {
    procs::CountedThread counted(registry_);
    procs::InterpreterThread thread(lock);
    Hash hash{std::vector<unsigned char>(options_.block, 'a')};
    const Code<Count> code(
        options_.block > 0 ? count_and_call(options_.loops, {Hash::run, &hash}, options_.release)
                           : procs::count_to(options_.loops),
        procs::Constants::immortal, counted);
    procs::Machine<Count> machine(code, thread, counted);
    const unsigned tasks = options_.spread == Spread::serial ? options_.tasks : 1;
    desk.wrong = 0;
    const std::int64_t cpu_before = clock::thread_cpu_ns();
    desk.begin = clock::begin();
    {
      procs::HoldInterpreter hold(thread);
      for (unsigned task = 0; task < tasks; ++task)
        desk.wrong += machine.run() != options_.loops;
    }
    desk.end = clock::end();
    desk.cpu_ns = clock::thread_cpu_ns() - cpu_before;
    desk.counts = thread.counts();
  }

  InterpretedOptions options_;
  unsigned members_;
  Mapping shared_;
  procs::CountedThreads registry_;
  procs::HolderTrace trace_;
  std::optional<procs::InterpreterLock> lock_;  // of the run in work
  std::vector<std::optional<unsigned>> places_;
  std::uint64_t wrong_ = 0;
  std::uint64_t overlaps_ = 0;
  Team team_;  // last: its members use the rest
};

}  // namespace

std::unique_ptr<harness::Subject> make_interpreted(const InterpretedOptions& options) {
  if (options.rule == LockRule::none)
    return std::make_unique<Interpreted<BiasedCount>>(options);
  return std::make_unique<Interpreted<PlainCount>>(options);
}

std::vector<unsigned> named_cpus(const affinity::Topology& topology,
                                 const affinity::Placement& placement) {
  affinity::CpuSet cpus;
  for (const auto& item : placement.items)
    if (const auto* location = std::get_if<affinity::Placement::Location>(&item))
      for (const unsigned cpu : location->cpus)
        cpus.add(cpu);
  return cpus.empty() ? topology.usable().cpus() : cpus.cpus();
}

}  // namespace schedlab::apparatus
