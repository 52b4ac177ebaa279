// A POSIX message queue. It knows neither an end nor who is at the other one: both are looked for
// every tenth of a second while nothing comes.

#include "lab/base/clock.hh"
#include "lab/base/error.hh"
#include "procs/channel_kinds.hh"

#include <fcntl.h>
#include <mqueue.h>

#include <algorithm>
#include <atomic>
#include <string>
#include <vector>

namespace schedlab::procs {
namespace {

constexpr long slice_ns = 100'000'000;
constexpr long default_messages = 10;  // fs.mqueue.msg_max, unless somebody changed it
// The queue hands out higher priorities first: the end comes after all messages.
constexpr unsigned of_message = 1;
constexpr unsigned of_end = 0;

// mq_timedreceive takes a time of day.
timespec end_of_slice() noexcept {
  return clock::to_timespec(clock::read_ns(CLOCK_REALTIME) + slice_ns);
}

std::string fresh_name() {
  static std::atomic<unsigned> number{0};
  return "/schedlab-" + std::to_string(::getpid()) + "-" + std::to_string(clock::now_ns()) + "-" +
         std::to_string(number++);
}

// Its name is gone as soon as it exists. On Linux a queue is a descriptor.
Fd open_unnamed(const ChannelOptions& options) {
  mq_attr shape{};
  shape.mq_msgsize = static_cast<long>(std::max<std::size_t>(options.longest, 1));
  // No more than an ordinary system allows.
  const auto fitting = static_cast<long>(options.capacity) / shape.mq_msgsize;
  shape.mq_maxmsg =
      options.capacity > 0 ? std::clamp(fitting, 1L, default_messages) : default_messages;
  const std::string name = fresh_name();
  const mqd_t queue = ::mq_open(name.c_str(), O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600, &shape);
  if (queue != static_cast<mqd_t>(-1)) {
    ::mq_unlink(name.c_str());
    return Fd(queue);
  }
  const int error = errno;
  if (error == ENOSYS)
    throw Unsupported("the kernel has no POSIX message queues (CONFIG_POSIX_MQUEUE)");
  if (error == EINVAL)
    throw Unsupported("no message queue of " + std::to_string(shape.mq_maxmsg) + " messages of " +
                      std::to_string(shape.mq_msgsize) +
                      " bytes; raise fs.mqueue.msg_max and fs.mqueue.msgsize_max");
  if (error == EMFILE || error == ENOMEM || error == ENOSPC)
    throw Unsupported("no room for a POSIX message queue: " + errno_text(error) +
                      "; raise RLIMIT_MSGQUEUE (ulimit -q) or fs.mqueue.queues_max");
  throw_errno(error, "mq_open", name);
}

class MqChannel final : public Channel {
public:
  explicit MqChannel(const ChannelOptions& options)
      : Channel(options), queue_(open_unnamed(options)), out_(options.longest),
        in_(std::max<std::size_t>(options.longest, 1)) {}

  std::byte* claim(std::size_t size, Outcome& outcome) noexcept override {
    outcome = size <= options().longest ? Outcome::done : Outcome::too_long;
    claimed_ = size;
    return outcome == Outcome::done ? out_.data() : nullptr;
  }

  Outcome publish() noexcept override {
    Own& own = this->own(Side::sender);
    for (;;) {
      if (told_closed(Side::receiver))
        return Outcome::closed;
      const timespec end = end_of_slice();
      ++own.traffic.calls;
      if (::mq_timedsend(queue_.get(), reinterpret_cast<const char*>(out_.data()), claimed_,
                         of_message, &end) == 0) {
        own.traffic.kernel_bytes += claimed_;
        return Outcome::done;
      }
      if (errno == ETIMEDOUT && own.peer.gone())
        return told_closed(Side::receiver) ? Outcome::closed : Outcome::gone;
    }
  }

  std::optional<std::span<const std::byte>> peek(Outcome& outcome) noexcept override {
    Own& own = this->own(Side::receiver);
    for (bool last_look = false;;) {
      const timespec end = last_look ? timespec{} : end_of_slice();
      unsigned priority = of_end;
      ++own.traffic.calls;
      const ssize_t got = ::mq_timedreceive(queue_.get(), reinterpret_cast<char*>(in_.data()),
                                            in_.size(), &priority, &end);
      if (got >= 0 && priority == of_message) {
        own.traffic.kernel_bytes += static_cast<std::uint64_t>(got);
        outcome = Outcome::done;
        return std::span<const std::byte>(in_.data(), static_cast<std::size_t>(got));
      }
      if (got < 0 && errno == EINTR)
        continue;
      outcome = told_closed(Side::sender) ? Outcome::closed : Outcome::gone;
      if (last_look || got >= 0)
        return std::nullopt;
      // Who is dead or through may have sent between our look and its end: one look more.
      last_look = outcome == Outcome::closed || own.peer.gone();
    }
  }
  void release() noexcept override {}

  void close(Side side) noexcept override {
    tell_closed(side);
    const timespec at_once{};
    if (side == Side::sender)  // where the queue is full the flag is seen a slice later
      ::mq_timedsend(queue_.get(), "", 0, of_end, &at_once);
  }

private:
  void part_from(Side) noexcept override {}

  Fd queue_;
  alignas(line_pair) std::vector<std::byte> out_;
  std::size_t claimed_ = 0;
  alignas(line_pair) std::vector<std::byte> in_;
};

}  // namespace

std::unique_ptr<Channel> detail::make_mq_channel(const ChannelOptions& options) {
  return std::make_unique<MqChannel>(options);
}

}  // namespace schedlab::procs
