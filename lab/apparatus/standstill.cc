#include "lab/apparatus/standstill.hh"

#include "lab/apparatus/team.hh"
#include "lab/base/child.hh"
#include "lab/base/clock.hh"
#include "lab/base/error.hh"
#include "lab/base/mapping.hh"
#include "procs/lock_order.hh"
#include "procs/thread.hh"

#include <unistd.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <csignal>
#include <cstring>
#include <deque>
#include <mutex>
#include <string>

namespace schedlab::apparatus {

namespace {

using harness::Check;
using harness::Sample;
using procs::Hold;
using procs::LockOrder;
using Lock = procs::Watched<std::mutex>;

constexpr int ended_well = 0;
constexpr int ended_by_watchdog = 3;
constexpr int went_wrong = 4;
constexpr int hopeless_ms = 10'000;

// What a scene leaves to whoever watches it from outside.
struct Report {
  std::atomic<std::int64_t> asked_ns{0};  // when the last thread asked for its second lock
  std::int64_t seen_ns = 0;
  std::int64_t reported_ns = 0;
  std::uint32_t cycles = 0;
  char text[2000] = {};
};

// Runs in the process that is given up.
class Stage {
public:
  Stage(const StandstillOptions& options, Report& report) : options_(options), report_(report) {
    for (unsigned i = 0; i < options.threads; ++i)
      locks_.emplace_back(order_, "lock " + std::to_string(i));
  }

  int play() {
    std::deque<procs::Thread> threads;
    for (unsigned i = 0; i < options_.threads; ++i) {
      threads.emplace_back(procs::ThreadOptions{.name = "taker", .cpus = {}, .sched = {}},
                           [this, i] { take_both(i); });
      if (options_.scene == Scene::lucky)
        threads.back().join();
    }
    if (stands_still()) {
      // Its threads can never be joined: the process ends as it is.
      tell();
      ::_exit(ended_by_watchdog);
    }
    for (auto& thread : threads)
      if (thread.joinable())
        thread.join();
    tell();
    return ended_well;
  }

private:
  void take_both(unsigned number) {
    stand_on(options_.places[number % options_.places.size()], options_.usable);
    unsigned first = number, second = (number + 1) % options_.threads;
    if (options_.scene == Scene::consistent && first > second)
      std::swap(first, second);
    if (options_.scene == Scene::gated) {
      const Hold gate(gate_);
      take(first, second);
    } else {
      take(first, second);
    }
    done_.fetch_add(1, std::memory_order_release);
  }

