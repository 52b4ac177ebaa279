// The tutorials' queue as a channel: what it costs to have a feeder.

#include "lab/base/clock.hh"
#include "procs/channel_kinds.hh"
#include "procs/feeder_queue.hh"

#include <utility>

namespace schedlab::procs {
namespace {

class QueueChannel final : public Channel {
public:
  // The bound keeps the feeder's list from growing without end.
  explicit QueueChannel(const ChannelOptions& options)
      : Channel(options),
        queue_(options.capacity > 0 ? options.capacity / (options.longest + 1) + 1 : 64) {}

  std::byte* claim(std::size_t size, Outcome& outcome) noexcept override {
    outcome = size <= options().longest ? Outcome::done : Outcome::too_long;
    if (told_closed(Side::receiver))
      outcome = Outcome::closed;
    out_.resize(size);
    // Of an empty message as well there is a place.
    return outcome != Outcome::done ? nullptr : size > 0 ? out_.data() : &nothing_;
  }
  Outcome publish() noexcept override {
    Own& own = this->own(Side::sender);
    for (;;) {
      // The feeder encodes: one copy of the bytes.
      const Outcome outcome = queue_.put([bytes = out_] { return bytes; }, slice());
      own.traffic.kernel_bytes = queue_.traffic(Side::sender).kernel_bytes;
      if (outcome != Outcome::timed_out) {
        own.traffic.copied_bytes += 2 * out_.size();
        return outcome;
      }
      if (told_closed(Side::receiver))
        return Outcome::closed;
      if (own.peer.gone())
        return Outcome::gone;
    }
  }
  std::optional<std::span<const std::byte>> peek(Outcome& outcome) noexcept override {
    Own& own = this->own(Side::receiver);
    for (;;) {
      outcome = queue_.get(in_, slice());
      const Traffic traffic = queue_.traffic(Side::receiver);
      own.traffic.kernel_bytes = traffic.kernel_bytes;
      own.traffic.calls = traffic.calls;
      if (outcome == Outcome::done)
        return std::span<const std::byte>(in_);
      if (outcome != Outcome::timed_out)
        return std::nullopt;
      if (own.peer.gone()) {
        outcome = Outcome::gone;
        return std::nullopt;
      }
    }
  }
  void release() noexcept override {}

  void close(Side side) noexcept override {
    tell_closed(side);
    if (side == Side::sender) {
      queue_.close();
      queue_.join_feeder();
    }
  }

private:
  void part_from(Side other) noexcept override {
    queue_.join(other == Side::sender ? Side::receiver : Side::sender);
  }
  static std::int64_t slice() noexcept { return clock::now_ns() + 100'000'000; }

  FeederQueue queue_;
  std::byte nothing_{};
  alignas(line_pair) std::vector<std::byte> out_;
  alignas(line_pair) std::vector<std::byte> in_;
};

}  // namespace

std::unique_ptr<Channel> detail::make_queue_channel(const ChannelOptions& options) {
  return std::make_unique<QueueChannel>(options);
}

}  // namespace schedlab::procs
