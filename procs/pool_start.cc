#include "procs/pool_start.hh"

#include "procs/pool_worker.hh"

#include <array>
#include <cstring>
#include <span>

namespace schedlab::procs::pool {
namespace {

constexpr int arena_fd = 3;
constexpr int bell_fd = 4;

using Place = std::array<std::uint32_t, 2>;  // lane, generation

int worker_body(std::span<const std::byte> argument) {
  Place place{};
  std::memcpy(place.data(), argument.data(), sizeof place);
  return run_worker(Memory::attach(Fd(arena_fd)), place[0], place[1], Fd(bell_fd));
}

}  // namespace

Process Starter::start(const Memory& memory, const Fd& bell, std::uint32_t lane,
                       std::uint32_t generation) {
  if (how_ == StartMethod::forkserver && !(server_ && server_->running()))
    server_.emplace();
  const Place place = {lane, generation};
  return Process::start<worker_body>({.method = how_,
                                      .name = "pool worker",
                                      .fds = {{memory.fd().get(), arena_fd}, {bell.get(), bell_fd}},
                                      .server = server_ ? &*server_ : nullptr,
                                      .despite_threads = true},
                                     std::as_bytes(std::span(place)));
}

}  // namespace schedlab::procs::pool
