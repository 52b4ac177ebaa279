// A TCP echo server directly on liburing, as a peer for io_echo: one thread, one ring with
// SINGLE_ISSUER and DEFER_TASKRUN, multishot accept into registered files, multishot recv that
// picks its buffers from a ring, the reply sent from the same buffer, which goes back to the ring
// when the send is done. One io_uring_enter a turn submits and waits; the ring's own descriptor is
// registered; the CQ is four times the SQ.
//
//   uring_echo CPU         prints its port and serves until it is killed
//   uring_echo CPU laden   the same with what a loop adds: descriptors that are no registered
//                          files, TASKRUN_FLAG, and for a turn as many cache lines of code and data
//                          and as many instructions, all of them idle
#include "tests/peers/second.hh"

#include <arpa/inet.h>
#include <csignal>
#include <liburing.h>
#include <netinet/tcp.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>

#include <array>
#include <memory>

using namespace second;

namespace {

constexpr unsigned entries = 4096;
constexpr unsigned connections = 4096;
constexpr unsigned buffers = 1024;
constexpr unsigned buffer_size = 2048;
// Not a power of two, or the first lines of all buffers would share a few sets of the caches.
constexpr unsigned stride = buffer_size + 64;
constexpr int group = 0;
constexpr std::uint16_t none = 0xffff;

// Per turn: with one connection a message has two turns, of a recv and of a send, which in the
// library's server touch different code. Together 92 lines and 1,200 instructions, and 40 lines of
// data; counted by single steps, see docs/trust.md.
constexpr unsigned lines_a_turn = 20;
alignas(64) std::array<std::uint64_t, std::size_t{2} * lines_a_turn * 8> idle_data{};

#if defined(__x86_64__)
// A line is twelve nops of five bytes and one of four. The operand keeps the two from being merged.
template <bool Sent>
__attribute__((noinline)) void idle_code() {
  asm volatile(".p2align 6\n.rept 46\n.rept 12\n.byte 0x0f,0x1f,0x44,0x00,0x00\n.endr\n"
               ".byte 0x0f,0x1f,0x40,0x00\n.endr\n# %0"
               :
               : "i"(Sent));
}
#else
template <bool>
void idle_code() {}
#endif

void touch_idle_data(bool sent) {
  volatile std::uint64_t* const first = idle_data.data();
  for (unsigned i = sent ? lines_a_turn : 0, end = i + lines_a_turn; i < end; ++i)
    first[i * 8] = first[i * 8] + 1;
}

enum Kind : std::uint64_t { accepting, receiving, sending, closing };

std::uint64_t tag(Kind kind, unsigned connection, unsigned buffer = 0) {
  return kind | std::uint64_t{connection} << 8 | std::uint64_t{buffer} << 32;
}

struct Connection {
  std::uint16_t first = none;  // buffers to be sent, in order; the first is on its way
  std::uint16_t last = none;
  bool receiving = false;
  bool finished = false;  // the peer has closed; close when the last send is done
};

struct Waiting {
  std::uint32_t from = 0;  // what of the buffer is still to be sent
  std::uint32_t size = 0;
  std::uint16_t next = none;
};

class Server {
public:
  Server(int listener, bool laden) : listener_(listener), laden_(laden) {
    set_up_ring();
    set_up_buffers();
    accept();
  }

  [[noreturn]] void run() {
    for (;;) {
      const int submitted = io_uring_submit_and_wait(&ring_, 1);
      if (submitted < 0 && submitted != -EINTR)
        fail("io_uring_submit_and_wait", submitted);
      if (laden_)
        carry();
      unsigned head = 0;
      unsigned seen = 0;
      io_uring_cqe* cqe = nullptr;
      io_uring_for_each_cqe(&ring_, head, cqe) {
        handle(*cqe);
        ++seen;
      }
      io_uring_cq_advance(&ring_, seen);
      if (given_back_ > 0) {
        io_uring_buf_ring_advance(buffer_ring_, given_back_);
        given_back_ = 0;
        rearm();
      }
    }
  }

private:
  void carry() {
    const io_uring_cqe& first = ring_.cq.cqes[*ring_.cq.khead & ring_.cq.ring_mask];
    const bool sent = (first.user_data & 0xff) == sending;
    sent ? idle_code<true>() : idle_code<false>();
    touch_idle_data(sent);
  }

  [[noreturn]] static void fail(const char* what, int result) {
    std::fprintf(stderr, "%s: %s\n", what, std::strerror(-result));
    std::exit(1);
  }

