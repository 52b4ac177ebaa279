#include "iouring/http_decoder.hh"

#include "lab/base/error.hh"

#include <boost/beast/http/basic_parser.hpp>
#include <boost/beast/http/status.hpp>

#include <algorithm>
#include <cassert>
#include <cstring>
#include <variant>

namespace schedlab::iouring {

namespace {

namespace http = boost::beast::http;
using ParserText = boost::beast::string_view;
using ParserError = boost::beast::error_code;

constexpr std::size_t small_buffer = 4096;
// Beast 1.74 asserts that many when it looks at the last chunk's head again. A chunked body that
// has not ended goes on for at least as many: "0", CR, LF, CR, LF.
constexpr std::size_t least_chunked = 5;
constexpr std::size_t body_buffer = 64 * 1024;  // while a large body comes

std::string_view view(const ParserText& text) noexcept {
  return {text.data(), text.size()};
}

[[noreturn]] void malformed(const std::string& what) {
  throw HttpError(HttpFault::malformed, "malformed HTTP message: " + what);
}

// What the fields of a head say of the message's end, in their own words.
class FramingCheck {
public:
  void field(std::string_view name, std::string_view value) {
    if (detail::same_name(name, "Content-Length")) {
      const bool digits = std::ranges::all_of(value, [](char c) { return c >= '0' && c <= '9'; });
      if (value.empty() || value.size() > 18 || !digits)
        malformed("Content-Length '" + std::string(value.substr(0, 40)) + "'");
      if (++lengths_ > 1)
        malformed("Content-Length twice");
    } else if (detail::same_name(name, "Transfer-Encoding")) {
      if (++codings_ > 1)
        malformed("Transfer-Encoding twice");
      chunked_ = detail::same_name(value, "chunked");
    } else if (detail::same_name(name, "Host")) {
      ++hosts_;
    }
  }
  void done(int version, bool is_request) const {
    if (codings_ > 0 && lengths_ > 0)
      malformed("Content-Length beside Transfer-Encoding");
    if (codings_ > 0 && version < 11)
      malformed("Transfer-Encoding in HTTP/1.0");
    if (codings_ > 0 && !chunked_)
      throw HttpError(HttpFault::not_supported, "a transfer coding other than chunked");
    if (is_request && (hosts_ > 1 || (hosts_ == 0 && version >= 11)))
      malformed(hosts_ == 0 ? "no Host" : "Host twice");
  }

private:
  unsigned lengths_ = 0, codings_ = 0, hosts_ = 0;
  bool chunked_ = false;
};

// Finds the end of a head line by line, each byte once, and lets nothing pass that others may read
// otherwise.
class HeadScan {
public:
  // The head's length in bytes with its empty line; 0: there is more of it to come.
  std::size_t look(std::string_view bytes, const HttpLimits& limits, bool is_request) {
    for (;;) {
      const std::size_t end = bytes.find('\n', scanned_);
      if (std::min(end, bytes.size()) >= limits.head)
        too_large(is_request);
      if (end == std::string_view::npos) {
        check_part(bytes.substr(scanned_));
        scanned_ = bytes.size();
        return 0;
      }
      const std::string_view line = bytes.substr(line_, end - line_);
      scanned_ = line_ = end + 1;
      if (line.empty() || line.back() != '\r')
        malformed("a line ends without CR");
      if (line.size() == 1)
        return line_;
      check_line(line.substr(0, line.size() - 1), limits.fields);
    }
  }

private:
  void check_line(std::string_view line, std::size_t most_fields) {
    check_part(line);
    if (line.find('\r') != std::string_view::npos)
      malformed("CR within a line");
    if (lines_ > 0 && (line.front() == ' ' || line.front() == '\t'))
      malformed("a folded header field");
    if (lines_++ > most_fields)
      throw HttpError(HttpFault::head_too_large,
                      "more than " + std::to_string(most_fields) + " header fields");
  }
  static void check_part(std::string_view part) {
    if (part.find('\0') != std::string_view::npos)
      malformed("NUL in the head");
  }
  [[noreturn]] void too_large(bool is_request) const {
    if (is_request && lines_ == 0)
      throw HttpError(HttpFault::target_too_long, "the request line is longer than the limit");
    throw HttpError(HttpFault::head_too_large, "the head is larger than the limit");
  }

  std::size_t scanned_ = 0;  // bytes that were looked at
  std::size_t line_ = 0;     // where the present line begins
  std::size_t lines_ = 0;
};

// Beast's parser, writing into our messages. What a callback throws passes through put().
template <bool is_request>
class Parser final : public http::basic_parser<is_request> {
public:
  using Message = std::conditional_t<is_request, HttpRequest, HttpResponse>;

