// Addresses as text and back.

#include "iouring/address.hh"

#include "lab/base/error.hh"

#include <boost/test/data/test_case.hpp>
#include <boost/test/unit_test.hpp>

#include <string>
#include <vector>

using namespace schedlab;
using iouring::Address;

namespace {

const std::vector<std::string> same_again = {"127.0.0.1:8080",
                                             "0.0.0.0:0",
                                             "[::1]:80",
                                             "[2001:db8::7]:65535",
                                             "unix:/run/a b",
                                             "unix:relative",
                                             "unix:@abstract",
                                             "unix:@" + std::string(106, 'x'),
                                             "unix:/" + std::string(106, 'x')};

struct Wrong {
  std::string text;
  std::string part;  // of the reason
};
const std::vector<Wrong> wrong = {{"", "a port is missing"},
                                  {"8080", "a port is missing"},
                                  {"127.0.0.1:", "from 0 to 65535"},
                                  {"127.0.0.1:65536", "from 0 to 65535"},
                                  {"127.0.0.1:-1", "from 0 to 65535"},
                                  {"127.0.0.1:80x", "from 0 to 65535"},
                                  {"example.org:80", "names are not looked up"},
                                  {"::1:80", "in brackets"},
                                  {"[::1%lo]:80", "without a scope"},
                                  {"[127.0.0.1]:80", "numeric IPv6"},
                                  {"127.1:80", "numeric address or localhost"},
                                  {"unix:", "a path"},
                                  {"unix:@", "a path"},
                                  {"unix:/" + std::string(107, 'x'), "at most 107 bytes"},
                                  {std::string("unix:a\0b", 8), "none of them 0"}};

std::ostream& operator<<(std::ostream& out, const Wrong& one) {
  return out << one.text;
}

}  // namespace

BOOST_DATA_TEST_CASE(an_address_is_printed_as_it_is_parsed, same_again, text) {
  BOOST_TEST(Address(text).text() == text);
}

BOOST_AUTO_TEST_CASE(short_forms_mean_the_loopback_and_every_interface) {
  BOOST_TEST(Address("localhost:80").text() == "127.0.0.1:80");
  BOOST_TEST(Address(":80").text() == "127.0.0.1:80");
  BOOST_TEST(Address("*:80").text() == "0.0.0.0:80");
}

BOOST_AUTO_TEST_CASE(parts_are_told_apart) {
  BOOST_TEST(Address("[::1]:81").port() == 81);
  BOOST_TEST(Address("[::1]:81").family() == AF_INET6);
  BOOST_TEST(!Address("[::1]:81").is_unix());
  BOOST_TEST(Address("unix:/a").is_unix());
  BOOST_TEST(Address("unix:/a").path() == "/a");
  BOOST_TEST(Address("unix:/a").port() == 0);
  BOOST_TEST(Address("unix:@a").path().empty());
  BOOST_TEST(Address().text().empty());
}

BOOST_DATA_TEST_CASE(a_wrong_address_is_refused_with_the_reason, wrong, one) {
  BOOST_CHECK_EXCEPTION(Address(one.text), BadInput, [&](const BadInput& error) {
    BOOST_TEST_INFO(error.what());
    return std::string(error.what()).find(one.part) != std::string::npos;
  });
}
