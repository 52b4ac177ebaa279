#include "lab/apparatus/data_file.hh"

#include "lab/base/error.hh"
#include "lab/base/file.hh"
#include "lab/base/random.hh"
#include "lab/base/text.hh"

#include <fcntl.h>
#include <linux/magic.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <sys/sysmacros.h>
#include <sys/vfs.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cstdlib>
#include <cstring>
#include <vector>

namespace schedlab::apparatus {

namespace {

constexpr std::size_t chunk = 1 << 20;
constexpr int attempts_to_drop = 5;
constexpr auto random_seed = 0x5eed;

// A new file in a folder: without a name, or where the file system cannot do that under one that is
// taken away at once.
class NewFile {
public:
  explicit NewFile(const std::string& folder)
      : fd_(::open(folder.c_str(), O_TMPFILE | O_RDWR | O_CLOEXEC, 0600)) {
    if (fd_) {
      path_ = "/proc/self/fd/" + std::to_string(fd_.get());
    } else if (errno == EOPNOTSUPP || errno == EISDIR || errno == EINVAL) {
      path_ = folder + "/schedlab-XXXXXX";
      fd_ = Fd(::mkostemp(path_.data(), O_CLOEXEC));
      named_ = static_cast<bool>(fd_);
    }
    error_ = fd_ ? 0 : errno;
  }
  NewFile(const NewFile&) = delete;
  NewFile& operator=(const NewFile&) = delete;
  ~NewFile() {
    if (named_)
      ::unlink(path_.c_str());
  }

