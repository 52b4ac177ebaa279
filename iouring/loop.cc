#include "iouring/loop.hh"

#include "iouring/blocking_threads.hh"
#include "lab/base/clock.hh"
#include "lab/base/context.hh"

#include <pthread.h>

#include <algorithm>
#include <bit>
#include <cassert>
#include <mutex>
#include <system_error>
#include <thread>
#include <utility>

namespace schedlab::iouring {

constinit thread_local Loop* Loop::current_ = nullptr;

namespace {
constexpr std::size_t first_ring = 64;
constexpr unsigned resumes_a_turn = 1024;  // then I/O gets its chance

DriverOptions sharing(DriverOptions options, BlockingThreads& blocking) {
  options.blocking = &blocking;
  return options;
}

int errno_of(const std::exception_ptr& refusal) noexcept {
  try {
    std::rethrow_exception(refusal);
  } catch (const std::system_error& error) {
    return error.code().value();
  }
}

}  // namespace

void ReadyQueue::grow(std::size_t least) {
  std::vector<std::coroutine_handle<>> larger(std::max(first_ring, std::bit_ceil(least)));
  const std::size_t count = size();
  for (std::size_t i = 0; i < count; ++i)
    larger[i] = ring_[(head_ + i) & (ring_.size() - 1)];
  ring_ = std::move(larger);
  head_ = 0;
  tail_ = count;
}

Loop::Loop(const LoopOptions& options)
    : options_(options),
      blocking_(std::make_unique<BlockingThreads>(options.driver.blocking_threads)),
      driver_(make_driver(sharing(options.driver, *blocking_))) {}

Loop::~Loop() {
  assert(!tasks_);
  if (!blocking_->of_this_process())
    static_cast<void>(blocking_.release());
  blocking_.reset();
  while (posting_.load(std::memory_order_acquire) > 0)
    std::this_thread::yield();
  run_posted();
}

void Loop::run_to_end(detail::MainTask& main, std::coroutine_handle<> first) {
  if (refused_)
    std::rethrow_exception(refused_);
  main.loop = this;
  main.ended = [](detail::TaskState& state, detail::PromiseBase&) noexcept {
    static_cast<detail::MainTask&>(state).done = true;
  };
  ready(first);
  enter();
  std::exception_ptr failure;
  [[maybe_unused]] const auto* const context = schedlab::detail::bindings;
  const auto go_on = [&] {
    const bool refused_before = refused_ != nullptr;
    try {
      turn();
      assert(schedlab::detail::bindings == context);  // no ContextVar's scope across a co_await
    } catch (...) {
      if (!failure) {
        failure = std::current_exception();
        end_all(main);
      }
      // After the tasks were cancelled, so that what then ends is known to have been.
      if (refused_ && !refused_before)
        driver_->break_off(errno_of(refused_));
    }
  };
  while (!main.done)
    go_on();
  closing_ = true;
  if (!failure)
    cancel_all();
  while (tasks_ || driver_->in_flight() > 0 || !ready_.empty())
    go_on();
  closing_ = false;
  bury_all();
  current_ = nullptr;
  if (failure)
    std::rethrow_exception(failure);
}

void Loop::end_all(detail::MainTask& main) noexcept {
  closing_ = true;
  if (!main.done)
    main.cancel();
  cancel_all();
}

void Loop::enter() {
  static std::once_flag once;  // a child forked by a task may run a loop of its own
  std::call_once(once, [] { ::pthread_atfork(nullptr, nullptr, [] { current_ = nullptr; }); });
  assert(!current_);  // a task that runs a loop would keep its own loop from running
  current_ = this;
}

void Loop::turn() {
  ++counts_.turns;
  wait();
  if (!timers_.empty())
    counts_.timers += timers_.expire(clock::now_ns());
  run_posted();
  bury_all();
  run_ready();  // last, so that whoever runs the loop looks up before it waits again
}

void Loop::run_ready() {
  // What becomes ready meanwhile waits for the next turn.
  std::size_t left = std::min<std::size_t>(ready_.size(), resumes_a_turn);
  counts_.resumes += left;
  if (options_.stall_ns > 0) {
    for (; left > 0; --left)
      resume_watched(ready_.pop());
    return;
  }
  for (; left > 0; --left)
    ready_.pop().resume();
}

void Loop::resume_watched(std::coroutine_handle<> coroutine) {
  // Read before: the coroutine may be gone afterwards.
  const auto promise =
      std::coroutine_handle<detail::PromiseBase>::from_address(coroutine.address()).promise().state;
  Stall stall;
  if (promise)
    stall.where = promise->started;
  // Where a frame begins, by the convention that all compilers keep.
  stall.code = *static_cast<const void* const*>(coroutine.address());
  const std::int64_t begin = clock::now_ns();
  coroutine.resume();
  stall.took_ns = clock::now_ns() - begin;
  if (stall.took_ns > options_.stall_ns && options_.on_stall)
    options_.on_stall(stall);
}

bool Loop::run_posted() noexcept {
  if (!posted_.load(std::memory_order_relaxed))
    return false;
  Posted* last_first = posted_.exchange(nullptr, std::memory_order_acquire);
  Posted* first = nullptr;
  while (last_first) {
    Posted* const next = last_first->next_;
    last_first->next_ = first;
    first = last_first;
    last_first = next;
  }
  while (first) {
    Posted* const work = first;
    first = first->next_;
    ++counts_.posts;
    work->posted();
  }
  return true;
}

void Loop::post(Posted& work) noexcept {
  posting_.fetch_add(1, std::memory_order_relaxed);
  Posted* before = posted_.load(std::memory_order_relaxed);
  do {
    work.next_ = before;
  } while (!posted_.compare_exchange_weak(before, &work, std::memory_order_seq_cst,
                                          std::memory_order_relaxed));
  // Whoever takes the flag down wakes; the loop raises it before it looks at the list once more.
  if (asleep_.load(std::memory_order_seq_cst) && asleep_.exchange(false, std::memory_order_seq_cst))
    driver_->wake();
  posting_.fetch_sub(1, std::memory_order_release);
}

void Loop::wait() {
  if (!ready_.empty()) {
    if (!driver_->idle())
      wait_for_driver(0);
    return;
  }
  std::int64_t timeout_ns = -1;
  if (!timers_.empty())
    timeout_ns = timers_.left_ns(clock::now_ns());
  asleep_.store(true, std::memory_order_seq_cst);
  if (posted_.load(std::memory_order_seq_cst))
    timeout_ns = 0;
  wait_for_driver(timeout_ns);
  asleep_.store(false, std::memory_order_relaxed);
}

void Loop::wait_for_driver(std::int64_t timeout_ns) {
  try {
    driver_->wait(timeout_ns);
  } catch (const std::system_error&) {
    refused_ = std::current_exception();
    throw;
  }
}

void Loop::add(detail::StartedTask& task) noexcept {
  ++counts_.tasks;
  task.next = tasks_;
  if (tasks_)
    tasks_->previous = &task;
  tasks_ = &task;
  if (closing_)
    task.cancel();
}

void Loop::remove(detail::StartedTask& task) noexcept {
  (task.previous ? task.previous->next : tasks_) = task.next;
  if (task.next)
    task.next->previous = task.previous;
  task.next = task.previous = nullptr;
}

void Loop::bury(detail::StartedTask& task) noexcept {
  task.next = ended_;
  ended_ = &task;
}

void Loop::bury_all() noexcept {
  while (ended_) {
    auto* const task = ended_;
    ended_ = task->next;
    task->destroy(*task);
  }
}

void Loop::cancel_all() noexcept {
  for (auto* task = tasks_; task;) {
    auto* const next = task->next;
    task->cancel();
    task = next;
  }
}

}  // namespace schedlab::iouring
