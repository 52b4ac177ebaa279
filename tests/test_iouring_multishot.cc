// Requests that complete again and again, and the buffers they take.

#include "tests/iouring_drivers.hh"

#include <array>
#include <cstring>

using namespace schedlab;
using namespace schedlab::testing;

namespace {

constexpr std::uint16_t group = 3;

Request receive_many(const Fd& fd) {
  return {.op = Op::recv, .many = true, .buffer_group = group, .fd = fd.get()};
}

std::uint16_t number_of(const End& end) {
  return static_cast<std::uint16_t>(end.flags >> 16);
}

std::string content_of(Bench& bench, const End& end) {
  const auto area = bench->buffer(group, number_of(end));
  return {reinterpret_cast<const char*>(area.data()), static_cast<std::size_t>(end.result)};
}

bool has_buffer_and_more(const End& end) {
  constexpr auto both = Operation::buffer | Operation::more;
  return (end.flags & both) == both;
}

}  // namespace

BOOST_DATA_TEST_CASE(one_accept_takes_every_connection, on_all_drivers, choice) {
  Bench bench(choice);
  Listener listener;
  Recorded& accepting =
      bench.begin({.op = Op::accept, .many = true, .fd = listener.fd.get(), .flags = SOCK_CLOEXEC});
  constexpr std::size_t count = 100;
  std::vector<Fd> clients;
  for (std::size_t i = 0; i < count; ++i) {
    clients.push_back(new_socket());
    BOOST_TEST_REQUIRE(bench.run(listener.connect(clients.back())) == 0);
  }
  bench.collect(accepting, count);
  for (const End& end : accepting.ends) {
    BOOST_TEST_REQUIRE(end.result >= 0);
    BOOST_TEST(end.flags == Operation::more);
    ::close(end.result);
  }
  bench->cancel(accepting);
  BOOST_TEST(bench.end(accepting) == -ECANCELED);
  BOOST_TEST(accepting.ends.back().flags == 0u);
}

BOOST_DATA_TEST_CASE(more_connections_than_completions_fit_while_nobody_looks_are_all_taken,
                     on_all_drivers, choice) {
  // The kernel may end a request that repeats when its completions find no room.
  Bench bench({.choice = choice, .entries = 8});
  Listener listener;
  constexpr std::size_t at_once = 120;  // the backlog holds 128
  std::size_t taken = 0;
  for (std::size_t round = 1; round <= 3; ++round) {
    const Request accept{.op = Op::accept, .many = true, .fd = listener.fd.get()};
    Recorded* accepting = &bench.begin(accept);
    bench->wait(0);
    std::vector<Fd> clients;
    for (std::size_t i = 0; i < at_once; ++i) {
      clients.push_back(new_socket());
      check(::connect(clients.back().get(), reinterpret_cast<sockaddr*>(&listener.address),
                      sizeof listener.address),
            "connect");
    }
    for (std::size_t seen = 0; taken < round * at_once;) {
      for (; seen < accepting->ends.size(); ++seen, ++taken) {
        BOOST_TEST_REQUIRE(accepting->ends[seen].result >= 0);
        ::close(accepting->ends[seen].result);
      }
      if (accepting->ended()) {
        accepting = &bench.begin(accept);
        seen = 0;
      }
      if (taken < round * at_once)
        bench->wait(-1);
    }
    if (!accepting->ended()) {
      bench->cancel(*accepting);
      BOOST_TEST(bench.end(*accepting) == -ECANCELED);
    }
  }
  BOOST_TEST(taken == 3 * at_once);
}

BOOST_DATA_TEST_CASE(more_data_than_completions_fit_while_nobody_looks_come_in_order,
                     on_all_drivers, choice) {
  Bench bench({.choice = choice, .entries = 8});
  constexpr unsigned buffers = 256, size = 4;
  bench->add_buffers(group, buffers, size);
  const Pair pair;
  std::string sent;
  for (unsigned i = 0; sent.size() < std::size_t{buffers} * size; ++i)
    sent += std::to_string(i) + ' ';
  sent.resize(std::size_t{buffers} * size);
  Recorded* receiving = &bench.begin(receive_many(pair.near));
  bench->wait(0);
  check(::write(pair.far.get(), sent.data(), sent.size()), "write");
  std::string got;
  for (std::size_t seen = 0; got.size() < sent.size();) {
    for (; seen < receiving->ends.size(); ++seen) {
      const End& end = receiving->ends[seen];
      BOOST_TEST_REQUIRE((end.result > 0 || !(end.flags & Operation::more)));
      if (end.result > 0) {
        got += content_of(bench, end);
        bench->give_back(group, number_of(end));
      }
    }
    if (receiving->ended()) {
      receiving = &bench.begin(receive_many(pair.near));
      seen = 0;
    }
    if (got.size() < sent.size())
      bench->wait(-1);
  }
  BOOST_TEST((got == sent));
}

