#include "lab/apparatus/rung.hh"

#include "iouring/event.hh"
#include "iouring/gather.hh"
#include "iouring/queue.hh"
#include "iouring/sleep.hh"
#include "lab/apparatus/looped.hh"
#include "lab/apparatus/stack_switch.hh"
#include "lab/base/keep.hh"

#include <algorithm>
#include <coroutine>
#include <csignal>
#include <stdexcept>

namespace schedlab::apparatus {

namespace {

using harness::Check;
using harness::Sample;
using iouring::Task;

Check exactly(std::string name, std::uint64_t expected, std::uint64_t seen) {
  return {std::move(name), expected, seen, expected == seen};
}

// A rung without a loop. Way has go(n), which makes n round trips; answered(), how often the other
// side was reached; and frames_a_trip, which are made and given back in each.
template <typename Way>
class Plain final : public harness::Subject {
public:
  explicit Plain(const RungOptions& options, std::unique_ptr<Way> way = std::make_unique<Way>())
      : options_(options), way_(std::move(way)),
        loop_(make_loop({options.cpu, options.usable, options.round_trip_metric},
                        [this](std::uint64_t trips) { count_frames(trips); })) {}

  Sample sample(std::uint64_t operations) override {
    Sample sample = loop_->sample(operations);
    trips_ += operations;
    sample.values[options_.one_way_metric] = sample.values[options_.round_trip_metric] / 2;
    return sample;
  }
  std::vector<Check> checks() override {
    return {exactly("round trips that the other side counted", trips_, way_->answered()),
            exactly("coroutine frames made", trips_ * Way::frames_a_trip, frames_)};
  }

private:
  void count_frames(std::uint64_t trips) {
    const auto before = iouring::frame_counts().made;
    way_->go(trips);
    frames_ += iouring::frame_counts().made - before;
  }

