#include "procs/sealed_memory.hh"

#include "lab/base/error.hh"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>

#include <string>

namespace schedlab::procs {
namespace {

constexpr int fixed_size = F_SEAL_SHRINK | F_SEAL_GROW;

// A memfd has no limit of its own: what asks for too much is not refused but ends with the
// machine's last page.
void refuse_more_than_there_is(std::size_t size, std::string_view name) {
  const auto pages = static_cast<std::size_t>(::sysconf(_SC_PHYS_PAGES));
  if (size / page_size() >= pages)
    throw_errno(ENOMEM, "memfd of " + std::to_string(size) + " bytes", name);
}

}  // namespace

SealedMemory SealedMemory::make(std::size_t size, std::string_view name) {
  refuse_more_than_there_is(size, name);
  const std::string title(name);
  const int made = ::memfd_create(title.c_str(), MFD_CLOEXEC | MFD_ALLOW_SEALING);
  Fd fd(check(made, "memfd_create", name));
  check(::ftruncate(fd.get(), static_cast<off_t>(size)), "ftruncate", name);
  if (size > 0)
    check(::fallocate(fd.get(), 0, 0, static_cast<off_t>(size)), "fallocate", name);
  check(::fcntl(fd.get(), F_ADD_SEALS, fixed_size | F_SEAL_SEAL), "fcntl(F_ADD_SEALS)", name);
  return attach(std::move(fd));
}

SealedMemory SealedMemory::attach(Fd fd) {
  const int seals = ::fcntl(fd.get(), F_GET_SEALS);
  if (seals < 0 || (seals & fixed_size) != fixed_size)
    throw Unsupported("descriptor " + std::to_string(fd.get()) +
                      " is no memory of a fixed size: another process could take it away; seal it "
                      "with F_SEAL_SHRINK and F_SEAL_GROW");
  struct stat status {};
  check(::fstat(fd.get(), &status), "fstat");
  Mapping mapping = Mapping::of_file(fd, static_cast<std::size_t>(status.st_size));
  return {std::move(fd), std::move(mapping)};
}

}  // namespace schedlab::procs
