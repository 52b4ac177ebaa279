#pragma once
// Connections by one request for all of them: `Acceptor acceptor(listener); ... co_await
// acceptor.next()`.

#include "iouring/repeating.hh"
#include "iouring/socket.hh"

#include <memory>

namespace schedlab::iouring {

// Takes connections as they come and keeps them, in order, until next() takes them; with 64 kept
// the rest waits in the listener's backlog. Destroying it closes those that nobody took. The
// listener's accept() is not used beside it. To be destroyed by a task, before the loop's run()
// ends.
class Acceptor {
public:
  // In the running loop. Throws std::system_error (EBADF) if the listener is closed.
  explicit Acceptor(const Listener& listener);

  // The next connection. One task at a time. When cancelled none is lost. Throws std::system_error
  // (EMFILE, ENFILE, ...: to be called again; ECANCELED: the listener was closed).
  Task<Socket> next();

private:
  class State;
  struct Abandon {
    void operator()(State* state) const noexcept;
  };
  std::unique_ptr<State, Abandon> state_;
};

}  // namespace schedlab::iouring
