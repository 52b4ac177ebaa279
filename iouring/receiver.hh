#pragma once
// Receiving without a buffer of one's own: the driver takes one from a pool when there are data, so
// that a thousand idle connections need none.
//
//   BufferPool pool(256, 4096);
//   Receiver receiver(socket, pool);
//   while (const Received data = co_await receiver.next())
//     use(data.bytes());                         the buffer goes back at the end of the round

#include "iouring/repeating.hh"
#include "iouring/socket.hh"

#include <memory>
#include <span>
#include <string_view>

namespace schedlab::iouring {

namespace detail {
class Buffers;
}

// Buffers that several receivers share; a copy is the same pool. Loop's thread only.
class BufferPool {
public:
  // In the running loop: `count` buffers (a power of two, at most 2^15) of `size` bytes. Throws
  // std::system_error, or Unsupported before Linux 5.19.
  BufferPool(unsigned count, unsigned size);
  // The memory goes with the last pool, receiver and Received; the loop must live until then.
  ~BufferPool();
  BufferPool(const BufferPool& other) noexcept;
  BufferPool& operator=(const BufferPool&) = delete;

  [[nodiscard]] unsigned count() const noexcept;
  // Those that hold no data.
  [[nodiscard]] unsigned free() const noexcept;

private:
  friend class Receiver;
  detail::Buffers* buffers_;
};

// Data in a buffer, which is given back when this is destroyed. Empty at the end of the stream.
class Received {
public:
  Received() noexcept = default;
  Received(detail::Buffers& buffers, std::uint16_t number, std::size_t size) noexcept
      : buffers_(&buffers), number_(number), size_(size) {}
  Received(Received&& other) noexcept
      : buffers_(std::exchange(other.buffers_, nullptr)), number_(other.number_),
        size_(std::exchange(other.size_, 0)) {}
  Received& operator=(Received&& other) noexcept {
    Received taken(std::move(other));
    std::swap(buffers_, taken.buffers_);
    std::swap(number_, taken.number_);
    std::swap(size_, taken.size_);
    return *this;
  }
  ~Received();

  // False at the end of the stream.
  [[nodiscard]] explicit operator bool() const noexcept { return size_ > 0; }
  [[nodiscard]] std::span<std::byte> bytes() const noexcept;
  [[nodiscard]] std::string_view text() const noexcept {
    return {reinterpret_cast<const char*>(bytes().data()), size_};
  }

private:
  detail::Buffers* buffers_ = nullptr;
  std::uint16_t number_ = 0;
  std::size_t size_ = 0;
};

// Receives from one socket into buffers of a pool. What came stays in order until next() takes it;
// when a quarter of the pool waits here, the rest waits in the socket. When the pool is empty,
// next() waits until a buffer comes back: whoever holds all of them while waiting for more waits
// for ever. The socket's recv() is not used beside it. To be destroyed by a task, before the loop's
// run() ends.
class Receiver {
  class State;

public:
  // A wait without a coroutine, and so without a frame, of its own.
  class [[nodiscard]] Next {
  public:
    explicit Next(State& state) noexcept;
    bool await_ready() const noexcept { return wait_.await_ready(); }
    template <std::derived_from<detail::PromiseBase> Promise>
    bool await_suspend(std::coroutine_handle<Promise> coroutine) noexcept {
      return wait_.await_suspend(coroutine);
    }
    Received await_resume();

  private:
    State& state_;
    detail::Repeating::Next wait_;
  };

  // In the running loop, which is the pool's. Throws std::system_error (EBADF).
  Receiver(const Socket& socket, const BufferPool& pool);

  // One task at a time. When cancelled nothing is lost. After the end of the stream, or an error,
  // gives the same again. Throws std::system_error (ECONNRESET; ECANCELED: the socket was closed).
  Next next() noexcept { return Next(*state_); }

private:
  struct Abandon {
    void operator()(State* state) const noexcept;
  };
  std::unique_ptr<State, Abandon> state_;
};

}  // namespace schedlab::iouring
