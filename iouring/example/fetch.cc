// Many requests at once take as long as the slowest of them.
//
//   fetch                                asks a little server of its own, which takes its time
//   fetch 127.0.0.1:8000 / /a /b         asks that one for these paths (HTTP/1.0)
#include <iouring/gather.hh>
#include <iouring/sleep.hh>
#include <iouring/start.hh>
#include <iouring/stream.hh>
#include <iouring/timeout.hh>

#include <chrono>
#include <cstdio>
#include <exception>
#include <string>
#include <vector>

using namespace schedlab::iouring;
using namespace std::chrono_literals;

namespace {

struct Page {
  std::string path;
  std::string status;
  std::size_t size = 0;
};

Task<Page> fetch(const Address& address, std::string path) {
  Stream stream(co_await connect(address, 2s));
  stream.write("GET " + path + " HTTP/1.0\r\n\r\n");
  co_await stream.flush();
  const std::string status = co_await stream.read_line();
  for (std::string header = status; header.size() > 2;)  // "\r\n" ends them
    header = co_await stream.read_line();
  const std::string body = co_await stream.read_all(64 << 20);
  co_return Page{path, status.substr(0, status.find('\r')), body.size()};
}

Task<int> fetch_all(const Address& address, std::vector<std::string> paths) {
  const auto begin = std::chrono::steady_clock::now();
  std::vector<Task<Page>> fetches;
  for (const std::string& path : paths)
    fetches.push_back(timeout(10s, fetch(address, path)));
  // Unlike gather, the failure of one does not end the others.
  auto outcomes = co_await settle(std::move(fetches));
  int failures = 0;
  for (std::size_t i = 0; i < outcomes.size(); ++i) {
    try {
      const Page page = std::move(outcomes[i]).get();
      std::printf("%-12s %s, %zu bytes\n", page.path.c_str(), page.status.c_str(), page.size);
    } catch (const std::exception& error) {
      ++failures;
      std::printf("%-12s %s\n", paths[i].c_str(), error.what());
    }
  }
  const std::chrono::duration<double> took = std::chrono::steady_clock::now() - begin;
  std::printf("%zu pages in %.3f s\n", paths.size(), took.count());
  co_return failures;
}

Task<> answer_slowly(Socket socket) {
  Stream stream(std::move(socket));
  co_await stream.read_until("\r\n\r\n");
  co_await sleep_for(100ms);
  stream.write("HTTP/1.0 200 OK\r\n\r\nhello");
  co_await stream.close();
}

Task<> serve(Listener& listener) {
  for (;;) {
    Socket socket = co_await listener.accept();
    create_task(answer_slowly(std::move(socket))).detach();
  }
}

Task<int> fetch_from_itself() {
  Listener listener(Address("127.0.0.1:0"));
  const Running<> server = create_task(serve(listener));
  std::vector<std::string> paths;
  for (int i = 0; i < 20; ++i)
    paths.push_back("/" + std::to_string(i));
  const int failures = co_await fetch_all(listener.address(), paths);
  co_return failures;
}

}  // namespace

int main(int count, char** arguments) try {
  Loop loop;
  if (count < 3)
    return loop.run(fetch_from_itself());
  const Address address(arguments[1]);
  return loop.run(fetch_all(address, {arguments + 2, arguments + count}));
} catch (const std::exception& error) {
  std::fprintf(stderr, "fetch: %s\n", error.what());
  return 1;
}