BOOST_DATA_TEST_CASE(completions_that_find_the_ring_full_come_all_the_same, on_all_drivers,
                     choice) {
  // Each of few requests completes many times while it is begun: eight times what the ring holds.
  constexpr std::size_t streams = 8, words = 32, size = 4;
  Bench bench({.choice = choice, .entries = 8});
  bench->add_buffers(group, streams * words, size);
  struct Stream {
    Pair pair;
    Recorded* receiving = nullptr;
    std::size_t seen = 0;
    std::string got;
  };
  std::array<Stream, streams> all;
  std::string sent;
  for (unsigned i = 0; sent.size() < words * size; ++i)
    sent += std::to_string(i) + ' ';
  sent.resize(words * size);
  for (int round = 0; round < 4; ++round) {
    for (Stream& one : all) {
      one.got.clear();
      check(::write(one.pair.far.get(), sent.data(), sent.size()), "write");
    }
    for (std::size_t left = streams; left > 0;) {
      left = 0;
      for (Stream& one : all) {
        if (!one.receiving || (one.receiving->ended() && one.seen == one.receiving->ends.size())) {
          one.receiving = &bench.begin(receive_many(one.pair.near));
          one.seen = 0;
        }
        for (; one.seen < one.receiving->ends.size(); ++one.seen) {
          const End& end = one.receiving->ends[one.seen];
          BOOST_TEST_REQUIRE((end.result > 0 || end.result == -ENOBUFS));
          if (end.result <= 0)
            continue;
          one.got += content_of(bench, end);
          bench->give_back(group, number_of(end));
        }
        left += one.got.size() < sent.size();
      }
      if (left > 0)
        bench->wait(1'000'000);
    }
    for (const Stream& one : all)
      BOOST_TEST((one.got == sent));
  }
  BOOST_TEST_MESSAGE(bench->counts().overflows << " overflows");
  if (choice == DriverChoice::io_uring)
    BOOST_TEST(bench->counts().overflows > 0u);
}

BOOST_DATA_TEST_CASE(an_accept_ends_with_its_listener, on_all_drivers, choice) {
  Bench bench(choice);
  Listener listener;
  Recorded& accepting = bench.begin({.op = Op::accept, .many = true, .fd = listener.fd.get()});
  bench.settle();
  ::shutdown(listener.fd.get(), SHUT_RDWR);
  BOOST_TEST(bench.end(accepting) == -EINVAL);
}

BOOST_DATA_TEST_CASE(one_receive_takes_buffers_until_the_stream_ends, on_all_drivers, choice) {
  Bench bench(choice);
  bench->add_buffers(group, 4, 16);
  Pair pair;
  Recorded& receiving = bench.begin(receive_many(pair.near));
  std::string got;
  for (std::size_t i = 0; i < 100; ++i) {
    const std::string word = "word " + std::to_string(i) + "\n";
    check(::write(pair.far.get(), word.data(), word.size()), "write");
    bench.collect(receiving, i + 1);
    BOOST_TEST_REQUIRE(has_buffer_and_more(receiving.ends[i]));
    BOOST_TEST_REQUIRE(content_of(bench, receiving.ends[i]) == word);
    bench->give_back(group, number_of(receiving.ends[i]));
  }
  pair.far = Fd();
  BOOST_TEST(bench.end(receiving) == 0);
  BOOST_TEST(receiving.ends.back().flags == 0u);
}

