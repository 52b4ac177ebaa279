#pragma once
// The transports of channel.hh, each in a file of its own.

#include "procs/channel.hh"

namespace schedlab::procs::detail {

std::unique_ptr<Channel> make_stream_channel(const ChannelOptions& options);
std::unique_ptr<Channel> make_mq_channel(const ChannelOptions& options);
std::unique_ptr<Channel> make_ring_channel(const ChannelOptions& options);
std::unique_ptr<Channel> make_event_channel(const ChannelOptions& options);
std::unique_ptr<Channel> make_queue_channel(const ChannelOptions& options);

}  // namespace schedlab::procs::detail
