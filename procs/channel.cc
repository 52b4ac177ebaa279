#include "procs/channel.hh"

#include "procs/channel_kinds.hh"

#include <csignal>
#include <cstring>
#include <new>
#include <utility>

namespace schedlab::procs {
namespace {

using Flags = std::atomic<std::uint32_t>;

std::uint32_t bit(Side side) noexcept {
  return side == Side::sender ? 1 : 2;
}

}  // namespace

std::string_view to_text(Transport transport) noexcept {
  switch (transport) {
  case Transport::pipe:
    return "pipe";
  case Transport::socketpair:
    return "socketpair";
  case Transport::mq:
    return "mq";
  case Transport::eventfd:
    return "eventfd";
  case Transport::ring:
    return "ring";
  case Transport::queue:
    break;
  }
  return "queue";
}

std::unique_ptr<Channel> Channel::make(const ChannelOptions& options) {
  switch (options.transport) {
  case Transport::pipe:
  case Transport::socketpair:
    return detail::make_stream_channel(options);
  case Transport::mq:
    return detail::make_mq_channel(options);
  case Transport::eventfd:
    return detail::make_event_channel(options);
  case Transport::ring:
    return detail::make_ring_channel(options);
  case Transport::queue:
    break;
  }
  return detail::make_queue_channel(options);
}

Channel::Channel(const ChannelOptions& options)
    : options_(options), shared_(Mapping::shared_memory(sizeof(Flags))) {
  new (shared_.data()) Flags(0);
}

void Channel::join(Side side, Peer peer) {
  own(side).peer = std::move(peer);
  if (side == Side::sender) {
    sigset_t pipe;
    ::sigemptyset(&pipe);
    ::sigaddset(&pipe, SIGPIPE);
    ::pthread_sigmask(SIG_BLOCK, &pipe, nullptr);
  }
  if (options_.scope == Bell::Scope::processes)
    part_from(side == Side::sender ? Side::receiver : Side::sender);
}

Outcome Channel::send(std::span<const std::byte> message) noexcept {
  Outcome outcome;
  std::byte* const room = claim(message.size(), outcome);
  if (!room)
    return outcome;
  if (!message.empty())
    std::memcpy(room, message.data(), message.size());
  sent_.traffic.copied_bytes += message.size();
  return publish();
}

void Channel::tell_closed(Side side) noexcept {
  shared_.as<Flags>()->fetch_or(bit(side), std::memory_order_release);
}

bool Channel::told_closed(Side side) const noexcept {
  return shared_.as<Flags>()->load(std::memory_order_acquire) & bit(side);
}

}  // namespace schedlab::procs
