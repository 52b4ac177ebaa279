#include "iouring/writer.hh"

#include "iouring/perform.hh"
#include "iouring/sigpipe.hh"

#include <sys/socket.h>
#include <sys/stat.h>

#include <algorithm>
#include <cerrno>
#include <limits>
#include <optional>
#include <string>
#include <vector>

namespace schedlab::iouring {

namespace {

constexpr std::size_t most_at_once = 0x40000000;  // of one send

bool is_socket(int fd) {
  struct stat status;
  return ::fstat(fd, &status) == 0 && S_ISSOCK(status.st_mode);
}

}  // namespace

// Goes when its last request has ended.
class Writer::State final : private Operation, private Timer {
public:
  State(const Descriptor& descriptor, const WaterMarks& wanted)
      : marks(wanted), loop_(*Loop::current()), shared_(descriptor, "write"),
        socket_(is_socket(descriptor.get())) {
    shared_->begin_sending("write");
    if (!socket_)
      no_sigpipe_.emplace();
  }

  // Waits until no more than `level` bytes are left, at least for one turn.
  class [[nodiscard]] Below final : private detail::Suspension {
  public:
    Below(State& state, std::size_t level) noexcept : state_(state), level_(level) {}
    bool await_ready() const noexcept { return false; }
    template <std::derived_from<detail::PromiseBase> Promise>
    bool await_suspend(std::coroutine_handle<Promise> coroutine) noexcept {
      if (!suspend(coroutine))
        return false;
      state_.start();
      if (state_.is_below(level_))
        resume();
      else
        state_.waiters_.push_back(this);
      return true;
    }
    void await_resume() const {
      throw_if_cancelled();
      state_.throw_error();
    }

  private:
    friend class State;
    void on_cancel() noexcept override {
      std::erase(state_.waiters_, this);
      cut_short();
    }
    State& state_;
    std::size_t level_;
  };

  void write(std::span<const std::byte> data) {
    throw_error();
    if (ended)
      throw_errno(EPIPE, "write", shared_->name());
    pending_.append(reinterpret_cast<const char*>(data.data()), data.size());
    if (!in_flight_ && !is_set())
      loop_.timers().set(*this, 0);
  }
  [[nodiscard]] std::size_t buffered() const noexcept {
    return sending_.size() - sent_ + pending_.size();
  }
  [[nodiscard]] detail::OpenFd& shared() noexcept { return *shared_; }
  [[nodiscard]] bool is_socket_writer() const noexcept { return socket_; }

  // The owner goes.
  void abandon() noexcept {
    loop_.timers().unset(*this);
    abandoned_ = true;
    shared_->end_sending();
    if (in_flight_)
      loop_.driver().cancel(*this);
    else
      delete this;
  }

  const WaterMarks marks;
  bool ended = false;  // by write_eof

private:
  ~State() = default;

  void throw_error() const {
    if (error_ != 0)
      throw_errno(error_, socket_ ? "send" : "write", shared_->name());
  }
  [[nodiscard]] bool is_below(std::size_t level) const noexcept {
    return error_ != 0 || buffered() <= level;
  }

  void expired() noexcept override { start(); }
  void start() noexcept {
    loop_.timers().unset(*this);
    if (in_flight_ || pending_.empty() || error_ != 0)
      return;
    sending_.swap(pending_);
    pending_.clear();
    sent_ = 0;
    submit();
  }
  void submit() noexcept {
    if (shared_->get() < 0)
      return fail(ECANCELED);
    request_.op = socket_ ? Op::send : Op::write;
    request_.fd = shared_->get();
    request_.flags = socket_ ? MSG_NOSIGNAL | MSG_WAITALL : 0;
    request_.length = static_cast<std::uint32_t>(std::min(sending_.size() - sent_, most_at_once));
    request_.address = sending_.data() + sent_;
    in_flight_ = true;
    shared_->begin_use();
    loop_.driver().submit(request_, *this);
  }
  void complete(int result, std::uint32_t) noexcept override {
    in_flight_ = false;
    if (result > 0)
      sent_ += static_cast<std::size_t>(result);
    if (result < 0)
      fail(-result);
    shared_->end_use();
    if (abandoned_) {
      delete this;
      return;
    }
    if (error_ == 0 && sent_ < sending_.size()) {
      submit();
    } else if (error_ == 0) {
      forget_sent();
      start();
    }
    wake();
  }
  // Idle connections keep little.
  void forget_sent() noexcept {
    sent_ = 0;
    if (sending_.capacity() > 2 * marks.high)
      sending_ = std::string();
    else
      sending_.clear();
  }
  void fail(int error) noexcept {
    error_ = error;
    pending_ = std::string();
    forget_sent();
    wake();
  }
  void wake() noexcept {
    std::erase_if(waiters_, [this](Below* waiter) {
      const bool done = is_below(waiter->level_);
      if (done)
        waiter->resume();
      return done;
    });
  }

  Loop& loop_;
  detail::Holder shared_;
  bool socket_;
  std::optional<detail::NoSigpipe> no_sigpipe_;
  std::string pending_;  // to be sent next
  std::string sending_;  // stays as it is until it is sent
  std::size_t sent_ = 0;
  Request request_;
  bool in_flight_ = false;
  bool abandoned_ = false;
  int error_ = 0;
  std::vector<Below*> waiters_;
};

void Writer::Abandon::operator()(State* state) const noexcept {
  state->abandon();
}

Writer::Writer(const Descriptor& descriptor, const WaterMarks& marks)
    : state_(new State(descriptor, marks)) {}

void Writer::write(std::span<const std::byte> data) {
  state_->write(data);
}

std::size_t Writer::buffered() const noexcept {
  return state_->buffered();
}

Task<> Writer::drain() {
  State& state = *state_;
  const bool piled_up = state.buffered() > state.marks.high;
  co_await State::Below(state,
                        piled_up ? state.marks.low : std::numeric_limits<std::size_t>::max());
}

Task<> Writer::flush() {
  co_await State::Below(*state_, 0);
}

Task<> Writer::write_eof() {
  State& state = *state_;
  state.ended = true;
  co_await State::Below(state, 0);
  if (!state.is_socket_writer())
    co_return;
  const detail::InUse use(state.shared(), "shutdown");
  co_await perform({.op = Op::shutdown, .fd = use.fd(), .flags = SHUT_WR}, "shutdown", use.name());
}

}  // namespace schedlab::iouring
