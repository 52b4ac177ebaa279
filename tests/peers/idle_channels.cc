// What waiting for nothing costs: a process for each transport waits for a message that does not
// come, and the CPU time that the kernel counts for it meanwhile is printed as a share.
//
//   idle_channels SECONDS
#include "lab/base/child.hh"
#include "lab/base/error.hh"
#include "lab/base/file.hh"
#include "procs/channel.hh"
#include "tests/peers/second.hh"

#include <memory>
#include <string>
#include <vector>

namespace {

using namespace schedlab;
using procs::Peer;
using procs::Side;
using procs::Transport;

struct Waiter {
  Transport transport;
  std::unique_ptr<procs::Channel> channel;
  Child child;
};

Waiter start(Transport transport) {
  procs::ChannelOptions options;
  options.transport = transport;
  options.patience = {200};
  Waiter waiter{transport, procs::Channel::make(options), {}};
  auto* const channel = waiter.channel.get();
  waiter.child = Child::fork([channel, parent = ::getpid()] {
    channel->join(Side::receiver, Peer::of(parent));
    procs::Outcome outcome;
    static_cast<void>(channel->peek(outcome));
    return 0;
  });
  channel->join(Side::sender, Peer::of(waiter.child.pid()));
  return waiter;
}

// Nanoseconds on a CPU, by the scheduler's count.
double cpu_ns(const Waiter& waiter) {
  const auto path = "/proc/" + std::to_string(waiter.child.pid()) + "/schedstat";
  const std::string text = read_text(path).value_or("");
  return static_cast<double>(second::number(text.substr(0, text.find(' ')).c_str()));
}

}  // namespace

int main(int argc, char** argv) {
  if (argc != 2)
    return 2;
  const auto seconds = second::number(argv[1]);
  std::vector<Waiter> waiters;
  for (const auto transport : {Transport::pipe, Transport::socketpair, Transport::mq,
                               Transport::eventfd, Transport::ring, Transport::queue})
    waiters.push_back(start(transport));
  const timespec settle{0, 100'000'000};
  ::clock_nanosleep(CLOCK_MONOTONIC, 0, &settle, nullptr);
  std::vector<double> before;
  for (const auto& waiter : waiters)
    before.push_back(cpu_ns(waiter));
  const timespec pause{static_cast<time_t>(seconds), 0};
  ::clock_nanosleep(CLOCK_MONOTONIC, 0, &pause, nullptr);
  for (std::size_t i = 0; i < waiters.size(); ++i) {
    const double share = (cpu_ns(waiters[i]) - before[i]) / (static_cast<double>(seconds) * 1e9);
    std::printf("| %s, idle | %.4f %% of a CPU | target < 1 %% |\n",
                std::string(to_text(waiters[i].transport)).c_str(), 100 * share);
  }
  return 0;
}
