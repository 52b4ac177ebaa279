// A TCP echo server on Boost.Asio (epoll), as a peer for io_echo: one thread and an io_context that
// takes no locks, executors without type erasure, handlers in the memory that Asio recycles, and
// the reply written at once, waiting for the socket only if it takes no more.
//
//   asio_echo CPU        prints its port and serves until it is killed
#include "tests/peers/second.hh"

#include <boost/asio/buffer.hpp>
#include <boost/asio/io_context.hpp>
#include <boost/asio/ip/tcp.hpp>
#include <csignal>
#include <sys/prctl.h>

#include <array>
#include <memory>
#include <utility>

namespace {

namespace asio = boost::asio;
using asio::ip::tcp;
using Error = boost::system::error_code;
using Executor = asio::io_context::executor_type;
using Socket = asio::basic_stream_socket<tcp, Executor>;
using Acceptor = asio::basic_socket_acceptor<tcp, Executor>;

/// Owns itself: deleted when the peer has closed.
class Session {
public:
  explicit Session(Socket socket) : socket_(std::move(socket)) {
    Error error;
    socket_.non_blocking(true, error);
    socket_.set_option(tcp::no_delay(true), error);
  }

  void read() {
    socket_.async_read_some(asio::buffer(data_), [this](const Error& error, std::size_t size) {
      if (error) {
        delete this;
        return;
      }
      from_ = 0;
      size_ = size;
      write();
    });
  }

private:
  void write() {
    while (size_ > 0) {
      Error error;
      const std::size_t sent = socket_.write_some(asio::buffer(data_.data() + from_, size_), error);
      from_ += sent;
      size_ -= sent;
      if (error == asio::error::would_block) {
        socket_.async_wait(Socket::wait_write, [this](const Error& failure) {
          if (failure)
            delete this;
          else
            write();
        });
        return;
      }
      if (error) {
        delete this;
        return;
      }
    }
    read();
  }

  Socket socket_;
  std::size_t from_ = 0;
  std::size_t size_ = 0;
  std::array<char, 2048> data_;
};

class Server {
public:
  explicit Server(asio::io_context& context)
      : acceptor_(context, tcp::endpoint(asio::ip::address_v4::loopback(), 0)) {
    acceptor_.listen(4096);
    accept();
  }

  [[nodiscard]] unsigned port() const { return acceptor_.local_endpoint().port(); }

private:
  void accept() {
    acceptor_.async_accept([this](const Error& error, Socket socket) {
      if (!error)
        std::make_unique<Session>(std::move(socket)).release()->read();
      accept();
    });
  }

  Acceptor acceptor_;
};

}  // namespace

int main(int argc, char** argv) {
  if (argc != 2) {
    std::fprintf(stderr, "usage: asio_echo CPU\n");
    return 2;
  }
  ::prctl(PR_SET_PDEATHSIG, SIGKILL);
  second::pin(second::number(argv[1]));
  asio::io_context context(BOOST_ASIO_CONCURRENCY_HINT_UNSAFE);
  const Server server(context);
  std::printf("%u\n", server.port());
  std::fflush(stdout);
  context.run();
}
