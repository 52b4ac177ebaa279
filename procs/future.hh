#pragma once
// The result of work that is done elsewhere, with the semantics of Python's concurrent.futures: a
// future is pending, then running, then done; only while it is pending can it be cancelled.
//
// Every future that was handed out becomes ready: a promise that is dropped breaks, and its future
// throws BrokenPromise. State, value and waiters are one block of memory (block_pool.hh); only
// callbacks take more.
//
// Thread rules. A Future belongs to one thread at a time, but for cancel(), state() and ready(),
// which any thread may call meanwhile. A Promise is fulfilled by one thread at a time.

#include "lab/base/executor.hh"
#include "procs/block_pool.hh"
#include "procs/waiting.hh"

#include <atomic>
#include <chrono>
#include <cstdint>
#include <ctime>
#include <exception>
#include <memory>
#include <new>
#include <stdexcept>
#include <type_traits>
#include <utility>

namespace schedlab::procs {

enum class FutureState : std::uint8_t { pending, running, done, cancelled };

// get() and exception() of a future that was cancelled.
struct FutureCancelled : std::runtime_error {
  FutureCancelled() : std::runtime_error("the future was cancelled before its work began") {}
};

// get() of a future whose promise went without a word.
struct BrokenPromise : std::runtime_error {
  BrokenPromise() : std::runtime_error("the promise was dropped: its work was lost") {}
};

namespace detail {

struct Callback {
  Callback* next = nullptr;
  void (*run)(Callback*) noexcept = nullptr;  // and destroys it
};

// What a future is beside its value. Counted: a reference for the future, one for who fulfils it.
class FutureCore {
public:
  FutureCore(Patience patience, std::uint32_t references) noexcept
      : word_(references * reference), spins_(patience.spins) {}
  FutureCore(const FutureCore&) = delete;
  FutureCore& operator=(const FutureCore&) = delete;

  [[nodiscard]] FutureState state() const noexcept {
    return static_cast<FutureState>(word_.load(std::memory_order_acquire) & state_mask);
  }
  [[nodiscard]] bool ready() const noexcept { return state() >= FutureState::done; }

  // pending -> running; false if it is not pending.
  bool start() noexcept {
    std::uint32_t seen = word_.load(std::memory_order_relaxed);
    while ((seen & state_mask) == to_word(FutureState::pending))
      if (word_.compare_exchange_weak(seen, seen | to_word(FutureState::running),
                                      std::memory_order_acq_rel))
        return true;
    return false;
  }
  // running -> done: what the outcome is was written before. Wakes, and runs the callbacks.
  void finish() noexcept { settle(word_.fetch_add(ended, order)); }
  // The same, and release(): in one step where nobody is to be told, so that the line goes to who
  // waits for it and needs not come back.
  void finish_and_release() noexcept {
    std::uint32_t seen = word_.load(std::memory_order_relaxed);
    while ((seen & (sleeper | callbacks)) == 0)
      if (word_.compare_exchange_weak(seen, seen + ended - reference, order)) {
        if (seen / reference == 1)
          dispose();
        return;
      }
    finish();
    release();
  }
  // pending -> cancelled; false if it is not pending.
  bool cancel() noexcept;

  // Returns when ready.
  void wait() noexcept;
  // Likewise; false if that took longer.
  bool wait_until(std::int64_t deadline_ns) noexcept;  // of CLOCK_MONOTONIC
  // Does the work in the calling thread if nobody else may be there to do it.
  virtual void help() noexcept {}
  // Does the work, if it has any, up to its outcome: called once, between start() and finish().
  virtual void run() noexcept {}
  void attach(Callback* callback) noexcept;

  void retain() noexcept { word_.fetch_add(reference, std::memory_order_relaxed); }
  void release() noexcept {
    // Who is alone need not ask for the line.
    if (word_.load(std::memory_order_acquire) / reference == 1 ||
        word_.fetch_sub(reference, order) / reference == 1)
      dispose();
  }

protected:
  virtual ~FutureCore() = default;
  virtual void dispose() noexcept = 0;  // destroys and frees it

private:
  static constexpr auto order = std::memory_order_acq_rel;
  static constexpr std::uint32_t state_mask = 3;
  static constexpr std::uint32_t sleeper = 4;     // somebody sleeps on the word
  static constexpr std::uint32_t callbacks = 8;   // there may be some
  static constexpr std::uint32_t reference = 16;  // how often, of who holds it
  static constexpr std::uint32_t to_word(FutureState state) noexcept {
    return static_cast<std::uint32_t>(state);
  }
  static constexpr std::uint32_t ended = 1;  // from running to done

