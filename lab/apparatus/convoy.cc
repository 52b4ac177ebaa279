#include "lab/apparatus/convoy.hh"

#include "lab/apparatus/team.hh"
#include "lab/base/cache_line.hh"
#include "lab/base/clock.hh"
#include "lab/base/error.hh"
#include "lab/base/fd.hh"
#include "lab/harness/statistics.hh"
#include "procs/bytecode.hh"

#include <sys/socket.h>

#include <algorithm>
#include <atomic>
#include <cmath>
#include <vector>

namespace schedlab::apparatus {

namespace {

using harness::Sample;
using procs::PlainCount;

// One thread's bytecode: count to a limit again and again.
class Loops {
public:
  Loops(std::int64_t limit, procs::InterpreterThread& thread)
      : counted_(registry_), code_(procs::count_to(limit), procs::Constants::immortal, counted_),
        machine_(code_, thread, counted_) {}
  void run() noexcept { machine_.run(); }

private:
  procs::CountedThreads registry_;
  procs::CountedThread counted_;
  procs::Code<PlainCount> code_;
  procs::Machine<PlainCount> machine_;
};

// The two ends of a connection, and the byte that goes to and fro.
class Line {
public:
  Line() {
    int ends[2];
    check(::socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends), "socketpair");
    near_ = Fd(ends[0]);
    far_ = Fd(ends[1]);
  }
  bool send() noexcept { return send(near_, 'x'); }
  bool receive() noexcept { return take(near_) == 'x'; }
  bool hang_up() noexcept { return send(near_, '.'); }
  // Answers each byte after a while, until the other hangs up.
  bool echo(std::int64_t after_ns) noexcept {
    for (;;) {
      const char byte = take(far_);
      if (byte != 'x')
        return byte == '.';
      if (after_ns > 0)
        clock::sleep_for(after_ns);
      if (!send(far_, byte))
        return false;
    }
  }

private:
  static bool send(const Fd& end, char byte) noexcept {
    return ::send(end.get(), &byte, 1, MSG_NOSIGNAL) == 1;
  }
  // 0: nothing came.
  static char take(const Fd& end) noexcept {
    char byte = 0;
    static_cast<void>(::recv(end.get(), &byte, 1, 0));
    return byte;
  }
  Fd near_;
  Fd far_;
};

struct alignas(line_pair) Desk {
  std::uint64_t failed = 0;
  std::int64_t cpu_ns = 0;    // of who does I/O or computes, while the I/O threads are at work
  std::uint64_t loops = 0;    // likewise, of one that computes
  std::uint64_t begin = 0;    // ticks, of an I/O thread
  std::uint64_t end = 0;      // likewise
  procs::LockCounts waiting;  // likewise, for the lock, in its operations
  std::vector<double> latencies;
};

constexpr std::int64_t chunk = 500;  // loops between two looks whether it is over
// No operation begins later in a sample, which is then shorter than it was asked to be. By the rule
// of before 3.2 a wait is over in microseconds or takes as long as chance wants, and how many make
// a sample was found while they were short.
constexpr double longest_ns = 200e6;

class Convoy final : public harness::Subject {
public:
  explicit Convoy(const ConvoyOptions& options)
      : options_(options), io_(options.io_threads), computing_(options.cpu_threads),
        members_(io_ + computing_ + (options.operation == IoOperation::echo ? io_ : 0)),
        compute_loops_(
            options.compute_ns > 0
                ? std::max<std::int64_t>(1, loops_for(static_cast<double>(options.compute_ns)))
                : 0),
        lines_(members_ - io_ - computing_), desks_(members_), places_(members_, options.cpu),
        team_({}, places_, options.cpus,
              [this](unsigned member, std::uint64_t operations) { play(member, operations); }) {}

  Sample sample(std::uint64_t operations) override {
    stand_on(options_.cpu, options_.usable);
    lock_.emplace(procs::InterpreterLockOptions{
        .rule = options_.rule, .interval_ns = options_.interval_ns, .times = true});
    running_ = begun_ = 0;
    left_ = io_;
    for (auto& desk : desks_) {
      desk.loops = desk.failed = 0;
      desk.cpu_ns = 0;
      desk.waiting = {};
      desk.latencies.clear();
      desk.latencies.reserve(operations);
    }
    team_.start(operations);
    const auto records = team_.finish();
    return summarise(records);
  }

  std::vector<harness::Check> checks() override {
    return {{"operations that failed", harness::Value(0), harness::Value(failed_), failed_ == 0}};
  }

private:
  void play(unsigned member, std::uint64_t operations) {
    if (member < io_)
      do_io(member, operations);
    else if (member < io_ + computing_)
      compute(desks_[member]);
    else
      desks_[member].failed += !lines_[member - io_ - computing_].echo(options_.sleep_ns);
  }

  // One that computes until the I/O is done. What it did before that began does not count: a thread
  // that does I/O may have waited intervals for its first turn.
  void compute(Desk& desk) {
    procs::InterpreterThread thread(*lock_);
    Loops loops(chunk, thread);
    procs::HoldInterpreter hold(thread);
    running_.fetch_add(1);
    while (begun_.load(std::memory_order_relaxed) == 0)
      loops.run();
    const std::int64_t cpu_before = clock::thread_cpu_ns();
    for (; left_.load(std::memory_order_relaxed) > 0; desk.loops += chunk)
      loops.run();
    desk.cpu_ns = clock::thread_cpu_ns() - cpu_before;
  }

