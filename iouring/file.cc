#include "iouring/file.hh"

#include "iouring/perform.hh"

#include <algorithm>
#include <cassert>

namespace schedlab::iouring {

namespace {

constexpr std::size_t most_at_once = 0x7ffff000;  // of one read or write

std::uint32_t length_of(std::size_t size) {
  return static_cast<std::uint32_t>(std::min(size, most_at_once));
}

std::uint64_t advanced(std::uint64_t offset, std::size_t by) {
  return offset == at_position ? at_position : offset + by;
}

Loop& running_loop() {
  assert(Loop::current());
  return *Loop::current();
}

}  // namespace

Task<File> File::open(std::string path, int flags, mode_t mode) {
  const int fd = co_await perform({.op = Op::open,
                                   .fd = AT_FDCWD,
                                   .flags = static_cast<std::uint32_t>(flags | O_CLOEXEC),
                                   .length = mode,
                                   .address = path.data()},
                                  "open", path);
  co_return File(Fd(fd), std::move(path));
}

Request File::request(Op op, const detail::InUse& use) const {
  Request request;
  request.op = op;
  request.fd = use.fd();
  if (fixed_ != not_fixed) {
    request.fixed_file = true;
    request.fd = fixed_;
  }
  return request;
}

Task<std::size_t> File::read(std::span<std::byte> area, std::uint64_t offset, std::uint16_t fixed) {
  const detail::InUse use(descriptor_, "read");
  Request wanted = request(Op::read, use);
  wanted.fixed_buffer = fixed;
  wanted.length = length_of(area.size());
  wanted.address = area.data();
  wanted.offset = offset;
  const int count = co_await perform(wanted, "read", use.name());
  co_return static_cast<std::size_t>(count);
}

Task<std::size_t> File::write(std::span<const std::byte> area, std::uint64_t offset,
                              std::uint16_t fixed) {
  const detail::InUse use(descriptor_, "write");
  Request wanted = request(Op::write, use);
  wanted.fixed_buffer = fixed;
  wanted.length = length_of(area.size());
  wanted.address = const_cast<std::byte*>(area.data());
  wanted.offset = offset;
  const int count = co_await perform(wanted, "write", use.name());
  co_return static_cast<std::size_t>(count);
}

Task<std::size_t> File::read_all(std::span<std::byte> area, std::uint64_t offset) {
  std::size_t done = 0;
  while (done < area.size()) {
    const std::size_t count = co_await read(area.subspan(done), advanced(offset, done));
    if (count == 0)
      break;
    done += count;
  }
  co_return done;
}

Task<> File::write_all(std::span<const std::byte> area, std::uint64_t offset) {
  std::size_t done = 0;
  while (done < area.size()) {
    const std::size_t count = co_await write(area.subspan(done), advanced(offset, done));
    if (count == 0)  // no file does this; going on would be for ever
      throw_errno(EIO, "write", descriptor_.name());
    done += count;
  }
}

Task<> File::sync() {
  const detail::InUse use(descriptor_, "fdatasync");
  Request wanted = request(Op::fsync, use);
  wanted.flags = 1;
  co_await perform(wanted, "fdatasync", use.name());
}

Task<struct statx> File::stat(unsigned mask) {
  const detail::InUse use(descriptor_, "statx");
  struct statx found {};
  char itself[] = "";
  co_await perform({.op = Op::statx,
                    .fd = use.fd(),
                    .flags = AT_EMPTY_PATH,
                    .length = mask,
                    .address = itself,
                    .second = &found},
                   "statx", use.name());
  co_return found;
}

FixedBuffers::FixedBuffers(unsigned count, std::size_t size)
    : loop_(running_loop()), size_(size), memory_(Mapping::private_memory(count * size)) {
  std::vector<std::span<std::byte>> areas;
  for (unsigned number = 0; number < count; ++number)
    areas.push_back(at(number));
  FixedBuffers*& current = loop_.fixed_sets().buffers;
  if (current)
    current->registered_ = false;
  registered_ = loop_.driver().register_buffers(areas);
  current = registered_ ? this : nullptr;
}

FixedBuffers::~FixedBuffers() {
  if (!registered_)
    return;
  loop_.driver().register_buffers({});
  loop_.fixed_sets().buffers = nullptr;
}

FixedFiles::FixedFiles(std::span<File* const> files) : loop_(running_loop()) {
  std::vector<int> fds;
  for (const File* const file : files)
    fds.push_back(file->fd());
  FixedFiles*& current = loop_.fixed_sets().files;
  if (current)
    current->forget();
  current = nullptr;
  if (!loop_.driver().register_files(fds))
    return;
  files_.assign(files.begin(), files.end());
  current = this;
  int place = 0;
  for (File* const file : files_)
    file->fixed_ = place++;
}

FixedFiles::~FixedFiles() {
  if (loop_.fixed_sets().files != this)
    return;
  forget();
  loop_.driver().register_files({});
  loop_.fixed_sets().files = nullptr;
}

void FixedFiles::forget() noexcept {
  for (File* const file : files_)
    file->fixed_ = File::not_fixed;
  files_.clear();
}

}  // namespace schedlab::iouring
