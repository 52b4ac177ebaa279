#pragma once
// Reading in pieces that mean something, from a socket or a pipe.

#include "iouring/descriptor.hh"

#include <cstddef>
#include <exception>
#include <memory>
#include <span>
#include <string>
#include <string_view>

namespace schedlab::iouring {

// The stream ended before all had come.
class IncompleteRead final : public std::exception {
public:
  explicit IncompleteRead(std::string partial) : partial_(std::move(partial)) {}
  [[nodiscard]] const char* what() const noexcept override {
    return "the stream ended before all had come";
  }
  // What had come.
  [[nodiscard]] const std::string& partial() const noexcept { return partial_; }

private:
  std::string partial_;
};

// There is more than may be kept. What came stays to be read.
class LimitOverrun final : public std::exception {
public:
  [[nodiscard]] const char* what() const noexcept override {
    return "more data than the limit before the end of what is read";
  }
};

inline constexpr std::size_t default_read_limit = 64 * 1024;

// One task reads at a time: another throws EBUSY. When a read is cancelled, what came stays and is
// given to the next. Errors of the descriptor are std::system_error. Loop's thread only.
class Reader {
public:
  // `limit`: bytes that read_until and read_line collect at most. Throws std::system_error (EBADF).
  explicit Reader(const Descriptor& descriptor, std::size_t limit = default_read_limit);

  // Bytes that are there, at least one; 0 at the end of the stream.
  Task<std::size_t> read_some(std::span<std::byte> area);
  // What is there, at most `most` bytes; empty at the end of the stream.
  Task<std::string> read_some(std::size_t most);
  // Throws IncompleteRead; the limit does not count.
  Task<std::string> read_exactly(std::size_t count);
  // Up to and with the delimiter, which is not empty. Throws IncompleteRead or LimitOverrun.
  Task<std::string> read_until(std::string_view delimiter);
  // Up to and with "\n"; at the end of the stream without, and then empty. Throws LimitOverrun.
  Task<std::string> read_line();
  // To the end of the stream. Throws LimitOverrun if that is further than `most`.
  Task<std::string> read_all(std::size_t most);

  // Has the stream ended, and is all of it read?
  [[nodiscard]] bool at_end() const noexcept { return ended_ && buffered() == 0; }
  // Bytes that came and were not read.
  [[nodiscard]] std::size_t buffered() const noexcept { return end_ - begin_; }

private:
  class Reading;
  // Waits for more; false at the end of the stream.
  Task<bool> fill(std::size_t at_least);
  Task<std::size_t> receive(std::span<std::byte> area);
  // Until there are so many; false if the stream ends before.
  Task<bool> collect(std::size_t count);
  // Until there is the delimiter; gives where it ends, or npos at the end of the stream.
  Task<std::size_t> find(std::string_view delimiter);
  void make_room(std::size_t count);
  [[nodiscard]] std::string_view view() const noexcept {
    return {buffer_.get() + begin_, buffered()};
  }
  std::string take(std::size_t count);

  detail::Holder shared_;
  Op op_;
  std::size_t limit_;
  std::unique_ptr<char[]> buffer_;
  std::size_t capacity_ = 0;
  std::size_t begin_ = 0;
  std::size_t end_ = 0;
  bool ended_ = false;
  bool reading_ = false;
};

}  // namespace schedlab::iouring
