#include "iouring/stream.hh"

#include <algorithm>
#include <system_error>
#include <vector>

namespace schedlab::iouring {

namespace {
constexpr std::size_t piece = 128 * 1024;  // of a file at a time
}

Task<> Stream::close() {
  try {
    co_await writer_.flush();
  } catch (const std::system_error&) {
    // Whoever wrote was told, or did not ask.
  }
  co_await socket_.close();
}

Task<std::uint64_t> send_file(Socket& socket, File& file, std::uint64_t offset,
                              std::uint64_t length) {
  std::vector<std::byte> buffer(std::min<std::uint64_t>(piece, length));
  std::uint64_t done = 0;
  while (done < length) {
    const std::size_t wanted = std::min<std::uint64_t>(buffer.size(), length - done);
    const std::size_t count = co_await file.read(std::span(buffer).first(wanted), offset + done);
    if (count == 0)
      break;
    co_await socket.send_all(std::span(buffer).first(count));
    done += count;
  }
  co_return done;
}

}  // namespace schedlab::iouring
