// Rings in shared memory, with two ways to sleep: on a futex, or on an eventfd, which can be waited
// for together with other descriptors; the peer's death is one of those.

#include "lab/base/error.hh"
#include "procs/channel_kinds.hh"
#include "procs/record_ring.hh"
#include "procs/sealed_memory.hh"

#include <poll.h>
#include <sys/eventfd.h>

#include <algorithm>
#include <bit>
#include <new>

namespace schedlab::procs {
namespace {

constexpr std::size_t default_capacity = 64 * 1024;

// Room for two of the longest messages, whatever the capacity.
std::size_t ring_bytes(const ChannelOptions& options) {
  const std::size_t wanted = options.capacity > 0 ? options.capacity : default_capacity;
  return std::bit_ceil(std::max<std::size_t>({wanted, 2 * options.longest + 32, 64}));
}

class RingChannel final : public Channel {
public:
  explicit RingChannel(const ChannelOptions& options)
      : Channel(options),
        memory_(SealedMemory::make(RecordRing::bytes(ring_bytes(options)), "channel")),
        ring_(RecordRing::make(memory_.bytes(), ring_bytes(options),
                               {.sleeps = options.sleeps, .scope = options.scope})),
        producer_(ring_.producer()), consumer_(ring_.consumer()) {}

  std::byte* claim(std::size_t size, Outcome& outcome) noexcept override {
    if (producer_.consumer_closed()) {
      outcome = Outcome::closed;
      return nullptr;
    }
    return producer_.claim(size, wait(Side::sender), outcome);
  }
  Outcome publish() noexcept override {
    producer_.publish();
    return Outcome::done;
  }
  std::optional<std::span<const std::byte>> peek(Outcome& outcome) noexcept override {
    return consumer_.peek(wait(Side::receiver), outcome);
  }
  void release() noexcept override { consumer_.release(); }
  void close(Side side) noexcept override {
    side == Side::sender ? producer_.close() : consumer_.close();
  }

private:
  void part_from(Side) noexcept override {}
  Wait wait(Side side) noexcept {
    const Peer& peer = own(side).peer;
    return {options().patience, peer.pidfd() >= 0 ? &peer : nullptr, never};
  }

  SealedMemory memory_;
  RecordRing ring_;
  RecordProducer producer_;
  RecordConsumer consumer_;
};

// A bell whose sleeper sleeps on an eventfd and on its peer's end. One sleeper.
class EventBell {
public:
  explicit EventBell(BellWord& word)
      : word_(&word), event_(check(::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK), "eventfd")) {}

  void ring(Traffic& traffic) noexcept {
    if (!word_->ring())
      return;
    word_->hush();
    ::eventfd_write(event_.get(), 1);
    ++traffic.calls;
  }
  [[nodiscard]] std::uint32_t listen() noexcept { return word_->listen(); }
  // Who rings after listen() writes to the eventfd, so that the value is of no use here. Whoever
  // could be killed between the two is the peer, and its end wakes as well.
  void sleep(std::uint32_t, const Wait& wait) noexcept {
    pollfd doors[2] = {{.fd = event_.get(), .events = POLLIN, .revents = 0},
                       {.fd = wait.peer ? wait.peer->pidfd() : -1, .events = POLLIN, .revents = 0}};
    ::poll(doors, 2, -1);
    eventfd_t count;
    ::eventfd_read(event_.get(), &count);
  }

private:
  BellWord* word_;
  Fd event_;
};

class EventChannel final : public Channel {
public:
  explicit EventChannel(const ChannelOptions& options)
      : Channel(options), memory_(SealedMemory::make(
                              2 * line_pair + RecordRing::bytes(ring_bytes(options)), "channel")),
        ring_(RecordRing::make(memory_.bytes().subspan(2 * line_pair), ring_bytes(options),
                               {.sleeps = false, .scope = options.scope})),
        producer_(ring_.producer()), consumer_(ring_.consumer()),
        items_(*new (memory_.data()) BellWord), room_(*new (memory_.data() + line_pair) BellWord) {}

  std::byte* claim(std::size_t size, Outcome& outcome) noexcept override {
    outcome = size <= options().longest ? Outcome::done : Outcome::too_long;
    bool closed = outcome == Outcome::done && producer_.consumer_closed();
    std::byte* room = outcome == Outcome::done && !closed ? producer_.try_claim(size) : nullptr;
    if (outcome == Outcome::done && !closed && !room)
      outcome = await(&room_, wait(Side::sender), [&] {
        closed = producer_.consumer_closed();
        return closed || (room = producer_.try_claim(size)) != nullptr;
      });
    if (closed)
      outcome = Outcome::closed;
    return outcome == Outcome::done ? room : nullptr;
  }
  Outcome publish() noexcept override {
    producer_.publish();
    items_.ring(own(Side::sender).traffic);
    return Outcome::done;
  }
  std::optional<std::span<const std::byte>> peek(Outcome& outcome) noexcept override {
    outcome = Outcome::done;
    auto message = consumer_.try_peek();
    if (message)
      return message;
    outcome = await(&items_, wait(Side::receiver), [&] {
      // Before the look: what came before the close is seen.
      const bool closed = ring_.control().closed(RingControl::by_producer);
      message = consumer_.try_peek();
      return message || closed;
    });
    if (outcome == Outcome::done && !message)
      outcome = Outcome::closed;
    return message;
  }
  void release() noexcept override {
    consumer_.release();
    room_.ring(own(Side::receiver).traffic);
  }
  void close(Side side) noexcept override {
    Traffic& traffic = own(side).traffic;
    if (side == Side::sender) {
      producer_.close();
      items_.ring(traffic);
    } else {
      consumer_.close();
      room_.ring(traffic);
    }
  }

private:
  void part_from(Side) noexcept override {}
  Wait wait(Side side) noexcept { return {options().patience, &own(side).peer, never}; }

  SealedMemory memory_;
  RecordRing ring_;
  RecordProducer producer_;
  RecordConsumer consumer_;
  EventBell items_;
  EventBell room_;
};

}  // namespace

std::unique_ptr<Channel> detail::make_ring_channel(const ChannelOptions& options) {
  return std::make_unique<RingChannel>(options);
}

std::unique_ptr<Channel> detail::make_event_channel(const ChannelOptions& options) {
  return std::make_unique<EventChannel>(options);
}

}  // namespace schedlab::procs
