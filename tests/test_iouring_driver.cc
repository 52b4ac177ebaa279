// What each request gives, on every driver.

#include "lab/base/child.hh"
#include "tests/iouring_drivers.hh"

#include <dirent.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <sys/eventfd.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/wait.h>

#include <array>
#include <cstring>
#include <numeric>
#include <thread>

using namespace schedlab;
using namespace schedlab::testing;

namespace {

Fd scratch_file(const std::string& content = {}) {
  Fd file(check(::open("/tmp", O_TMPFILE | O_RDWR | O_CLOEXEC, 0600), "open"));
  check(::pwrite(file.get(), content.data(), content.size(), 0), "pwrite");
  return file;
}

std::size_t open_descriptors() {
  std::size_t count = 0;
  DIR* folder = ::opendir("/proc/self/fd");
  while (::readdir(folder))
    ++count;
  ::closedir(folder);
  return count;
}

bool is_blocking(const Fd& fd) {
  return (::fcntl(fd.get(), F_GETFL) & O_NONBLOCK) == 0;
}

}  // namespace

BOOST_AUTO_TEST_CASE(io_uring_is_among_the_drivers_tested,
                     *boost::unit_test::precondition(uring_works)) {
  BOOST_TEST(drivers_here().size() == 2);
}

BOOST_DATA_TEST_CASE(nothing_takes_no_time_and_gives_0, on_all_drivers, choice) {
  Bench bench(choice);
  BOOST_TEST(bench.run({}) == 0);
  BOOST_TEST(bench->in_flight() == 0);
  BOOST_TEST(bench->counts().requests == 1);
  BOOST_TEST(bench->counts().completed == 1);
}

BOOST_DATA_TEST_CASE(a_file_is_opened_written_synced_read_and_closed, on_all_drivers, choice) {
  Bench bench(choice);
  std::string path = "/tmp/schedlab-test-" + std::to_string(::getpid());
  const Fd file(bench.run({.op = Op::open,
                           .fd = AT_FDCWD,
                           .flags = O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC,
                           .length = 0600,
                           .address = path.data()}));
  BOOST_TEST_REQUIRE(file.get() >= 0);
  std::string text = "across the page\n";
  Request write = moving(Op::write, file, text);
  write.offset = 4090;
  BOOST_TEST(bench.run(write) == 16);
  BOOST_TEST(bench.run({.op = Op::fsync, .fd = file.get()}) == 0);
  BOOST_TEST(bench.run({.op = Op::fsync, .fd = file.get(), .flags = 1}) == 0);
  struct statx status {};
  BOOST_TEST(bench.run({.op = Op::statx,
                        .fd = AT_FDCWD,
                        .length = STATX_SIZE,
                        .address = path.data(),
                        .second = &status}) == 0);
  BOOST_TEST(status.stx_size == 4106u);
  std::string back(20, '-');
  Request read = moving(Op::read, file, back);
  read.offset = 4089;
  BOOST_TEST(bench.run(read) == 17);  // short at the end of the file
  BOOST_TEST(back == std::string("\0across the page\n---", 20));
  read.offset = 4106;
  BOOST_TEST(bench.run(read) == 0);
  const int copy = ::dup(file.get());
  BOOST_TEST(bench.run({.op = Op::close, .fd = copy}) == 0);
  BOOST_TEST(::fcntl(copy, F_GETFD) == -1);
  ::unlink(path.c_str());
}

BOOST_DATA_TEST_CASE(a_file_has_a_position_of_its_own, on_all_drivers, choice) {
  Bench bench(choice);
  const Fd file = scratch_file("abcdefgh");
  std::array<char, 3> part{};
  BOOST_TEST(bench.run(moving(Op::read, file, part)) == 3);
  BOOST_TEST(bench.run(moving(Op::read, file, part)) == 3);
  BOOST_TEST(std::string(part.data(), 3) == "def");
  BOOST_TEST(bench.run(moving(Op::read, file, part)) == 2);
  BOOST_TEST(bench.run(moving(Op::read, file, part)) == 0);
}

BOOST_DATA_TEST_CASE(a_file_that_is_not_cached_is_read_whole, on_all_drivers, choice) {
  Bench bench(choice);
  std::string content(3 << 20, '\0');
  std::iota(content.begin(), content.end(), '\1');
  const Fd file = scratch_file(content);
  ::fsync(file.get());
  ::posix_fadvise(file.get(), 1 << 20, 1 << 20, POSIX_FADV_DONTNEED);
  std::string back(content.size(), '\0');
  Request read = moving(Op::read, file, back);
  read.offset = 0;
  BOOST_TEST(bench.run(read) == static_cast<int>(content.size()));
  BOOST_TEST((back == content));
}

