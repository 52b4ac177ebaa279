#pragma once
// What all coroutines of one task share: its loop, what it waits for, and whether somebody wants it
// to end.
//
// A task is one chain of coroutines, of which one is running or suspended at a time. Cancelling it
// is an edge, as in asyncio: the operation it waits for is asked to end, and Cancelled is thrown
// there once; a coroutine that catches it may go on and wait again. If the operation succeeds all
// the same, its result counts, and Cancelled is thrown at the next wait. All of it happens in the
// thread of the loop.

#include <coroutine>
#include <cstdint>
#include <exception>
#include <optional>
#include <source_location>
#include <stop_token>

namespace schedlab::iouring {

class Loop;

// Thrown at a wait of a task that was cancelled. Not a std::runtime_error, so that code which
// handles failures does not swallow it.
struct Cancelled final : std::exception {
  [[nodiscard]] const char* what() const noexcept override { return "cancelled"; }
};

namespace detail {

struct PromiseBase;

// Is it Cancelled?
[[nodiscard]] bool is_cancelled(const std::exception_ptr& exception) noexcept;

// What a suspended task waits for.
class Waiting {
public:
  Waiting() = default;
  Waiting(const Waiting&) = delete;
  Waiting& operator=(const Waiting&) = delete;

  // The task shall not wait any longer: end the wait, now or when the kernel lets go. Whether it
  // ended well or was cut short, the task is made ready once. Called once for each wait; a wait for
  // other tasks then enters itself as `waiting` again, so that to cancel again reaches them again.
  virtual void on_cancel() noexcept = 0;

protected:
  ~Waiting() = default;
};

struct TaskState {
  Loop* loop = nullptr;
  Waiting* waiting = nullptr;         // while suspended in a wait that can be cancelled
  bool cancel_pending = false;        // Cancelled is due at the next wait
  std::uint32_t cancel_requests = 0;  // less those taken back by uncancel()
  // The task's first coroutine ended, with this promise; set by whoever started it.
  void (*ended)(TaskState&, PromiseBase&) noexcept = nullptr;
  std::optional<std::stop_source> stop;  // made when somebody asks for the token
  std::source_location started = {};

  // Asks the task to end. Again is allowed and asks again.
  void cancel() noexcept {
    ++cancel_requests;
    cancel_pending = true;
    if (stop)
      stop->request_stop();
    if (Waiting* const wait = waiting) {
      waiting = nullptr;
      wait->on_cancel();
    }
  }

  // Takes one request back, as a timeout does with its own; with none left the task goes on.
  void uncancel() noexcept {
    if (cancel_requests > 0 && --cancel_requests == 0) {
      cancel_pending = false;
      if (stop && stop->stop_requested())
        stop.reset();
    }
  }

  // At the start of a wait: is it to end before it begins? Takes the edge away if so.
  [[nodiscard]] bool take_cancel() noexcept {
    const bool due = cancel_pending;
    cancel_pending = false;
    return due;
  }

  // A wait that was cancelled ends by throwing this. Unless it is Cancelled, the request was not
  // served yet: another failure beats it as success does.
  void serve_cancel(const std::exception_ptr& thrown) noexcept {
    if (is_cancelled(thrown))
      cancel_pending = false;
  }
};

}  // namespace detail
}  // namespace schedlab::iouring
