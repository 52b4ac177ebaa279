// Pipe and socket pair: streams of bytes, in which each message stands behind its length.

#include "lab/base/error.hh"
#include "lab/base/fd.hh"
#include "procs/channel_kinds.hh"

#include <fcntl.h>
#include <sys/socket.h>

#include <algorithm>
#include <cstring>
#include <string>
#include <vector>

namespace schedlab::procs {
namespace {

using Length = std::uint64_t;
// Short messages are read as many at a time as come, long ones one by one: the beginning of the
// next one would have to be moved.
constexpr std::size_t read_ahead = 64 * 1024;
constexpr std::size_t short_message = 4096;

Pipe pipe_of(std::size_t capacity) {
  Pipe made = make_pipe();
  if (capacity == 0)
    return made;
  if (::fcntl(made.write.get(), F_SETPIPE_SZ, static_cast<int>(capacity)) < 0) {
    const int error = errno;
    if (error == EPERM || error == EBUSY)
      throw Unsupported("a pipe of " + std::to_string(capacity) + " bytes is refused: " +
                        errno_text(error) + "; raise fs.pipe-max-size or fs.pipe-user-pages-soft");
    throw_errno(error, "fcntl(F_SETPIPE_SZ)", std::to_string(capacity));
  }
  return made;
}

Pipe socket_pair_of(std::size_t capacity) {
  int ends[2];
  check(::socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends), "socketpair");
  Pipe made{Fd(ends[0]), Fd(ends[1])};
  const int bytes = static_cast<int>(capacity);
  if (bytes > 0)
    check(::setsockopt(made.write.get(), SOL_SOCKET, SO_SNDBUF, &bytes, sizeof bytes),
          "setsockopt(SO_SNDBUF)", std::to_string(capacity));
  return made;
}

class StreamChannel final : public Channel {
public:
  explicit StreamChannel(const ChannelOptions& options)
      : Channel(options),
        ends_(options.transport == Transport::pipe ? pipe_of(options.capacity)
                                                   : socket_pair_of(options.capacity)),
        out_(sizeof(Length) + options.longest), in_(sizeof(Length) + options.longest + read_ahead) {
  }

  std::byte* claim(std::size_t size, Outcome& outcome) noexcept override {
    outcome = size <= options().longest ? Outcome::done : Outcome::too_long;
    claimed_ = size;
    return outcome == Outcome::done ? out_.data() + sizeof(Length) : nullptr;
  }

  Outcome publish() noexcept override {
    const Length length = claimed_;
    std::memcpy(out_.data(), &length, sizeof length);
    Traffic& traffic = own(Side::sender).traffic;
    for (std::size_t done = 0; done < sizeof length + length;) {
      const ssize_t wrote =
          ::write(ends_.write.get(), out_.data() + done, sizeof length + length - done);
      ++traffic.calls;
      if (wrote < 0 && errno != EINTR)
        return told_closed(Side::receiver) ? Outcome::closed : Outcome::gone;
      if (wrote > 0) {
        done += static_cast<std::size_t>(wrote);
        traffic.kernel_bytes += static_cast<std::uint64_t>(wrote);
      }
    }
    return Outcome::done;
  }

  std::optional<std::span<const std::byte>> peek(Outcome& outcome) noexcept override {
    for (outcome = Outcome::done; outcome == Outcome::done; outcome = read_on()) {
      const std::size_t there = end_ - begin_;
      if (there < sizeof(Length))
        continue;
      Length length;
      std::memcpy(&length, in_.data() + begin_, sizeof length);
      if (length > options().longest) {  // torn by somebody who is no sender of ours
        outcome = Outcome::broken;
        return std::nullopt;
      }
      if (there - sizeof length >= length)
        return std::span<const std::byte>(in_.data() + begin_ + sizeof length, length);
    }
    return std::nullopt;
  }

  void release() noexcept override {
    Length length;
    std::memcpy(&length, in_.data() + begin_, sizeof length);
    begin_ += sizeof length + length;
    like_last_ = length < short_message ? read_ahead : sizeof length + length;
    if (begin_ == end_)
      begin_ = end_ = 0;
  }

  void close(Side side) noexcept override {
    tell_closed(side);
    part_from(side);
  }

private:
  void part_from(Side side) noexcept override {
    (side == Side::sender ? ends_.write : ends_.read) = Fd();
  }

  // Reads what is there, at least a byte.
  Outcome read_on() noexcept {
    Traffic& traffic = own(Side::receiver).traffic;
    // The message that has begun must fit behind its beginning.
    if (in_.size() - begin_ < sizeof(Length) + options().longest) {
      std::memmove(in_.data(), in_.data() + begin_, end_ - begin_);
      traffic.copied_bytes += end_ - begin_;
      end_ -= begin_;
      begin_ = 0;
    }
    const std::size_t room = in_.size() - end_;
    const ssize_t got = ::read(ends_.read.get(), in_.data() + end_, std::min(room, wanted()));
    ++traffic.calls;
    if (got > 0) {
      end_ += static_cast<std::size_t>(got);
      traffic.kernel_bytes += static_cast<std::uint64_t>(got);
      return Outcome::done;
    }
    if (got < 0 && errno == EINTR)
      return Outcome::done;
    if (begin_ < end_)
      return Outcome::broken;
    return told_closed(Side::sender) ? Outcome::closed : Outcome::gone;
  }

  // How much to ask for: the rest of the message that has begun, or as much as the last one.
  [[nodiscard]] std::size_t wanted() const noexcept {
    const std::size_t there = end_ - begin_;
    if (there < sizeof(Length))
      return std::max(like_last_, sizeof(Length)) - there;
    Length length;
    std::memcpy(&length, in_.data() + begin_, sizeof length);
    return std::max(like_last_, sizeof length + length) - there;
  }

  Pipe ends_;
  alignas(line_pair) std::vector<std::byte> out_;
  std::size_t claimed_ = 0;
  alignas(line_pair) std::vector<std::byte> in_;
  std::size_t begin_ = 0;  // of what was read and not released
  std::size_t end_ = 0;
  std::size_t like_last_ = read_ahead;
};

}  // namespace

std::unique_ptr<Channel> detail::make_stream_channel(const ChannelOptions& options) {
  return std::make_unique<StreamChannel>(options);
}

}  // namespace schedlab::procs