  RungOptions options_;
  std::unique_ptr<Way> way_;
  std::uint64_t trips_ = 0;
  std::uint64_t frames_ = 0;
  std::unique_ptr<harness::Subject> loop_;
};

[[gnu::noinline]] std::uint64_t next(std::uint64_t value) noexcept {
  launder(value);
  return value + 1;
}

struct Call {
  static constexpr std::uint64_t frames_a_trip = 0;
  void go(std::uint64_t trips) noexcept {
    for (std::uint64_t i = 0; i < trips; ++i)
      value = next(value);
  }
  [[nodiscard]] std::uint64_t answered() const noexcept { return value; }
  std::uint64_t value = 0;
};

struct Callee {
  virtual ~Callee() = default;
  virtual std::uint64_t next(std::uint64_t value) noexcept = 0;
};
struct OneMore final : Callee {
  std::uint64_t next(std::uint64_t value) noexcept override {
    launder(value);
    return value + 1;
  }
};

struct VirtualCall {
  static constexpr std::uint64_t frames_a_trip = 0;
  void go(std::uint64_t trips) noexcept {
    for (std::uint64_t i = 0; i < trips; ++i) {
      Callee* whom = callee.get();
      launder(whom);  // or the compiler would know whom it calls
      value = whom->next(value);
    }
  }
  [[nodiscard]] std::uint64_t answered() const noexcept { return value; }
  std::unique_ptr<Callee> callee = std::make_unique<OneMore>();
  std::uint64_t value = 0;
};

class Resume {
public:
  static constexpr std::uint64_t frames_a_trip = 0;
  void go(std::uint64_t trips) {
    const std::coroutine_handle<> coroutine = task_.handle();
    for (std::uint64_t i = 0; i < trips; ++i)
      coroutine.resume();
  }
  [[nodiscard]] std::uint64_t answered() const noexcept { return answered_; }

private:
  Task<> answer() {
    for (;;) {
      ++answered_;
      co_await std::suspend_always();
    }
  }
  std::uint64_t answered_ = 0;
  Task<> task_ = answer();
};

// Suspends the awaiting coroutine and goes on with another.
struct Transfer {
  std::coroutine_handle<> to;
  bool await_ready() noexcept { return false; }
  std::coroutine_handle<> await_suspend(std::coroutine_handle<>) noexcept { return to; }
  void await_resume() noexcept {}
};

class Transfers {
public:
  static constexpr std::uint64_t frames_a_trip = 0;
  void go(std::uint64_t trips) {
    trips_ = trips;
    first_.handle().resume();
  }
  [[nodiscard]] std::uint64_t answered() const noexcept { return answered_; }

private:
  Task<> ask() {
    for (;;) {
      for (std::uint64_t left = trips_; left > 0; --left)
        co_await Transfer{second_.handle()};
      co_await std::suspend_always();
    }
  }
  Task<> answer() {
    for (;;) {
      ++answered_;
      co_await Transfer{first_.handle()};
    }
  }
  std::uint64_t trips_ = 0;
  std::uint64_t answered_ = 0;
  Task<> first_ = ask();
  Task<> second_ = answer();
};

[[gnu::noinline]] Task<std::uint64_t> one_more(std::uint64_t value) {
  co_return value + 1;
}

class Child {
public:
  static constexpr std::uint64_t frames_a_trip = 1;
  void go(std::uint64_t trips) {
    trips_ = trips;
    caller_.handle().resume();
  }
  [[nodiscard]] std::uint64_t answered() const noexcept { return value_; }

private:
  Task<> call() {
    for (;;) {
      std::uint64_t value = value_;
      for (std::uint64_t left = trips_; left > 0; --left)
        value = co_await one_more(value);
      value_ = value;
      co_await std::suspend_always();
    }
  }
  std::uint64_t trips_ = 0;
  std::uint64_t value_ = 0;
  Task<> caller_ = call();
};

// A coroutine whose life the compiler can see from end to end, in the function that calls it. Its
// frame would come from the same pool as those of tasks.
class Visible {
public:
  struct promise_type {
    std::uint64_t value = 0;
    static void* operator new(std::size_t size) { return iouring::detail::allocate_frame(size); }
    static void operator delete(void* frame, std::size_t size) noexcept {
      iouring::detail::free_frame(frame, size);
    }
    Visible get_return_object() noexcept {
      return Visible(std::coroutine_handle<promise_type>::from_promise(*this));
    }
    std::suspend_always initial_suspend() noexcept { return {}; }
    std::suspend_always final_suspend() noexcept { return {}; }
    void unhandled_exception() noexcept { std::terminate(); }
    void return_value(std::uint64_t result) noexcept { value = result; }
  };

  explicit Visible(std::coroutine_handle<promise_type> coroutine) noexcept
      : coroutine_(coroutine) {}
  Visible(const Visible&) = delete;
  Visible& operator=(const Visible&) = delete;
  ~Visible() { coroutine_.destroy(); }
  // noexcept: a second way to destroy the frame keeps Clang from leaving it out.
  std::uint64_t get() noexcept {
    coroutine_.resume();
    return coroutine_.promise().value;
  }

private:
  std::coroutine_handle<promise_type> coroutine_;
};

Visible visible_one_more(std::uint64_t value) {
  co_return value + 1;
}

struct ChildElided {
  static constexpr std::uint64_t frames_a_trip = 0;
  void go(std::uint64_t trips) {
    for (std::uint64_t i = 0; i < trips; ++i) {
      value = visible_one_more(value).get();
      launder(value);
    }
  }
  [[nodiscard]] std::uint64_t answered() const noexcept { return value; }
  std::uint64_t value = 0;
};

bool frame_is_elided() {
  const auto before = iouring::frame_counts().made;
  ChildElided().go(1);
  return iouring::frame_counts().made == before;
}

class Stacks {
public:
  static constexpr std::uint64_t frames_a_trip = 0;
  explicit Stacks(std::string_view how) : other_(make_stack_switch(how)) {}
  void go(std::uint64_t trips) { other_->round_trips(trips); }
  [[nodiscard]] std::uint64_t answered() const noexcept { return other_->answered(); }

private:
  std::unique_ptr<StackSwitch> other_;
};

// A rung through the loop. A switch is one resumption from the ready list, of which a round trip
// has two.
class ThroughLoop : public Looped {
public:
  explicit ThroughLoop(const RungOptions& options)
      : Looped({.cpu = options.cpu, .usable = options.usable, .driver = options.driver}),
        options_(options) {}

