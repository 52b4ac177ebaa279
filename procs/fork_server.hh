#pragma once
// A process without threads and with little memory that forks others on request, so that a program
// with many of both can have children by fork, cheaply and without anybody's locks held in them.
//
// It is reached by a socket pair: a request carries the order, the descriptors of the child and the
// pipe on which the child and the server tell of it; the answer carries its pidfd. The server ends
// when nobody holds the other end any more, and when its starter dies; its children die with it.

#include "procs/process.hh"

#include <memory>

namespace schedlab::procs {

class ForkServer {
public:
  // By exec the server is a fresh process at any time; by fork it is a copy of this one, which must
  // have no other threads yet. Throws as Process does.
  explicit ForkServer(StartMethod method = StartMethod::exec);

  [[nodiscard]] pid_t pid() const noexcept;
  // Whether it still runs. A server that was killed starts no process any more (EPIPE) and is to be
  // replaced by another.
  [[nodiscard]] bool running() const noexcept;

private:
  friend class Process;
  struct State;
  // Shared with the processes it has started: the server stays as long as one of them is held.
  std::shared_ptr<State> state_;
};

}  // namespace schedlab::procs
