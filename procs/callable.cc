#include "procs/callable.hh"

#include "lab/base/error.hh"

#include <elf.h>
#include <link.h>

#include <algorithm>
#include <cstring>
#include <string>

namespace schedlab::procs {

namespace {

// The program itself among all that is loaded: where it begins, what of it is code, and its notes.
struct Image {
  std::uint64_t base = 0;
  std::uint64_t code_begin = UINT64_MAX;  // offsets from the base
  std::uint64_t code_end = 0;
  BuildId build;

  [[nodiscard]] bool holds_code(std::uint64_t offset) const noexcept {
    return offset >= code_begin && offset < code_end;
  }
};

std::size_t aligned(std::size_t size, std::size_t alignment) {
  return (size + alignment - 1) / alignment * alignment;
}

// Looks for the build id among the notes of a segment.
void read_notes(std::span<const std::byte> notes, std::size_t alignment, BuildId& build) {
  ElfW(Nhdr) note;
  while (notes.size() >= sizeof note) {
    std::memcpy(&note, notes.data(), sizeof note);
    const std::size_t name_at = sizeof note;
    const std::size_t text_at = aligned(name_at + note.n_namesz, alignment);
    const std::size_t end = aligned(text_at + note.n_descsz, alignment);
    if (text_at + note.n_descsz > notes.size())
      return;
    if (note.n_type == NT_GNU_BUILD_ID && note.n_namesz == 4 &&
        std::memcmp(notes.data() + name_at, "GNU", 4) == 0) {
      build.size = std::min(note.n_descsz, std::uint32_t{sizeof build.bytes});
      std::memcpy(build.bytes.data(), notes.data() + text_at, build.size);
      return;
    }
    notes = notes.subspan(std::min(end, notes.size()));
  }
}

// The first one told of is the program (dl_iterate_phdr(3)); a statically linked one is the only.
int read_program(dl_phdr_info* info, std::size_t, void* result) {
  Image& image = *static_cast<Image*>(result);
  image.base = info->dlpi_addr;
  for (const auto& segment : std::span(info->dlpi_phdr, info->dlpi_phnum)) {
    if (segment.p_type == PT_LOAD && (segment.p_flags & PF_X) != 0) {
      image.code_begin = std::min<std::uint64_t>(image.code_begin, segment.p_vaddr);
      image.code_end = std::max<std::uint64_t>(image.code_end, segment.p_vaddr + segment.p_memsz);
    }
    if (segment.p_type == PT_NOTE && image.build.size == 0) {
      const auto* begin = reinterpret_cast<const std::byte*>(info->dlpi_addr + segment.p_vaddr);
      read_notes({begin, segment.p_memsz}, std::max<std::size_t>(segment.p_align, 4), image.build);
    }
  }
  return 1;
}

const Image& image() noexcept {
  static const Image program = [] {
    Image found;
    ::dl_iterate_phdr(read_program, &found);
    return found;
  }();
  return program;
}

std::string hexadecimal(const BuildId& build) {
  constexpr std::string_view digits = "0123456789abcdef";
  std::string text;
  for (const std::byte byte : std::span(build.bytes).first(build.size)) {
    text += digits[std::to_integer<std::size_t>(byte >> 4)];
    text += digits[std::to_integer<std::size_t>(byte & std::byte{15})];
  }
  return text.empty() ? "none" : text;
}

}  // namespace

const BuildId& own_build_id() noexcept {
  return image().build;
}

namespace detail {

CallableId name_function(AnyFunction function, std::uint64_t type) {
  const Image& program = image();
  if (program.build.size == 0)
    throw Unsupported("this program has no build id, by which its processes know that they run the "
                      "same code; link it with -Wl,--build-id");
  const std::uint64_t offset = reinterpret_cast<std::uint64_t>(function) - program.base;
  if (!program.holds_code(offset))
    throw Unsupported("a callable is part of a shared library, which another process may load "
                      "elsewhere; link it into the program");
  return {offset, type, program.build};
}

AnyFunction find_function(const CallableId& id, std::uint64_t type) {
  const Image& program = image();
  if (program.build.size == 0 || !(id.build == program.build))
    throw Unsupported("a callable was named by a program of another build (" +
                      hexadecimal(id.build) + ", this one is " + hexadecimal(program.build) +
                      "); start both from the same file");
  if (id.type != type || !program.holds_code(id.offset))
    throw Unsupported("a callable was named for another signature than it is called with");
  return reinterpret_cast<AnyFunction>(program.base + id.offset);
}

}  // namespace detail

}  // namespace schedlab::procs
