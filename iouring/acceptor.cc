#include "iouring/acceptor.hh"

#include "lab/base/error.hh"

#include <unistd.h>

#include <cerrno>

namespace schedlab::iouring {

namespace {
constexpr std::size_t most_kept = 64;
}

class Acceptor::State final : public detail::Repeating {
public:
  explicit State(const Listener& listener)
      : Repeating(listener.descriptor(), {.op = Op::accept, .many = true, .flags = SOCK_CLOEXEC},
                  most_kept),
        tcp(!listener.address().is_unix()) {}
  const bool tcp;

private:
  bool goes_on(int result) noexcept override { return result == -ECONNABORTED; }
  void discard(const Arrival& arrival) noexcept override {
    if (arrival.result >= 0)
      ::close(arrival.result);
  }
};

void Acceptor::Abandon::operator()(State* state) const noexcept {
  state->abandon();
}

Acceptor::Acceptor(const Listener& listener) : state_(new State(listener)) {}

Task<Socket> Acceptor::next() {
  State& state = *state_;
  co_await detail::Repeating::Next(state);
  const int result = state.first().result;
  state.pop();
  check_kernel(result, "accept", state.shared().name());
  Socket socket{Fd(result)};
  if (state.tcp)
    socket.set_no_delay();
  co_return socket;
}

}  // namespace schedlab::iouring
