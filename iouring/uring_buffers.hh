#pragma once
// A group of buffers that the kernel chooses from, on a ring that both sides see (Linux 5.19).

#include "iouring/buffer_group.hh"

#include <liburing.h>

namespace schedlab::iouring {

class UringBuffers {
public:
  // Throws std::system_error (EEXIST, EINVAL, ENOMEM), or Unsupported where the kernel has no such
  // rings. The io_uring must outlive it.
  UringBuffers(io_uring& ring, std::uint16_t group, unsigned count, unsigned size);
  UringBuffers(const UringBuffers&) = delete;
  UringBuffers& operator=(const UringBuffers&) = delete;
  ~UringBuffers();

  [[nodiscard]] std::span<std::byte> at(std::uint16_t number) const noexcept {
    return memory_.at(number);
  }
  void give_back(std::uint16_t number) noexcept;

private:
  io_uring& ring_;
  int group_;
  BufferGroup memory_;
  Mapping shared_;  // with the kernel: the ring of what is free
};

}  // namespace schedlab::iouring