BOOST_DATA_TEST_CASE(failures_of_file_requests_are_the_calls_own, on_all_drivers, choice) {
  Bench bench(choice);
  std::array<char, 8> area{};
  const Fd none(-1);
  char missing[] = "/nonexistent/file";
  struct statx status;
  BOOST_TEST(bench.run(moving(Op::read, none, area)) == -EBADF);
  BOOST_TEST(bench.run(moving(Op::write, none, area)) == -EBADF);
  BOOST_TEST(bench.run({.op = Op::close, .fd = 999'999}) == -EBADF);
  BOOST_TEST(bench.run({.op = Op::fsync, .fd = 999'999}) == -EBADF);
  BOOST_TEST(bench.run({.op = Op::open, .fd = AT_FDCWD, .address = missing}) == -ENOENT);
  BOOST_TEST(bench.run({.op = Op::statx, .fd = AT_FDCWD, .address = missing, .second = &status}) ==
             -ENOENT);
  const Fd read_only(::open("/proc/self/exe", O_RDONLY | O_CLOEXEC));
  BOOST_TEST(bench.run(moving(Op::write, read_only, area)) == -EBADF);
  const Fd folder(::open("/tmp", O_DIRECTORY | O_CLOEXEC));
  BOOST_TEST(bench.run(moving(Op::read, folder, area)) == -EISDIR);
  const Pipe pipe = make_pipe();
  BOOST_TEST(bench.run({.op = Op::fsync, .fd = pipe.read.get()}) == -EINVAL);
  Request unknown = moving(Op::read, read_only, area);
  unknown.fixed_buffer = 3;
  BOOST_TEST(bench.run(unknown) == -EFAULT);
  unknown.fixed_buffer = iouring::no_buffer;
  unknown.fixed_file = true;
  BOOST_TEST(bench.run(unknown) == -EBADF);
}

BOOST_DATA_TEST_CASE(failures_of_socket_requests_are_the_calls_own, on_all_drivers, choice) {
  Bench bench(choice);
  std::array<char, 8> area{};
  const Fd file = scratch_file();
  for (const Op op : {Op::recv, Op::send, Op::accept, Op::shutdown})
    BOOST_TEST(bench.run(moving(op, file, area)) == -ENOTSOCK);
  Listener silent(false);
  BOOST_TEST(bench.run(silent.connect(file)) == -ENOTSOCK);
  const Fd socket = new_socket();
  BOOST_TEST(bench.run(moving(Op::recv, socket, area)) == -ENOTCONN);
  BOOST_TEST(bench.run({.op = Op::shutdown, .fd = socket.get(), .flags = SHUT_RD}) == -ENOTCONN);
  BOOST_TEST(bench.run({.op = Op::accept, .fd = socket.get()}) == -EINVAL);  // does not listen
  BOOST_TEST(bench.run(silent.connect(socket)) == -ECONNREFUSED);
  BOOST_TEST(bench.run({.op = Op::poll, .fd = 999'999, .flags = POLLIN}) == -EBADF);
  BOOST_TEST(bench.run({.op = Op::cancel_fd, .fd = 999'999}) == -EBADF);
}

BOOST_DATA_TEST_CASE(a_connection_is_made_used_and_ended, on_all_drivers, choice) {
  Bench bench(choice);
  Listener listener;
  sockaddr_in peer{};
  socklen_t size = sizeof peer;
  Recorded& accepting = bench.begin({.op = Op::accept,
                                     .fd = listener.fd.get(),
                                     .flags = SOCK_CLOEXEC,
                                     .address = &peer,
                                     .second = &size});
  bench.settle();
  BOOST_TEST(!accepting.ended());
  const Fd client = new_socket();
  BOOST_TEST(bench.run(listener.connect(client)) == 0);
  const Fd server(bench.end(accepting));
  BOOST_TEST_REQUIRE(server.get() >= 0);
  BOOST_TEST(size == sizeof peer);
  BOOST_TEST(peer.sin_addr.s_addr == htonl(INADDR_LOOPBACK));
  BOOST_TEST((::fcntl(server.get(), F_GETFD) & FD_CLOEXEC));
  BOOST_TEST(is_blocking(client));
  BOOST_TEST(is_blocking(server));
  BOOST_TEST(bench.run(listener.connect(client)) == -EISCONN);

  std::array<char, 64> area{};
  Recorded& receiving = bench.begin(moving(Op::recv, server, area));
  std::string word = "hello";
  BOOST_TEST(bench.run(moving(Op::send, client, word)) == 5);
  BOOST_TEST(bench.end(receiving) == 5);
  Recorded& ending = bench.begin(moving(Op::read, server, area));
  BOOST_TEST(bench.run({.op = Op::shutdown, .fd = client.get(), .flags = SHUT_WR}) == 0);
  BOOST_TEST(bench.end(ending) == 0);
}

BOOST_DATA_TEST_CASE(a_unix_socket_waits_for_room_in_the_backlog, on_all_drivers, choice) {
  Bench bench(choice);
  const Fd listener(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
  sockaddr_un name{AF_UNIX, {}};
  socklen_t size = sizeof(sa_family_t);  // the kernel chooses a name
  check(::bind(listener.get(), reinterpret_cast<sockaddr*>(&name), size), "bind");
  size = sizeof name;
  ::getsockname(listener.get(), reinterpret_cast<sockaddr*>(&name), &size);
  check(::listen(listener.get(), 0), "listen");
  std::array<Fd, 3> clients;
  std::vector<Recorded*> connecting;
  for (Fd& client : clients) {
    client = Fd(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
    connecting.push_back(
        &bench.begin({.op = Op::connect, .fd = client.get(), .length = size, .address = &name}));
  }
  for (Recorded* const one : connecting) {
    const Fd server(bench.run({.op = Op::accept, .fd = listener.get()}));
    BOOST_TEST(server.get() >= 0);
    BOOST_TEST(bench.end(*one) == 0);
  }
}

BOOST_DATA_TEST_CASE(readers_of_one_socket_are_served_in_their_order, on_all_drivers, choice) {
  if (choice != DriverChoice::epoll)
    return;  // io_uring promises no order
  Bench bench(choice);
  const Pair pair;
  std::array<std::array<char, 2>, 5> areas{};
  std::vector<Recorded*> reading;
  for (auto& area : areas)
    reading.push_back(&bench.begin(moving(Op::recv, pair.near, area)));
  check(::write(pair.far.get(), "aabbc", 5), "write");
  bench.end(*reading[2]);
  bench.settle();
  BOOST_TEST(areas[0][0] == 'a');
  BOOST_TEST(areas[1][0] == 'b');
  BOOST_TEST(reading[2]->result() == 1);
  BOOST_TEST(!reading[3]->ended());
  check(::write(pair.far.get(), "ddee", 4), "write");
  bench.end(*reading[4]);
  BOOST_TEST(areas[3][1] == 'd');
  BOOST_TEST(areas[4][1] == 'e');
}

BOOST_DATA_TEST_CASE(a_full_socket_takes_a_part_and_then_waits, on_all_drivers, choice) {
  Bench bench(choice);
  const Pair pair;
  const int tiny = 1;
  ::setsockopt(pair.near.get(), SOL_SOCKET, SO_SNDBUF, &tiny, sizeof tiny);
  std::string content(200'000, '\0');
  std::iota(content.begin(), content.end(), '\0');
  std::string received(content.size(), '\1');
  std::size_t sent = 0, got = 0, sends = 0;
  const auto take = [&] {
    const auto part =
        ::recv(pair.far.get(), received.data() + got, received.size() - got, MSG_DONTWAIT);
    got += part > 0 ? static_cast<std::size_t>(part) : 0;
  };
  for (; sent < content.size(); ++sends) {
    std::span rest(content.data() + sent, content.size() - sent);
    Recorded& sending = bench.begin(moving(Op::send, pair.near, rest));
    for (; !sending.ended(); take())
      bench->wait(0);
    BOOST_TEST_REQUIRE(sending.result() > 0);
    sent += static_cast<std::size_t>(sending.result());
  }
  while (got < content.size())
    take();
  BOOST_TEST((received == content));
  BOOST_TEST(sends > 1);
}

BOOST_DATA_TEST_CASE(waitall_waits_for_all_of_it, on_all_drivers, choice) {
  Bench bench(choice);
  const Pair pair;
  std::array<char, 10> area{};
  Recorded& all = bench.begin(moving(Op::recv, pair.near, area, MSG_WAITALL));
  check(::write(pair.far.get(), "0123", 4), "write");
  bench.settle();
  BOOST_TEST(!all.ended());
  check(::write(pair.far.get(), "456789", 6), "write");
  BOOST_TEST(bench.end(all) == 10);
  BOOST_TEST(std::string(area.data(), 10) == "0123456789");
  Recorded& part = bench.begin(moving(Op::recv, pair.near, area, MSG_WAITALL));
  check(::write(pair.far.get(), "abc", 3), "write");
  bench.settle();
  bench->cancel(part);
  BOOST_TEST(bench.end(part) == 3);  // what was received is not lost
}

BOOST_DATA_TEST_CASE(would_block_is_only_for_who_asks, on_all_drivers, choice) {
  Bench bench(choice);
  const Pair pair;
  std::array<char, 8> area{};
  BOOST_TEST(bench.run(moving(Op::recv, pair.near, area, MSG_DONTWAIT)) == -EAGAIN);
  // A descriptor that does not block makes no difference.
  int ends[2];
  check(::pipe2(ends, O_NONBLOCK | O_CLOEXEC), "pipe2");
  const Fd out(ends[0]), in(ends[1]);
  const Fd events(::eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC));
  ::fcntl(pair.near.get(), F_SETFL, O_NONBLOCK);
  Recorded* const waiting[] = {&bench.begin(moving(Op::read, out, area)),
                               &bench.begin(moving(Op::read, events, area)),
                               &bench.begin(moving(Op::recv, pair.near, area))};
  bench.settle();
  for (Recorded* const one : waiting)
    BOOST_TEST(!one->ended());
  std::uint64_t one = 1;
  std::span number(&one, 1);
  BOOST_TEST(bench.run(moving(Op::write, events, number)) == 8);
  BOOST_TEST(bench.run(moving(Op::write, in, number)) == 8);
  BOOST_TEST(bench.run(moving(Op::send, pair.far, number)) == 8);
  for (Recorded* const each : waiting)
    BOOST_TEST(bench.end(*each) == 8);
}

BOOST_DATA_TEST_CASE(a_pipe_gives_what_is_there_then_waits_then_ends, on_all_drivers, choice) {
  Bench bench(choice);
  Pipe pipe = make_pipe();
  std::array<char, 8> area{};
  check(::write(pipe.write.get(), "abc", 3), "write");
  Request read = moving(Op::read, pipe.read, area);
  read.offset = 0;  // a pipe has no places; they are ignored
  BOOST_TEST(bench.run(read) == 3);
  Recorded& waiting = bench.begin(read);
  bench.settle();
  BOOST_TEST(!waiting.ended());
  pipe.write = Fd();
  BOOST_TEST(bench.end(waiting) == 0);
  BOOST_TEST(is_blocking(pipe.read));
}

BOOST_DATA_TEST_CASE(a_full_pipe_takes_more_when_somebody_reads, on_all_drivers, choice) {
  Bench bench(choice);
  const Pipe pipe = make_pipe();
  std::string content(300'000, 'x');
  std::size_t written = 0, got = 0;
  std::string area(100'000, '\0');
  while (written < content.size()) {
    std::span rest(content.data() + written, content.size() - written);
    Recorded& writing = bench.begin(moving(Op::write, pipe.write, rest));
    while (!writing.ended()) {
      got += static_cast<std::size_t>(bench.run(moving(Op::read, pipe.read, area)));
      bench->wait(0);
    }
    BOOST_TEST_REQUIRE(writing.result() > 0);
    written += static_cast<std::size_t>(writing.result());
  }
  while (got < content.size())
    got += static_cast<std::size_t>(bench.run(moving(Op::read, pipe.read, area)));
  BOOST_TEST(got == content.size());
}

BOOST_DATA_TEST_CASE(nobody_at_the_other_end_is_epipe, on_all_drivers, choice) {
  const bool right = Child::fork([&] {
                       ::signal(SIGPIPE, SIG_IGN);  // write raises it; send does not
                       Bench bench(choice);
                       Pipe pipe = make_pipe();
                       pipe.read = Fd();
                       std::array<char, 4> area{};
                       bool good = bench.run(moving(Op::write, pipe.write, area)) == -EPIPE;
                       Pair pair;
                       pair.far = Fd();
                       ::signal(SIGPIPE, SIG_DFL);
                       good = good && bench.run(moving(Op::send, pair.near, area)) == -EPIPE;
                       return good ? 0 : 1;
                     })
                         .wait()
                         .success();
  BOOST_TEST(right);
}

BOOST_DATA_TEST_CASE(poll_tells_what_is_ready, on_all_drivers, choice) {
  Bench bench(choice);
  Pair pair;
  const Request in{.op = Op::poll, .fd = pair.near.get(), .flags = POLLIN};
  BOOST_TEST(bench.run({.op = Op::poll, .fd = pair.near.get(), .flags = POLLIN | POLLOUT}) ==
             POLLOUT);
  Recorded& first = bench.begin(in);
  Recorded& second = bench.begin(in);
  std::array<char, 1> area{};
  bench.settle();
  BOOST_TEST(!first.ended());
  check(::write(pair.far.get(), "a", 1), "write");
  BOOST_TEST(bench.end(first) == POLLIN);
  BOOST_TEST(bench.end(second) == POLLIN);
  BOOST_TEST(bench.run(moving(Op::recv, pair.near, area)) == 1);
  Recorded& gone = bench.begin(in);
  pair.far = Fd();
  BOOST_TEST((bench.end(gone) & (POLLIN | POLLHUP)) == (POLLIN | POLLHUP));
  const Fd file = scratch_file();
  BOOST_TEST(bench.run({.op = Op::poll, .fd = file.get(), .flags = POLLIN}) == POLLIN);
}

BOOST_DATA_TEST_CASE(a_poll_of_both_is_not_kept_from_writing_by_a_reader, on_all_drivers, choice) {
  Bench bench(choice);
  const Pair pair;
  std::array<char, 4096> filler{};
  while (::send(pair.near.get(), filler.data(), filler.size(), MSG_DONTWAIT) > 0) {
  }
  std::array<char, 4096> area{};
  Recorded& reading = bench.begin(moving(Op::recv, pair.near, area));
  Recorded& either =
      bench.begin({.op = Op::poll, .fd = pair.near.get(), .flags = POLLIN | POLLOUT});
  bench.settle();
  BOOST_TEST(!either.ended());
  while (::recv(pair.far.get(), area.data(), area.size(), MSG_DONTWAIT) > 0) {
  }
  BOOST_TEST(bench.end(either) == POLLOUT);
  BOOST_TEST(!reading.ended());
  bench->cancel(reading);
  BOOST_TEST(bench.end(reading) == -ECANCELED);
}

BOOST_DATA_TEST_CASE(splice_moves_from_a_file_through_a_pipe_to_a_socket, on_all_drivers, choice) {
  Bench bench(choice);
  const Fd file = scratch_file("0123456789");
  const Pipe pipe = make_pipe();
  const Pair pair;
  Recorded& out = bench.begin(
      {.op = Op::splice, .fd = pipe.read.get(), .length = 100, .second_fd = pair.near.get()});
  bench.settle();
  BOOST_TEST(!out.ended());
  BOOST_TEST(bench.run({.op = Op::splice,
                        .fd = file.get(),
                        .length = 100,
                        .offset = 3,
                        .second_fd = pipe.write.get()}) == 7);
  BOOST_TEST(bench.end(out) == 7);
  std::array<char, 16> area{};
  BOOST_TEST(bench.run(moving(Op::recv, pair.far, area)) == 7);
  BOOST_TEST(std::string(area.data(), 7) == "3456789");
  BOOST_TEST(bench.run({.op = Op::splice,
                        .fd = file.get(),
                        .length = 1,
                        .offset = 0,
                        .second_fd = file.get(),
                        .second_offset = 0}) == -EINVAL);
}

BOOST_DATA_TEST_CASE(a_child_is_waited_for_and_only_a_child,
                     on_all_drivers* boost::unit_test::data::make({false, true}), choice,
                     by_pidfd) {
  Bench bench({.choice = choice, .wait_by_pidfd = by_pidfd});
  const auto before = open_descriptors();
  const Pipe hold = make_pipe();
  const pid_t child = ::fork();
  if (child == 0) {
    char byte;
    ::_exit(::read(hold.read.get(), &byte, 1) == 1 ? 7 : 8);
  }
  siginfo_t info{};
  const Request wait{.op = Op::wait_child, .fd = child, .flags = WEXITED, .address = &info};
  Recorded& waiting = bench.begin(wait);
  bench.settle();
  BOOST_TEST(!waiting.ended());
  bench->cancel(waiting);
  BOOST_TEST(bench.end(waiting) == -ECANCELED);
  Request brief = wait;
  brief.timeout_ns = 2'000'000;
  BOOST_TEST(bench.run(brief) == -ETIME);
  Recorded& again = bench.begin(wait);
  check(::write(hold.write.get(), "x", 1), "write");
  const int result = bench.end(again);
  BOOST_TEST(result == 0);
  BOOST_TEST(info.si_pid == child);
  BOOST_TEST(info.si_code == CLD_EXITED);
  BOOST_TEST(info.si_status == 7);
  BOOST_TEST(bench.run(wait) == -ECHILD);
  BOOST_TEST(open_descriptors() == before + 2);
}
