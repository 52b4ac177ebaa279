#pragma once
// Passing items between tasks of one loop, as asyncio's queues of Python 3.13.
//
//   Queue<Job> jobs(100);              bounded; 0: not
//   co_await jobs.put(job);            waits while it is full
//   Job job = co_await jobs.get();     waits while it is empty
//
// Those that wait are served in the order in which they came. A get() that was promised an item
// gets one, even if the task is cancelled before it runs: Cancelled is then thrown at its next
// wait, and nothing is lost. A put() that is cancelled while it waits did not happen, and its item
// is gone with it. Loop's thread only.

#include "iouring/waiters.hh"

#include <algorithm>
#include <concepts>
#include <coroutine>
#include <cstddef>
#include <deque>
#include <exception>
#include <functional>
#include <optional>
#include <stdexcept>
#include <utility>
#include <vector>

namespace schedlab::iouring {

// The queue was shut down: nothing can be put any more, or nothing is left to get.
struct QueueShutDown final : std::exception {
  [[nodiscard]] const char* what() const noexcept override { return "the queue is shut down"; }
};

namespace detail {

// Where items lie between put and get.
template <typename T>
class FirstInFirstOut {
public:
  [[nodiscard]] std::size_t size() const noexcept { return items_.size(); }
  void push(T&& item) { items_.push_back(std::move(item)); }
  T pop() {
    T item = std::move(items_.front());
    items_.pop_front();
    return item;
  }

private:
  std::deque<T> items_;
};

template <typename T>
class LastInFirstOut {
public:
  [[nodiscard]] std::size_t size() const noexcept { return items_.size(); }
  void push(T&& item) { items_.push_back(std::move(item)); }
  T pop() {
    T item = std::move(items_.back());
    items_.pop_back();
    return item;
  }

private:
  std::vector<T> items_;
};

template <typename T, typename Less>
class LeastFirst {
public:
  [[nodiscard]] std::size_t size() const noexcept { return items_.size(); }
  void push(T&& item) {
    items_.push_back(std::move(item));
    std::push_heap(items_.begin(), items_.end(), after_);
  }
  T pop() {
    std::pop_heap(items_.begin(), items_.end(), after_);
    T item = std::move(items_.back());
    items_.pop_back();
    return item;
  }

private:
  struct After {
    bool operator()(const T& a, const T& b) const { return Less()(b, a); }
  };
  [[no_unique_address]] After after_;
  std::vector<T> items_;
};

}  // namespace detail

template <typename T, typename Items>
class BasicQueue {
public:
  class [[nodiscard]] Get final : public detail::Waiter {
  public:
    explicit Get(BasicQueue& queue) noexcept : queue_(queue) {}
    [[nodiscard]] bool await_ready() const noexcept {
      return queue_.free_items() > 0 || queue_.shut_down_;
    }
    template <std::derived_from<detail::PromiseBase> Promise>
    bool await_suspend(std::coroutine_handle<Promise> coroutine) noexcept {
      return enter(queue_.getters_, coroutine);
    }
    T await_resume() {
      throw_if_cancelled();
      return queue_.take_for(promised_);
    }

  private:
    friend class BasicQueue;
    BasicQueue& queue_;
    bool promised_ = false;  // an item lies there for it
  };

  class [[nodiscard]] Put final : public detail::Waiter {
  public:
    Put(BasicQueue& queue, T&& item) : queue_(queue), item_(std::move(item)) {}
    [[nodiscard]] bool await_ready() {
      if (queue_.shut_down_ || queue_.full())
        return queue_.shut_down_;
      accept();
      return true;
    }
    template <std::derived_from<detail::PromiseBase> Promise>
    bool await_suspend(std::coroutine_handle<Promise> coroutine) noexcept {
      return enter(queue_.putters_, coroutine);
    }
    void await_resume() const {
      throw_if_cancelled();
      if (!accepted_)
        throw QueueShutDown();
    }

  private:
    friend class BasicQueue;
    void accept() {
      queue_.add(std::move(item_));
      accepted_ = true;
    }
    BasicQueue& queue_;
    T item_;
    bool accepted_ = false;
  };

