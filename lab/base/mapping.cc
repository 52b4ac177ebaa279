#include "lab/base/mapping.hh"

#include "lab/base/error.hh"

#include <sys/mman.h>

namespace schedlab {

Mapping::~Mapping() {
  if (data_)
    ::munmap(data_, size_);
}

Mapping Mapping::map(std::size_t size, int flags, int fd) {
  void* data = ::mmap(nullptr, size, PROT_READ | PROT_WRITE, flags, fd, 0);
  if (data == MAP_FAILED)
    throw_errno(errno, "mmap", std::to_string(size) + " bytes");
  return {static_cast<std::byte*>(data), size};
}

Mapping Mapping::private_memory(std::size_t size) {
  return map(size, MAP_PRIVATE | MAP_ANONYMOUS, -1);
}

Mapping Mapping::shared_memory(std::size_t size) {
  return map(size, MAP_SHARED | MAP_ANONYMOUS, -1);
}

Mapping Mapping::of_file(const Fd& fd, std::size_t size) {
  return map(size, MAP_SHARED, fd.get());
}

std::size_t page_size() noexcept {
  static const auto size = static_cast<std::size_t>(::sysconf(_SC_PAGESIZE));
  return size;
}

}  // namespace schedlab