  void do_io(unsigned member, std::uint64_t operations) {
    Desk& desk = desks_[member];
    procs::InterpreterThread thread(*lock_);
    Loops loops(std::max<std::int64_t>(compute_loops_, 1), thread);
    // Those that compute must be there, or the first operations meet nobody.
    while (running_.load() < computing_)
      clock::sleep_for(50'000);
    procs::HoldInterpreter hold(thread);
    const std::int64_t cpu_before = clock::thread_cpu_ns();
    desk.begin = clock::begin();
    begun_.fetch_add(1);
    for (std::uint64_t i = 0; i < operations; ++i) {
      if (compute_loops_ > 0)
        loops.run();
      const procs::LockCounts before = thread.counts();
      const std::uint64_t begun = clock::begin();
      desk.failed += !operate(member, thread);
      const std::uint64_t ended = clock::end();
      desk.latencies.push_back(clock::ns(begun, ended));
      desk.waiting.waited_ns += thread.counts().waited_ns - before.waited_ns;
      desk.waiting.expiries += thread.counts().expiries - before.expiries;
      thread.tick();
      if (clock::ns(desk.begin, ended) > longest_ns)
        break;
    }
    desk.end = clock::end();
    desk.cpu_ns = clock::thread_cpu_ns() - cpu_before;
    left_.fetch_sub(1);
    if (!lines_.empty())
      desk.failed += !lines_[member].hang_up();
  }

  bool operate(unsigned member, procs::InterpreterThread& thread) noexcept {
    const auto released = [&](const auto& call) {
      std::optional<procs::AllowThreads> allow;
      if (options_.release)
        allow.emplace(thread);
      return call();
    };
    if (options_.operation == IoOperation::echo)
      return released([&] { return lines_[member].send(); }) &&
             released([&] { return lines_[member].receive(); });
    return released([&] {
      clock::sleep_for(options_.sleep_ns);
      return true;
    });
  }

  Sample summarise(std::span<const TaskRecord> records) {
    constexpr std::size_t enough_for_p99 = 299;
    const std::span io(desks_.data(), io_);
    const double time_ns = clock::ns(std::ranges::min_element(io, {}, &Desk::begin)->begin,
                                     std::ranges::max_element(io, {}, &Desk::end)->end);
    std::vector<double> latencies;
    double waited_ns = 0, expiries = 0, loops = 0, cpu_ns = 0;
    for (const auto& desk : desks_) {
      latencies.insert(latencies.end(), desk.latencies.begin(), desk.latencies.end());
      cpu_ns += static_cast<double>(desk.cpu_ns);
      loops += static_cast<double>(desk.loops);
      failed_ += desk.failed;
    }
    for (const auto& desk : io) {
      waited_ns += static_cast<double>(desk.waiting.waited_ns);
      expiries += static_cast<double>(desk.waiting.expiries);
    }
    const auto all = static_cast<double>(latencies.size());
    Sample sample;
    sample.operations = latencies.size() / io_;
    sample.elapsed_ns = time_ns;
    const unsigned cpus = options_.cpu ? 1 : options_.cpus.count();
    sample.proof = prove(records, places_, time_ns, false, members_ > cpus);
    sample.values[options_.latency] = harness::median(latencies);
    if (latencies.size() >= enough_for_p99)
      sample.values[options_.p99] = harness::quantile(latencies, 0.99);
    sample.values[options_.wait] = waited_ns / all;
    sample.values[options_.expiries] = expiries / all;
    sample.values[options_.rate] = all / time_ns * 1e9;
    if (computing_ > 0)
      sample.values[options_.progress] = loops / time_ns * 1e9;
    sample.values[options_.running] = cpu_ns / time_ns;
    return sample;
  }

  ConvoyOptions options_;
  unsigned io_;         // members: first those that do I/O,
  unsigned computing_;  // then those that compute,
  unsigned members_;    // then those that answer
  std::int64_t compute_loops_;
  std::vector<Line> lines_;
  std::vector<Desk> desks_;
  std::optional<procs::InterpreterLock> lock_;  // of the sample in work
  std::atomic<unsigned> running_{0};            // of those that compute, have had the lock
  std::atomic<unsigned> begun_{0};              // of those that do I/O, have begun
  std::atomic<unsigned> left_{0};               // of those that do I/O, are not done
  std::uint64_t failed_ = 0;
  std::vector<std::optional<unsigned>> places_;
  Team team_;  // last: its members use the rest
};

}  // namespace

struct Alone::Parts {
  explicit Parts(procs::LockRule rule) : lock({.rule = rule}), thread(lock) { thread.take(); }

  procs::InterpreterLock lock;
  procs::InterpreterThread thread;
  Loops one{1, thread};
  Loops many{1000, thread};
};

Alone::Alone(procs::LockRule rule) : parts_(std::make_unique<Parts>(rule)) {}
Alone::~Alone() = default;

void Alone::run(std::uint64_t turns) noexcept {
  for (std::uint64_t i = 0; i < turns / 1000; ++i)
    parts_->many.run();
  for (std::uint64_t i = 0; i < turns % 1000; ++i)
    parts_->one.run();
}

std::int64_t loops_for(double length_ns) {
  constexpr std::int64_t tried = 200'000;
  static const double loop_ns = [] {
    procs::InterpreterLock lock;
    procs::InterpreterThread thread(lock);
    procs::HoldInterpreter hold(thread);
    Loops loops(tried, thread);
    double least_ns = 0;
    for (int i = 0; i < 5; ++i) {
      const auto begin = clock::begin();
      loops.run();
      const double took_ns = clock::ns(begin, clock::end());
      least_ns = i == 0 ? took_ns : std::min(least_ns, took_ns);
    }
    return least_ns / tried;
  }();
  return std::llround(length_ns / loop_ns);
}

std::unique_ptr<harness::Subject> make_convoy(const ConvoyOptions& options) {
  return std::make_unique<Convoy>(options);
}

}  // namespace schedlab::apparatus
