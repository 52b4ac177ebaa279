#pragma once
#include <unistd.h>

#include <utility>

namespace schedlab {

// Owns one file descriptor. There is no conversion to int: a raw fd leaves only through get() or
// release(), so every place where ownership could be lost can be found with grep.
class Fd {
public:
  Fd() = default;
  explicit Fd(int fd) noexcept : fd_(fd) {}
  Fd(Fd&& other) noexcept : fd_(std::exchange(other.fd_, -1)) {}
  Fd& operator=(Fd&& other) noexcept {
    Fd taken(std::move(other));
    std::swap(fd_, taken.fd_);
    return *this;
  }
  // A close error is ignored: EINTR has already closed the fd on Linux, and EIO matters only after
  // a write, where the caller fsyncs first.
  ~Fd() {
    if (fd_ >= 0)
      ::close(fd_);
  }

  [[nodiscard]] int get() const noexcept { return fd_; }
  [[nodiscard]] int release() noexcept { return std::exchange(fd_, -1); }
  explicit operator bool() const noexcept { return fd_ >= 0; }

private:
  int fd_ = -1;
};

// The two ends of a pipe, both close-on-exec.
struct Pipe {
  Fd read;
  Fd write;
};

// Throws std::system_error (EMFILE, ENFILE).
Pipe make_pipe();

// Of a process, close-on-exec; can be read from when it has ended. Empty, with errno, where it
// cannot be had.
Fd open_pidfd(pid_t pid) noexcept;

}  // namespace schedlab
