#include "iouring/uring_buffers.hh"

#include "iouring/uring_setup.hh"

#include <sys/mman.h>

#include <atomic>

namespace schedlab::iouring {

namespace {

// liburing before 2.4 does not make the ring; it only registers it.
void register_ring(io_uring& ring, int group, unsigned count, const Mapping& memory) {
  // A forked child must not take the pages away from the kernel by a copy on write.
  check(::madvise(memory.data(), memory.size(), MADV_DONTFORK), "madvise");
  io_uring_buf_reg wanted{};
  wanted.ring_addr = reinterpret_cast<std::uint64_t>(memory.data());
  wanted.ring_entries = count;
  wanted.bgid = static_cast<std::uint16_t>(group);
  const int error =
      error_that_lasts(patience, [&] { return -::io_uring_register_buf_ring(&ring, &wanted, 0); });
  if (error == EINVAL)  // count and size are known to be right
    throw Unsupported("io_uring: no rings of buffers; Linux 5.19 has them");
  if (error)
    throw_errno(error, "io_uring_register_buf_ring");
}

}  // namespace

UringBuffers::UringBuffers(io_uring& ring, std::uint16_t group, unsigned count, unsigned size)
    : ring_(ring), group_(group), memory_(count, size),
      shared_(Mapping::private_memory(count * sizeof(io_uring_buf))) {
  register_ring(ring_, group_, count, shared_);
  for (unsigned number = 0; number < count; ++number)
    give_back(static_cast<std::uint16_t>(number));
}

UringBuffers::~UringBuffers() {
  ::io_uring_unregister_buf_ring(&ring_, group_);
}

// The tail lies in the reserved part of the first entry. Written by hand, because the headers'
// flexible array has another offset in C++ than in C in some versions.
void UringBuffers::give_back(std::uint16_t number) noexcept {
  const std::span free(shared_.as<io_uring_buf>(), memory_.count());
  const std::uint16_t tail = free[0].resv;
  io_uring_buf& entry = free[tail & (memory_.count() - 1)];
  entry.addr = reinterpret_cast<std::uint64_t>(memory_.at(number).data());
  entry.len = memory_.size();
  entry.bid = number;
  std::atomic_ref(free[0].resv)
      .store(static_cast<std::uint16_t>(tail + 1), std::memory_order_release);
}

}  // namespace schedlab::iouring
