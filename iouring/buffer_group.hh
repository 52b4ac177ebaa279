#pragma once
// The memory of a group of equal buffers, by number.

#include "lab/base/error.hh"
#include "lab/base/mapping.hh"

#include <bit>
#include <cerrno>
#include <cstdint>
#include <span>
#include <sys/mman.h>

namespace schedlab::iouring {

class BufferGroup {
public:
  // Throws std::system_error (EINVAL, ENOMEM).
  BufferGroup(unsigned count, unsigned size) : count_(count), size_(size) {
    constexpr unsigned most = 1U << 15;
    if (!std::has_single_bit(count) || count > most || size == 0)
      throw_errno(EINVAL, "buffer group", "count is a power of two up to 2^15, size not 0");
    stride_ = (std::size_t{size} + line - 1) / line * line + line;
    memory_ = Mapping::private_memory(count * stride_);
    // A hint: with small messages each buffer is a page of its own to the TLB.
    ::madvise(memory_.data(), memory_.size(), MADV_HUGEPAGE);
  }

  [[nodiscard]] unsigned count() const noexcept { return count_; }
  [[nodiscard]] unsigned size() const noexcept { return size_; }
  [[nodiscard]] std::span<std::byte> at(std::uint16_t number) const noexcept {
    return memory_.bytes().subspan(number * stride_, size_);
  }

private:
  static constexpr std::size_t line = 64;  // of a cache

  unsigned count_;
  unsigned size_;
  // A line more than is needed: small messages in buffers a power of two apart would share a few
  // sets of the caches.
  std::size_t stride_ = 0;
  Mapping memory_;
};

}  // namespace schedlab::iouring