  std::vector<Check> checks() override {
    return {exactly("round trips that the other side counted", trips_, answered_),
            exactly("resumptions by the loop", 2 * trips_, resumed_ - scaffold_),
            exactly("coroutine frames made on the way", 0, frames_)};
  }

protected:
  // Does `trips` round trips or a few more; gives how many.
  virtual Task<std::uint64_t> go(std::uint64_t trips) = 0;
  void answer() noexcept { ++answered_; }
  // The sides call this when they begin and when they have ended, so that frames of the scaffold
  // are not counted.
  void mark() noexcept { mark_ = iouring::frame_counts().made; }
  void count_frames() noexcept { frames_ += iouring::frame_counts().made - mark_; }
  // Resumptions that begin and end the sides.
  void expect_scaffold(std::uint64_t resumptions) noexcept { scaffold_ += resumptions; }

private:
  Task<> play(std::uint64_t operations, Sample& sample) override {
    const auto resumed_before = loop().counts().resumes;
    const auto begin = clock::begin();
    const std::uint64_t trips = co_await go(operations);
    sample.elapsed_ns = clock::ns(begin, clock::end());
    sample.operations = trips;
    trips_ += trips;
    resumed_ += loop().counts().resumes - resumed_before;
    const double trip = sample.elapsed_ns / static_cast<double>(trips);
    sample.values[options_.round_trip_metric] = trip;
    sample.values[options_.one_way_metric] = trip / 2;
  }

  RungOptions options_;
  std::uint64_t trips_ = 0;
  std::uint64_t answered_ = 0;
  std::uint64_t resumed_ = 0;
  std::uint64_t scaffold_ = 0;
  std::uint64_t frames_ = 0;
  std::uint64_t mark_ = 0;
};

// Two sides begin, the first once more after it let the second go ahead, and the one that waits
// for both.
constexpr std::uint64_t both_sides = 4;

// An even number of tasks that yield; the second half answers the first.
class Yielders final : public ThroughLoop {
public:
  Yielders(const RungOptions& options, std::uint64_t tasks) : ThroughLoop(options), tasks_(tasks) {}

private:
  Task<std::uint64_t> go(std::uint64_t trips) override {
    const std::uint64_t each = (2 * trips + tasks_ - 1) / tasks_;
    std::vector<Task<>> sides;
    sides.reserve(tasks_);
    for (std::uint64_t i = 0; i < tasks_; ++i)
      sides.push_back(yields(each, i >= tasks_ / 2));
    expect_scaffold(tasks_ + 1);
    running_ = tasks_;
    co_await iouring::gather(std::move(sides));
    const std::uint64_t made = tasks_ * each / 2;
    co_return made;
  }
  Task<> yields(std::uint64_t count, bool answers) {
    mark();
    for (std::uint64_t i = 0; i < count; ++i) {
      co_await iouring::yield();
      if (answers)
        answer();
    }
    if (--running_ == 0)
      count_frames();
  }

