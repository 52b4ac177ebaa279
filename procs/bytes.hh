#pragma once
// Memory that a process pool and its workers share, for what is too large to be copied: what is
// sent is where the bytes lie.
//
// A handle owns its bytes in the process of the pool, and copies of it share them; they return to
// the pool with the last one. In a worker it is a view that ends with the task. Who writes while
// another reads has a race, as with any shared memory.

#include "procs/codec.hh"

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>

namespace schedlab::procs {

class Bytes {
public:
  Bytes() = default;

  // In a task: memory for a result, until it is returned or the task ends. Throws std::bad_alloc if
  // the worker has not so much left, and std::logic_error outside a task. Elsewhere:
  // ProcessPool::bytes().
  static Bytes make(std::size_t size);

  [[nodiscard]] std::byte* data() const noexcept { return bytes_.data(); }
  [[nodiscard]] std::size_t size() const noexcept { return bytes_.size(); }
  [[nodiscard]] std::span<std::byte> span() const noexcept { return bytes_; }

  // Throws std::invalid_argument for bytes that are not of this pool.
  void encode(Encoder& encoder) const;
  static Bytes decode(Decoder& decoder);

  // For the pool.
  Bytes(std::span<std::byte> bytes, std::shared_ptr<const void> hold) noexcept
      : bytes_(bytes), hold_(std::move(hold)) {}
  [[nodiscard]] const std::shared_ptr<const void>& hold() const noexcept { return hold_; }

private:
  std::span<std::byte> bytes_;
  std::shared_ptr<const void> hold_;
};

namespace pool {

// Who knows the arena, in either process, while values are encoded and decoded.
class BytesHost {
public:
  virtual ~BytesHost() = default;
  virtual Bytes make(std::size_t size) = 0;
  // The place of these bytes in the arena; they are on their way now.
  virtual std::uint64_t send(const Bytes& bytes) = 0;
  // Throws DecodeError if nothing of that kind is there.
  virtual Bytes receive(std::uint64_t at, std::uint64_t size) = 0;
};

// Makes a host that of the calling thread.
class HostScope {
public:
  explicit HostScope(BytesHost& host) noexcept;
  HostScope(const HostScope&) = delete;
  HostScope& operator=(const HostScope&) = delete;
  ~HostScope();

private:
  BytesHost* before_;
};

}  // namespace pool
}  // namespace schedlab::procs
