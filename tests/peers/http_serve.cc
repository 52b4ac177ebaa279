// Our HTTP server in its plainest use, for wrk: http_serve io_uring|epoll BYTES. Prints where it
// listens, and serves until its standard input ends.

#include "iouring/http_server.hh"
#include "iouring/perform.hh"
#include "iouring/start.hh"
#include "lab/base/text.hh"

#include <cstdio>
#include <exception>
#include <string>

using namespace schedlab::iouring;

namespace {

std::string body;

Task<HttpResponse> answer(HttpRequest) {
  HttpResponse response;
  response.headers.add("Content-Type", "text/plain");
  response.body = body;
  co_return response;
}

Task<> serve_until_the_input_ends() {
  HttpServer server(answer);
  const Running<> running = create_task(server.serve());
  std::printf("%s\n", server.address().text().c_str());
  std::fflush(stdout);
  co_await perform({.op = Op::poll, .fd = 0, .flags = 1}, "poll", "standard input");
  const HttpServerCounts& counts = server.counts();
  std::fprintf(stderr, "%llu requests, %llu connections, at most %zu bytes held\n",
               static_cast<unsigned long long>(counts.requests),
               static_cast<unsigned long long>(counts.connections), counts.most_memory);
}

}  // namespace

int main(int count, char** arguments) try {
  LoopOptions options;
  options.driver.choice = driver_choice(count > 1 ? arguments[1] : "auto");
  body.assign(
      static_cast<std::size_t>(count > 2 ? schedlab::to_number(arguments[2]).value_or(0) : 100),
      'x');
  Loop loop(options);
  loop.run(serve_until_the_input_ends());
  return 0;
} catch (const std::exception& error) {
  std::fprintf(stderr, "http_serve: %s\n", error.what());
  return 1;
}