  Parser(Message& message, std::vector<HttpHeaders::Field>& fields, std::size_t most_trailing)
      : message_(message), fields_(fields), trailing_left_(most_trailing) {
    this->eager(true);
  }

private:
  void on_request_impl(http::verb, ParserText method, ParserText target, int version,
                       ParserError&) override {
    if constexpr (is_request) {
      message_.method = view(method);
      message_.target = view(target);
    }
    message_.version = version;
  }
  void on_response_impl(int status, ParserText reason, int version, ParserError&) override {
    if constexpr (!is_request) {
      message_.status = status;
      message_.reason = view(reason);
    }
    message_.version = version;
  }
  void on_field_impl(http::field, ParserText name, ParserText value, ParserError&) override {
    if (in_body_) {
      count_trailing(name.size() + value.size());
      return;
    }
    framing_.field(view(name), view(value));
    fields_.push_back({std::string(view(name)), std::string(view(value))});
  }
  void on_header_impl(ParserError&) override {
    in_body_ = true;
    framing_.done(message_.version, is_request);
    message_.keep_alive = message_.version >= 11
                              ? !message_.headers.has_token("Connection", "close")
                              : message_.headers.has_token("Connection", "keep-alive");
  }
  void on_body_init_impl(const boost::optional<std::uint64_t>& length, ParserError&) override {
    // A promise is cheap: memory is taken for what came.
    if (length)
      message_.body.reserve(std::min<std::size_t>(*length, body_buffer));
  }
  std::size_t on_body_impl(ParserText data, ParserError&) override {
    message_.body.append(data.data(), data.size());
    return data.size();
  }
  void on_chunk_header_impl(std::uint64_t, ParserText extensions, ParserError&) override {
    count_trailing(extensions.size());
  }
  std::size_t on_chunk_body_impl(std::uint64_t, ParserText data, ParserError&) override {
    message_.body.append(data.data(), data.size());
    return data.size();
  }
  void on_finish_impl(ParserError&) override {}

  // What is read beside the body, and dropped, has the bound of a head.
  void count_trailing(std::size_t bytes) {
    if (bytes > trailing_left_)
      throw HttpError(HttpFault::head_too_large, "a chunk's head or the trailers are too large");
    trailing_left_ -= bytes;
  }

  Message& message_;
  std::vector<HttpHeaders::Field>& fields_;
  FramingCheck framing_;
  std::size_t trailing_left_;
  bool in_body_ = false;
};

[[noreturn]] void throw_fault(const ParserError& error) {
  if (error == http::error::body_limit)
    throw HttpError(HttpFault::body_too_large, "the body is larger than the limit");
  if (error == http::error::header_limit)
    throw HttpError(HttpFault::head_too_large, "the head is larger than the limit");
  if (error == http::error::bad_version)
    throw HttpError(HttpFault::unknown_version, "neither HTTP/1.0 nor HTTP/1.1");
  if (error == http::error::partial_message)
    throw HttpError(HttpFault::incomplete, "the stream ended within a message");
  malformed(error.message());
}

}  // namespace

std::string_view http_reason(int status) noexcept {
  if (status < 0)
    return "Unknown Status";
  const auto text = http::obsolete_reason(http::int_to_status(static_cast<unsigned>(status)));
  return text.empty() || text == "<unknown-status>" ? "Unknown Status" : view(text);
}

class HttpDecoder::State {
  using Either = std::variant<std::monostate, Parser<true>, Parser<false>>;

  template <typename F>
  auto with(F function) {
    return side_ == Side::requests ? function(std::get<1>(parser_))
                                   : function(std::get<2>(parser_));
  }

public:
  State(Side side, const HttpLimits& limits) : limits_(limits), side_(side) { reset(); }

  std::span<std::byte> room() {
    const bool much = in_body() && message_body().size() >= small_buffer;
    const std::size_t wanted = much ? body_buffer : small_buffer;
    const std::size_t have = end_ - begin_;
    if (capacity_ - end_ < wanted) {
      if (capacity_ - have < wanted) {
        auto fresh = std::make_unique_for_overwrite<char[]>(have + wanted);
        copy_to(fresh.get(), have);
        buffer_ = std::move(fresh);
        capacity_ = have + wanted;
      } else {
        copy_to(buffer_.get(), have);
      }
      begin_ = 0;
      end_ = have;
    }
    return std::as_writable_bytes(std::span(buffer_.get() + end_, capacity_ - end_));
  }
  void received(std::size_t count) noexcept {
    end_ += count;
    ended_ = ended_ || count == 0;
  }

  bool has_head() {
    if (head_)
      return true;
    guarded([this] { parse_head(); });
    return head_;
  }
  bool complete() {
    const bool head = has_head();
    if (!head || done())
      return head;
    guarded([this] { parse_body(); });
    return done();
  }

