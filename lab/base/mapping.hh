#pragma once
#include <cstddef>
#include <span>
#include <utility>

#include "lab/base/fd.hh"

namespace schedlab {

// Owns one memory mapping. Sizes are in bytes and are rounded up to whole pages by the kernel.
class Mapping {
public:
  Mapping() = default;
  Mapping(Mapping&& other) noexcept
      : data_(std::exchange(other.data_, nullptr)), size_(std::exchange(other.size_, 0)) {}
  Mapping& operator=(Mapping&& other) noexcept {
    Mapping taken(std::move(other));
    std::swap(data_, taken.data_);
    std::swap(size_, taken.size_);
    return *this;
  }
  ~Mapping();

  // Anonymous memory of this process alone; a forked child gets a copy on write.
  static Mapping private_memory(std::size_t size);
  // Anonymous memory that forked children share.
  static Mapping shared_memory(std::size_t size);
  // The first `size` bytes of a file or memfd, shared.
  static Mapping of_file(const Fd& fd, std::size_t size);

  [[nodiscard]] std::byte* data() const noexcept { return data_; }
  [[nodiscard]] std::size_t size() const noexcept { return size_; }
  [[nodiscard]] std::span<std::byte> bytes() const noexcept { return {data_, size_}; }
  template <typename T>
  [[nodiscard]] T* as() const noexcept {
    return reinterpret_cast<T*>(data_);
  }

private:
  Mapping(std::byte* data, std::size_t size) : data_(data), size_(size) {}
  static Mapping map(std::size_t size, int flags, int fd);

  std::byte* data_ = nullptr;
  std::size_t size_ = 0;
};

// The size of a base page in bytes.
std::size_t page_size() noexcept;

}  // namespace schedlab
