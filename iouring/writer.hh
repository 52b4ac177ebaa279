#pragma once
// Writing without waiting, to a socket or a pipe, and waiting when too much of it has piled up.

#include "iouring/descriptor.hh"

#include <cstddef>
#include <memory>
#include <span>
#include <string_view>

namespace schedlab::iouring {

// Bytes not yet written: above `high` drain() waits until there are no more than `low`.
struct WaterMarks {
  std::size_t high = 64 * 1024;
  std::size_t low = 16 * 1024;
};

// The sending side of a descriptor, of which there is one at a time. What is written goes out in
// the next turn, that of one turn together. Destroying it drops what has not gone out. Loop's
// thread only.
class Writer {
public:
  // In the running loop. Throws std::system_error (EBADF; EBUSY if another sends there).
  explicit Writer(const Descriptor& descriptor, const WaterMarks& marks = {});

  // Keeps a copy and returns at once. Throws std::system_error: what an earlier write failed with,
  // EPIPE after write_eof.
  void write(std::span<const std::byte> data);
  void write(std::string_view text) { write(std::as_bytes(std::span(text))); }
  // Between writes: gives others their turn, and waits when more than the high mark has piled up.
  // When cancelled nothing is lost. Throws std::system_error if a write failed.
  Task<> drain();
  // Until all has been handed to the kernel. As drain.
  Task<> flush();
  // Flushes; then the reader of a socket sees the end of the stream. A pipe is to be closed.
  Task<> write_eof();

  // Bytes that the kernel has not taken yet.
  [[nodiscard]] std::size_t buffered() const noexcept;

private:
  class State;
  struct Abandon {
    void operator()(State* state) const noexcept;
  };
  std::unique_ptr<State, Abandon> state_;
};

}  // namespace schedlab::iouring
