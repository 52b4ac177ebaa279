#include "procs/thread.hh"

#include "affinity/limits.hh"
#include "affinity/pin.hh"

#include <pthread.h>
#include <sys/resource.h>
#include <unistd.h>

#include <future>
#include <utility>

namespace schedlab::procs {

namespace {

constexpr std::size_t longest_name = 15;  // TASK_COMM_LEN less the final zero

// The scheduling class comes last: a deadline thread may not be pinned any more.
void place(const ThreadOptions& options) {
  if (!options.name.empty())
    ::pthread_setname_np(::pthread_self(), options.name.substr(0, longest_name).c_str());
  if (options.cpus)
    affinity::bind_thread(0, *options.cpus);
  if (options.sched)
    set_sched_attr(*options.sched);
}

}  // namespace

struct Thread::Start {
  ThreadOptions options;
  std::function<void()> body;
  std::promise<pid_t> placed;
  std::shared_ptr<std::exception_ptr> failure;

  void operator()() {
    try {
      place(options);
    } catch (...) {
      placed.set_exception(std::current_exception());
      return;
    }
    placed.set_value(::gettid());
    try {
      body();
    } catch (...) {
      *failure = std::current_exception();
    }
  }
};

Thread::Thread(const ThreadOptions& options, std::function<void()> body)
    : failure_(std::make_shared<std::exception_ptr>()) {
  Start start{options, std::move(body), {}, failure_};
  std::future<pid_t> placed = start.placed.get_future();
  thread_ = std::jthread(std::move(start));
  tid_ = placed.get();
}

void Thread::join() {
  thread_.join();
  if (auto failure = std::exchange(*failure_, nullptr))
    std::rethrow_exception(std::move(failure));
}

SignalsBlocked::SignalsBlocked() noexcept {
  sigset_t all;
  ::sigfillset(&all);
  for (const int own : {SIGSEGV, SIGBUS, SIGFPE, SIGILL, SIGTRAP})
    ::sigdelset(&all, own);
  ::pthread_sigmask(SIG_SETMASK, &all, &before_);
}

SignalsBlocked::~SignalsBlocked() {
  ::pthread_sigmask(SIG_SETMASK, &before_, nullptr);
}

std::string task_limits() {
  rlimit limit{};
  ::getrlimit(RLIMIT_NPROC, &limit);
  std::string text =
      "RLIMIT_NPROC is " +
      (limit.rlim_cur == RLIM_INFINITY ? std::string("unlimited") : std::to_string(limit.rlim_cur));
  if (const auto most = affinity::cgroup_limits().pids_max)
    text += ", the cgroup's pids.max " + std::to_string(*most);
  return text;
}

}  // namespace schedlab::procs
