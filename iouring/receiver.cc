#include "iouring/receiver.hh"

#include "lab/base/error.hh"

#include <algorithm>
#include <cassert>
#include <cerrno>
#include <vector>

namespace schedlab::iouring {

namespace detail {

// Somebody who waits for a buffer.
class Hungry {
public:
  virtual void buffers_came() noexcept = 0;

protected:
  ~Hungry() = default;
};

// A group of the driver, held by the pool, by receivers and by data that somebody looks at. When
// buffers come back, all who wait are told in the next turn, so that those of one turn count once:
// which of them have data is known to the kernel only.
class Buffers final : private Timer {
public:
  Buffers(unsigned count, unsigned size)
      : loop_(*Loop::current()), count_(count), free_(count), group_(add(count, size)) {}

  void hold() noexcept { ++holders_; }
  void let_go() noexcept {
    if (--holders_ == 0)
      delete this;
  }
  // The driver has filled one.
  void taken() noexcept {
    hold();
    --free_;
  }
  void give_back(std::uint16_t number) noexcept {
    loop_.driver().give_back(group_, number);
    ++free_;
    if (!hungry_.empty())
      loop_.timers().set(*this, 0);
    let_go();
  }
  void wait(Hungry& who) {
    hungry_.push_back(&who);
    if (free_ > 0)  // the kernel has given away what is still to be seen here
      loop_.timers().set(*this, 0);
  }
  void leave(Hungry& who) noexcept { std::erase(hungry_, &who); }

  [[nodiscard]] unsigned count() const noexcept { return count_; }
  [[nodiscard]] unsigned free() const noexcept { return free_; }
  [[nodiscard]] std::uint16_t group() const noexcept { return group_; }
  [[nodiscard]] std::span<std::byte> at(std::uint16_t number) const noexcept {
    return loop_.driver().buffer(group_, number);
  }

private:
  ~Buffers() {
    loop_.timers().unset(*this);
    loop_.driver().remove_buffers(group_);
  }
  std::uint16_t add(unsigned count, unsigned size) {
    static thread_local std::uint16_t next = 0;
    for (;;) {
      const std::uint16_t number = ++next;
      if (number == no_buffer)
        continue;
      try {
        loop_.driver().add_buffers(number, count, size);
        return number;
      } catch (const std::system_error& error) {
        if (error.code().value() != EEXIST)
          throw;
      }
    }
  }
  void expired() noexcept override {
    hold();  // those who are told may let go
    serving_.swap(hungry_);
    for (Hungry* const who : serving_)
      who->buffers_came();
    serving_.clear();
    let_go();
  }

  Loop& loop_;
  unsigned count_;
  unsigned free_;
  std::uint16_t group_;
  unsigned holders_ = 1;
  std::vector<Hungry*> hungry_;
  std::vector<Hungry*> serving_;
};

}  // namespace detail

BufferPool::BufferPool(unsigned count, unsigned size)
    : buffers_(new detail::Buffers(count, size)) {}

BufferPool::BufferPool(const BufferPool& other) noexcept : buffers_(other.buffers_) {
  buffers_->hold();
}

BufferPool::~BufferPool() {
  buffers_->let_go();
}

unsigned BufferPool::count() const noexcept {
  return buffers_->count();
}

unsigned BufferPool::free() const noexcept {
  return buffers_->free();
}

Received::~Received() {
  if (buffers_)
    buffers_->give_back(number_);
}

std::span<std::byte> Received::bytes() const noexcept {
  return buffers_ ? buffers_->at(number_).first(size_) : std::span<std::byte>();
}

class Receiver::State final : public detail::Repeating, private detail::Hungry {
public:
  State(const Socket& socket, detail::Buffers& buffers)
      : Repeating(socket.descriptor(),
                  {.op = Op::recv, .many = true, .buffer_group = buffers.group()},
                  std::max(buffers.count() / 4, 1U)),
        buffers_(buffers) {
    buffers_.hold();
  }

  // What came first; the end and an error stay.
  Received take() {
    const Arrival arrival = first();
    if (arrival.result <= 0) {
      check_kernel(arrival.result, "recv", shared().name());
      return {};
    }
    pop();
    return {buffers_, number_of(arrival), static_cast<std::size_t>(arrival.result)};
  }

private:
  ~State() override {
    if (waits_)
      buffers_.leave(*this);
    buffers_.let_go();
  }

  static std::uint16_t number_of(const Arrival& arrival) {
    return static_cast<std::uint16_t>(arrival.flags >> 16);
  }

  bool may_begin() noexcept override {
    if (buffers_.free() == 0)
      wait_for_buffers();
    return !waits_;
  }
  void took(Arrival& arrival) noexcept override {
    if ((arrival.flags & Operation::buffer) == 0)
      return;
    buffers_.taken();
    if (arrival.result <= 0) {
      discard(arrival);
      arrival.flags = 0;
    }
  }
  bool goes_on(int result) noexcept override {
    if (result == -ENOBUFS)
      wait_for_buffers();
    return result == -ENOBUFS;
  }
  void discard(const Arrival& arrival) noexcept override {
    if (arrival.flags & Operation::buffer)
      buffers_.give_back(number_of(arrival));
  }

  void wait_for_buffers() noexcept {
    if (!std::exchange(waits_, true))
      buffers_.wait(*this);
  }
  void buffers_came() noexcept override {
    waits_ = false;
    arm();
  }

  detail::Buffers& buffers_;
  bool waits_ = false;
};

void Receiver::Abandon::operator()(State* state) const noexcept {
  state->abandon();
}

Receiver::Receiver(const Socket& socket, const BufferPool& pool)
    : state_(new State(socket, *pool.buffers_)) {}

Receiver::Next::Next(State& state) noexcept : state_(state), wait_(state) {}

Received Receiver::Next::await_resume() {
  wait_.await_resume();
  return state_.take();
}

}  // namespace schedlab::iouring
