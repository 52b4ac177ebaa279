// A server that sends back what it gets: one request of the kernel takes all connections, and
// buffers are lent only to those that have data.
//
//   echo                       serves itself: some clients, each with a message
//   echo 127.0.0.1:7000        serves others until SIGINT or SIGTERM; also [::1]:7000, unix:/path
#include <iouring/acceptor.hh>
#include <iouring/gather.hh>
#include <iouring/receiver.hh>
#include <iouring/signals.hh>
#include <iouring/start.hh>
#include <iouring/stream.hh>

#include <cstdio>
#include <exception>
#include <string>
#include <vector>

using namespace schedlab::iouring;
using namespace std::chrono_literals;

namespace {

Task<> echo(Socket socket, BufferPool buffers) {
  Receiver receiver(socket, buffers);
  for (;;) {
    const Received data = co_await receiver.next();
    if (!data)
      break;
    co_await socket.send_all(data.bytes());
  }
}

// One connection; its failure is nobody else's.
Task<> serve_one(Socket socket, BufferPool buffers) {
  try {
    co_await echo(std::move(socket), buffers);
  } catch (const std::system_error& error) {
    std::fprintf(stderr, "a connection: %s\n", error.what());
  }
}

Task<> serve(const Listener& listener) {
  const BufferPool buffers(256, 4096);
  Acceptor acceptor(listener);
  for (;;) {
    Socket socket = co_await acceptor.next();
    create_task(serve_one(std::move(socket), buffers)).detach();
  }
}

Task<std::size_t> say(const Address& address, std::string text) {
  Stream stream(co_await connect(address, 2s));
  stream.write(text);
  co_await stream.write_eof();
  const std::string answer = co_await stream.read_all(1'000'000);
  co_return answer == text ? answer.size() : 0;
}

Task<int> serve_itself() {
  const Listener listener(Address("127.0.0.1:0"));
  const Running<> server = create_task(serve(listener));
  std::vector<Task<std::size_t>> clients;
  for (std::size_t i = 0; i < 100; ++i)
    clients.push_back(say(listener.address(), std::string(1000 + i, 'x')));
  const std::vector<std::size_t> sizes = co_await gather(std::move(clients));
  std::size_t total = 0;
  for (const std::size_t size : sizes)
    total += size;
  std::printf("%zu clients got %zu bytes back\n", sizes.size(), total);
  co_return total == 104'950 ? 0 : 1;
}

Task<int> serve_others(const std::string& where) {
  const Listener listener{Address(where)};
  Signals signals({SIGINT, SIGTERM});
  const Running<> server = create_task(serve(listener));
  std::printf("listening on %s\n", listener.address().text().c_str());
  co_await signals.next();
  co_return 0;
}

}  // namespace

int main(int count, char** arguments) try {
  Loop loop;
  return loop.run(count > 1 ? serve_others(arguments[1]) : serve_itself());
} catch (const std::exception& error) {
  std::fprintf(stderr, "echo: %s\n", error.what());
  return 1;
}