  // Tells of the end those that the word before it speaks of.
  void settle(std::uint32_t before) noexcept {
    if ((before & (sleeper | callbacks)) != 0)
      tell(before);
  }
  void tell(std::uint32_t before) noexcept;
  void run_callbacks() noexcept;
  bool spin() const noexcept;
  void sleep(const timespec* most) noexcept;

  std::atomic<std::uint32_t> word_;  // its state, who is to be told, and the references
  const std::uint32_t spins_;        // before a waiter sleeps

protected:
  enum class Outcome : std::uint8_t { nothing, value, error };
  Outcome outcome_ = Outcome::nothing;  // written while running, read when done

private:
  std::atomic<Callback*> callbacks_{nullptr};  // the newest first
};

// On CLOCK_MONOTONIC; what lies too far off is never.
std::int64_t deadline_after(std::chrono::nanoseconds most) noexcept;
std::chrono::nanoseconds time_until(std::int64_t deadline_ns) noexcept;  // or the longest there is

struct Nothing {};

template <typename T>
class FutureValue : public FutureCore {
  static_assert(std::is_void_v<T> || std::is_object_v<T>, "a future of a reference: use a pointer");

public:
  using Stored = std::conditional_t<std::is_void_v<T>, Nothing, T>;
  using FutureCore::FutureCore;

  // While running.
  template <typename... Args>
  void put_value(Args&&... args) noexcept(std::is_nothrow_constructible_v<Stored, Args...>) {
    std::construct_at(&result_.value, std::forward<Args>(args)...);
    outcome_ = Outcome::value;
  }
  void put_error(std::exception_ptr error) noexcept {
    std::construct_at(&result_.error, std::move(error));
    outcome_ = Outcome::error;
  }
  // When ready.
  [[nodiscard]] bool failed() const noexcept { return outcome_ == Outcome::error; }
  [[nodiscard]] std::exception_ptr error() const {
    if (state() == FutureState::cancelled)
      throw FutureCancelled();
    return outcome_ == Outcome::error ? result_.error : nullptr;
  }
  Stored take() {
    if (auto thrown = error())
      std::rethrow_exception(std::move(thrown));
    return std::move(result_.value);
  }

protected:
  ~FutureValue() override {
    if (outcome_ == Outcome::value)
      std::destroy_at(&result_.value);
    else if (outcome_ == Outcome::error)
      std::destroy_at(&result_.error);
  }

private:
  union Result {
    Result() noexcept {}
    ~Result() {}
    Stored value;
    std::exception_ptr error;
  } result_;
};

// A counted reference to it.
template <typename Core>
class CoreRef {
public:
  CoreRef() = default;
  // Takes over a reference that was counted already.
  explicit CoreRef(Core* core) noexcept : core_(core) {}
  CoreRef(CoreRef&& other) noexcept : core_(std::exchange(other.core_, nullptr)) {}
  CoreRef& operator=(CoreRef&& other) noexcept {
    CoreRef(std::move(other)).swap(*this);
    return *this;
  }
  ~CoreRef() {
    if (core_)
      core_->release();
  }
  void swap(CoreRef& other) noexcept { std::swap(core_, other.core_); }
  [[nodiscard]] Core* get() const noexcept { return core_; }
  Core* operator->() const noexcept { return core_; }
  explicit operator bool() const noexcept { return core_ != nullptr; }

private:
  Core* core_ = nullptr;
};

// Makes a core in a block. Throws std::bad_alloc, and what its members throw.
template <typename Core, typename... Args>
Core* make_core(Args&&... args) {
  static_assert(alignof(Core) <= cache_line);
  void* const memory = allocate_block(sizeof(Core));
  try {
    return ::new (memory) Core(std::forward<Args>(args)...);
  } catch (...) {
    free_block(memory, sizeof(Core));
    throw;
  }
}
template <typename Core>
void dispose_core(Core* core) noexcept {
  std::destroy_at(core);
  free_block(core, sizeof(Core));
}

template <typename T>
class PromiseCore final : public FutureValue<T> {
public:
  using FutureValue<T>::FutureValue;
  ~PromiseCore() override = default;

private:
  void dispose() noexcept override { dispose_core(this); }
};

// A callback and what it carries.
template <typename F>
struct CallbackOf final : Callback {
  F call;
  explicit CallbackOf(F function) : Callback{nullptr, &run_once}, call(std::move(function)) {}
  static void run_once(Callback* self) noexcept {
    auto* const mine = static_cast<CallbackOf*>(self);
    mine->call();
    std::destroy_at(mine);
    free_block(mine, sizeof(CallbackOf));
  }
};

}  // namespace detail

template <typename T>
class [[nodiscard]] Future {
public:
  using Value = T;
  using Core = detail::FutureValue<T>;

