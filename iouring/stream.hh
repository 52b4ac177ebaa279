#pragma once
// A socket with buffers on both sides.
//
//   Stream stream(co_await connect(Address("127.0.0.1:8080"), 2s));
//   stream.write("hello\n");
//   co_await stream.drain();
//   std::string answer = co_await stream.read_line();
//
// One task may read while another writes. Loop's thread only.

#include "iouring/file.hh"
#include "iouring/reader.hh"
#include "iouring/socket.hh"
#include "iouring/writer.hh"

namespace schedlab::iouring {

class Stream {
public:
  // In the running loop. Throws std::system_error (EBADF).
  explicit Stream(Socket socket, std::size_t read_limit = default_read_limit,
                  const WaterMarks& marks = {})
      : socket_(std::move(socket)), reader_(socket_.descriptor(), read_limit),
        writer_(socket_.descriptor(), marks) {}

  // See Reader.
  Task<std::size_t> read_some(std::span<std::byte> area) { return reader_.read_some(area); }
  Task<std::string> read_some(std::size_t most) { return reader_.read_some(most); }
  Task<std::string> read_exactly(std::size_t count) { return reader_.read_exactly(count); }
  Task<std::string> read_until(std::string_view end) { return reader_.read_until(end); }
  Task<std::string> read_line() { return reader_.read_line(); }
  Task<std::string> read_all(std::size_t most) { return reader_.read_all(most); }
  [[nodiscard]] bool at_end() const noexcept { return reader_.at_end(); }

  // See Writer.
  void write(std::span<const std::byte> data) { writer_.write(data); }
  void write(std::string_view text) { writer_.write(text); }
  Task<> drain() { return writer_.drain(); }
  Task<> flush() { return writer_.flush(); }
  Task<> write_eof() { return writer_.write_eof(); }

  // Flushes, unless a write has failed, and closes; what is under way ends. When cancelled it stays
  // open.
  Task<> close();

  [[nodiscard]] Reader& reader() noexcept { return reader_; }
  [[nodiscard]] Writer& writer() noexcept { return writer_; }
  [[nodiscard]] const Socket& socket() const noexcept { return socket_; }

private:
  Socket socket_;
  Reader reader_;
  Writer writer_;
};

// Sends a part of a file, or all from `offset` on; gives how much that was: less than `length` if
// the file ends before. Copies through memory: over TCP splice takes more CPU time, over unix
// sockets less where a call takes a mebibyte (docs/trust.md), and it occupies a thread, of the
// kernel or of epoll's few, until the peer has read. Errors are those of the file and of the
// socket.
Task<std::uint64_t> send_file(Socket& socket, File& file, std::uint64_t offset = 0,
                              std::uint64_t length = ~std::uint64_t{0});

}  // namespace schedlab::iouring