  void take(unsigned first, unsigned second) {
    const Hold one(locks_[first]);
    holding_.fetch_add(1, std::memory_order_acq_rel);
    while (options_.scene == Scene::deadlock &&
           holding_.load(std::memory_order_acquire) < options_.threads)
      clock::sleep_for(50'000);
    const std::int64_t now = clock::now_ns();
    std::int64_t last = report_.asked_ns.load(std::memory_order_relaxed);
    while (last < now && !report_.asked_ns.compare_exchange_weak(last, now)) {
    }
    const Hold other(locks_[second]);
  }

  // The watchdog: no step for as long as its patience, and then proof, since a slow thread is none.
  bool stands_still() {
    const auto nap_ns = std::clamp<std::int64_t>(options_.patience_ns / 20, 50'000, 10'000'000);
    std::uint32_t steps = ~0u;
    std::int64_t since = clock::now_ns();
    while (done_.load(std::memory_order_acquire) < options_.threads) {
      const std::uint32_t now =
          done_.load(std::memory_order_relaxed) + holding_.load(std::memory_order_relaxed);
      if (now != steps) {
        steps = now;
        since = clock::now_ns();
      } else if (clock::now_ns() - since > options_.patience_ns && !order_.standstill().empty()) {
        return true;
      }
      clock::sleep_for(nap_ns);
    }
    return false;
  }

  void tell() {
    LockOrder::Cycle cycle = order_.standstill();
    const auto cycles = order_.cycles();
    if (cycle.empty() && !cycles.empty())
      cycle = cycles.front();
    const std::string text = order_.text(cycle);
    std::strncpy(report_.text, text.c_str(), sizeof report_.text - 1);
    report_.cycles = static_cast<std::uint32_t>(cycles.size());
    report_.seen_ns = order_.stood_still_ns();
    report_.reported_ns = clock::now_ns();
  }

  const StandstillOptions& options_;
  Report& report_;
  LockOrder order_;
  Lock gate_{order_, "gate"};
  std::deque<Lock> locks_;
  std::atomic<std::uint32_t> holding_{0};
  std::atomic<std::uint32_t> done_{0};
};

class Standstill : public harness::Subject {
public:
  explicit Standstill(const StandstillOptions& options)
      : options_(options), memory_(Mapping::shared_memory(sizeof(Report))) {}

  Sample sample(std::uint64_t operations) override {
    Sample sample;
    sample.operations = operations;
    const std::uint64_t found_before = found_;
    const std::uint64_t foretold_before = foretold_;
    std::int64_t seen_ns = 0, reported_ns = 0;
    const auto begin = clock::begin();
    for (std::uint64_t i = 0; i < operations; ++i) {
      Report& report = play();
      const std::int64_t asked = report.asked_ns.load(std::memory_order_acquire);
      seen_ns += std::max<std::int64_t>(report.seen_ns - asked, 0);
      reported_ns += report.reported_ns - asked;
    }
    sample.elapsed_ns = clock::ns(begin, clock::end());
    const auto scenes = static_cast<double>(operations);
    sample.values[options_.found] = static_cast<double>(found_ - found_before) / scenes;
    sample.values[options_.foretold] = static_cast<double>(foretold_ - foretold_before) / scenes;
    if (options_.scene == Scene::deadlock) {
      sample.values[options_.seen] = static_cast<double>(seen_ns) / scenes;
      sample.values[options_.reported] = static_cast<double>(reported_ns) / scenes;
    }
    return sample;
  }

  std::vector<Check> checks() override {
    const bool cyclic = options_.scene == Scene::deadlock || options_.scene == Scene::lucky;
    const std::uint64_t stuck = options_.scene == Scene::deadlock ? scenes_ : 0;
    const std::uint64_t named = cyclic ? scenes_ : 0;
    return {{std::string(ended_check), scenes_, ended_, ended_ == scenes_},
            {"standstills found by the watchdog", stuck, found_, found_ == stuck},
            {"scenes with a cycle in the order of locks", named, foretold_, foretold_ == named},
            {std::string(cycle_check), cyclic ? "one" : "", text_, cyclic != text_.empty()}};
  }

private:
  Report& play() {
    Report& report = *new (memory_.data()) Report;
    Child stage = Child::fork([&] {
      try {
        return Stage(options_, report).play();
      } catch (const std::exception&) {
        return went_wrong;
      }
    });
    const auto cause = stage.wait_for(hopeless_ms);
    const int status = cause && cause->kind == ExitCause::Kind::exited ? cause->value : went_wrong;
    ++scenes_;
    ended_ += status == ended_well || status == ended_by_watchdog;
    found_ += status == ended_by_watchdog;
    foretold_ += report.cycles > 0;
    text_ = report.text;
    return report;
  }

  StandstillOptions options_;
  Mapping memory_;
  std::uint64_t scenes_ = 0;
  std::uint64_t ended_ = 0;
  std::uint64_t found_ = 0;
  std::uint64_t foretold_ = 0;
  std::string text_;
};

}  // namespace

std::string_view to_text(Scene scene) noexcept {
  constexpr std::array<std::string_view, 4> names = {"deadlock", "lucky", "consistent", "gated"};
  return names[static_cast<std::size_t>(scene)];
}

std::unique_ptr<harness::Subject> make_standstill(const StandstillOptions& options) {
  return std::make_unique<Standstill>(options);
}

}  // namespace schedlab::apparatus
