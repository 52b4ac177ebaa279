// A file in the page cache to a socket whose other end another thread empties: by the library's
// send_file, which copies, or by its requests to splice, through a pipe of a mebibyte.
//
// usage: file_to_socket tcp|unix copy|splice io_uring|epoll PIECE MIBS SENDER_CPU RECEIVER_CPU
// Prints nanoseconds a KiB: wall time, CPU time of all threads, the kernel's for us too. PIECE:
// bytes a splice.

#include "affinity/pin.hh"
#include "iouring/loop.hh"
#include "iouring/perform.hh"
#include "iouring/stream.hh"
#include "lab/base/clock.hh"
#include "lab/base/error.hh"
#include "lab/base/fd.hh"
#include "lab/base/text.hh"

#include <fcntl.h>
#include <netinet/in.h>
#include <sys/mman.h>
#include <sys/socket.h>

#include <cstdint>
#include <cstdio>
#include <exception>
#include <string>
#include <string_view>
#include <thread>
#include <vector>

namespace {

using namespace schedlab;
using iouring::File;
using iouring::Op;
using iouring::Socket;
using iouring::Task;

constexpr std::uint64_t file_size = std::uint64_t{16} << 20;

std::uint64_t number(const char* text) {
  const auto value = to_number(text);
  if (!value || *value < 0)
    throw BadInput(std::string(text) + " is no number");
  return static_cast<std::uint64_t>(*value);
}

Fd make_file() {
  Fd file(check(::memfd_create("file", MFD_CLOEXEC), "memfd_create"));
  const std::vector<char> data(file_size, 'x');
  check(::write(file.get(), data.data(), data.size()), "write");
  return file;
}

struct Ends {
  Fd near, far;
};

Ends connect_tcp() {
  const Fd listener(check(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0), "socket"));
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  socklen_t size = sizeof address;
  auto* const any = reinterpret_cast<sockaddr*>(&address);
  check(::bind(listener.get(), any, size), "bind");
  check(::getsockname(listener.get(), any, &size), "getsockname");
  check(::listen(listener.get(), 1), "listen");
  Fd near(check(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0), "socket"));
  check(::connect(near.get(), any, size), "connect");
  return {std::move(near), Fd(check(::accept(listener.get(), nullptr, nullptr), "accept"))};
}

Ends connect_unix() {
  int ends[2];
  check(::socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends), "socketpair");
  return {Fd(ends[0]), Fd(ends[1])};
}

Task<> copy(Socket& socket, File& file, std::uint64_t total) {
  for (std::uint64_t sent = 0; sent < total; sent += file_size)
    co_await iouring::send_file(socket, file, 0, file_size);
}

Task<> splice(Socket& socket, File& file, std::uint64_t total, std::uint32_t piece) {
  const Pipe pipe = make_pipe();
  check(::fcntl(pipe.write.get(), F_SETPIPE_SZ, 1 << 20), "F_SETPIPE_SZ");
  for (std::uint64_t sent = 0; sent < total;) {
    auto held = co_await iouring::Perform({.op = Op::splice,
                                           .fd = file.fd(),
                                           .length = piece,
                                           .offset = sent % file_size,
                                           .second_fd = pipe.write.get()},
                                          "splice", "file");
    sent += static_cast<std::uint64_t>(held);
    while (held > 0)
      held -= co_await iouring::Perform({.op = Op::splice,
                                         .fd = pipe.read.get(),
                                         .length = static_cast<std::uint32_t>(held),
                                         .second_fd = socket.fd()},
                                        "splice", "socket");
  }
}

void receive(const Fd& end, std::uint64_t total, unsigned cpu) {
  const affinity::Pin pin(cpu);
  std::vector<char> area(256 << 10);
  for (std::uint64_t left = total; left > 0;)
    left -= static_cast<std::uint64_t>(
        check(::recv(end.get(), area.data(), area.size(), 0), "recv", "end"));
}

void run(char** arguments) {
  const std::string_view kind = arguments[1], way = arguments[2];
  const auto piece = static_cast<std::uint32_t>(number(arguments[4]));
  const std::uint64_t total = number(arguments[5]) << 20;
  Ends ends = kind == "tcp" ? connect_tcp() : connect_unix();
  File file(make_file());
  Socket socket(std::move(ends.near));
  iouring::LoopOptions options;
  options.driver.choice = iouring::driver_choice(arguments[3]);

  const affinity::Pin pin(static_cast<unsigned>(number(arguments[6])));
  const std::int64_t begin_ns = clock::now_ns(), begin_cpu_ns = clock::process_cpu_ns();
  std::jthread receiver(
      [&] { receive(ends.far, total, static_cast<unsigned>(number(arguments[7]))); });
  iouring::Loop loop(options);
  loop.run(way == "copy" ? copy(socket, file, total) : splice(socket, file, total, piece));
  receiver.join();
  const double kib = static_cast<double>(total) / 1024;
  std::printf("%.3f %.3f\n", static_cast<double>(clock::now_ns() - begin_ns) / kib,
              static_cast<double>(clock::process_cpu_ns() - begin_cpu_ns) / kib);
}

}  // namespace

int main(int count, char** arguments) {
  if (count != 8)
    return 2;
  try {
    clock::select();
    run(arguments);
    return 0;
  } catch (const std::exception& error) {
    std::fprintf(stderr, "file_to_socket: %s\n", error.what());
    return 1;
  }
}
