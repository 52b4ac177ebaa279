#pragma once
// Waiting for several started tasks without ending or owning them, as asyncio.wait does; and taking
// their results in the order in which they end.
//
//   const Waited now = co_await wait(running, When::first_completed, 2s);
//   auto ends = as_completed(running);
//   while (Running<int>* const next = co_await ends.next())
//     sum += co_await *next;
//
// To cancel such a wait cancels none of the tasks.

#include "iouring/start.hh"
#include "iouring/waiters.hh"
#include "lab/base/error.hh"

#include <cerrno>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <vector>

namespace schedlab::iouring {

enum class When : std::uint8_t {
  first_completed,
  first_exception,  // other than Cancelled, as in asyncio; or all completed
  all_completed,
};

// Numbers of the tasks, in their order.
struct Waited {
  std::vector<std::size_t> done;
  std::vector<std::size_t> pending;
};

namespace detail {

using Several = std::vector<StartedBase*>;
Task<Waited> wait(Several tasks, When when, std::optional<std::chrono::nanoseconds> limit);

// The tasks that ended and were not given out yet, first in, first out.
class Ends {
public:
  explicit Ends(const Several& tasks);
  Ends(const Ends&) = delete;
  Ends& operator=(const Ends&) = delete;
  ~Ends();

  class [[nodiscard]] Next final : public Waiter {
  public:
    explicit Next(Ends& ends) noexcept : ends_(ends) {}
    // Throws std::system_error (EBUSY): another takes, and may be woken already.
    [[nodiscard]] bool await_ready() const {
      if (ends_.taken_)
        throw_errno(EBUSY, "next");
      return ends_.first_ || ends_.left_ == 0;
    }
    template <std::derived_from<PromiseBase> Promise>
    bool await_suspend(std::coroutine_handle<Promise> coroutine) noexcept {
      ends_.taken_ = true;
      return enter(ends_.waiter_, coroutine);
    }
    // Its number, or none if all were given out.
    std::optional<std::size_t> await_resume() {
      ends_.taken_ = false;
      throw_if_cancelled();
      return ends_.take();
    }

  private:
    Ends& ends_;
  };
  Next next() noexcept { return Next(*this); }

private:
  struct Watch final : Listener {
    void task_ended() noexcept override { ends->add(*this); }
    Ends* ends = nullptr;
    StartedBase* task = nullptr;
    Watch* next = nullptr;
    bool ended = false;
  };
  void add(Watch& watch) noexcept;
  std::optional<std::size_t> take() noexcept;

  std::unique_ptr<Watch[]> watches_;
  std::size_t count_;
  std::size_t left_;  // not given out
  Watch* first_ = nullptr;
  Watch* last_ = nullptr;
  Line waiter_;
  bool taken_ = false;  // somebody waits for the next
};

template <typename Range>
Several several(Range& running) {
  Several tasks;
  tasks.reserve(running.size());
  for (auto& one : running)
    tasks.push_back(&one.started());
  return tasks;
}

}  // namespace detail

// Until so many have ended, or the time is over, which is no error. The tasks must live as long.
template <typename T>
Task<Waited> wait(std::span<Running<T>> running, When when = When::all_completed,
                  std::optional<std::chrono::nanoseconds> limit = {}) {
  return detail::wait(detail::several(running), when, limit);
}
template <typename T>
Task<Waited> wait(std::vector<Running<T>>& running, When when = When::all_completed,
                  std::optional<std::chrono::nanoseconds> limit = {}) {
  return wait(std::span(running), when, limit);
}
// Tasks of different types.
template <typename... T>
requires(sizeof...(T) > 0) Task<Waited> wait(When when, Running<T>&... running) {
  return detail::wait(detail::Several{&running.started()...}, when, {});
}

// Gives tasks in the order in which they end; those that had ended before in their own order.
// Neither they nor their place may go away before it does.
template <typename T>
class [[nodiscard]] Completions {
public:
  explicit Completions(std::span<Running<T>> running)
      : running_(running), ends_(detail::several(running)) {}

  // `co_await next()`: a task that has ended, or null after the last. One task at a time: another
  // throws EBUSY.
  auto next() noexcept { return Next(*this); }

private:
  class [[nodiscard]] Next {
  public:
    explicit Next(Completions& from) noexcept : from_(from), wait_(from.ends_) {}
    [[nodiscard]] bool await_ready() const { return wait_.await_ready(); }
    template <std::derived_from<detail::PromiseBase> Promise>
    bool await_suspend(std::coroutine_handle<Promise> coroutine) noexcept {
      return wait_.await_suspend(coroutine);
    }
    Running<T>* await_resume() {
      const auto number = wait_.await_resume();
      return number ? &from_.running_[*number] : nullptr;
    }

  private:
    Completions& from_;
    detail::Ends::Next wait_;
  };

  std::span<Running<T>> running_;
  detail::Ends ends_;
};

template <typename T>
Completions<T> as_completed(std::span<Running<T>> running) {
  return Completions<T>(running);
}
template <typename T>
Completions<T> as_completed(std::vector<Running<T>>& running) {
  return Completions<T>(std::span(running));
}

}  // namespace schedlab::iouring
