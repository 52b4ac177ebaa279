// HTTP messages from bytes: what is taken, what is refused, and that it does not matter in which
// pieces the bytes come.

#include "iouring/http_decoder.hh"

#include "lab/base/error.hh"
#include "lab/base/random.hh"

#include <boost/test/data/test_case.hpp>
#include <boost/test/unit_test.hpp>

#include <algorithm>
#include <cstring>
#include <optional>
#include <ostream>
#include <string>
#include <string_view>
#include <vector>

using namespace schedlab::iouring;
using namespace std::string_view_literals;
using Side = HttpDecoder::Side;

namespace {

constexpr HttpLimits small_limits = {.head = 1000, .fields = 10, .body = 100};

// What a decoder makes of bytes: messages, or why not.
struct Reading {
  std::vector<std::string> messages;  // "GET /a [x]" or "200 [x]"
  std::optional<HttpFault> fault;
  std::size_t most_memory = 0;
  bool operator==(const Reading& other) const {
    return messages == other.messages && fault == other.fault;
  }
};

std::ostream& operator<<(std::ostream& out, const Reading& reading) {
  for (const auto& message : reading.messages)
    out << message << "; ";
  return reading.fault ? out << "fault " << static_cast<int>(*reading.fault) : out;
}

std::string describe(HttpDecoder& decoder, Side side) {
  if (side == Side::requests)
    return decoder.request().method + " " + decoder.request().target + " [" +
           decoder.request().body + "]";
  return std::to_string(decoder.response().status) + " [" + decoder.response().body + "]";
}

void take_all(HttpDecoder& decoder, Side side, Reading& reading) {
  for (; decoder.complete(); decoder.next()) {
    reading.messages.push_back(describe(decoder, side));
    if (decoder.at_end())
      break;
  }
  reading.most_memory = std::max(reading.most_memory, decoder.memory());
}

void put(HttpDecoder& decoder, std::string_view piece) {
  const auto room = decoder.room();
  BOOST_TEST_REQUIRE(room.size() >= piece.size());
  std::memcpy(room.data(), piece.data(), piece.size());
  decoder.received(piece.size());
}

// `lengths` of the pieces in turn; then the end of the stream.
Reading read(Side side, std::string_view bytes, const std::vector<std::size_t>& lengths) {
  HttpDecoder decoder(side, small_limits);
  Reading reading;
  try {
    for (std::size_t i = 0; !bytes.empty(); ++i) {
      const std::size_t length = std::min(lengths[i % lengths.size()], bytes.size());
      put(decoder, bytes.substr(0, length));
      bytes.remove_prefix(length);
      take_all(decoder, side, reading);
    }
    decoder.received(0);
    if (!decoder.at_end())
      take_all(decoder, side, reading);
  } catch (const HttpError& error) {
    reading.fault = error.fault();
  }
  return reading;
}

// The same in one piece, byte by byte and in random pieces.
Reading read_in_all_ways(Side side, std::string_view bytes) {
  const Reading whole = read(side, bytes, {4000});
  BOOST_TEST(read(side, bytes, {1}) == whole);
  BOOST_TEST(read(side, bytes, {2}) == whole);
  schedlab::Random random(7);
  for (int round = 0; round < 20; ++round) {
    std::vector<std::size_t> lengths;
    for (int i = 0; i < 50; ++i)
      lengths.push_back(1 + random.below(30));
    BOOST_TEST(read(side, bytes, lengths) == whole);
  }
  return whole;
}

struct Case {
  const char* name;
  std::string_view bytes;
  std::vector<std::string> messages;
  std::optional<HttpFault> fault;
};
std::ostream& operator<<(std::ostream& out, const Case& one) {
  return out << one.name;
}

const std::string many_fields = [] {
  std::string text = "GET / HTTP/1.1\r\nHost: a\r\n";
  for (int i = 0; i < 11; ++i)
    text += "a: b\r\n";
  return text + "\r\n";
}();
const std::string long_target = "GET /" + std::string(1100, 'x') + " HTTP/1.1\r\nHost: a\r\n\r\n";
const std::string long_field =
    "GET / HTTP/1.1\r\nHost: a\r\nx: " + std::string(1100, 'x') + "\r\n\r\n";
const std::string long_trailer =
    "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n0\r\nx: " +
    std::string(1100, 'x') + "\r\n\r\n";
const std::string long_chunk_head =
    "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n5;a=" + std::string(1100, 'x');

constexpr auto bad = HttpFault::malformed;
const Case requests[] = {
    {"one", "GET /a HTTP/1.1\r\nHost: a\r\n\r\n", {"GET /a []"}, {}},
    {"no message", "", {}, {}},
    {"pipelined",
     "GET /a HTTP/1.1\r\nHost: a\r\n\r\nPOST /b HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\nhi"
     "HEAD /c HTTP/1.1\r\nHost: a\r\n\r\n",
     {"GET /a []", "POST /b [hi]", "HEAD /c []"},
     {}},
    {"an empty line before", "\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n", {"GET / []"}, {}},
    {"chunked",
     "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: Chunked\r\n\r\n"
     "3\r\nabc\r\n00A;x=\"y\"\r\n0123456789\r\n0\r\nTrailer: x\r\n\r\nGET /b HTTP/1.0\r\n\r\n",
     {"POST / [abc0123456789]", "GET /b []"},
     {}},
    {"HTTP/1.0", "GET / HTTP/1.0\r\n\r\n", {"GET / []"}, {}},
    {"another version", "GET / HTTP/2.0\r\nHost: a\r\n\r\n", {}, HttpFault::unknown_version},
    {"the preface of HTTP/2", "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", {}, HttpFault::unknown_version},
    {"no version", "GET /\r\n\r\n", {}, bad},
    {"half a version", "GET / HT\r\n\r\n", {}, bad},
    {"TLS", "\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\n"sv, {}, bad},
    {"no line", "\r\n\r\n\r\n", {}, bad},
    {"a bare LF", "GET / HTTP/1.1\nHost: a\n\n", {}, bad},
    {"a bare CR", "GET / HTTP/1.1\r\nHost: a\rX: b\r\n\r\n", {}, bad},
    {"NUL in a value", "GET / HTTP/1.1\r\nHost: a\0b\r\n\r\n"sv, {}, bad},
    {"NUL in the target", "GET /\0 HTTP/1.1\r\nHost: a\r\n\r\n"sv, {}, bad},
    {"a control character", "GET / HTTP/1.1\r\nHost: a\r\nx: \x01\r\n\r\n", {}, bad},
    {"a folded field", "GET / HTTP/1.1\r\nHost: a\r\nx: 1\r\n 2\r\n\r\n", {}, bad},
    {"space before the colon", "GET / HTTP/1.1\r\nHost : a\r\n\r\n", {}, bad},
    {"a field without a name", "GET / HTTP/1.1\r\nHost: a\r\n: b\r\n\r\n", {}, bad},
    {"a field without a colon", "GET / HTTP/1.1\r\nHost: a\r\nfield\r\n\r\n", {}, bad},
    {"space in the target", "GET /a b HTTP/1.1\r\nHost: a\r\n\r\n", {}, HttpFault::unknown_version},
    {"no Host", "GET / HTTP/1.1\r\n\r\n", {}, bad},
    {"two Hosts", "GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n", {}, bad},
    {"length and chunks",
     "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 4\r\nTransfer-Encoding: "
     "chunked\r\n\r\n0\r\n\r\n",
     {},
     bad},
    {"chunks and length",
     "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\nContent-Length: "
     "4\r\n\r\n0\r\n\r\n",
     {},
     bad},
    {"two lengths",
     "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\nContent-Length: 3\r\n\r\nabc",
     {},
     bad},
    {"the same length twice",
     "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\nContent-Length: 2\r\n\r\nab",
     {},
     bad},
    {"a list of lengths", "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 2, 2\r\n\r\nab", {}, bad},
    {"a length with a sign", "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: +2\r\n\r\nab", {}, bad},
    {"a negative length", "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: -1\r\n\r\n", {}, bad},
    {"a length in hex", "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 0x2\r\n\r\nab", {}, bad},
    {"an empty length", "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: \r\n\r\n", {}, bad},
    {"a length beyond 64 bits",
     "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 18446744073709551618\r\n\r\nab",
     {},
     bad},
    {"another coding",
     "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: gzip\r\n\r\nGET /x HTTP/1.1\r\n\r\n",
     {},
     HttpFault::not_supported},
    {"a coding before chunked",
     "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n",
     {},
     HttpFault::not_supported},
    {"a coding that hides",
     "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: xchunked\r\n\r\n0\r\n\r\n",
     {},
     HttpFault::not_supported},
    {"two codings",
     "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: x\r\n\r\n",
     {},
     bad},
    {"chunked in HTTP/1.0",
     "POST / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
     {},
     bad},
    {"a chunk's size that is none",
     "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\nxyz\r\nabc\r\n0\r\n\r\n",
     {},
     bad},
    {"a chunk's size with a sign",
     "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n-3\r\nabc\r\n0\r\n\r\n",
     {},
     bad},
    {"a chunk's size with 0x",
     "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n0x3\r\nabc\r\n0\r\n\r\n",
     {},
     bad},
    {"a chunk longer than it says",
     "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabcd\r\n0\r\n\r\n",
     {},
     bad},
    {"a chunk's size beyond 64 bits",
     "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n10000000000000003\r\nabc\r\n",
     {},
     bad},
    {"a bare LF after a chunk's size",
     "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n3\nabc\r\n0\r\n\r\n",
     {},
     bad},
    {"too long a body",
     "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 101\r\n\r\n",
     {},
     HttpFault::body_too_large},
    {"too long a body of chunks",
     "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n"
     "3\r\nabc\r\nfffffffffffffff0\r\n",
     {},
     HttpFault::body_too_large},
    {"too many fields", many_fields, {}, HttpFault::head_too_large},
    {"too long a request line", long_target, {}, HttpFault::target_too_long},
    {"too long a field", long_field, {}, HttpFault::head_too_large},
    {"too long a trailer", long_trailer, {}, HttpFault::head_too_large},
    {"too long a chunk's head", long_chunk_head, {}, HttpFault::head_too_large},
    {"the end within a head", "GET / HTTP/1.1\r\nHo", {}, HttpFault::incomplete},
    {"the end within a body",
     "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 9\r\n\r\nab",
     {},
     HttpFault::incomplete},
    {"the end within chunks",
     "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n",
     {},
     HttpFault::incomplete},
    {"a good one before a bad one",
     "GET /a HTTP/1.1\r\nHost: a\r\n\r\nGET /b HTTP/1.1\r\n\r\n",
     {"GET /a []"},
     bad},
};

const Case responses[] = {
    {"with a length", "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi", {"200 [hi]"}, {}},
    {"to the end", "HTTP/1.1 200 OK\r\n\r\nall of it", {"200 [all of it]"}, {}},
    {"chunked",
     "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nhi\r\n0\r\n\r\n",
     {"200 [hi]"},
     {}},
    {"without a body",
     "HTTP/1.1 204 No Content\r\n\r\nHTTP/1.1 304 x\r\nContent-Length: 5\r\n\r\n"
     "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n",
     {"204 []", "304 []", "200 []"},
     {}},
    {"interim",
     "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.0 404 x\r\n\r\nno",
     {"100 []", "404 [no]"},
     {}},
    {"no reason", "HTTP/1.1 200 \r\nContent-Length: 0\r\n\r\n", {"200 []"}, {}},
    {"a status of two digits", "HTTP/1.1 20 OK\r\n\r\n", {}, bad},
    {"no HTTP", "SSH-2.0-OpenSSH_9.2\r\n", {}, HttpFault::incomplete},
    {"no HTTP, with an end", "220 mail ready\r\n\r\n", {}, HttpFault::unknown_version},
    {"length and chunks",
     "HTTP/1.1 200 OK\r\nContent-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
     {},
     bad},
    {"another coding",
     "HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip\r\n\r\nabc",
     {},
     HttpFault::not_supported},
    {"too long to the end",
     "HTTP/1.1 200 OK\r\n\r\n"
     "0123456789012345678901234567890123456789012345678901234567890123456789"
     "0123456789012345678901234567890123456789",
     {},
     HttpFault::body_too_large},
    {"cut short", "HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nab", {}, HttpFault::incomplete},
};

}  // namespace

