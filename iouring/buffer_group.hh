#pragma once
// The memory of a group of equal buffers, by number.

#include "lab/base/error.hh"
#include "lab/base/mapping.hh"

#include <bit>
#include <cerrno>
#include <cstdint>
#include <span>

namespace schedlab::iouring {

class BufferGroup {
public:
  // Throws std::system_error (EINVAL, ENOMEM).
  BufferGroup(unsigned count, unsigned size) : count_(count), size_(size) {
    constexpr unsigned most = 1U << 15;
    if (!std::has_single_bit(count) || count > most || size == 0)
      throw_errno(EINVAL, "buffer group", "count is a power of two up to 2^15, size not 0");
    memory_ = Mapping::private_memory(std::size_t{count} * size);
  }

  [[nodiscard]] unsigned count() const noexcept { return count_; }
  [[nodiscard]] unsigned size() const noexcept { return size_; }
  [[nodiscard]] std::span<std::byte> at(std::uint16_t number) const noexcept {
    return memory_.bytes().subspan(std::size_t{number} * size_, size_);
  }

private:
  unsigned count_;
  unsigned size_;
  Mapping memory_;
};

}  // namespace schedlab::iouring