  std::uint64_t tasks_;
  std::uint64_t running_ = 0;
};

class Events final : public ThroughLoop {
public:
  using ThroughLoop::ThroughLoop;

private:
  Task<std::uint64_t> go(std::uint64_t trips) override {
    expect_scaffold(both_sides);
    co_await iouring::gather(ask(trips), reply(trips));
    co_return trips;
  }
  Task<> ask(std::uint64_t trips) {
    co_await iouring::yield();  // the other side waits before the first question
    mark();
    for (std::uint64_t i = 0; i < trips; ++i) {
      asked_.set();
      co_await answered_.wait();
      answered_.clear();
    }
    count_frames();
  }
  Task<> reply(std::uint64_t trips) {
    for (std::uint64_t i = 0; i < trips; ++i) {
      co_await asked_.wait();
      asked_.clear();
      answer();
      answered_.set();
    }
  }

  iouring::Event asked_;
  iouring::Event answered_;
};

class Queues final : public ThroughLoop {
public:
  using ThroughLoop::ThroughLoop;

private:
  Task<std::uint64_t> go(std::uint64_t trips) override {
    expect_scaffold(both_sides);
    co_await iouring::gather(ask(trips), reply(trips));
    co_return trips;
  }
  Task<> ask(std::uint64_t trips) {
    co_await iouring::yield();
    mark();
    for (std::uint64_t i = 0; i < trips; ++i) {
      co_await questions_.put(i);
      const std::uint64_t item = co_await answers_.get();
      keep(item);
    }
    count_frames();
  }
  Task<> reply(std::uint64_t trips) {
    for (std::uint64_t i = 0; i < trips; ++i) {
      const std::uint64_t item = co_await questions_.get();
      answer();
      co_await answers_.put(item);
    }
  }

  iouring::Queue<std::uint64_t> questions_;
  iouring::Queue<std::uint64_t> answers_;
};

void change_signal_mask(std::uint64_t operations) noexcept {
  sigset_t none, before;
  sigemptyset(&none);
  for (std::uint64_t i = 0; i < operations; ++i)
    ::pthread_sigmask(SIG_BLOCK, &none, &before);
}

}  // namespace

const std::vector<std::string_view>& rungs() {
  static const std::vector<std::string_view> names = {
      "call",     "virtual", "resume", "transfer", "child", "child-elided", "yield",
      "yield-64", "event",   "queue",  "fcontext", "fiber", "swapcontext"};
  return names;
}

bool needs_loop(std::string_view rung) noexcept {
  return rung.starts_with("yield") || rung == "event" || rung == "queue";
}

std::string rung_refusal(std::string_view rung) {
  if (rung == "child-elided" && !frame_is_elided())
    return "this compiler, with these flags, keeps the frame (Clang leaves it out from -O2 on, "
           "GCC never)";
  if (rung == "fcontext" || rung == "fiber" || rung == "swapcontext")
    return stack_switch_refusal(rung);
  return "";
}

std::unique_ptr<harness::Subject> make_rung(std::string_view rung, const RungOptions& options) {
  if (rung == "call")
    return std::make_unique<Plain<Call>>(options);
  if (rung == "virtual")
    return std::make_unique<Plain<VirtualCall>>(options);
  if (rung == "resume")
    return std::make_unique<Plain<Resume>>(options);
  if (rung == "transfer")
    return std::make_unique<Plain<Transfers>>(options);
  if (rung == "child")
    return std::make_unique<Plain<Child>>(options);
  if (rung == "child-elided")
    return std::make_unique<Plain<ChildElided>>(options);
  if (rung == "yield")
    return std::make_unique<Yielders>(options, 2);
  if (rung == "yield-64")
    return std::make_unique<Yielders>(options, 64);
  if (rung == "event")
    return std::make_unique<Events>(options);
  if (rung == "queue")
    return std::make_unique<Queues>(options);
  if (std::ranges::find(rungs(), rung) == rungs().end())
    throw std::logic_error("no such rung: " + std::string(rung));
  return std::make_unique<Plain<Stacks>>(options, std::make_unique<Stacks>(rung));
}

std::unique_ptr<harness::Subject> make_signal_mask_call(const RungOptions& options,
                                                        std::size_t metric) {
  return make_loop({options.cpu, options.usable, metric}, change_signal_mask);
}

}  // namespace schedlab::apparatus
