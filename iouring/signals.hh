#pragma once
// Signals as something to wait for: `Signals signals({SIGINT, SIGTERM}); int number = co_await
// signals.next();`

#include "iouring/descriptor.hh"

#include <csignal>
#include <span>
#include <sys/signalfd.h>

namespace schedlab::iouring {

// From its making to its end these signals wait in line here instead of doing what they were set to
// do; one that nobody took does that at the end. The thread's mask is then as it was before. To be
// made before other threads, which inherit the mask: to those without it, the kernel may give a
// signal of the process. Equal signals that wait are one, as always. Loop's thread only, and the
// same thread that made it destroys it.
class Signals {
public:
  // Throws std::system_error (EMFILE, ENFILE; EINVAL for what is no signal, or cannot wait: SIGKILL
  // and SIGSTOP).
  explicit Signals(std::span<const int> numbers);
  Signals(std::initializer_list<int> numbers)
      : Signals(std::span(numbers.begin(), numbers.size())) {}
  Signals(const Signals&) = delete;
  Signals& operator=(const Signals&) = delete;
  ~Signals();

  // The number of the next one. When cancelled none is lost.
  Task<int> next();
  // The next one, with who sent it.
  Task<signalfd_siginfo> next_info();

private:
  sigset_t wanted_;
  sigset_t added_;  // to the mask, by this object
  Descriptor descriptor_;
};

}  // namespace schedlab::iouring
