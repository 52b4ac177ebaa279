#include "procs/start_order.hh"

#include "lab/base/clock.hh"
#include "lab/base/error.hh"
#include "lab/base/file.hh"
#include "procs/process.hh"

#include <fcntl.h>
#include <poll.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/stat.h>

#include <algorithm>
#include <array>
#include <climits>
#include <csignal>
#include <cstring>
#include <exception>

namespace schedlab::procs::detail {

namespace {

constexpr std::uint64_t magic = 0x7363'6865'646c'6162;
constexpr std::size_t alignment = 64;

// The beginning of the memfd; CPU mask, descriptor numbers and argument lie behind it.
struct Header {
  std::uint64_t magic = 0;
  std::uint64_t mask_words = 0;
  std::uint64_t fds = 0;
  std::uint64_t argument_size = 0;
  CallableId body;
  std::array<char, 16> name{};
};
constexpr std::size_t header_size = (sizeof(Header) + alignment - 1) / alignment * alignment;

template <typename T>
std::string_view as_text(std::span<const T> values) {
  return {reinterpret_cast<const char*>(values.data()), values.size_bytes()};
}

template <typename T>
std::vector<T> take(std::span<const std::byte>& bytes, std::uint64_t count) {
  if (count > bytes.size() / sizeof(T))
    throw Unsupported("what a process was started with is cut short");
  std::vector<T> values(count);
  if (count > 0)
    std::memcpy(values.data(), bytes.data(), count * sizeof(T));
  bytes = bytes.subspan(count * sizeof(T));
  return values;
}

}  // namespace

Fd Order::write() const {
  Header header;
  header.magic = magic;
  header.mask_words = cpu_mask.size();
  header.fds = fds.size();
  header.argument_size = argument.size();
  header.body = body;
  name.copy(header.name.data(), header.name.size() - 1);
  std::string text(header_size, '\0');
  std::memcpy(text.data(), &header, sizeof header);
  text.append(as_text(std::span<const std::byte>(argument)));
  text.append(as_text(std::span<const unsigned long>(cpu_mask)));
  text.append(as_text(std::span<const int>(fds)));
  Fd fd(check(::memfd_create("procs-order", MFD_CLOEXEC), "memfd_create"));
  write_all(fd.get(), text, "procs-order");
  return fd;
}

Order Order::read(const Fd& fd) {
  struct stat status {};
  if (::fstat(fd.get(), &status) != 0 || !S_ISREG(status.st_mode) ||
      static_cast<std::size_t>(status.st_size) < header_size)
    throw Unsupported("this command line is for processes that procs starts");
  Order order;
  order.memory = Mapping::of_file(fd, static_cast<std::size_t>(status.st_size));
  Header header;
  std::memcpy(&header, order.memory.data(), sizeof header);
  if (header.magic != magic)
    throw Unsupported("this command line is for processes that procs starts");
  std::span<const std::byte> rest = order.memory.bytes().subspan(header_size);
  if (header.argument_size > rest.size())
    throw Unsupported("what a process was started with is cut short");
  order.argument = rest.first(header.argument_size);
  rest = rest.subspan(header.argument_size);
  order.cpu_mask = take<unsigned long>(rest, header.mask_words);
  order.fds = take<int>(rest, header.fds);
  order.body = header.body;
  order.name = header.name.data();
  return order;
}

namespace {

// A message is one write that the pipe takes whole.
struct Frame {
  Told what;
  unsigned char unused = 0;
  std::uint16_t size = 0;
  std::array<char, PIPE_BUF - 4> text;
};
constexpr std::size_t frame_head = offsetof(Frame, text);

// Reads exactly `size` bytes, or nothing.
bool read_exactly(int fd, void* into, std::size_t size) {
  for (std::size_t at = 0; at < size;) {
    const auto got = ::read(fd, static_cast<char*>(into) + at, size - at);
    if (got <= 0 && !(got < 0 && errno == EINTR))
      return false;
    at += static_cast<std::size_t>(std::max<ssize_t>(got, 0));
  }
  return true;
}

}  // namespace

void tell(int pipe, Told what, std::string_view text) noexcept {
  Frame frame{.what = what, .text = {}};
  frame.size = static_cast<std::uint16_t>(std::min(text.size(), frame.text.size()));
  text.copy(frame.text.data(), frame.size);
  sigset_t broken, before;
  ::sigemptyset(&broken);
  ::sigaddset(&broken, SIGPIPE);
  ::pthread_sigmask(SIG_BLOCK, &broken, &before);
  if (::write(pipe, &frame, frame_head + frame.size) < 0 && errno == EPIPE) {
    const timespec now{0, 0};
    ::sigtimedwait(&broken, nullptr, &now);
  }
  ::pthread_sigmask(SIG_SETMASK, &before, nullptr);
}

std::optional<Message> hear(const Fd& pipe, int timeout_ms, int unless) {
  const std::int64_t deadline = clock::now_ns() + std::int64_t{timeout_ms} * 1'000'000;
  for (;;) {
    std::array<pollfd, 2> both{{{.fd = pipe.get(), .events = POLLIN, .revents = 0},
                                {.fd = unless, .events = POLLIN, .revents = 0}}};
    const std::int64_t left_ms = (deadline - clock::now_ns() + 999'999) / 1'000'000;
    const int patience = timeout_ms < 0 ? -1 : static_cast<int>(std::max<std::int64_t>(left_ms, 0));
    const int ready = ::poll(both.data(), both.size(), patience);
    if (ready < 0 && errno == EINTR)
      continue;
    if (ready < 0)
      throw_errno(errno, "poll");
    if ((both[0].revents & POLLIN) == 0)
      return std::nullopt;
    Frame frame{.what = Told::failed, .text = {}};
    if (!read_exactly(pipe.get(), &frame, frame_head) || frame.size > frame.text.size() ||
        !read_exactly(pipe.get(), frame.text.data(), frame.size))
      return std::nullopt;
    return Message{frame.what, {frame.text.data(), frame.size}};
  }
}

int play(const Order& order, int pipe) noexcept {
  try {
    ::prctl(PR_SET_NAME, order.name.c_str());
    Process::Body* body = nullptr;
    try {
      body = resolve<Process::Body>(order.body);
    } catch (const std::exception& error) {
      tell(pipe, Told::failed, error.what());
      return 1;
    }
    // What is handed over is not handed on to programs that the child executes.
    ::fcntl(pipe, F_SETFD, FD_CLOEXEC);
    for (const int fd : order.fds)
      if (fd > STDERR_FILENO)
        ::fcntl(fd, F_SETFD, FD_CLOEXEC);
    tell(pipe, Told::running);
    return body(order.argument);
  } catch (const std::exception& error) {
    tell(pipe, Told::threw, error.what());
  } catch (...) {
    tell(pipe, Told::threw, "something that is no std::exception");
  }
  return 1;
}

}  // namespace schedlab::procs::detail
