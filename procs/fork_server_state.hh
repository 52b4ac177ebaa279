#pragma once
// How a forkserver and its clients talk. For the files of this folder.

#include "procs/fork_server.hh"
#include "procs/start_order.hh"

#include <mutex>
#include <vector>

namespace schedlab::procs {

struct ForkServer::State {
  Process server;
  Fd socket;
  std::mutex one_at_a_time;  // a request and its answer
};

namespace detail {

struct Answer {
  pid_t pid = -1;
  int error = 0;  // of errno, if no process was started
};

struct Packet {
  Answer answer;
  std::vector<Fd> fds;
  bool closed = false;   // the other end is gone
  bool complete = true;  // this process had room for all descriptors
};

// One message of at least a byte. Throws std::system_error (EPIPE).
void send_with_fds(int socket, std::span<const std::byte> data, std::span<const int> fds);
Packet receive_with_fds(int socket);

}  // namespace detail

}  // namespace schedlab::procs
