#pragma once
// Memory that processes share and nobody else can find: a memfd without a name in any file system,
// so that nothing is left behind however its users die, sealed so that no user can shrink it under
// the others (a touch beyond the end is SIGBUS).

#include "lab/base/fd.hh"
#include "lab/base/mapping.hh"

#include <cstddef>
#include <span>
#include <string_view>

namespace schedlab::procs {

class SealedMemory {
public:
  SealedMemory() = default;

  // `size` bytes of zeros, all of them taken from the system now: more than the machine has is
  // std::system_error (ENOMEM) here and not SIGBUS at a first touch. `name` is what
  // /proc/PID/maps shows.
  static SealedMemory make(std::size_t size, std::string_view name);
  // The memory behind a descriptor that came from elsewhere. Throws Unsupported if its size is not
  // sealed.
  static SealedMemory attach(Fd fd);

  // Close-on-exec: to be handed over on purpose.
  [[nodiscard]] const Fd& fd() const noexcept { return fd_; }
  [[nodiscard]] std::byte* data() const noexcept { return mapping_.data(); }
  [[nodiscard]] std::size_t size() const noexcept { return mapping_.size(); }
  [[nodiscard]] std::span<std::byte> bytes() const noexcept { return mapping_.bytes(); }
  template <typename T>
  [[nodiscard]] T* as() const noexcept {
    return mapping_.as<T>();
  }

private:
  SealedMemory(Fd fd, Mapping mapping) : fd_(std::move(fd)), mapping_(std::move(mapping)) {}

  Fd fd_;
  Mapping mapping_;
};

}  // namespace schedlab::procs
