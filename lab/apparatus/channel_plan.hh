#pragma once
// What the labs of channels plan alike.

#include "affinity/placement.hh"
#include "lab/apparatus/channel_load.hh"
#include "lab/harness/plan.hh"

#include <string>
#include <string_view>

namespace schedlab::apparatus {

// The names of channel_ways() but the one with copies, in their order.
inline constexpr std::string_view channel_words[] = {
    "pipe", "socketpair", "mq", "eventfd", "queue", "ring-block", "ring-adaptive", "ring-spin"};

// For a pair of CPUs, or wherever the scheduler puts the two.
ChannelLoadOptions channel_options(const harness::Plan& plan, std::string_view channel,
                                   std::string_view tasks, const affinity::Pair& pair);

// Why it cannot be measured so; empty if it can.
std::string channel_objection(const ChannelLoadOptions& options);

}  // namespace schedlab::apparatus