  void set_up_ring() {
    io_uring_params params{};
    params.flags = IORING_SETUP_SINGLE_ISSUER | IORING_SETUP_DEFER_TASKRUN |
                   IORING_SETUP_SUBMIT_ALL | IORING_SETUP_CQSIZE;
    if (laden_)
      params.flags |= IORING_SETUP_TASKRUN_FLAG;
    params.cq_entries = 4 * entries;
    if (const int result = io_uring_queue_init_params(entries, &ring_, &params); result < 0)
      fail("io_uring_queue_init_params", result);
    if (const int result = io_uring_register_ring_fd(&ring_); result < 0)
      fail("io_uring_register_ring_fd", result);
    if (const int result = io_uring_register_files_sparse(&ring_, connections); result < 0)
      fail("io_uring_register_files_sparse", result);
  }

  static void* memory(std::size_t size) {
    void* place = ::mmap(nullptr, size, PROT_READ | PROT_WRITE,
                         MAP_PRIVATE | MAP_ANONYMOUS | MAP_POPULATE, -1, 0);
    if (place == MAP_FAILED)
      must(-1, "mmap");
    return place;
  }

  void set_up_buffers() {
    buffer_ring_ = static_cast<io_uring_buf_ring*>(memory(buffers * sizeof(io_uring_buf)));
    io_uring_buf_reg reg{};
    reg.ring_addr = reinterpret_cast<std::uint64_t>(buffer_ring_);
    reg.ring_entries = buffers;
    reg.bgid = group;
    if (const int result = io_uring_register_buf_ring(&ring_, &reg, 0); result < 0)
      fail("io_uring_register_buf_ring", result);
    io_uring_buf_ring_init(buffer_ring_);
    // Whole huge pages, where the kernel gives them on request.
    constexpr std::size_t huge = std::size_t{2} << 20;
    constexpr std::size_t size = (std::size_t{buffers} * stride + huge - 1) / huge * huge;
    void* room =
        ::mmap(nullptr, size + huge, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (room == MAP_FAILED)
      must(-1, "mmap");
    const auto start = (reinterpret_cast<std::uintptr_t>(room) + huge - 1) / huge * huge;
    data_ = reinterpret_cast<char*>(start);
    ::madvise(data_, size, MADV_HUGEPAGE);
    std::memset(data_, 0, size);
    for (unsigned i = 0; i < buffers; ++i)
      give_back(static_cast<std::uint16_t>(i));
    io_uring_buf_ring_advance(buffer_ring_, given_back_);
    given_back_ = 0;
  }

  void give_back(std::uint16_t buffer) {
    io_uring_buf_ring_add(buffer_ring_, data_ + std::size_t{buffer} * stride, buffer_size, buffer,
                          io_uring_buf_ring_mask(buffers), given_back_++);
  }

  io_uring_sqe* next() {
    io_uring_sqe* sqe = io_uring_get_sqe(&ring_);
    while (!sqe) {
      if (const int result = io_uring_submit(&ring_); result < 0 && result != -EINTR)
        fail("io_uring_submit", result);
      sqe = io_uring_get_sqe(&ring_);
    }
    return sqe;
  }

  void accept() {
    io_uring_sqe* sqe = next();
    if (laden_)
      io_uring_prep_multishot_accept(sqe, listener_, nullptr, nullptr, 0);
    else
      io_uring_prep_multishot_accept_direct(sqe, listener_, nullptr, nullptr, 0);
    io_uring_sqe_set_data64(sqe, tag(accepting, 0));
  }

  [[nodiscard]] unsigned char file_flag() const { return laden_ ? 0 : IOSQE_FIXED_FILE; }

  void receive(unsigned connection) {
    io_uring_sqe* sqe = next();
    io_uring_prep_recv_multishot(sqe, static_cast<int>(connection), nullptr, 0, 0);
    sqe->flags = static_cast<std::uint8_t>(sqe->flags | IOSQE_BUFFER_SELECT | file_flag());
    sqe->buf_group = group;
    io_uring_sqe_set_data64(sqe, tag(receiving, connection));
    connections_[connection].receiving = true;
  }

  void send(unsigned connection) {
    const std::uint16_t buffer = connections_[connection].first;
    const Waiting& part = waiting_[buffer];
    io_uring_sqe* sqe = next();
    io_uring_prep_send(sqe, static_cast<int>(connection),
                       data_ + std::size_t{buffer} * stride + part.from, part.size, MSG_NOSIGNAL);
    sqe->flags |= file_flag();
    io_uring_sqe_set_data64(sqe, tag(sending, connection, buffer));
  }

  void close(unsigned connection) {
    io_uring_sqe* sqe = next();
    if (laden_)
      io_uring_prep_close(sqe, static_cast<int>(connection));
    else
      io_uring_prep_close_direct(sqe, connection);
    io_uring_sqe_set_data64(sqe, tag(closing, connection));
  }

  void handle(const io_uring_cqe& cqe) {
    const auto connection = static_cast<unsigned>(cqe.user_data >> 8 & 0xffffff);
    switch (static_cast<Kind>(cqe.user_data & 0xff)) {
    case receiving:
      return received(connection, cqe);
    case sending:
      return sent(connection, static_cast<std::uint16_t>(cqe.user_data >> 32), cqe.res);
    case accepting:
      if (cqe.res >= 0) {
        connections_[static_cast<unsigned>(cqe.res)] = {};
        receive(static_cast<unsigned>(cqe.res));
      }
      if (!(cqe.flags & IORING_CQE_F_MORE))
        accept();
      return;
    case closing:
      return;
    }
  }

  void received(unsigned number, const io_uring_cqe& cqe) {
    Connection& connection = connections_[number];
    if (!(cqe.flags & IORING_CQE_F_MORE))
      connection.receiving = false;
    if (cqe.res > 0) {
      const auto buffer = static_cast<std::uint16_t>(cqe.flags >> IORING_CQE_BUFFER_SHIFT);
      waiting_[buffer] = {0, static_cast<std::uint32_t>(cqe.res), none};
      const bool idle = connection.first == none;
      (idle ? connection.first : waiting_[connection.last].next) = buffer;
      connection.last = buffer;
      if (idle)
        send(number);
      if (!connection.receiving)
        receive(number);
      return;
    }
    if (cqe.res == -ENOBUFS) {
      starved_[starved_count_++] = static_cast<std::uint16_t>(number);
      return;
    }
    connection.finished = true;
    if (connection.first == none)
      close(number);
  }

  void sent(unsigned number, std::uint16_t buffer, int result) {
    Connection& connection = connections_[number];
    Waiting& part = waiting_[buffer];
    if (result > 0 && static_cast<std::uint32_t>(result) < part.size) {
      part.from += static_cast<std::uint32_t>(result);
      part.size -= static_cast<std::uint32_t>(result);
      return send(number);
    }
    connection.first = part.next;
    give_back(buffer);
    if (connection.first != none)
      send(number);
    else if (connection.finished)
      close(number);
  }

  // Those that found no buffer try again.
  void rearm() {
    for (unsigned i = 0; i < starved_count_; ++i)
      receive(starved_[i]);
    starved_count_ = 0;
  }

  int listener_;
  bool laden_;
  io_uring ring_{};
  io_uring_buf_ring* buffer_ring_ = nullptr;
  char* data_ = nullptr;
  int given_back_ = 0;
  unsigned starved_count_ = 0;
  std::array<Waiting, buffers> waiting_{};
  std::array<Connection, connections> connections_{};
  std::array<std::uint16_t, connections> starved_{};
};

int listen_here() {
  const int listener = static_cast<int>(must(::socket(AF_INET, SOCK_STREAM, 0), "socket"));
  const int on = 1;
  // What is accepted inherits it.
  must(::setsockopt(listener, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on), "setsockopt");
  sockaddr_in here{};
  here.sin_family = AF_INET;
  here.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  socklen_t size = sizeof here;
  must(::bind(listener, reinterpret_cast<sockaddr*>(&here), size), "bind");
  must(::listen(listener, 4096), "listen");
  must(::getsockname(listener, reinterpret_cast<sockaddr*>(&here), &size), "getsockname");
  std::printf("%u\n", ntohs(here.sin_port));
  std::fflush(stdout);
  return listener;
}

}  // namespace

int main(int argc, char** argv) {
  const bool laden = argc == 3 && std::strcmp(argv[2], "laden") == 0;
  if (argc != 2 && !laden) {
    std::fprintf(stderr, "usage: uring_echo CPU [laden]\n");
    return 2;
  }
  ::prctl(PR_SET_PDEATHSIG, SIGKILL);
  pin(number(argv[1]));
  std::make_unique<Server>(listen_here(), laden)->run();
}
