#include "iouring/reader.hh"

#include "iouring/perform.hh"

#include <sys/stat.h>

#include <algorithm>
#include <cassert>
#include <cerrno>
#include <cstring>

namespace schedlab::iouring {

namespace {

constexpr std::size_t smallest_buffer = 4096;
constexpr std::size_t largest_step = 256 * 1024;  // that one receive asks for

bool is_socket(int fd) {
  struct stat status;
  return ::fstat(fd, &status) == 0 && S_ISSOCK(status.st_mode);
}

}  // namespace

// One at a time.
class Reader::Reading {
public:
  explicit Reading(Reader& reader) : reader_(reader) {
    if (std::exchange(reader.reading_, true)) {
      throw_errno(EBUSY, "read", reader.shared_->name());
    }
  }
  Reading(const Reading&) = delete;
  Reading& operator=(const Reading&) = delete;
  ~Reading() { reader_.reading_ = false; }

private:
  Reader& reader_;
};

Reader::Reader(const Descriptor& descriptor, std::size_t limit)
    : shared_(descriptor, "read"), op_(is_socket(descriptor.get()) ? Op::recv : Op::read),
      limit_(limit) {}

void Reader::make_room(std::size_t count) {
  if (capacity_ - end_ >= count)
    return;
  const std::size_t have = buffered();
  if (capacity_ - have >= count && begin_ >= have) {
    std::memcpy(buffer_.get(), buffer_.get() + begin_, have);
  } else {
    const std::size_t larger = std::max({have + count, 2 * capacity_, smallest_buffer});
    auto fresh = std::make_unique_for_overwrite<char[]>(larger);
    if (have > 0)
      std::memcpy(fresh.get(), buffer_.get() + begin_, have);
    buffer_ = std::move(fresh);
    capacity_ = larger;
  }
  begin_ = 0;
  end_ = have;
}

std::string Reader::take(std::size_t count) {
  std::string taken(view().substr(0, count));
  begin_ += taken.size();
  if (begin_ == end_)
    begin_ = end_ = 0;
  return taken;
}

Task<std::size_t> Reader::receive(std::span<std::byte> area) {
  const detail::InUse use(*shared_, "read");
  Request wanted;
  wanted.op = op_;
  wanted.fd = use.fd();
  wanted.length = static_cast<std::uint32_t>(std::min(area.size(), largest_step));
  wanted.address = area.data();
  const int count = co_await perform(wanted, op_ == Op::recv ? "recv" : "read", use.name());
  ended_ = count == 0;
  co_return static_cast<std::size_t>(count);
}

Task<bool> Reader::fill(std::size_t at_least) {
  if (ended_)
    co_return false;
  make_room(std::clamp(at_least, smallest_buffer, largest_step));
  const std::span area(buffer_.get() + end_, capacity_ - end_);
  const std::size_t count = co_await receive(std::as_writable_bytes(area));
  end_ += count;
  co_return count > 0;
}

Task<bool> Reader::collect(std::size_t count) {
  while (buffered() < count) {
    const bool more = co_await fill(count - buffered());
    if (!more)
      co_return false;
  }
  co_return true;
}

Task<std::size_t> Reader::find(std::string_view delimiter) {
  assert(!delimiter.empty());
  for (std::size_t from = 0;;) {
    const std::size_t at = view().find(delimiter, from);
    if (at != std::string_view::npos && at + delimiter.size() <= limit_)
      co_return at + delimiter.size();
    if (at != std::string_view::npos || buffered() > limit_)
      throw LimitOverrun();
    // Its head may have come.
    from = buffered() < delimiter.size() ? 0 : buffered() - delimiter.size() + 1;
    const bool more = co_await fill(smallest_buffer);
    if (!more)
      co_return std::string_view::npos;
  }
}

Task<std::size_t> Reader::read_some(std::span<std::byte> area) {
  const Reading reading(*this);
  if (buffered() == 0 && !ended_ && area.size() >= smallest_buffer) {
    const std::size_t count = co_await receive(area);
    co_return count;
  }
  if (buffered() == 0)
    co_await fill(area.size());
  const std::size_t count = std::min(area.size(), buffered());
  if (count > 0)
    std::memcpy(area.data(), view().data(), count);
  begin_ += count;
  co_return count;
}

Task<std::string> Reader::read_some(std::size_t most) {
  const Reading reading(*this);
  if (buffered() == 0)
    co_await fill(std::min(most, limit_));
  co_return take(most);
}

Task<std::string> Reader::read_exactly(std::size_t count) {
  const Reading reading(*this);
  const bool all = co_await collect(count);
  if (!all)
    throw IncompleteRead(take(count));
  co_return take(count);
}

Task<std::string> Reader::read_until(std::string_view delimiter) {
  const Reading reading(*this);
  const std::string copy(delimiter);
  const std::size_t end = co_await find(copy);
  if (end == std::string_view::npos)
    throw IncompleteRead(take(buffered()));
  co_return take(end);
}

Task<std::string> Reader::read_line() {
  const Reading reading(*this);
  const std::size_t end = co_await find("\n");
  co_return take(end == std::string_view::npos ? buffered() : end);
}

Task<std::string> Reader::read_all(std::size_t most) {
  const Reading reading(*this);
  for (;;) {
    if (buffered() > most)
      throw LimitOverrun();
    const bool more = co_await fill(std::max(buffered(), smallest_buffer));
    if (!more)
      co_return take(buffered());
  }
}

}  // namespace schedlab::iouring
