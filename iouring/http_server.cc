#include "iouring/http_server.hh"

#include "iouring/acceptor.hh"
#include "iouring/event.hh"
#include "iouring/sleep.hh"
#include "iouring/task_group.hh"
#include "iouring/timeout.hh"
#include "lab/base/error.hh"

#include <sys/socket.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <ctime>
#include <optional>
#include <string>
#include <utility>

namespace schedlab::iouring {

namespace {

using std::chrono::nanoseconds;

// What a client may still send, and how long, after the answer that ends its connection.
constexpr std::size_t linger_bytes = std::size_t{1} << 20;
constexpr nanoseconds linger_limit = std::chrono::seconds(1);
constexpr nanoseconds accept_pause = std::chrono::milliseconds(10);

bool has_no_body(int status) noexcept {
  return status < 200 || status == 204 || status == 304;
}

// No descriptors or memory for another connection, for now.
bool is_shortage(int error) noexcept {
  return error == EMFILE || error == ENFILE || error == ENOBUFS || error == ENOMEM;
}

HttpResponse plain(int status, std::string text) {
  HttpResponse response;
  response.status = status;
  response.headers.add("Content-Type", "text/plain");
  response.body = std::move(text) + "\n";
  return response;
}

}  // namespace

// Lives as long as its object or its task.
struct HttpServer::State {
  State(Handler wanted, HttpServerOptions how)
      : handler(std::move(wanted)), options(std::move(how)), listener(options.address) {}

  static Task<> serve(std::shared_ptr<State> state);
  Task<> accept_all(TaskGroup& group);
  Task<> serve_one(Socket socket, Place place);
  void evict() noexcept;
  [[nodiscard]] std::string_view date();

  const Handler handler;
  const HttpServerOptions options;
  const Listener listener;
  HttpServerCounts counts;
  Connection* longest = nullptr;  // connections that wait for a request, by how long they have
  Connection* shortest = nullptr;
  std::size_t evicting = 0;  // evicted, and not ended yet
  Event room;                // a connection has ended, or may be evicted

private:
  std::time_t date_second_ = -1;
  std::string date_;
};

// One of the server's connections, from accept to its end.
class HttpServer::Place {
public:
  explicit Place(State& server) noexcept : server_(&server) {
    auto& counts = server.counts;
    ++counts.connections;
    counts.most_open = std::max(counts.most_open, ++counts.open);
  }
  Place(Place&& other) noexcept : server_(std::exchange(other.server_, nullptr)) {}
  Place& operator=(Place&&) = delete;
  ~Place() {
    if (!server_)
      return;
    --server_->counts.open;
    server_->room.set();
  }

private:
  State* server_;
};

// Lives in its task.
class HttpServer::Connection {
public:
  Connection(State& server, Socket socket)
      : server_(server), options_(server.options),
        stream_(std::move(socket), default_read_limit, server.options.marks),
        decoder_(HttpDecoder::Side::requests, server.options.limits) {
    account();
  }
  Connection(const Connection&) = delete;
  Connection& operator=(const Connection&) = delete;
  ~Connection() {
    stop_waiting();
    server_.evicting -= evicted_;
    server_.counts.memory -= accounted_;
  }

  Task<> serve();
  Task<> refuse(const HttpError& error);
  // Ends its wait for a request.
  void evict() noexcept {
    stop_waiting();
    evicted_ = true;
    ++server_.evicting;
    ::shutdown(stream_.socket().fd(), SHUT_RDWR);
  }
  [[nodiscard]] bool evicted() const noexcept { return evicted_; }

private:
  // In the server's list of connections that wait for a request, as long as it lives.
  class Waits {
  public:
    explicit Waits(Connection& connection) noexcept : connection_(connection) {
      connection.begin_waiting();
    }
    Waits(const Waits&) = delete;
    Waits& operator=(const Waits&) = delete;
    ~Waits() { connection_.stop_waiting(); }

  private:
    Connection& connection_;
  };

  Task<bool> receive_head();
  Task<> receive_body();
  Task<> read_more();
  Task<HttpResponse> handle(HttpRequest request);
  Task<> send(HttpResponse response, const HttpRequest& asked, bool keeps);
  Task<> send_pieces(const HttpPieces& pieces, bool chunked);
  Task<> press();
  Task<> finish();
  void begin_waiting() noexcept;
  void stop_waiting() noexcept;
  void account();

