#pragma once
// Messages from one task to another, the same way over each of the mechanisms of the kernel and of
// shared memory. A message is bytes, arrives whole and in order, and may be empty.
//
// Both sides work in place: the sender writes into what claim() gives, the receiver reads what
// peek() gives. Which copies that takes is the transport's affair, and counted.
//
// A channel is made before the other task is started. Then each task joins it once, and uses its
// side only. Processes share it by fork: what the one does not need of it is closed there, so that
// each learns of the other's death. That takes that no third process keeps its copies.
//
// Death and close. close() is an orderly end: the receiver gets all that was sent, and then
// `closed`; a sender gets `closed` with its next message, or the one for which there is no room.
// The end of a process without a close is `gone`, or `broken` where it happened in a message that
// had begun to arrive. Nobody waits longer than 0.2 s for somebody who is dead.

#include "lab/base/cache_line.hh"
#include "lab/base/mapping.hh"
#include "procs/bell.hh"

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string_view>

namespace schedlab::procs {

enum class Transport : std::uint8_t {
  pipe,
  socketpair,  // AF_UNIX, a stream
  mq,          // POSIX message queue
  eventfd,     // a ring in shared memory; who finds it empty or full sleeps on an eventfd
  ring,        // likewise, but sleeps on a futex, or spins
  queue,       // a queue with a feeder thread: feeder_queue.hh
};
std::string_view to_text(Transport transport) noexcept;

struct ChannelOptions {
  Transport transport = Transport::pipe;
  Bell::Scope scope = Bell::Scope::processes;  // what the two tasks are
  std::size_t longest = 4096;                  // bytes of the longest message
  // Bytes on their way at most, where the transport lets one choose; 0: its own default. A ring
  // takes a power of two, and room for two messages at least.
  std::size_t capacity = 0;
  // Of the two rings: how often who waits looks before it sleeps, and whether it ever does.
  Patience patience = {};
  bool sleeps = true;
};

// What one side has done since it joined.
struct Traffic {
  std::uint64_t kernel_bytes = 0;  // that went through system calls
  std::uint64_t copied_bytes = 0;  // that the channel itself moved in memory
  std::uint64_t calls = 0;         // system calls that moved messages
};

enum class Side : std::uint8_t { sender, receiver };

class Channel {
public:
  // Throws Unsupported where the system's limits forbid it, with the limit; BadInput for options
  // that make no sense, std::system_error.
  static std::unique_ptr<Channel> make(const ChannelOptions& options);
  Channel(const Channel&) = delete;
  Channel& operator=(const Channel&) = delete;
  virtual ~Channel() = default;

  // The calling task plays this side from now on; `peer` is the process that plays the other one,
  // nothing for a thread. The sender has SIGPIPE blocked in its thread from then on.
  void join(Side side, Peer peer = {});

  // For the sender: room for a message of `size` bytes, to be written and then published; null
  // with the reason: too_long, closed, gone.
  [[nodiscard]] virtual std::byte* claim(std::size_t size, Outcome& outcome) noexcept = 0;
  // Sends what was written to the room claimed last.
  virtual Outcome publish() noexcept = 0;
  // Both, with a copy.
  Outcome send(std::span<const std::byte> message) noexcept;

  // For the receiver: the next message, valid until release(); nothing with the reason: closed,
  // gone, broken.
  [[nodiscard]] virtual std::optional<std::span<const std::byte>>
  peek(Outcome& outcome) noexcept = 0;
  // After each peek that gave a message.
  virtual void release() noexcept = 0;

  // By the task that plays the side; once.
  virtual void close(Side side) noexcept = 0;

  [[nodiscard]] const Traffic& traffic(Side side) const noexcept {
    return side == Side::sender ? sent_.traffic : received_.traffic;
  }

protected:
  // What each side knows of its own, on cache lines of its own.
  struct alignas(line_pair) Own {
    Peer peer;
    Traffic traffic;
  };

  explicit Channel(const ChannelOptions& options);
  // Gives up, in a process of its own, what only the other side needs.
  virtual void part_from(Side other) noexcept = 0;

  [[nodiscard]] const ChannelOptions& options() const noexcept { return options_; }
  Own& own(Side side) noexcept { return side == Side::sender ? sent_ : received_; }

  // Whether a side has said that it is through, where the transport has no place for that.
  void tell_closed(Side side) noexcept;
  [[nodiscard]] bool told_closed(Side side) const noexcept;

private:
  ChannelOptions options_;
  Own sent_;
  Own received_;
  Mapping shared_;
};

}  // namespace schedlab::procs
