#include "lab/apparatus/fetch_server.hh"

#include "affinity/pin.hh"
#include "iouring/http_server.hh"
#include "iouring/sleep.hh"
#include "lab/base/error.hh"
#include "lab/base/file.hh"
#include "lab/base/text.hh"

#include <sys/prctl.h>
#include <sys/socket.h>
#include <unistd.h>

#include <array>
#include <utility>

namespace schedlab::apparatus {

namespace {

using iouring::HttpRequest;
using iouring::HttpResponse;
using iouring::Task;

constexpr std::int64_t longest_us = 3'600'000'000;
constexpr std::int64_t largest_body = std::int64_t{64} << 20;

struct Wish {
  std::chrono::microseconds latency{};
  std::size_t size = 0;
  std::optional<std::size_t> document = {};
};

// What "/250/64" or "/250/document/3" asks for; nothing for another target.
std::optional<Wish> wish_of(std::string_view target) {
  const auto parts = split(target, '/');
  const bool is_document = parts.size() == 4 && parts[2] == "document";
  if ((parts.size() != 3 && !is_document) || !parts[0].empty())
    return {};
  const auto latency = to_number(parts[1]), number = to_number(parts.back());
  if (!latency || !number || *latency < 0 || *latency > longest_us || *number < 0 ||
      *number > largest_body)
    return {};
  Wish wish{std::chrono::microseconds(*latency)};
  if (is_document)
    wish.document = static_cast<std::size_t>(*number);
  else
    wish.size = static_cast<std::size_t>(*number);
  return wish;
}

Task<HttpResponse> answer(const std::vector<std::string>* documents, HttpRequest request) {
  HttpResponse response;
  const auto wish = wish_of(request.target);
  if (!wish || (wish->document && *wish->document >= documents->size())) {
    response.status = 404;
    co_return response;
  }
  if (wish->latency.count() > 0)
    co_await iouring::sleep_for(wish->latency);
  if (wish->document)
    response.body = (*documents)[*wish->document];
  else
    response.body.assign(wish->size, 'x');
  co_return response;
}

Task<> serve(iouring::HttpServer& server, int report) {
  const std::string address = server.address().text() + "\n";
  write_all(report, address, "pipe");
  co_await server.serve();
}

// In the child; tells what went wrong instead of an address.
int run_server(const FetchServerOptions& options, int report) noexcept {
  try {
    if (options.cpu)
      affinity::bind_thread(0, affinity::CpuSet{*options.cpu});
    check(::prctl(PR_SET_TIMERSLACK, 1UL, 0UL, 0UL, 0UL), "prctl", "PR_SET_TIMERSLACK");
    iouring::LoopOptions on;
    on.driver.choice = options.driver;
    iouring::Loop loop(on);
    iouring::HttpServerOptions limits;
    limits.connections = options.connections;
    limits.idle_limit = std::chrono::hours(1);  // connections are kept between samples
    iouring::HttpServer server(
        [&options](HttpRequest request) { return answer(&options.documents, std::move(request)); },
        limits);
    loop.run(serve(server, report));
  } catch (const std::exception& failure) {
    const std::string text = std::string("!") + failure.what() + "\n";
    [[maybe_unused]] const auto told = ::write(report, text.data(), text.size());
  }
  return 1;  // it serves until it is killed
}

// The first line that comes, or nothing.
std::string first_line(int fd) {
  std::string line;
  std::array<char, 256> part;
  while (line.find('\n') == std::string::npos) {
    const ssize_t count = ::read(fd, part.data(), part.size());
    if (count < 0 && errno == EINTR)
      continue;
    if (check(count, "read", "pipe") == 0)
      break;
    line.append(part.data(), static_cast<std::size_t>(count));
  }
  return line.substr(0, line.find('\n'));
}

}  // namespace

FetchServer::FetchServer(const FetchServerOptions& options) {
  Pipe report = make_pipe();
  child_ = Child::fork([&options, &report] { return run_server(options, report.write.get()); });
  report.write = Fd();
  const std::string line = first_line(report.read.get());
  if (line.empty() || line.front() == '!')
    throw Unsupported("the web server of this lab cannot run: " +
                      (line.empty() ? child_.wait().text() : line.substr(1)));
  address_ = iouring::Address(line);
}

std::string FetchServer::target(std::chrono::microseconds latency, std::size_t size) {
  return "/" + std::to_string(latency.count()) + "/" + std::to_string(size);
}

std::string FetchServer::document(std::chrono::microseconds latency, std::size_t index) {
  return "/" + std::to_string(latency.count()) + "/document/" + std::to_string(index);
}

RefusedPort::RefusedPort()
    : fd_(check(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0), "socket")) {
  const iouring::Address any("127.0.0.1:0");
  check(::bind(fd_.get(), any.get(), any.length()), "bind", any.text());
  address_ = iouring::Address::local_of(fd_.get());
}

const iouring::Address& FetchStage::address() {
  if (!server)
    server = std::make_unique<FetchServer>(options);
  return server->address();
}

const iouring::Address& FetchStage::refusing() {
  if (!nobody)
    nobody = std::make_unique<RefusedPort>();
  return nobody->address();
}

}  // namespace schedlab::apparatus
