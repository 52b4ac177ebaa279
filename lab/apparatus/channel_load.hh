#pragma once
// Two tasks and a channel between them: messages there and back one at a time, or as many as go
// through in one direction. The calling thread is one of the tasks; its partner is a thread of this
// process or a process of its own.

#include "lab/apparatus/team.hh"
#include "lab/harness/sample.hh"
#include "procs/channel.hh"

#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <string_view>
#include <vector>

namespace schedlab::apparatus {

// A transport and how its sides wait.
struct ChannelWay {
  std::string_view name;
  procs::Transport transport = procs::Transport::pipe;
  procs::Patience patience = {};
  bool sleeps = true;   // false: both sides spin, and need a CPU each
  bool copies = false;  // a ring that is used with a copy at each side
};

// "pipe", "socketpair", "mq", "eventfd", "queue", "ring-block", "ring-adaptive", "ring-spin", and
// "ring-copy", which is "ring-adaptive" with its copies.
const std::vector<ChannelWay>& channel_ways();
const ChannelWay& channel_way(std::string_view name);

// The check of what arrived, for those who judge by it.
inline constexpr std::string_view exchange_check = "messages lost, doubled or out of order";

struct ChannelLoadOptions {
  ChannelWay way;
  TaskKind kind = TaskKind::threads;
  std::optional<unsigned> first;   // the caller's CPU; nothing: unpinned
  std::optional<unsigned> second;  // the partner's
  affinity::CpuSet usable;
  std::size_t size = 8;      // bytes of a message, 8 or more
  std::size_t capacity = 0;  // bytes under way, as ChannelOptions has it
  std::int64_t gap_ns = 0;   // the caller spins so long before each message, while the other waits
};

// Indexes of the metrics that a sample fills in; all of one message but the first two.
struct RoundMetrics {
  std::size_t round_trip = 0;  // ns, there and back
  std::size_t one_way = 1;     // ns, from before the claim until the receiver has the message
  std::size_t p99 = 2;         // of one_way; only of 299 messages and more
  std::size_t cpu = 3;         // ns of CPU time of both tasks
  std::size_t calls = 4;       // system calls that move or wake, of both tasks
};

// A subject whose operation is a round trip. Throws Unsupported, std::system_error.
std::unique_ptr<harness::Subject> make_channel_rounds(const ChannelLoadOptions& options,
                                                      const RoundMetrics& metrics);

struct StreamMetrics {
  std::size_t rate = 0;    // messages a second
  std::size_t bytes = 1;   // bytes a second
  std::size_t p99 = 2;     // ns from the claim to the receiver, of one message in 32
  std::size_t copies = 3;  // times that a byte is moved
  std::size_t calls = 4;   // system calls for a message
  std::size_t cpu = 5;     // ns of CPU time of both tasks for a message
};

// A subject whose operation is 16 messages in one direction, or 4 from 64 KiB on. The clock runs
// from the sender's first claim until the receiver has released the last message. Throws
// Unsupported, std::system_error.
std::unique_ptr<harness::Subject> make_channel_stream(const ChannelLoadOptions& options,
                                                      const StreamMetrics& metrics);

}  // namespace schedlab::apparatus
