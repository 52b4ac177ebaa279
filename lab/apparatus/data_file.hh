#pragma once
// A file to read from and write to: preallocated, written through, and gone from its folder before
// it holds anything, so that nothing is left behind however the program ends. Each block begins
// with a stamp of its number, so that a read proves which block it got. What of the file is in the
// page cache is brought about and read back.

#include "lab/base/fd.hh"
#include "lab/base/mapping.hh"

#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>

namespace schedlab::apparatus {

inline constexpr std::uint32_t block_size = 4096;  // bytes

// The stamp of a block, its first eight bytes.
std::uint64_t stamp_of(std::uint64_t block) noexcept;

// The folder to make a file in: the one that was asked for, or for "auto" the first of $TMPDIR,
// the current folder, /var/tmp and /tmp that can be written and takes O_DIRECT, else the first
// that can be written. Throws BadInput, naming the parameter, for a folder that cannot be used, and
// Unsupported if none can.
std::string data_folder(std::string_view asked, std::string_view param);

// Why a file of `size` bytes should not be made there, or empty: half of what is free is the limit.
std::string no_room(const std::string& folder, std::uint64_t size);

// Bytes that the kernel read from devices for this process, kernel workers included; nothing where
// it does not count them.
std::optional<std::uint64_t> bytes_from_devices();

// The file system of a folder and the device below it: "ext4 on vda".
std::string storage_of(const std::string& folder);

enum class CacheState : std::uint8_t { as_it_is, cached, dropped };

// Built and used by one thread; the descriptors may be used by any.
class DataFile {
public:
  // `size` in bytes, a power of two of at least one block. Throws std::system_error naming the
  // folder.
  DataFile(const std::string& folder, std::uint64_t size);
  // A file that exists and was written by save_to; it stays.
  static DataFile existing(const std::string& path);
  // A copy of it under a name, brought to the device.
  void save_to(const std::string& path) const;

  [[nodiscard]] std::uint64_t size() const noexcept { return size_; }
  [[nodiscard]] std::uint64_t blocks() const noexcept { return size_ / block_size; }
  // Through the page cache, with read-ahead as the kernel likes or without any.
  [[nodiscard]] int buffered(bool read_ahead) const noexcept {
    return read_ahead ? ahead_.get() : random_.get();
  }
  // With O_DIRECT; -1 where the file system refuses, errno in direct_error().
  [[nodiscard]] int direct() const noexcept { return direct_.get(); }
  [[nodiscard]] int direct_error() const noexcept { return direct_error_; }
  // Bytes to which O_DIRECT wants memory and offsets aligned; 0 where the kernel does not tell.
  [[nodiscard]] std::uint32_t direct_alignment() const noexcept;

  // Fills the page cache with it or empties the cache of it. What was written before reaches the
  // device first.
  void bring(CacheState state);
  // Pages of it in the page cache now, out of pages().
  [[nodiscard]] std::uint64_t resident() const;
  [[nodiscard]] std::uint64_t pages() const noexcept;

private:
  DataFile() = default;
  void open_all(const std::string& path, int flags);
  void fill() const;

  std::uint64_t size_ = 0;
  Fd ahead_;
  Fd random_;
  Fd direct_;
  int direct_error_ = 0;
  Mapping view_;
};

// The one file of a process, made when the first series needs it.
struct SharedFile {
  std::string folder;
  std::uint64_t size = 0;
  std::shared_ptr<DataFile> file = {};

  // Throws what making it throws.
  std::shared_ptr<DataFile> get() {
    if (!file)
      file = std::make_shared<DataFile>(folder, size);
    return file;
  }
};

}  // namespace schedlab::apparatus