BOOST_AUTO_TEST_SUITE(a_decoder)

BOOST_DATA_TEST_CASE(reads_requests_alike_in_any_pieces, requests, one) {
  const Reading seen = read_in_all_ways(Side::requests, one.bytes);
  BOOST_TEST(seen == (Reading{one.messages, one.fault}));
}

BOOST_DATA_TEST_CASE(reads_responses_alike_in_any_pieces, responses, one) {
  const Reading seen = read_in_all_ways(Side::responses, one.bytes);
  BOOST_TEST(seen == (Reading{one.messages, one.fault}));
}

// Whatever comes: messages or a fault, and no more memory than the limits allow.
BOOST_AUTO_TEST_CASE(stays_small_and_alive_whatever_comes) {
  schedlab::Random random(11);
  std::size_t faults = 0, taken = 0;
  for (int round = 0; round < 3000; ++round) {
    std::string bytes(requests[random.below(std::size(requests))].bytes);
    const std::uint64_t changes = random.below(4);
    for (std::uint64_t i = 0; i < changes && !bytes.empty(); ++i)
      bytes[random.below(bytes.size())] = static_cast<char>(random.below(256));
    const Reading seen = read(Side::requests, bytes, {1 + random.below(50)});
    faults += seen.fault.has_value();
    taken += !seen.messages.empty();
    BOOST_TEST_REQUIRE(seen.most_memory <= 4 * 4096u);
  }
  BOOST_TEST(faults > 1000u);
  BOOST_TEST(taken > 100u);
}

