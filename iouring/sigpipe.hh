#pragma once
// Writing to a pipe that nobody reads any more is the error EPIPE, and not the end of the process.

namespace schedlab::iouring::detail {

// While one lives, its thread takes no SIGPIPE; one that came meanwhile goes with the last. For
// pipes only: sockets have a flag for it. Of one thread.
class NoSigpipe {
public:
  NoSigpipe() noexcept;
  NoSigpipe(const NoSigpipe&) = delete;
  NoSigpipe& operator=(const NoSigpipe&) = delete;
  ~NoSigpipe();
};

}  // namespace schedlab::iouring::detail