  // Without work: only to be assigned to.
  Future() = default;
  explicit Future(Core* core) noexcept : core_(core) {}
  [[nodiscard]] bool valid() const noexcept { return static_cast<bool>(core_); }

  [[nodiscard]] FutureState state() const noexcept { return core_->state(); }
  // Done or cancelled: get does not wait.
  [[nodiscard]] bool ready() const noexcept { return core_->ready(); }
  // True if it was pending: then the work will never run, and the callbacks have run here.
  bool cancel() noexcept { return core_->cancel(); }

  // Waits for the end, as patiently as whoever made the future said. A worker of a thread pool that
  // waits for work of its own pool which nobody has begun does it itself, so that tasks may wait
  // for tasks in a pool of any size.
  void wait() noexcept { core_->wait(); }
  // Likewise, but sleeps, and does nobody's work; false if it took longer.
  [[nodiscard]] bool wait_for(std::chrono::nanoseconds most) noexcept {
    return core_->wait_until(detail::deadline_after(most));
  }
  // Waits, then gives the value, once. Throws what the work threw, FutureCancelled, BrokenPromise.
  T get() {
    wait();
    if constexpr (std::is_void_v<T>)
      core_->take();
    else
      return core_->take();
  }
  // Waits, then gives what the work threw, or nothing. Throws FutureCancelled.
  [[nodiscard]] std::exception_ptr exception() {
    wait();
    return core_->error();
  }

  // Runs `callback()` exactly once: in the thread that ends the work (or cancels it) once waiters
  // were woken, in the order in which callbacks were added; or at once if it has ended. Callbacks
  // neither block nor throw. Any number; each takes a block of memory, and where there is none
  // left the program ends.
  template <typename F>
  void on_ready(F callback) noexcept {
    core_->attach(new (detail::allocate_block(sizeof(detail::CallbackOf<F>)))
                      detail::CallbackOf<F>(std::move(callback)));
  }

  // For pools and what waits for many.
  [[nodiscard]] Core& core() const noexcept { return *core_.get(); }

private:
  detail::CoreRef<Core> core_;
};

// The side that does the work. A promise that goes unfulfilled breaks its future.
template <typename T>
class Promise {
public:
  // Who waits for the future asks so often before sleeping. Throws std::bad_alloc.
  explicit Promise(Patience patience = {})
      : core_(detail::make_core<detail::PromiseCore<T>>(patience, 1u)) {}
  Promise(Promise&&) noexcept = default;
  Promise& operator=(Promise&& other) noexcept {
    Promise(std::move(other)).core_.swap(core_);
    return *this;
  }
  ~Promise() {
    if (core_ && !core_->ready())
      set_exception(std::make_exception_ptr(BrokenPromise()));
  }

  // Once.
  [[nodiscard]] Future<T> future() noexcept {
    core_->retain();
    return Future<T>(core_.get());
  }

  // The work begins; from now on it cannot be cancelled. False if it was: then leave it.
  bool start() noexcept { return core_->start(); }
  [[nodiscard]] FutureState state() const noexcept { return core_->state(); }

  // The end of the work, once, after start() or without it; wakes who waits and runs the callbacks
  // in this thread. False if the future was cancelled: then the outcome is dropped. If the value
  // throws when it is made, that is the outcome.
  template <typename... Args>
  bool set_value(Args&&... args) noexcept {
    return end([&] { core_->put_value(std::forward<Args>(args)...); });
  }
  bool set_exception(std::exception_ptr error) noexcept {
    return end([&] { core_->put_error(std::move(error)); });
  }

private:
  template <typename Put>
  bool end(Put put) noexcept {
    if (!core_->start() && core_->state() != FutureState::running)
      return false;
    try {
      put();
    } catch (...) {
      core_->put_error(std::current_exception());
    }
    core_->finish();
    return true;
  }

  detail::CoreRef<detail::PromiseCore<T>> core_;
};

}  // namespace schedlab::procs
