// Many requests at once take as long as the slowest of them.
//
//   fetch                                        asks a little server of its own, which takes its
//                                                time, and a port that nobody serves
//   fetch http://127.0.0.1:8000/a http://...     asks others; numeric addresses and localhost
#include <iouring/gather.hh>
#include <iouring/http.hh>
#include <iouring/sleep.hh>
#include <iouring/start.hh>
#include <iouring/timeout.hh>

#include <chrono>
#include <cstdio>
#include <exception>
#include <string>
#include <vector>

using namespace schedlab::iouring;
using namespace std::chrono_literals;

namespace {

// How many could not be had.
Task<int> fetch_all(std::vector<std::string> urls) {
  const auto begin = std::chrono::steady_clock::now();
  std::vector<Task<HttpResponse>> fetches;
  for (const std::string& url : urls)
    fetches.push_back(timeout(10s, http_get(url)));
  // Unlike gather, the failure of one does not end the others.
  auto outcomes = co_await settle(std::move(fetches));
  int failures = 0;
  for (std::size_t i = 0; i < outcomes.size(); ++i) {
    try {
      const HttpResponse page = std::move(outcomes[i]).get();
      std::printf("%-28s %d %s, %zu bytes\n", urls[i].c_str(), page.status, page.reason.c_str(),
                  page.body.size());
    } catch (const std::exception& error) {
      ++failures;
      std::printf("%-28s %s\n", urls[i].c_str(), error.what());
    }
  }
  const std::chrono::duration<double> took = std::chrono::steady_clock::now() - begin;
  std::printf("%zu pages in %.3f s\n", urls.size(), took.count());
  co_return failures;
}

Task<HttpResponse> answer_slowly(HttpRequest request) {
  co_await sleep_for(100ms);
  HttpResponse response;
  response.status = request.target == "/7" ? 404 : 200;
  response.body = "this is " + request.target;
  co_return response;
}

Task<int> fetch_from_itself() {
  HttpServer server(answer_slowly);
  const Running<> running = create_task(server.serve());
  std::vector<std::string> urls;
  for (int i = 0; i < 20; ++i)
    urls.push_back("http://" + server.address().text() + "/" + std::to_string(i));
  urls.push_back("http://127.0.0.1:1/");
  const int failures = co_await fetch_all(std::move(urls));
  co_return failures == 1 ? 0 : 1;
}

}  // namespace

int main(int count, char** arguments) try {
  Loop loop;
  if (count < 2)
    return loop.run(fetch_from_itself());
  return loop.run(fetch_all({arguments + 1, arguments + count}));
} catch (const std::exception& error) {
  std::fprintf(stderr, "fetch: %s\n", error.what());
  return 1;
}
