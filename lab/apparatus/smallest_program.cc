#include "lab/apparatus/smallest_program.hh"

#include "lab/base/error.hh"
#include "lab/base/file.hh"

#include <elf.h>
#include <fcntl.h>
#include <sys/mman.h>
#include <unistd.h>

#include <array>
#include <cstdint>
#include <cstring>
#include <span>

namespace schedlab::apparatus {

namespace {

#if defined(__x86_64__)
constexpr unsigned machine = EM_X86_64;
constexpr std::array<unsigned char, 12> code = {
    0xb8, 60,
    0,    0,
    0,  // mov $60, %eax: exit
    0xbf, smallest_program_status,
    0,    0,
    0,           // mov $status, %edi
    0x0f, 0x05,  // syscall
};
#elif defined(__aarch64__)
constexpr unsigned machine = EM_AARCH64;
constexpr std::array<unsigned char, 12> code = {
    0xa8,
    0x0b,
    0x80,
    0xd2,  // mov x8, #93: exit
    smallest_program_status << 5 & 0xff,
    0,
    0x80,
    0xd2,  // mov x0, #status
    0x01,
    0,
    0,
    0xd4,  // svc #0
};
#else
constexpr unsigned machine = EM_NONE;
constexpr std::array<unsigned char, 12> code = {};
#endif

struct File {
  Elf64_Ehdr header{};
  Elf64_Phdr segment{};
  std::array<unsigned char, 12> text = code;
};

File make_file() {
  constexpr std::uint64_t address = 0x400000;
  File file;
  std::memcpy(file.header.e_ident, ELFMAG, SELFMAG);
  file.header.e_ident[EI_CLASS] = ELFCLASS64;
  file.header.e_ident[EI_DATA] = ELFDATA2LSB;
  file.header.e_ident[EI_VERSION] = EV_CURRENT;
  file.header.e_type = ET_EXEC;
  file.header.e_machine = machine;
  file.header.e_version = EV_CURRENT;
  file.header.e_entry = address + offsetof(File, text);
  file.header.e_phoff = offsetof(File, segment);
  file.header.e_ehsize = sizeof(Elf64_Ehdr);
  file.header.e_phentsize = sizeof(Elf64_Phdr);
  file.header.e_phnum = 1;
  file.segment.p_type = PT_LOAD;
  file.segment.p_flags = PF_R | PF_X;
  file.segment.p_vaddr = address;
  file.segment.p_paddr = address;
  file.segment.p_filesz = sizeof file;
  file.segment.p_memsz = sizeof file;
  file.segment.p_align = 0x10000;  // the largest page of any of them
  return file;
}

}  // namespace

SmallestProgram::SmallestProgram() {
  if (machine == EM_NONE)
    throw Unsupported("the smallest program is written for x86-64 and aarch64 only");
  const File file = make_file();
  file_ = Fd(check(::memfd_create("smallest-program", MFD_CLOEXEC), "memfd_create"));
  write_all(file_.get(), {reinterpret_cast<const char*>(&file), sizeof file}, "smallest-program");
  path_ = "/proc/self/fd/" + std::to_string(file_.get());
  // A file that is open for writing cannot be executed.
  file_ = Fd(check(::open(path_.c_str(), O_RDONLY | O_CLOEXEC), "open", path_));
  path_ = "/proc/self/fd/" + std::to_string(file_.get());
  if (::access(path_.c_str(), X_OK) != 0)
    throw Unsupported("a memfd may not be executed here; see sysctl vm.memfd_noexec");
}

bool is_dynamic(const std::string& path) {
  const Fd file(::open(path.c_str(), O_RDONLY | O_CLOEXEC));
  std::array<char, 4096> head{};
  if (!file || ::read(file.get(), head.data(), head.size()) < static_cast<ssize_t>(sizeof(File)))
    return false;
  Elf64_Ehdr header;
  std::memcpy(&header, head.data(), sizeof header);
  for (unsigned i = 0; i < header.e_phnum; ++i) {
    Elf64_Phdr segment;
    const std::uint64_t at = header.e_phoff + std::uint64_t{i} * sizeof segment;
    if (std::memcmp(head.data(), ELFMAG, SELFMAG) != 0 || at + sizeof segment > head.size())
      return false;
    std::memcpy(&segment, head.data() + at, sizeof segment);
    if (segment.p_type == PT_INTERP)
      return true;
  }
  return false;
}

}  // namespace schedlab::apparatus
