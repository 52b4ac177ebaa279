#pragma once
// Files: `File file = co_await File::open("data"); n = co_await file.read(area, offset);`
//
// With io_uring nothing blocks the loop; with epoll a few threads do what the page cache cannot
// answer. A request that has begun on a file goes on to its end when its task is cancelled. Errors
// are std::system_error with the call and the path. For pipes there are Reader and Writer, to which
// a pipe without a reader is no SIGPIPE. Loop's thread only.

#include "iouring/descriptor.hh"
#include "lab/base/mapping.hh"

#include <fcntl.h>
#include <sys/stat.h>

#include <cstddef>
#include <span>
#include <string>
#include <vector>

namespace schedlab::iouring {

class File {
public:
  File() noexcept = default;
  explicit File(Fd fd, std::string path = {}) : descriptor_(std::move(fd), std::move(path)) {}

  // Always close-on-exec. `mode` is that of a file which O_CREAT makes.
  static Task<File> open(std::string path, int flags = O_RDONLY, mode_t mode = 0666);

  // Bytes that were moved, fewer than asked for at the end of the file and perhaps elsewhere; 0 at
  // the end. Without an offset at the file's own position, which moves: one at a time then. `fixed`
  // is FixedBuffers::index of the buffer in which the area lies.
  Task<std::size_t> read(std::span<std::byte> area, std::uint64_t offset = at_position,
                         std::uint16_t fixed = no_buffer);
  Task<std::size_t> write(std::span<const std::byte> area, std::uint64_t offset = at_position,
                          std::uint16_t fixed = no_buffer);
  // Until the area is full or the file ends; gives how much was read.
  Task<std::size_t> read_all(std::span<std::byte> area, std::uint64_t offset = at_position);
  // Until all is written.
  Task<> write_all(std::span<const std::byte> area, std::uint64_t offset = at_position);
  // Brings the data, and of the rest what is needed to read them, to the device.
  Task<> sync();
  Task<struct statx> stat(unsigned mask = STATX_BASIC_STATS | STATX_BTIME);
  // Ends what is under way, waits for it and closes; see Descriptor::close.
  Task<> close() { return descriptor_.close(); }

  [[nodiscard]] int fd() const noexcept { return descriptor_.get(); }
  [[nodiscard]] explicit operator bool() const noexcept { return fd() >= 0; }

private:
  friend class FixedFiles;
  static constexpr int not_fixed = -1;
  Request request(Op op, const detail::InUse& use) const;

  Descriptor descriptor_;
  int fixed_ = not_fixed;  // its place among the driver's registered files
};

// Buffers that the driver knows beforehand, so that it need not look their pages up for each
// request. One set a loop; the next set takes its place, and the buffers of the set before are then
// memory like any other.
class FixedBuffers {
public:
  // In the running loop. Throws std::system_error (ENOMEM).
  FixedBuffers(unsigned count, std::size_t size);
  FixedBuffers(const FixedBuffers&) = delete;
  FixedBuffers& operator=(const FixedBuffers&) = delete;
  // No request may use them any longer.
  ~FixedBuffers();

  // Has the driver taken them, and no others since? Otherwise index() is no_buffer, and all goes on
  // as usual.
  [[nodiscard]] bool registered() const noexcept { return registered_; }
  [[nodiscard]] std::span<std::byte> at(unsigned number) const noexcept {
    return memory_.bytes().subspan(number * size_, size_);
  }
  [[nodiscard]] std::uint16_t index(unsigned number) const noexcept {
    return registered_ ? static_cast<std::uint16_t>(number) : no_buffer;
  }

private:
  Loop& loop_;
  std::size_t size_;
  Mapping memory_;
  bool registered_ = false;
};

// Files that the driver knows beforehand: their reads and writes save the look-up of the
// descriptor. They stay open until this is destroyed, also when closed before. One set a loop; the
// next set takes its place, and those of the set before are looked up again.
class FixedFiles {
public:
  // In the running loop. The files must stay where they are.
  explicit FixedFiles(std::span<File* const> files);
  FixedFiles(const FixedFiles&) = delete;
  FixedFiles& operator=(const FixedFiles&) = delete;
  // No request may use them any longer.
  ~FixedFiles();

  [[nodiscard]] bool registered() const noexcept { return !files_.empty(); }

private:
  void forget() noexcept;

  Loop& loop_;
  std::vector<File*> files_;  // empty where the driver has not got them
};

}  // namespace schedlab::iouring
