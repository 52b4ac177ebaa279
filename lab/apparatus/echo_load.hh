#pragma once
// A client for echo servers that costs little beside them: one thread, a message in flight on each
// connection, all of it spinning, so that the server never pays for waking it. On io_uring where
// that works, with sends handed over in batches; on epoll elsewhere.
//
// Thread rule: made and used by one thread.

#include "lab/base/fd.hh"
#include "lab/harness/histogram.hh"

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <string_view>
#include <vector>

namespace schedlab::apparatus {

struct EchoLoadOptions {
  std::uint16_t port = 0;  // on 127.0.0.1
  unsigned connections = 1;
  std::size_t size = 64;  // bytes of a message, at least 8
  bool ring = true;       // false: epoll also where io_uring works
};

class EchoLoad {
public:
  EchoLoad(const EchoLoad&) = delete;
  EchoLoad& operator=(const EchoLoad&) = delete;
  virtual ~EchoLoad() = default;

  // Sends so many messages in all and waits until the last has come back. The round trips, from
  // the call that hands a message over to the return of the one that brought its echo, are added
  // to the histogram in clock ticks. Throws std::runtime_error where an echo has other bytes, the
  // server closes, or nothing comes for five seconds.
  void run(std::uint64_t messages, harness::Histogram& round_trips);

  [[nodiscard]] virtual std::string_view name() const noexcept = 0;  // "io_uring", "epoll"

protected:
  // Connects. Throws std::system_error.
  explicit EchoLoad(const EchoLoadOptions& options);

  // Exchanges messages until done(); the first ones are begun with next_message.
  virtual void exchange() = 0;

  [[nodiscard]] std::size_t connections() const noexcept { return lines_.size(); }
  [[nodiscard]] int fd(std::size_t line) const noexcept { return lines_[line].fd.get(); }
  [[nodiscard]] bool done() const noexcept { return awaited_ == 0; }
  [[nodiscard]] bool may_begin() const noexcept { return unsent_ > 0; }
  // May begin. What is to be sent; it stays until the echo is complete.
  std::span<const std::byte> next_message(std::size_t line);
  // All that next_message gave since the last call is handed over now.
  void stamp_sent() noexcept;
  // Bytes came, the clock being read before; true if they end a message.
  bool take(std::size_t line, std::span<const std::byte> bytes);
  void stamp_received() noexcept;
  // Nothing came: rests the CPU, and now and then looks whether it is time to give up.
  void idle();
  // Throws for what a send or recv gave that is no progress.
  [[noreturn]] static void fail(long result);

private:
  struct Line {
    Fd fd;
    std::uint64_t sent_ticks = 0;
    std::uint64_t number = 0;  // of the message
    std::size_t received = 0;  // bytes of it
  };
  std::byte* message(std::size_t line) noexcept { return bytes_.data() + line * stride_; }

  std::size_t size_;
  std::size_t stride_;
  std::vector<Line> lines_;
  std::vector<std::byte> bytes_;    // a message of each line
  std::vector<std::size_t> fresh_;  // lines whose message waits for its stamp
  std::uint64_t unsent_ = 0;
  std::uint64_t awaited_ = 0;
  std::uint64_t now_ticks_ = 0;
  std::uint64_t rests_ = 0;
  std::int64_t give_up_ns_ = 0;
  harness::Histogram* round_trips_ = nullptr;
};

// Throws std::system_error (ECONNREFUSED, EMFILE).
std::unique_ptr<EchoLoad> make_echo_load(const EchoLoadOptions& options);

}  // namespace schedlab::apparatus