  State& server_;
  const HttpServerOptions& options_;
  Stream stream_;
  HttpDecoder decoder_;
  std::size_t accounted_ = 0;  // bytes of it in the server's count
  bool evicted_ = false;
  bool waiting_ = false;
  Connection* longer_ = nullptr;  // the next that has waited longer
  Connection* shorter_ = nullptr;
};

void HttpServer::Connection::begin_waiting() noexcept {
  waiting_ = true;
  longer_ = server_.shortest;
  shorter_ = nullptr;
  (longer_ ? longer_->shorter_ : server_.longest) = this;
  server_.shortest = this;
  server_.room.set();
}

void HttpServer::Connection::stop_waiting() noexcept {
  if (!std::exchange(waiting_, false))
    return;
  (longer_ ? longer_->shorter_ : server_.longest) = shorter_;
  (shorter_ ? shorter_->longer_ : server_.shortest) = longer_;
}

void HttpServer::Connection::account() {
  auto& counts = server_.counts;
  const std::size_t now = decoder_.memory() + stream_.writer().buffered();
  counts.memory += now - accounted_;
  accounted_ = now;
  counts.most_memory = std::max(counts.most_memory, counts.memory);
}

Task<> HttpServer::Connection::serve() {
  for (std::size_t served = 1;; ++served) {
    const bool asked = co_await receive_head();
    if (!asked)
      co_return;
    co_await receive_body();
    HttpRequest request = std::move(decoder_.request());
    decoder_.next();
    HttpRequest asked_for;  // what the answer's form hangs on
    asked_for.method = request.method;
    asked_for.version = request.version;
    bool keeps = request.keep_alive && served < options_.requests;
    HttpResponse response = co_await handle(std::move(request));
    ++server_.counts.requests;
    keeps = keeps && response.keep_alive && (asked_for.version >= 11 || !response.pieces);
    co_await send(std::move(response), asked_for, keeps);
    if (!keeps) {
      co_await finish();
      co_return;
    }
  }
}

Task<> HttpServer::Connection::read_more() {
  const std::size_t count = co_await stream_.read_some(decoder_.room());
  decoder_.received(count);
  account();
}

// false: the client is done.
Task<bool> HttpServer::Connection::receive_head() {
  bool head = decoder_.has_head();
  if (head)
    co_return true;
  const Waits waits(*this);
  bool begun = !decoder_.untouched();
  auto deadline = deadline_in(begun ? options_.head_limit : options_.idle_limit);
  while (!head) {
    if (decoder_.at_end())
      co_return false;
    bool late = false;
    try {
      co_await timeout_at(deadline, read_more());
    } catch (const TimeoutError&) {
      late = true;
    }
    if (late && !begun) {
      ++server_.counts.timed_out;
      co_return false;
    }
    if (late)
      throw HttpError(HttpFault::timed_out, "the head did not come in time");
    if (!begun) {
      begun = true;
      deadline = deadline_in(options_.head_limit);
    }
    head = decoder_.has_head();
  }
  co_return true;
}

Task<> HttpServer::Connection::receive_body() {
  const HttpRequest& request = decoder_.request();
  const bool expects = request.headers.find("Expect") != nullptr;
  if (expects && !request.headers.has_token("Expect", "100-continue"))
    throw HttpError(HttpFault::unknown_expectation, "an expectation other than 100-continue");
  bool all = decoder_.complete();
  if (expects && !all && request.version >= 11)
    stream_.write("HTTP/1.1 100 Continue\r\n\r\n");
  const auto deadline = deadline_in(options_.body_limit);
  while (!all) {
    bool late = false;
    try {
      co_await timeout_at(deadline, read_more());
    } catch (const TimeoutError&) {
      late = true;
    }
    if (late)
      throw HttpError(HttpFault::timed_out, "the body did not come in time");
    all = decoder_.complete();
    account();
    if (server_.counts.memory > options_.memory)
      throw HttpError(HttpFault::overloaded, "too much is being received at once");
  }
}

Task<HttpResponse> HttpServer::Connection::handle(HttpRequest request) {
  try {
    HttpResponse response = co_await server_.handler(std::move(request));
    co_return response;
  } catch (const Cancelled&) {
    throw;
  } catch (const std::exception&) {
    ++server_.counts.failed;
  }
  co_return plain(500, "the request could not be answered");
}

Task<> HttpServer::Connection::send(HttpResponse response, const HttpRequest& asked, bool keeps) {
  detail::HttpFraming framing;
  const bool streamed = static_cast<bool>(response.pieces);
  const bool bare = has_no_body(response.status);
  framing.chunked = streamed && !bare && asked.version >= 11;
  if (!streamed && !bare)
    framing.length = response.body.size();
  if (!keeps)
    framing.connection = "close";
  else if (asked.version < 11)
    framing.connection = "keep-alive";
  std::string text;
  try {
    detail::append_head(text, response, server_.date(), framing);
  } catch (const BadInput&) {
    ++server_.counts.failed;
    text.clear();
    response = plain(500, "the answer could not be sent");
    framing.length = response.body.size();
    framing.chunked = false;
    detail::append_head(text, response, server_.date(), framing);
  }
  const bool sends_body = asked.method != "HEAD" && !has_no_body(response.status);
  if (sends_body && !response.pieces)
    text += response.body;
  stream_.write(text);
  if (sends_body && response.pieces)
    co_await send_pieces(response.pieces, framing.chunked);
  co_await press();
}

Task<> HttpServer::Connection::send_pieces(const HttpPieces& pieces, bool chunked) {
  for (bool last = false; !last;) {
    std::string piece = co_await pieces();
    last = piece.empty();
    if (chunked) {
      std::string chunk;
      detail::append_chunk(chunk, piece);
      piece = std::move(chunk);
    }
    stream_.write(piece);
    co_await press();
  }
}

// Goes on when the client has made room.
Task<> HttpServer::Connection::press() {
  account();
  if (stream_.writer().buffered() <= options_.marks.high)
    co_return;
  co_await timeout(options_.write_limit, stream_.drain());
  account();
}

// To close while something is unread would reset the connection, and with it take the answer back.
Task<> HttpServer::Connection::finish() {
  const Waits waits(*this);
  co_await timeout(options_.write_limit, stream_.write_eof());
  std::string unread(4096, '\0');
  const auto area = std::as_writable_bytes(std::span(unread));
  const auto deadline = deadline_in(linger_limit);
  try {
    for (std::size_t count = 1, all = 0; count > 0 && all < linger_bytes; all += count)
      count = co_await timeout_at(deadline, stream_.read_some(area));
  } catch (const TimeoutError&) {
    // It has had its time.
  }
  co_await stream_.close();
}

Task<> HttpServer::Connection::refuse(const HttpError& error) {
  ++(error.fault() == HttpFault::timed_out ? server_.counts.timed_out : server_.counts.refused);
  decoder_ = HttpDecoder(HttpDecoder::Side::requests, options_.limits);  // gives its memory back
  account();
  const HttpResponse response = plain(error.status(), error.what());
  std::string text;
  detail::append_head(text, response, server_.date(),
                      {.length = response.body.size(), .connection = "close"});
  stream_.write(text + response.body);
  co_await finish();
}

HttpServer::HttpServer(Handler handler, HttpServerOptions options)
    : state_(std::make_shared<State>(std::move(handler), std::move(options))) {}

HttpServer::~HttpServer() = default;

const Address& HttpServer::address() const noexcept {
  return state_->listener.address();
}

const HttpServerCounts& HttpServer::counts() const noexcept {
  return state_->counts;
}

Task<> HttpServer::serve() {
  return State::serve(state_);
}

Task<> HttpServer::State::serve(std::shared_ptr<State> state) {
  co_await TaskGroup::run([&state](TaskGroup& group) { return state->accept_all(group); });
}

Task<> HttpServer::State::accept_all(TaskGroup& group) {
  Acceptor acceptor(listener);
  for (;;) {
    Socket socket;
    int error = 0;
    try {
      socket = co_await acceptor.next();
    } catch (const std::system_error& failure) {
      error = failure.code().value();
      if (!is_shortage(error))
        throw;
    }
    if (error != 0) {
      evict();
      co_await sleep_for(accept_pause);
      continue;
    }
    while (counts.open >= options.connections) {
      if (evicting == 0)
        evict();
      room.clear();
      co_await room.wait();
    }
    group.start(serve_one(std::move(socket), Place(*this)));
  }
}

// Its failure is nobody else's.
Task<> HttpServer::State::serve_one(Socket socket, [[maybe_unused]] Place place) {
  Connection connection(*this, std::move(socket));
  std::optional<HttpError> wrong;
  try {
    co_await connection.serve();
  } catch (const Cancelled&) {
    throw;
  } catch (const HttpError& error) {
    wrong = error;
  } catch (const TimeoutError&) {
    ++counts.timed_out;
  } catch (const std::exception&) {
    ++counts.lost;
  }
  if (!wrong || connection.evicted())
    co_return;
  try {
    co_await connection.refuse(*wrong);
  } catch (const Cancelled&) {
    throw;
  } catch (const std::exception&) {
    ++counts.lost;
  }
}

// Closes the connection that has kept us waiting for its request longest, if one does.
void HttpServer::State::evict() noexcept {
  if (!longest)
    return;
  ++counts.evicted;
  longest->evict();
}

// As RFC 9110, 5.6.7 wants it; made once a second.
std::string_view HttpServer::State::date() {
  const std::time_t now = std::time(nullptr);
  if (now != date_second_) {
    std::tm parts;
    ::gmtime_r(&now, &parts);
    std::array<char, 32> text;
    date_.assign(text.data(),
                 std::strftime(text.data(), text.size(), "%a, %d %b %Y %H:%M:%S GMT", &parts));
    date_second_ = now;
  }
  return date_;
}

}  // namespace schedlab::iouring
