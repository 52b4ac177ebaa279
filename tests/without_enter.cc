// A program that starts processes of itself, and keeps the rule of procs/enter.hh only as the
// environment says (RULE): kept; never: main does not call enter(); late: only after it has started
// a process; branch: only for a user's command line. What it does is the word on that:
//
//   start      starts a process, and prints how that ended
//   deleted    deletes its own file first
//   no-proc    takes /proc away first (77: may not)
//   live       a process by each method, each with a child of its own; writes their numbers to
//              descriptor 3 and sleeps, for the test to kill
#include "lab/base/error.hh"
#include "lab/base/text.hh"
#include "procs/enter.hh"
#include "procs/fork_server.hh"
#include "procs/process.hh"

#include <fcntl.h>
#include <sched.h>
#include <sys/mount.h>
#include <unistd.h>

#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <string_view>

using namespace schedlab;
using procs::Process;
using procs::StartMethod;

namespace {

int seven(std::span<const std::byte>) {
  return 7;
}

void start_one() {
  Process process = Process::start<seven>({.method = StartMethod::exec});
  std::printf("ran: %s\n", process.wait().text().c_str());
}

bool take_proc_away() {
  return ::unshare(CLONE_NEWNS) == 0 &&
         ::mount(nullptr, "/", nullptr, MS_REC | MS_PRIVATE, nullptr) == 0 &&
         ::umount2("/proc", MNT_DETACH) == 0;
}

constexpr int told_fd = 3;

void tell(pid_t pid) {
  check(::write(told_fd, &pid, sizeof pid), "write");
}

[[noreturn]] void sleep_for_ever() {
  for (;;)
    ::pause();
}

// A child that has a child.
int parent(std::span<const std::byte>) {
  const Child child = Child::fork([]() -> int { sleep_for_ever(); });
  tell(child.pid());
  sleep_for_ever();
}

[[noreturn]] void live() {
  const procs::ForkServer server;
  tell(server.pid());
  const auto start = [&](StartMethod method) {
    Process process = Process::start<parent>({.method = method,
                                              .fds = {{told_fd, told_fd}},
                                              .server = &server,
                                              .despite_threads = true});
    tell(process.pid());
    return process;
  };
  const Process exec = start(StartMethod::exec);
  const Process fork = start(StartMethod::fork);
  const Process first = start(StartMethod::forkserver);
  const Process second = start(StartMethod::forkserver);
  sleep_for_ever();
}

int run(std::string_view rule, int argc, char** argv) {
  const std::string_view word = argc > 1 ? argv[1] : "";
  if (rule == "kept" || (rule == "branch" && word == "start"))
    procs::enter(argc, argv);
  if (word == "deleted")
    std::filesystem::remove(std::filesystem::read_symlink("/proc/self/exe"));
  if (word == "no-proc" && !take_proc_away())
    return 77;
  if (word == "live")
    live();
  start_one();
  if (rule == "late")
    procs::enter(argc, argv);
  return 0;
}

}  // namespace

int main(int argc, char** argv) {
  try {
    const char* rule = std::getenv("RULE");
    return run(rule ? rule : "never", argc, argv);
  } catch (const std::exception& error) {
    std::printf("%s\n", error.what());
    return 1;
  }
}