  class [[nodiscard]] Join final : public detail::Waiter {
  public:
    explicit Join(BasicQueue& queue) noexcept : queue_(queue) {}
    [[nodiscard]] bool await_ready() const noexcept { return queue_.unfinished_ == 0; }
    template <std::derived_from<detail::PromiseBase> Promise>
    bool await_suspend(std::coroutine_handle<Promise> coroutine) noexcept {
      return enter(queue_.joiners_, coroutine);
    }
    void await_resume() const { throw_if_cancelled(); }

  private:
    BasicQueue& queue_;
  };

  // At most so many items; 0: as many as there is memory for.
  explicit BasicQueue(std::size_t max_size = 0) noexcept : max_size_(max_size) {}
  BasicQueue(const BasicQueue&) = delete;
  BasicQueue& operator=(const BasicQueue&) = delete;

  // Without a wait if there is room. Throws Cancelled or QueueShutDown.
  Put put(T item) { return Put(*this, std::move(item)); }
  // Without a wait if there is an item that is promised to nobody. Throws Cancelled or
  // QueueShutDown.
  Get get() noexcept { return Get(*this); }
  // False, and the item stays where it is, if the queue is full. Throws QueueShutDown.
  [[nodiscard]] bool put_nowait(T&& item) {
    if (shut_down_)
      throw QueueShutDown();
    if (full())
      return false;
    add(std::move(item));
    return true;
  }
  // None if there is no item that is promised to nobody. Throws QueueShutDown.
  std::optional<T> get_nowait() {
    if (free_items() > 0)
      return take();
    if (shut_down_)
      throw QueueShutDown();
    return std::nullopt;
  }

  // An item that was got has been dealt with. Throws std::logic_error if there was none.
  void task_done() {
    if (unfinished_ == 0)
      throw std::logic_error("task_done() called more often than items were put");
    finish(1);
  }
  // Until all items that were put have been dealt with. Throws Cancelled.
  Join join() noexcept { return Join(*this); }

  // From now on put() throws QueueShutDown, and get() when the queue is empty; also those that
  // wait. Immediate: the items are dropped and count as dealt with.
  void shut_down(bool immediate = false) {
    shut_down_ = true;
    if (immediate) {
      const std::size_t dropped = items_.size();
      items_ = Items();
      finish(std::min(dropped, unfinished_));
    }
    getters_.wake_all();
    putters_.wake_all();
  }

  [[nodiscard]] std::size_t size() const noexcept { return items_.size(); }
  [[nodiscard]] bool empty() const noexcept { return items_.size() == 0; }
  [[nodiscard]] bool full() const noexcept { return max_size_ > 0 && items_.size() >= max_size_; }
  [[nodiscard]] std::size_t max_size() const noexcept { return max_size_; }
  [[nodiscard]] std::size_t unfinished() const noexcept { return unfinished_; }

private:
  // Tasks wait for an item only while there is none of these, and with one only while it is full.
  [[nodiscard]] std::size_t free_items() const noexcept {
    return items_.size() - std::min(promised_, items_.size());
  }
  void add(T&& item) {
    items_.push(std::move(item));
    ++unfinished_;
    if (detail::Waiter* const getter = getters_.pop()) {
      ++promised_;
      static_cast<Get*>(getter)->promised_ = true;
      getter->wake();
    }
  }
  T take() {
    T item = items_.pop();
    if (detail::Waiter* const putter = putters_.pop()) {
      static_cast<Put*>(putter)->accept();
      putter->wake();
    }
    return item;
  }
  // Which item is decided now: the least or last may have come after the promise.
  T take_for(bool promised) {
    if (promised)
      --promised_;
    if (promised ? empty() : free_items() == 0)
      throw QueueShutDown();
    return take();
  }
  void finish(std::size_t count) noexcept {
    unfinished_ -= count;
    if (unfinished_ == 0)
      joiners_.wake_all();
  }

  std::size_t max_size_;
  Items items_;
  std::size_t promised_ = 0;    // items that woken getters will take
  std::size_t unfinished_ = 0;  // put and not yet dealt with
  bool shut_down_ = false;
  detail::Line getters_;
  detail::Line putters_;
  detail::Line joiners_;
};

template <typename T>
using Queue = BasicQueue<T, detail::FirstInFirstOut<T>>;
template <typename T>
using LifoQueue = BasicQueue<T, detail::LastInFirstOut<T>>;
// The least first; of two that are equal either.
template <typename T, typename Less = std::less<T>>
using PriorityQueue = BasicQueue<T, detail::LeastFirst<T, Less>>;

}  // namespace schedlab::iouring
