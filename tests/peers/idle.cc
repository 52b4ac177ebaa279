// What waiting for nothing costs: a process for each transport waits for a message that does not
// come, and one for each kind of pool has four workers without work. Printed is the CPU time that
// the kernel counts for it and all its children meanwhile, as a share.
//
//   idle SECONDS

#include "lab/base/child.hh"
#include "lab/base/error.hh"
#include "lab/base/file.hh"
#include "procs/channel.hh"
#include "procs/enter.hh"
#include "procs/process_pool.hh"
#include "procs/thread_pool.hh"
#include "tests/peers/second.hh"

#include <filesystem>
#include <memory>
#include <string>
#include <vector>

namespace {

using namespace schedlab;
using procs::Peer;
using procs::Side;
using procs::Transport;
using procs::Waiting;

struct Waiter {
  std::string name;
  Child child;
  std::unique_ptr<procs::Channel> channel = {};
};

Waiter start(Transport transport) {
  procs::ChannelOptions options;
  options.transport = transport;
  options.patience = {200};
  Waiter waiter{std::string(to_text(transport)), {}, procs::Channel::make(options)};
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

int following(int number) {
  return number + 1;
}

// A process that has had its pool do something, and then sleeps until it is killed.
template <typename Pool, typename Options, typename Use>
Waiter start_pool(const std::string& name, const Options& options, Use use) {
  return {name, Child::fork([options, use] {
            Pool pool(options);
            for (int i = 0; i < 100; ++i)
              if (use(pool, i) != i + 1)
                return 1;
            for (;;)
              ::pause();
          })};
}

std::vector<Waiter> start_all() {
  std::vector<Waiter> waiters;
  for (const auto transport : {Transport::pipe, Transport::socketpair, Transport::mq,
                               Transport::eventfd, Transport::ring, Transport::queue})
    waiters.push_back(start(transport));
  for (const auto waiting : {Waiting::block, Waiting::adaptive}) {
    const std::string name(to_text(waiting));
    waiters.push_back(start_pool<procs::ThreadPool>(
        "ThreadPool, " + name, procs::ThreadPoolOptions{.workers = 4, .waiting = waiting},
        [](auto& pool, int i) { return pool.submit([i] { return following(i); }).get(); }));
    waiters.push_back(start_pool<procs::ProcessPool>(
        "ProcessPool, " + name, procs::ProcessPoolOptions{.workers = 4, .waiting = waiting},
        [](auto& pool, int i) { return pool.template submit<following>(i).get(); }));
  }
  return waiters;
}

// Of a process with its children and theirs: threads, and nanoseconds on a CPU by the scheduler.
struct Spent {
  unsigned threads = 0;
  double ns = 0;
};
Spent spent_by(const std::string& pid) {
  Spent all;
  for (const auto& task : std::filesystem::directory_iterator("/proc/" + pid + "/task")) {
    const std::string times = read_text(task.path() / "schedstat").value_or("0 ");
    ++all.threads;
    all.ns += static_cast<double>(second::number(times.substr(0, times.find(' ')).c_str()));
    std::string children = read_text(task.path() / "children").value_or("");
    for (std::size_t end; (end = children.find(' ')) != std::string::npos;
         children.erase(0, end + 1)) {
      const Spent more = spent_by(children.substr(0, end));
      all.threads += more.threads;
      all.ns += more.ns;
    }
  }
  return all;
}
Spent spent_by(const Waiter& waiter) {
  return spent_by(std::to_string(waiter.child.pid()));
}

void sleep_for(time_t seconds) {
  const timespec pause{seconds, 0};
  ::clock_nanosleep(CLOCK_MONOTONIC, 0, &pause, nullptr);
}

}  // namespace

int main(int argc, char** argv) {
  procs::enter(argc, argv);
  if (argc != 2)
    return 2;
  const auto seconds = second::number(argv[1]);
  const std::vector<Waiter> waiters = start_all();
  sleep_for(1);
  std::vector<double> before;
  for (const auto& waiter : waiters)
    before.push_back(spent_by(waiter).ns);
  sleep_for(static_cast<time_t>(seconds));
  for (std::size_t i = 0; i < waiters.size(); ++i) {
    const auto [threads, ns] = spent_by(waiters[i]);
    std::printf("| %s, idle, %u threads | %.4f %% of a CPU | target < 1 %% |\n",
                waiters[i].name.c_str(), threads,
                100 * (ns - before[i]) / (static_cast<double>(seconds) * 1e9));
  }
  return 0;
}