BOOST_DATA_TEST_CASE(without_buffers_a_receive_ends_and_goes_on_when_some_come_back, on_all_drivers,
                     choice) {
  Bench bench(choice);
  bench->add_buffers(group, 4, 16);
  Pair pair;
  std::string sent(6 * 16, '\0');
  for (std::size_t i = 0; i < sent.size(); ++i)
    sent[i] = static_cast<char>(i);
  check(::write(pair.far.get(), sent.data(), sent.size()), "write");
  Recorded& first = bench.begin(receive_many(pair.near));
  BOOST_TEST(bench.end(first) == -ENOBUFS);
  BOOST_TEST(first.ends.back().flags == 0u);
  BOOST_TEST_REQUIRE(first.ends.size() == 5u);
  std::string got;
  for (std::size_t i = 0; i < 4; ++i) {
    BOOST_TEST(number_of(first.ends[i]) == i);  // in the order in which they were given
    got += content_of(bench, first.ends[i]);
  }
  Recorded& none = bench.begin(receive_many(pair.near));
  BOOST_TEST(bench.end(none) == -ENOBUFS);
  bench->give_back(group, 2);
  bench->give_back(group, 0);
  Recorded& second = bench.begin(receive_many(pair.near));
  bench.collect(second, 2);
  BOOST_TEST(number_of(second.ends[0]) == 2u);
  BOOST_TEST(number_of(second.ends[1]) == 0u);
  got += content_of(bench, second.ends[0]) + content_of(bench, second.ends[1]);
  BOOST_TEST((got == sent));
  bench.settle();
  BOOST_TEST(!second.ended());  // nothing to receive: it waits, without a buffer
  check(::write(pair.far.get(), "x", 1), "write");
  BOOST_TEST(bench.end(second) == -ENOBUFS);
  bench->give_back(group, 1);
  Recorded& third = bench.begin(receive_many(pair.near));
  bench.collect(third, 1);
  BOOST_TEST(content_of(bench, third.ends[0]) == "x");
  bench->cancel(third);
  BOOST_TEST(bench.end(third) == -ECANCELED);
}

BOOST_DATA_TEST_CASE(a_single_receive_takes_one_buffer_when_there_are_data, on_all_drivers,
                     choice) {
  Bench bench(choice);
  bench->add_buffers(group, 2, 64);
  const Pair pair;
  Request single{.op = Op::recv, .buffer_group = group, .fd = pair.near.get()};
  Recorded* const both[] = {&bench.begin(single), &bench.begin(single)};
  bench.settle();
  check(::write(pair.far.get(), "abc", 3), "write");
  while (!both[0]->ended() && !both[1]->ended())
    bench->wait(-1);
  Recorded& ended = both[0]->ended() ? *both[0] : *both[1];
  Recorded& waiting = both[0]->ended() ? *both[1] : *both[0];
  BOOST_TEST(ended.result() == 3);
  BOOST_TEST((ended.ends[0].flags & Operation::buffer));
  BOOST_TEST(!(ended.ends[0].flags & Operation::more));
  BOOST_TEST(content_of(bench, ended.ends[0]) == "abc");
  bench->cancel(waiting);
  BOOST_TEST(bench.end(waiting) == -ECANCELED);
  single.length = 2;
  check(::write(pair.far.get(), "defg", 4), "write");
  Recorded& limited = bench.begin(single);
  BOOST_TEST(bench.end(limited) == 2);
  BOOST_TEST(bench.run(single) == -ENOBUFS);
  single.buffer_group = 77;
  BOOST_TEST(bench.run(single) == -ENOBUFS);
}

BOOST_DATA_TEST_CASE(a_group_is_added_once_until_it_is_removed, on_all_drivers, choice) {
  Bench bench(choice);
  bench->add_buffers(group, 8, 4096);
  const auto has_code = [](int code) {
    return [code](const std::system_error& error) { return error.code().value() == code; };
  };
  BOOST_CHECK_EXCEPTION(bench->add_buffers(group, 8, 16), std::system_error, has_code(EEXIST));
  bench->remove_buffers(group);
  bench->add_buffers(group, 2, 16);
  BOOST_TEST(bench->buffer(group, 1).size() == 16u);
  BOOST_TEST(bench->buffer(group, 0).data() + 16 <= bench->buffer(group, 1).data());
  for (const unsigned wrong : {0u, 3u, 1u << 16})
    BOOST_CHECK_EXCEPTION(bench->add_buffers(9, wrong, 16), std::system_error, has_code(EINVAL));
}