BOOST_AUTO_TEST_CASE(a_response_to_head_has_no_body) {
  HttpDecoder decoder(Side::responses);
  decoder.expect_no_body();
  put(decoder,
      "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nHTTP/1.1 404 x\r\nContent-Length: 0\r\n\r\n");
  BOOST_TEST(decoder.complete());
  BOOST_TEST(decoder.response().body.empty());
  decoder.next();
  BOOST_TEST(decoder.complete());
  BOOST_TEST(decoder.response().status == 404);
}

BOOST_AUTO_TEST_CASE(fields_are_found_without_regard_to_case_and_trailers_are_dropped) {
  HttpDecoder decoder(Side::requests);
  put(decoder, "POST / HTTP/1.1\r\nhOST: a\r\nX-One:  b \r\nConnection: x, Close\r\n"
               "Transfer-Encoding: chunked\r\n\r\n0\r\nX-Two: c\r\n\r\n");
  BOOST_TEST_REQUIRE(decoder.complete());
  const HttpRequest& request = decoder.request();
  BOOST_TEST_REQUIRE(request.headers.find("x-one"));
  BOOST_TEST(*request.headers.find("x-one") == "b");
  BOOST_TEST(request.headers.has_token("CONNECTION", "close"));
  BOOST_TEST(!request.headers.has_token("connection", "clos"));
  BOOST_TEST(!request.headers.find("X-Two"));
  BOOST_TEST(!request.keep_alive);
}

BOOST_AUTO_TEST_CASE(a_field_that_would_end_its_line_is_refused) {
  HttpHeaders headers;
  BOOST_CHECK_THROW(headers.add("a", "b\r\nSet-Cookie: c"), schedlab::BadInput);
  BOOST_CHECK_THROW(headers.add("a: b", "c"), schedlab::BadInput);
  BOOST_CHECK_THROW(headers.add("", "c"), schedlab::BadInput);
  headers.add("a", "b\tc");
  BOOST_TEST(headers.size() == 1u);
}

BOOST_AUTO_TEST_SUITE_END()