  // Opens it again.
  [[nodiscard]] const std::string& path() const noexcept { return path_; }
  // Why there is none, or 0.
  [[nodiscard]] int error() const noexcept { return error_; }

private:
  Fd fd_;
  std::string path_;
  bool named_ = false;
  int error_ = 0;
};

// 0, or why no file can be made there.
int try_folder(const std::string& folder, bool& takes_direct) {
  const NewFile file(folder);
  if (file.error() == 0)
    takes_direct =
        static_cast<bool>(Fd(::open(file.path().c_str(), O_RDWR | O_DIRECT | O_CLOEXEC)));
  return file.error();
}

std::string name_of_type(long type) {
  constexpr struct {
    long type;
    std::string_view name;
  } known[] = {
      {EXT4_SUPER_MAGIC, "ext4"}, {XFS_SUPER_MAGIC, "xfs"}, {BTRFS_SUPER_MAGIC, "btrfs"},
      {F2FS_SUPER_MAGIC, "f2fs"}, {TMPFS_MAGIC, "tmpfs"},   {OVERLAYFS_SUPER_MAGIC, "overlayfs"},
      {NFS_SUPER_MAGIC, "nfs"},   {RAMFS_MAGIC, "ramfs"},   {static_cast<long>(0x2fc12fc1), "zfs"},
      {FUSE_SUPER_MAGIC, "fuse"}, {V9FS_MAGIC, "9p"}};
  for (const auto& row : known)
    if (row.type == type)
      return std::string(row.name);
  return "a file system";
}

// "vda" of a device number, or empty where no block device is below.
std::string name_of_device(dev_t device) {
  const std::string link =
      "/sys/dev/block/" + std::to_string(major(device)) + ":" + std::to_string(minor(device));
  std::array<char, 512> target;
  const auto length = ::readlink(link.c_str(), target.data(), target.size());
  if (length <= 0 || static_cast<std::size_t>(length) == target.size())
    return "";
  const std::string_view path(target.data(), static_cast<std::size_t>(length));
  return std::string(path.substr(path.rfind('/') + 1));
}

}  // namespace

std::uint64_t stamp_of(std::uint64_t block) noexcept {
  return (block + 1) * 0x9e3779b97f4a7c15;  // odd: no two blocks share one, and none is zero
}

std::string data_folder(std::string_view asked, std::string_view param) {
  bool takes_direct = false;
  if (asked != "auto") {
    const std::string folder(asked);
    if (const int error = try_folder(folder, takes_direct))
      throw BadInput(std::string(param) + ": '" + folder +
                     "': no file can be made there: " + errno_text(error));
    return folder;
  }
  const char* const set = std::getenv("TMPDIR");
  std::string writable;
  for (const std::string& folder : {std::string(set ? set : ""), std::string("."),
                                    std::string("/var/tmp"), std::string("/tmp")}) {
    if (folder.empty() || try_folder(folder, takes_direct) != 0)
      continue;
    if (takes_direct)
      return folder;
    if (writable.empty())
      writable = folder;
  }
  if (writable.empty())
    throw Unsupported("no folder to write a file in; set TMPDIR to one");
  return writable;
}

std::string no_room(const std::string& folder, std::uint64_t size) {
  struct statvfs space;
  if (::statvfs(folder.c_str(), &space) != 0)
    return "";  // making the file will tell
  const std::uint64_t free = std::uint64_t{space.f_bavail} * space.f_frsize;
  if (size <= free / 2)
    return "";
  return "a file of " + std::to_string(size >> 20) + " MiB, more than half of the " +
         std::to_string(free >> 20) + " MiB that are free there";
}

std::optional<std::uint64_t> bytes_from_devices() {
  const auto bytes = number_behind(read_text("/proc/self/io").value_or(""), "read_bytes:");
  return bytes ? std::optional(static_cast<std::uint64_t>(*bytes)) : std::nullopt;
}

std::string storage_of(const std::string& folder) {
  struct statfs about;
  struct stat status;
  if (::statfs(folder.c_str(), &about) != 0 || ::stat(folder.c_str(), &status) != 0)
    return "an unknown file system";
  const std::string device = name_of_device(status.st_dev);
  return name_of_type(static_cast<long>(about.f_type)) + (device.empty() ? "" : " on " + device);
}

DataFile::DataFile(const std::string& folder, std::uint64_t size) : size_(size) {
  {
    const NewFile file(folder);
    if (file.error() != 0)
      throw_errno(file.error(), "open", folder);
    open_all(file.path(), O_RDWR);
  }
  if (const int error = ::posix_fallocate(ahead_.get(), 0, static_cast<off_t>(size_)))
    throw_errno(error, "posix_fallocate", folder);
  fill();
  view_ = Mapping::of_file(ahead_, size_);
}

DataFile DataFile::existing(const std::string& path) {
  DataFile file;
  file.open_all(path, O_RDWR);
  struct stat status;
  check(::fstat(file.ahead_.get(), &status), "fstat", path);
  file.size_ = static_cast<std::uint64_t>(status.st_size);
  file.view_ = Mapping::of_file(file.ahead_, file.size_);
  return file;
}

void DataFile::open_all(const std::string& path, int flags) {
  ahead_ = Fd(check(::open(path.c_str(), flags | O_CLOEXEC), "open", path));
  random_ = Fd(check(::open(path.c_str(), flags | O_CLOEXEC), "open", path));
  ::posix_fadvise(random_.get(), 0, 0, POSIX_FADV_RANDOM);
  direct_ = Fd(::open(path.c_str(), flags | O_DIRECT | O_CLOEXEC));
  direct_error_ = direct_ ? 0 : errno;
}

// Noise between the stamps, so that no file system makes it smaller.
void DataFile::fill() const {
  std::vector<std::byte> area(chunk);
  Random random(random_seed);
  for (std::size_t at = 0; at < chunk; at += sizeof(std::uint64_t)) {
    const std::uint64_t noise = random();
    std::memcpy(area.data() + at, &noise, sizeof noise);
  }
  for (std::uint64_t offset = 0; offset < size_; offset += chunk) {
    const std::size_t length = std::min<std::uint64_t>(chunk, size_ - offset);
    for (std::size_t at = 0; at < length; at += block_size) {
      const std::uint64_t stamp = stamp_of((offset + at) / block_size);
      std::memcpy(area.data() + at, &stamp, sizeof stamp);
    }
    for (std::size_t done = 0; done < length;)
      done +=
          static_cast<std::size_t>(check(::pwrite(ahead_.get(), area.data() + done, length - done,
                                                  static_cast<off_t>(offset + done)),
                                         "pwrite"));
  }
  check(::fdatasync(ahead_.get()), "fdatasync");
}

void DataFile::save_to(const std::string& path) const {
  DataFile copy;
  copy.size_ = size_;
  copy.ahead_ =
      Fd(check(::open(path.c_str(), O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600), "open", path));
  copy.fill();
}

std::uint32_t DataFile::direct_alignment() const noexcept {
#ifdef STATX_DIOALIGN
  struct statx about {};
  if (::statx(ahead_.get(), "", AT_EMPTY_PATH, STATX_DIOALIGN, &about) == 0 &&
      (about.stx_mask & STATX_DIOALIGN) != 0)
    return std::max(about.stx_dio_mem_align, about.stx_dio_offset_align);
#endif
  return 0;
}

void DataFile::bring(CacheState state) {
  if (state == CacheState::as_it_is)
    return;
  if (state == CacheState::cached) {
    if (resident() == pages())
      return;
    std::vector<std::byte> area(chunk);
    for (std::uint64_t offset = 0; offset < size_; offset += chunk)
      check(::pread(ahead_.get(), area.data(), area.size(), static_cast<off_t>(offset)), "pread");
    return;
  }
  for (int attempt = 0; attempt < attempts_to_drop && resident() > 0; ++attempt) {
    check(::fdatasync(ahead_.get()), "fdatasync");
    ::posix_fadvise(ahead_.get(), 0, 0, POSIX_FADV_DONTNEED);
  }
}

std::uint64_t DataFile::pages() const noexcept {
  return (size_ + page_size() - 1) / page_size();
}

std::uint64_t DataFile::resident() const {
  std::vector<unsigned char> states(pages());
  check(::mincore(view_.data(), size_, states.data()), "mincore");
  return static_cast<std::uint64_t>(
      std::ranges::count_if(states, [](unsigned char state) { return (state & 1) != 0; }));
}

}  // namespace schedlab::apparatus
