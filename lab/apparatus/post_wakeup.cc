// Loop::post as a way to wake: each of the two threads runs a loop, and a coroutine in it.

#include "iouring/loop.hh"
#include "lab/apparatus/waking.hh"

#include <coroutine>
#include <exception>
#include <memory>
#include <utility>

namespace schedlab::apparatus {

namespace {

using iouring::Loop;
using iouring::Task;

// Posted by the other thread, awaited by a coroutine of the loop that it is posted to.
class Turn final : public iouring::Posted {
public:
  [[nodiscard]] bool await_ready() noexcept { return std::exchange(come_, false); }
  template <std::derived_from<iouring::detail::PromiseBase> Promise>
  void await_suspend(std::coroutine_handle<Promise> coroutine) noexcept {
    loop_ = coroutine.promise().state->loop;
    waiter_ = coroutine;
  }
  void await_resume() const noexcept {}

private:
  void posted() noexcept override {
    if (waiter_)
      loop_->ready(std::exchange(waiter_, nullptr));
    else
      come_ = true;
  }

  Loop* loop_ = nullptr;
  std::coroutine_handle<> waiter_;
  bool come_ = false;
};

// A loop is made, run and destroyed by one thread: it ends with the thread.
thread_local std::unique_ptr<Loop> loop_of_thread;

class PostWakeup final : public Waking {
public:
  PostWakeup(std::string_view driver, const WakeupOptions& options)
      : Waking(options), choice_(iouring::driver_choice(driver)) {
    open_both();
  }

private:
  void open(Side side) override {
    iouring::LoopOptions options;
    options.driver.choice = choice_;
    loop_of_thread = std::make_unique<Loop>(options);
    loops_[side] = loop_of_thread.get();
  }
  void play(Side side, std::uint64_t rounds) noexcept override {
    loops_[side]->run(side == waker_side ? wake(rounds) : answer(rounds));
  }
  Task<> wake(std::uint64_t rounds) {
    for (std::uint64_t i = 0; i < rounds; ++i) {
      rest();
      before_call();
      loops_[sleeper_side]->post(turns_[sleeper_side]);
      after_call();
      co_await turns_[waker_side];
      answered();
    }
  }
  Task<> answer(std::uint64_t rounds) {
    for (std::uint64_t i = 0; i < rounds; ++i) {
      co_await turns_[sleeper_side];
      woken();
      loops_[waker_side]->post(turns_[waker_side]);
    }
  }
  [[nodiscard]] double calls_after(std::uint64_t rounds) const noexcept override {
    std::uint64_t calls = 0;
    for (const Loop* loop : loops_)
      calls += const_cast<Loop*>(loop)->driver().counts().calls;
    // A wake-up by eventfd is a call of the thread that posts, which its own driver does not see;
    // on one CPU it is not made where the sleeper was preempted by its answer, before it fell
    // asleep.
    if (choice_ == iouring::DriverChoice::epoll && !two_cpus())
      return harness::not_measured;
    if (choice_ == iouring::DriverChoice::epoll)
      calls += 2 * rounds;
    return static_cast<double>(calls);
  }

  iouring::DriverChoice choice_;
  std::array<Loop*, 2> loops_{};
  std::array<Turn, 2> turns_;  // by who waits
};

}  // namespace

std::unique_ptr<harness::Subject> make_post_wakeup(std::string_view driver,
                                                   const WakeupOptions& options) {
  return std::make_unique<PostWakeup>(driver, options);
}

}  // namespace schedlab::apparatus