  void reset() {
    head_ = false;
    skipped_line_ = false;
    scan_ = {};
    if (begin_ == end_) {
      begin_ = end_ = 0;
      if (capacity_ > 4 * small_buffer) {
        buffer_ = nullptr;
        capacity_ = 0;
      }
    }
    if (side_ == Side::requests) {
      request = {};
      parser_.emplace<Parser<true>>(request, request.headers.fields_, limits_.head);
    } else {
      response = {};
      parser_.emplace<Parser<false>>(response, response.headers.fields_, limits_.head);
    }
    with([this](auto& parser) {
      parser.header_limit(static_cast<std::uint32_t>(limits_.head + 1));
      parser.body_limit(std::uint64_t{limits_.body});
    });
  }
  void skip_body() {
    if (!head_)
      with([](auto& parser) { parser.skip(true); });
  }
  [[nodiscard]] bool needs_end() {
    return head_ && with([](auto& parser) { return parser.need_eof(); }) &&
           side_ == Side::responses;
  }
  [[nodiscard]] bool untouched() const noexcept { return !head_ && begin_ == end_; }
  [[nodiscard]] bool at_end() const noexcept { return ended_ && untouched(); }
  [[nodiscard]] std::size_t buffered() const noexcept { return end_ - begin_; }
  [[nodiscard]] std::size_t memory() const noexcept {
    return capacity_ + (side_ == Side::requests ? request.body : response.body).capacity();
  }

  HttpRequest request;
  HttpResponse response;

private:
  void copy_to(char* place, std::size_t count) const noexcept {
    if (count > 0)
      std::memmove(place, buffer_.get() + begin_, count);
  }
  [[nodiscard]] std::string& message_body() noexcept {
    return side_ == Side::requests ? request.body : response.body;
  }
  [[nodiscard]] bool done() {
    return with([](auto& parser) { return parser.is_done(); });
  }
  [[nodiscard]] bool in_body() { return head_ && !done(); }

  // A stream in which an error was found has no next message.
  template <typename F>
  void guarded(F parse) {
    if (error_)
      throw *error_;
    try {
      parse();
    } catch (const HttpError& error) {
      error_ = error;
      throw;
    }
  }
  [[nodiscard]] std::string_view bytes() const noexcept {
    return {buffer_.get() + begin_, end_ - begin_};
  }

  void parse_head() {
    if (!skipped_line_ && bytes().starts_with("\r\n")) {
      begin_ += 2;
      skipped_line_ = true;
    }
    if (bytes() == "\r" && !ended_)
      return;
    const std::size_t length = scan_.look(bytes(), limits_, side_ == Side::requests);
    if (length == 0) {
      if (ended_ && begin_ != end_)
        throw HttpError(HttpFault::incomplete, "the stream ended within the head of a message");
      return;
    }
    put(length);
    head_ = with([](auto& parser) { return parser.is_header_done(); });
    if (!head_)
      malformed("the first line or a field is cut short");
  }
  void parse_body() {
    const bool chunked = with([](auto& parser) { return parser.chunked(); });
    const std::size_t least = chunked ? least_chunked : 1;
    while (buffered() >= least && !done())
      if (put(buffered()) == 0)
        break;
    if (done())
      return;
    if (buffered() > limits_.head)
      throw HttpError(HttpFault::head_too_large, "a chunk's head or the trailers are too large");
    if (!ended_)
      return;
    ParserError error;
    with([&error](auto& parser) { parser.put_eof(error); });
    if (error)
      throw_fault(error);
  }
  std::size_t put(std::size_t count) {
    ParserError error;
    const boost::asio::const_buffer area(buffer_.get() + begin_, count);
    const std::size_t taken = with([&](auto& parser) { return parser.put(area, error); });
    begin_ += taken;
    if (error && error != http::error::need_more)
      throw_fault(error);
    return taken;
  }

  HttpLimits limits_;
  Side side_;
  std::unique_ptr<char[]> buffer_;
  std::size_t capacity_ = 0;
  std::size_t begin_ = 0;
  std::size_t end_ = 0;
  bool ended_ = false;
  bool head_ = false;
  bool skipped_line_ = false;
  HeadScan scan_;
  Either parser_;
  std::optional<HttpError> error_;
};

HttpDecoder::HttpDecoder(Side side, const HttpLimits& limits)
    : state_(std::make_unique<State>(side, limits)) {}
HttpDecoder::HttpDecoder(HttpDecoder&&) noexcept = default;
HttpDecoder& HttpDecoder::operator=(HttpDecoder&&) noexcept = default;
HttpDecoder::~HttpDecoder() = default;

std::span<std::byte> HttpDecoder::room() {
  return state_->room();
}
void HttpDecoder::received(std::size_t count) noexcept {
  state_->received(count);
}
bool HttpDecoder::has_head() {
  return state_->has_head();
}
bool HttpDecoder::complete() {
  return state_->complete();
}
bool HttpDecoder::untouched() const noexcept {
  return state_->untouched();
}
bool HttpDecoder::at_end() const noexcept {
  return state_->at_end();
}
HttpRequest& HttpDecoder::request() noexcept {
  return state_->request;
}
HttpResponse& HttpDecoder::response() noexcept {
  return state_->response;
}
bool HttpDecoder::needs_end() const noexcept {
  return state_->needs_end();
}
void HttpDecoder::next() {
  assert(state_->complete());
  state_->reset();
}
void HttpDecoder::expect_no_body() noexcept {
  state_->skip_body();
}
std::size_t HttpDecoder::buffered() const noexcept {
  return state_->buffered();
}
std::size_t HttpDecoder::memory() const noexcept {
  return state_->memory();
}

}  // namespace schedlab::iouring
