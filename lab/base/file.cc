#include "lab/base/file.hh"

#include "lab/base/error.hh"
#include "lab/base/fd.hh"

#include <fcntl.h>
#include <sys/stat.h>

#include <array>
#include <climits>

namespace schedlab {

namespace {

// The file that a path ends at, through links, whether it exists or not. Throws ELOOP.
std::string resolve(std::string path) {
  for (int links = 0; links < 40; ++links) {
    std::array<char, PATH_MAX> target;
    const auto length = ::readlink(path.c_str(), target.data(), target.size());
    if (length < 0)
      return path;
    const std::string_view next(target.data(), static_cast<std::size_t>(length));
    path.erase(next.starts_with('/') ? 0 : path.rfind('/') + 1);
    path.append(next);
  }
  throw_errno(ELOOP, "open", path);
}

std::string size_text(std::size_t bytes) {
  return bytes < 1 << 20 ? std::to_string(bytes) + " bytes" : std::to_string(bytes >> 20) + " MiB";
}

// Reads to the end, or until there is more than `limit`; false with errno.
bool append_all(int fd, std::string& text, std::size_t limit) {
  std::array<char, 65536> block;
  while (text.size() <= limit) {
    const auto got = ::read(fd, block.data(), block.size());
    if (got < 0 && errno == EINTR)
      continue;
    if (got <= 0)
      return got == 0;
    text.append(block.data(), static_cast<std::size_t>(got));
  }
  return true;
}

void write_in_place(const std::string& path, std::string_view text) {
  const Fd fd(check(::open(path.c_str(), O_WRONLY | O_CLOEXEC), "open", path));
  write_all(fd.get(), text, path);
}

// Removes the half-written file unless the rename took it.
class Temporary {
public:
  explicit Temporary(std::string path) : path_(std::move(path)) {}
  ~Temporary() {
    if (!path_.empty())
      ::unlink(path_.c_str());
  }
  void kept() { path_.clear(); }

private:
  std::string path_;
};

// A new file gets 0644 less the umask.
void replace(const std::string& path, std::string_view text, std::optional<mode_t> mode) {
  const std::string beside = path + "." + std::to_string(::getpid()) + ".part";
  ::unlink(beside.c_str());  // of a namesake that was killed
  const Fd fd(
      check(::open(beside.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0644), "open", path));
  Temporary temporary(beside);
  if (mode)
    check(::fchmod(fd.get(), *mode), "fchmod", path);
  write_all(fd.get(), text, path);
  check(::fsync(fd.get()), "fsync", path);
  check(::rename(beside.c_str(), path.c_str()), "rename", path);
  temporary.kept();
}

}  // namespace

std::optional<std::string> read_text(const std::string& path) {
  const Fd fd(::open(path.c_str(), O_RDONLY | O_CLOEXEC));
  if (!fd)
    return std::nullopt;
  std::string text;
  if (!append_all(fd.get(), text, text.max_size()))
    return std::nullopt;
  if (text.ends_with('\n'))
    text.pop_back();
  return text;
}

std::string read_input(const std::string& path, std::size_t limit) {
  const auto refuse = [&](const std::string& why) { throw BadInput(path + ": " + why); };
  const Fd fd(::open(path.c_str(), O_RDONLY | O_CLOEXEC));
  if (!fd)
    refuse(errno_text(errno));
  struct stat info {};
  check(::fstat(fd.get(), &info), "fstat", path);
  if (S_ISDIR(info.st_mode))
    refuse("is a directory");
  if (S_ISREG(info.st_mode) && static_cast<std::size_t>(info.st_size) > limit)
    refuse("is " + size_text(static_cast<std::size_t>(info.st_size)) + "; at most " +
           size_text(limit) + " are read");
  std::string text;
  if (!append_all(fd.get(), text, limit))
    refuse(errno_text(errno));
  if (text.size() > limit)
    refuse("is longer than " + size_text(limit));
  return text;
}

void write_all(int fd, std::string_view text, std::string_view subject) {
  while (!text.empty()) {
    const auto wrote = ::write(fd, text.data(), text.size());
    if (wrote < 0 && errno == EINTR)
      continue;
    check(wrote, "write", subject);
    text.remove_prefix(static_cast<std::size_t>(wrote));
  }
}

bool is_replaceable(const std::string& path) {
  struct stat info {};
  return ::stat(path.c_str(), &info) != 0 || S_ISREG(info.st_mode);
}

void write_output(const std::string& path, std::string_view text) {
  if (!is_replaceable(path)) {
    write_in_place(path, text);
    return;
  }
  struct stat info {};
  std::optional<mode_t> mode;
  if (::stat(path.c_str(), &info) == 0)
    mode = info.st_mode & 07777;
  replace(resolve(path), text, mode);
}

}  // namespace schedlab
