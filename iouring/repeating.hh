#pragma once
// A request that completes again and again, and what it brought that nobody has taken yet.

#include "iouring/descriptor.hh"

#include <cstddef>
#include <cstdint>
#include <vector>

namespace schedlab::iouring::detail {

// First in, first out. As long as it is emptied now and then it stays in the same memory, which a
// std::deque walks through: with many connections that costs more than the items do.
template <typename T>
class Fifo {
public:
  [[nodiscard]] bool empty() const noexcept { return taken_ == items_.size(); }
  [[nodiscard]] std::size_t size() const noexcept { return items_.size() - taken_; }
  [[nodiscard]] const T& front() const noexcept { return items_[taken_]; }
  void push(const T& item) {
    constexpr std::size_t worth_moving = 64;
    if (taken_ >= worth_moving && taken_ > size()) {
      items_.erase(items_.begin(), items_.begin() + static_cast<std::ptrdiff_t>(taken_));
      taken_ = 0;
    }
    items_.push_back(item);
  }
  void pop() noexcept {
    if (++taken_ < items_.size())
      return;
    items_.clear();
    taken_ = 0;
  }

private:
  std::vector<T> items_;
  std::size_t taken_ = 0;  // of items_, from its front
};

// Armed when somebody waits and nothing is there. With `limit` arrivals that nobody took it is
// asked to end, and what the kernel holds stays there. On the heap; goes when its request has
// ended.
class Repeating : protected Operation {
public:
  struct Arrival {
    int result;           // of the kernel, also -errno
    std::uint32_t flags;  // Operation::buffer and the number of the buffer
  };

  Repeating(const Descriptor& descriptor, const Request& request, std::size_t limit);
  // The owner goes.
  void abandon() noexcept;

  // Waits until there is an arrival. One waiter at a time.
  class [[nodiscard]] Next final : private Suspension {
  public:
    explicit Next(Repeating& from) noexcept : from_(from) {}
    bool await_ready() const noexcept { return false; }
    template <std::derived_from<PromiseBase> Promise>
    bool await_suspend(std::coroutine_handle<Promise> coroutine) noexcept {
      return suspend(coroutine) && wait();
    }
    void await_resume() const { throw_if_cancelled(); }

  private:
    friend class Repeating;
    bool wait() noexcept;
    void on_cancel() noexcept override;
    Repeating& from_;
  };

  [[nodiscard]] const Arrival& first() const noexcept { return arrivals_.front(); }
  void pop() noexcept { arrivals_.pop(); }
  [[nodiscard]] std::size_t size() const noexcept { return arrivals_.size(); }
  [[nodiscard]] OpenFd& shared() noexcept { return *shared_; }

protected:
  virtual ~Repeating() = default;
  // Can it begin? If not, arm() is called when it can.
  virtual bool may_begin() noexcept { return true; }
  // The request ended so; true if it is to begin again, at once or by arm().
  virtual bool goes_on(int) noexcept { return false; }
  // The driver has brought it; may change it.
  virtual void took(Arrival&) noexcept {}
  // Nobody will take it.
  virtual void discard(const Arrival& arrival) noexcept = 0;

  // Begins the request if somebody waits.
  void arm() noexcept;

private:
  void complete(int result, std::uint32_t flags) noexcept override;
  void end(const Arrival& last) noexcept;
  void bring(const Arrival& arrival) noexcept;

  Loop& loop_;
  Holder shared_;
  Request request_;
  std::size_t limit_;
  Fifo<Arrival> arrivals_;
  Next* waiter_ = nullptr;
  bool armed_ = false;
  bool pausing_ = false;  // asked to end because of the limit
  bool abandoned_ = false;
};

}  // namespace schedlab::iouring::detail
