#include "iouring/http_client.hh"

#include "iouring/gather.hh"
#include "iouring/timeout.hh"
#include "lab/base/error.hh"

#include <algorithm>
#include <cerrno>
#include <exception>

namespace schedlab::iouring {

namespace {

using std::chrono::steady_clock;

constexpr int most_interim = 16;  // responses of 1xx before the one that counts

// The host as Address takes it: with a port.
std::string with_port(std::string_view host) {
  const std::size_t colon = host.rfind(':');
  const bool in_brackets = colon != std::string_view::npos && host.find(']', colon) != host.npos;
  if (colon == std::string_view::npos || in_brackets)
    return std::string(host) + ":80";
  return std::string(host);
}

std::string host_of(const Address& address) {
  return address.is_unix() ? "localhost" : address.text();
}

// A failure that a connection shows which the server has closed meanwhile.
bool is_stale(const std::exception_ptr& thrown) noexcept {
  try {
    std::rethrow_exception(thrown);
  } catch (const HttpError& error) {
    return error.fault() == HttpFault::incomplete;
  } catch (const std::system_error& error) {
    const int code = error.code().value();
    return code == ECONNRESET || code == EPIPE;
  } catch (...) {
    return false;
  }
}

bool only_asks(const HttpRequest& request) {
  return (request.method == "GET" || request.method == "HEAD" || request.method == "OPTIONS") &&
         !request.pieces;
}

}  // namespace

HttpUrl::HttpUrl(std::string_view text) {
  constexpr std::string_view scheme = "http://";
  const auto refuse = [text](const char* why) {
    throw BadInput("'" + std::string(text) + "': " + why);
  };
  if (text.size() < scheme.size() || !detail::same_name(text.substr(0, scheme.size()), scheme))
    refuse("http://HOST:PORT/PATH is needed");
  text.remove_prefix(scheme.size());
  const std::size_t end = std::min(text.find_first_of("/?#"), text.size());
  const std::string_view where = text.substr(0, end);
  if (where.empty() || where.front() == ':')
    refuse("the host is missing");
  if (where.find('@') != std::string_view::npos)
    refuse("a user in the URL is not supported");
  if (where.front() == '*' || where.starts_with("unix"))
    refuse("the host is an address or localhost");
  address = Address(with_port(where));
  host = where;
  target = text.substr(end, text.find('#') - end);
  if (target.empty() || target.front() != '/')
    target.insert(0, "/");
}

// One at a time; whatever ends it early closes the connection, on which nobody knows what comes
// next.
class HttpClient::Use {
public:
  explicit Use(HttpClient& client) : client_(client) {
    if (std::exchange(client.in_use_, true))
      throw_errno(EBUSY, "http", client.host_);
  }
  Use(const Use&) = delete;
  Use& operator=(const Use&) = delete;
  ~Use() {
    client_.in_use_ = false;
    if (!well_)
      client_.connection_ = nullptr;
  }
  void ended_well() noexcept { well_ = true; }

private:
  HttpClient& client_;
  bool well_ = false;
};

HttpClient::HttpClient(Address address, HttpClientOptions options)
    : address_(address), options_(std::move(options)), host_(host_of(address)) {}

Task<> HttpClient::connect() {
  Use use(*this);
  co_await prepare();
  use.ended_well();
}

Task<> HttpClient::prepare() {
  if (connection_ && connection_->decoder.buffered() > 0)
    connection_ = nullptr;  // an answer to nothing
  if (connection_)
    co_return;
  Socket socket = co_await iouring::connect(address_, options_.connect_limit);
  connection_ = std::make_unique<Connection>(std::move(socket), options_.limits);
  ++connections_;
}

Task<> HttpClient::close() {
  const Use use(*this);
  const std::unique_ptr<Connection> connection = std::move(connection_);
  if (connection)
    co_await connection->stream.close();
}

Task<HttpResponse> HttpClient::send(HttpRequest request) {
  Use use(*this);
  co_await prepare();
  const bool kept = connection_->used;
  std::exception_ptr thrown;
  try {
    HttpResponse response = co_await exchange(request);
    use.ended_well();
    co_return response;
  } catch (const std::exception&) {
    thrown = std::current_exception();
  }
  if (!kept || !only_asks(request) || !connection_->decoder.untouched() || !is_stale(thrown))
    std::rethrow_exception(thrown);
  connection_ = nullptr;
  co_await prepare();
  HttpResponse response = co_await exchange(request);
  use.ended_well();
  co_return response;
}

Task<HttpResponse> HttpClient::exchange(HttpRequest& request) {
  connection_->used = true;
  if (request.method == "CONNECT")
    throw BadInput("the client makes no tunnels");
  std::exception_ptr thrown;
  bool whole = false;
  try {
    whole = co_await write(request);
  } catch (const std::system_error&) {
    // The server may have answered before it stopped listening.
    thrown = std::current_exception();
  }
  HttpResponse response;
  bool answered = false;
  try {
    response = co_await read(request.method == "HEAD");
    answered = true;
  } catch (const HttpError&) {
    if (!thrown)
      throw;
  } catch (const std::system_error&) {
    if (!thrown)
      throw;
  }
  if (!answered)
    std::rethrow_exception(thrown);
  if (!whole || !response.keep_alive || !request.keep_alive)
    connection_ = nullptr;
  co_return response;
}

Task<bool> HttpClient::write(const HttpRequest& request) {
  std::string text;
  const bool sends_body = !request.body.empty() || request.method == "POST" ||
                          request.method == "PUT" || request.method == "PATCH";
  detail::HttpFraming framing{.chunked = static_cast<bool>(request.pieces),
                              .connection = request.keep_alive ? "" : "close"};
  if (!framing.chunked && sends_body)
    framing.length = request.body.size();
  detail::append_head(text, request, host_, framing);
  connection_->stream.write(text);
  if (request.headers.has_token("Expect", "100-continue")) {
    const bool wanted = co_await may_continue();
    if (!wanted)
      co_return false;
  }
  if (request.pieces)
    co_await write_pieces(request);
  else
    connection_->stream.write(request.body);
  co_await drain();
  co_return true;
}

Task<> HttpClient::write_pieces(const HttpRequest& request) {
  for (bool last = false; !last;) {
    const std::string piece = co_await request.pieces();
    last = piece.empty();
    std::string chunk;
    detail::append_chunk(chunk, piece);
    connection_->stream.write(chunk);
    co_await drain();
  }
}

Task<> HttpClient::drain() {
  Stream& stream = connection_->stream;
  const std::size_t left = stream.writer().buffered();
  if (left <= WaterMarks().high)
    co_return;
  bool late = false;
  try {
    co_await timeout(options_.head_limit, stream.drain());
  } catch (const TimeoutError&) {
    late = true;
  }
  if (late)
    throw HttpError(HttpFault::timed_out, host_ + " does not take the request");
}

// false: the server has decided without the body.
Task<bool> HttpClient::may_continue() {
  HttpDecoder& decoder = connection_->decoder;
  try {
    co_await timeout(options_.continue_limit, read_head(steady_clock::time_point::max()));
  } catch (const TimeoutError&) {
    co_return true;  // a server that does not know the question
  }
  const bool wanted = decoder.response().status == 100;
  if (wanted)
    decoder.next();
  co_return wanted;
}

Task<bool> HttpClient::read_more() {
  Connection& connection = *connection_;
  const std::size_t count = co_await connection.stream.read_some(connection.decoder.room());
  connection.decoder.received(count);
  co_return count > 0;
}

Task<> HttpClient::read_head(steady_clock::time_point deadline) {
  HttpDecoder& decoder = connection_->decoder;
  bool late = false;
  try {
    for (bool head = decoder.has_head(); !head; head = decoder.has_head()) {
      if (decoder.at_end())
        throw HttpError(HttpFault::incomplete, host_ + " closed the connection without an answer");
      co_await timeout_at(deadline, read_more());
    }
  } catch (const TimeoutError&) {
    late = true;
  }
  if (late)
    throw HttpError(HttpFault::timed_out, host_ + " did not answer in time");
}

Task<HttpResponse> HttpClient::read(bool is_head) {
  HttpDecoder& decoder = connection_->decoder;
  const auto deadline = deadline_in(options_.head_limit);
  for (int interim = 0;; ++interim) {
    if (is_head)
      decoder.expect_no_body();
    co_await read_head(deadline);
    const int status = decoder.response().status;
    if (status == 101 || (status < 200 && interim == most_interim))
      throw HttpError(HttpFault::malformed, host_ + " answers " + std::to_string(status));
    if (status >= 200)
      break;
    decoder.next();
  }
  const auto end = deadline_in(options_.body_limit);
  bool late = false;
  try {
    for (bool all = decoder.complete(); !all; all = decoder.complete())
      co_await timeout_at(end, read_more());
  } catch (const TimeoutError&) {
    late = true;
  }
  if (late)
    throw HttpError(HttpFault::timed_out, host_ + " did not send all of its answer in time");
  HttpResponse response = std::move(decoder.response());
  response.keep_alive = response.keep_alive && !decoder.needs_end();
  decoder.next();
  co_return response;
}

Task<> HttpClient::write_many(const std::vector<HttpRequest>& requests) {
  for (const HttpRequest& request : requests)
    co_await write(request);
}

Task<> HttpClient::read_many(const std::vector<HttpRequest>& requests,
                             std::vector<HttpResponse>& responses) {
  for (const HttpRequest& request : requests) {
    if (!responses.empty() && !responses.back().keep_alive)
      throw HttpError(HttpFault::incomplete, host_ + " closed the connection after " +
                                                 std::to_string(responses.size()) + " of " +
                                                 std::to_string(requests.size()) + " answers");
    HttpResponse response = co_await read(request.method == "HEAD");
    responses.push_back(std::move(response));
  }
}

Task<std::vector<HttpResponse>> HttpClient::send_all(std::vector<HttpRequest> requests) {
  Use use(*this);
  co_await prepare();
  connection_->used = true;
  for (const HttpRequest& request : requests)
    if (request.method == "CONNECT" || request.headers.find("Expect"))
      throw BadInput("a pipelined request neither makes a tunnel nor waits for 100 Continue");
  std::vector<HttpResponse> responses;
  co_await gather(write_many(requests), read_many(requests, responses));
  if (!requests.empty() && (!responses.back().keep_alive || !requests.back().keep_alive))
    connection_ = nullptr;
  use.ended_well();
  co_return responses;
}

Task<HttpResponse> http_get(std::string url, HttpClientOptions options) {
  const HttpUrl parts(url);
  HttpClient client(parts.address, std::move(options));
  HttpRequest request;
  request.target = parts.target;
  request.headers.add("Host", parts.host);
  request.keep_alive = false;
  HttpResponse response = co_await client.send(std::move(request));
  co_return response;
}

}  // namespace schedlab::iouring
