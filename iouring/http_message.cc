#include "iouring/http_message.hh"

#include "lab/base/error.hh"
#include "lab/base/text.hh"

#include <algorithm>
#include <array>
#include <charconv>

namespace schedlab::iouring {

namespace {

char lower(char letter) noexcept {
  return letter >= 'A' && letter <= 'Z' ? static_cast<char>(letter + ('a' - 'A')) : letter;
}

// RFC 9110, 5.6.2.
bool is_token(std::string_view text) noexcept {
  return !text.empty() && std::ranges::all_of(text, [](char letter) {
    const char small = lower(letter);
    return (small >= 'a' && small <= 'z') || (letter >= '0' && letter <= '9') ||
           std::string_view("!#$%&'*+-.^_`|~").find(letter) != std::string_view::npos;
  });
}

bool is_control(char letter) noexcept {
  const auto code = static_cast<unsigned char>(letter);
  return (code < 0x20 && letter != '\t') || code == 0x7f;
}

bool fits_line(std::string_view text) noexcept {
  return std::ranges::none_of(text, is_control);
}

void append_number(std::string& out, std::size_t number, int base = 10) {
  std::array<char, 24> digits;
  const auto end = std::to_chars(digits.data(), digits.data() + digits.size(), number, base).ptr;
  out.append(digits.data(), end);
}

void append_field(std::string& out, std::string_view name, std::string_view value) {
  out.append(name).append(": ").append(value).append("\r\n");
}

// Fields that say where a message ends are never anybody else's.
void append_fields(std::string& out, const HttpHeaders& headers,
                   const detail::HttpFraming& framing) {
  for (const auto& field : headers)
    if (!detail::same_name(field.name, "Content-Length") &&
        !detail::same_name(field.name, "Transfer-Encoding") &&
        !detail::same_name(field.name, "Connection"))
      append_field(out, field.name, field.value);
  if (framing.length) {
    out.append("Content-Length: ");
    append_number(out, *framing.length);
    out.append("\r\n");
  }
  if (framing.chunked)
    append_field(out, "Transfer-Encoding", "chunked");
  if (!framing.connection.empty())
    append_field(out, "Connection", framing.connection);
  out.append("\r\n");
}

}  // namespace

int HttpError::status() const noexcept {
  switch (fault_) {
  case HttpFault::unknown_version:
    return 505;
  case HttpFault::not_supported:
    return 501;
  case HttpFault::unknown_expectation:
    return 417;
  case HttpFault::target_too_long:
    return 414;
  case HttpFault::head_too_large:
    return 431;
  case HttpFault::body_too_large:
    return 413;
  case HttpFault::overloaded:
    return 503;
  case HttpFault::timed_out:
    return 408;
  case HttpFault::malformed:
  case HttpFault::incomplete:
    break;
  }
  return 400;
}

HttpHeaders::HttpHeaders(
    std::initializer_list<std::pair<std::string_view, std::string_view>> fields) {
  for (const auto& [name, value] : fields)
    add(name, value);
}

void HttpHeaders::add(std::string_view name, std::string_view value) {
  if (!is_token(name))
    throw BadInput("'" + std::string(name) + "' is no name of a header field");
  if (!fits_line(value))
    throw BadInput("the value of header field '" + std::string(name) + "' has a control character");
  fields_.push_back({std::string(name), std::string(trim(value))});
}

const std::string* HttpHeaders::find(std::string_view name) const noexcept {
  const auto found = std::ranges::find_if(
      fields_, [name](const Field& field) { return detail::same_name(field.name, name); });
  return found == fields_.end() ? nullptr : &found->value;
}

bool HttpHeaders::has_token(std::string_view name, std::string_view word) const noexcept {
  for (const auto& field : fields_) {
    if (!detail::same_name(field.name, name))
      continue;
    std::string_view rest = field.value;
    while (!rest.empty()) {
      const std::size_t comma = std::min(rest.find(','), rest.size());
      if (detail::same_name(trim(rest.substr(0, comma)), word))
        return true;
      rest.remove_prefix(std::min(comma + 1, rest.size()));
    }
  }
  return false;
}

namespace detail {

bool same_name(std::string_view a, std::string_view b) noexcept {
  return std::ranges::equal(a, b, {}, lower, lower);
}

void append_head(std::string& out, const HttpRequest& request, std::string_view host,
                 const HttpFraming& framing) {
  const bool target_fits = fits_line(request.target) && !request.target.empty() &&
                           request.target.find_first_of(" \t") == std::string::npos;
  if (!is_token(request.method) || !target_fits)
    throw BadInput("'" + request.method + " " + request.target + "' is no request line");
  out.append(request.method).append(" ").append(request.target).append(" HTTP/1.1\r\n");
  if (!request.headers.find("Host"))
    append_field(out, "Host", host);
  append_fields(out, request.headers, framing);
}

void append_head(std::string& out, const HttpResponse& response, std::string_view date,
                 const HttpFraming& framing) {
  if (response.status < 100 || response.status > 999 || !fits_line(response.reason))
    throw BadInput("'" + std::to_string(response.status) + " " + response.reason +
                   "' is no status line");
  out.append("HTTP/1.1 ");
  append_number(out, static_cast<std::size_t>(response.status));
  out.append(" ");
  out.append(response.reason.empty() ? http_reason(response.status)
                                     : std::string_view(response.reason));
  out.append("\r\n");
  if (!date.empty() && !response.headers.find("Date"))
    append_field(out, "Date", date);
  append_fields(out, response.headers, framing);
}

void append_chunk(std::string& out, std::string_view piece) {
  append_number(out, piece.size(), 16);
  out.append("\r\n").append(piece).append("\r\n");
}

}  // namespace detail

}  // namespace schedlab::iouring
