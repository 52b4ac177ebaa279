#include "lab/base/child.hh"
#include "lab/base/clock.hh"
#include "lab/base/error.hh"
#include "procs/channel.hh"
#include "procs/thread.hh"
#include "tests/left_behind.hh"
#include "tests/mortal_tasks.hh"
#include "tests/sanitized.hh"

#include <boost/test/data/test_case.hpp>
#include <boost/test/unit_test.hpp>
#include <sys/resource.h>

#include <array>
#include <cstring>
#include <vector>

using namespace schedlab;
using procs::Bell;
using procs::Channel;
using procs::ChannelOptions;
using procs::Outcome;
using procs::Peer;
using procs::Side;
using procs::Thread;
using procs::Transport;
using testing::die;
using testing::most_ms;
using testing::pause_for_ms;
namespace bdata = boost::unit_test::data;

namespace schedlab::procs {

// For Boost's messages.
static std::ostream& operator<<(std::ostream& out, Transport transport) {
  return out << to_text(transport);
}

}  // namespace schedlab::procs

namespace {

constexpr std::array transports = {Transport::pipe,    Transport::socketpair, Transport::mq,
                                   Transport::eventfd, Transport::ring,       Transport::queue};
constexpr std::size_t longest = 1000;

// A child of a process that has had threads may start none under ThreadSanitizer.
bool starts_threads_in_children(Transport transport) {
  return transport == Transport::queue && testing::thread_sanitizer;
}

std::unique_ptr<Channel> make(Transport transport, Bell::Scope scope = Bell::Scope::processes) {
  ChannelOptions options;
  options.transport = transport;
  options.scope = scope;
  options.longest = longest;
  return Channel::make(options);
}

// The message of a number: as many bytes as it says, all of them its own.
std::size_t size_of(unsigned number) {
  return number * 37 % (longest + 1);
}

Outcome send_number(Channel& channel, unsigned number) {
  Outcome outcome;
  std::byte* const room = channel.claim(size_of(number), outcome);
  if (!room)
    return outcome;
  std::memset(room, static_cast<int>(number), size_of(number));
  return channel.publish();
}

bool is_number(std::span<const std::byte> message, unsigned number) {
  return message.size() == size_of(number) && std::ranges::all_of(message, [&](std::byte byte) {
           return byte == static_cast<std::byte>(number);
         });
}

struct Seen {
  unsigned whole = 0;  // messages, each the number that was its turn
  unsigned wrong = 0;
  Outcome end = Outcome::done;
};

Seen receive_all(Channel& channel) {
  Seen seen;
  while (const auto message = channel.peek(seen.end)) {
    ++(is_number(*message, seen.whole + seen.wrong) ? seen.whole : seen.wrong);
    channel.release();
  }
  return seen;
}

// A process that plays a side, and is gone at the end of the scope.
class Player {
public:
  Player(Channel& channel, Side side, const std::function<void()>& part)
      : child_(Child::fork([&, parent = ::getpid()] {
          channel.join(side, Peer::of(parent));
          part();
          return 0;
        })) {
    channel.join(side == Side::sender ? Side::receiver : Side::sender, Peer::of(child_.pid()));
  }
  Child& child() noexcept { return child_; }
  // Within the bound of the test.
  std::string end() {
    const auto cause = child_.wait_for(most_ms);
    return cause ? cause->text() : "still running";
  }

private:
  Child child_;
};

constexpr unsigned many = testing::sanitized ? 1000 : 5000;

BOOST_DATA_TEST_CASE(threads_exchange_messages_whole_and_in_order, bdata::make(transports),
                     transport) {
  const auto channel = make(transport, Bell::Scope::threads);
  Outcome sent = Outcome::done;
  Thread thread({.name = "sender"}, [&] {
    channel->join(Side::sender);
    for (unsigned i = 0; i < many && sent == Outcome::done; ++i)
      sent = send_number(*channel, i);
    channel->close(Side::sender);
  });
  channel->join(Side::receiver);
  const Seen seen = receive_all(*channel);
  thread.join();
  BOOST_TEST(sent == Outcome::done);
  BOOST_TEST(seen.whole == many);
  BOOST_TEST(seen.wrong == 0U);
  BOOST_TEST(seen.end == Outcome::closed);
}

BOOST_DATA_TEST_CASE(processes_exchange_messages_whole_and_in_order, bdata::make(transports),
                     transport) {
  if (starts_threads_in_children(transport))
    return;
  const auto before = testing::belongings();
  {
    const auto channel = make(transport);
    Player sender(*channel, Side::sender, [&] {
      for (unsigned i = 0; i < many; ++i)
        if (send_number(*channel, i) != Outcome::done)
          return;
      channel->close(Side::sender);
    });
    const Seen seen = receive_all(*channel);
    BOOST_TEST(seen.whole == many);
    BOOST_TEST(seen.wrong == 0U);
    BOOST_TEST(seen.end == Outcome::closed);
    BOOST_TEST(sender.end() == "exit status 0");
  }
  BOOST_TEST(testing::belongings() == before);
}

BOOST_AUTO_TEST_CASE(a_message_left_out_is_seen) {
  const auto channel = make(Transport::ring, Bell::Scope::threads);
  for (const unsigned number : {0U, 1U, 3U})
    BOOST_TEST(send_number(*channel, number) == Outcome::done);
  channel->close(Side::sender);
  const Seen seen = receive_all(*channel);
  BOOST_TEST(seen.whole == 2U);
  BOOST_TEST(seen.wrong == 1U);
}

BOOST_DATA_TEST_CASE(a_message_too_long_is_refused_and_the_next_one_sent, bdata::make(transports),
                     transport) {
  const auto channel = make(transport, Bell::Scope::threads);
  channel->join(Side::sender);
  const std::vector<std::byte> too_long(128 * 1024);
  BOOST_TEST(channel->send(too_long) == Outcome::too_long);
  BOOST_TEST(channel->send(std::span(too_long).first(longest)) == Outcome::done);
  Outcome outcome;
  const auto message = channel->peek(outcome);
  BOOST_REQUIRE(message.has_value());
  BOOST_TEST(message->size() == longest);
  channel->release();
  BOOST_TEST(channel->send({}) == Outcome::done);
  const auto empty = channel->peek(outcome);
  BOOST_REQUIRE(empty.has_value());
  BOOST_TEST(empty->empty());
}

BOOST_DATA_TEST_CASE(a_sender_is_told_that_the_receiver_has_closed, bdata::make(transports),
                     transport) {
  if (starts_threads_in_children(transport))
    return;
  const auto channel = make(transport);
  Player receiver(*channel, Side::receiver, [&] {
    Outcome outcome;
    static_cast<void>(channel->peek(outcome));
    channel->close(Side::receiver);
    pause_for_ms(most_ms);  // lives on
  });
  Outcome outcome = Outcome::done;
  for (unsigned i = 0; outcome == Outcome::done; ++i)
    outcome = send_number(*channel, i);
  BOOST_TEST((outcome == Outcome::closed || outcome == Outcome::broken));
}

enum class Step { at_once, claimed, between, asleep };
std::ostream& operator<<(std::ostream& out, Step step) {
  constexpr std::array names = {"at once", "claimed", "between", "asleep"};
  return out << names[static_cast<std::size_t>(step)];
}
constexpr std::array steps = {Step::at_once, Step::claimed, Step::between, Step::asleep};

// Sends until the channel is full, and sleeps in it until killed.
void fill(Channel& channel) {
  for (unsigned i = 0;; ++i)
    if (send_number(channel, i) != Outcome::done)
      return;
}

BOOST_DATA_TEST_CASE(the_death_of_a_sender_is_told_after_all_that_it_sent,
                     bdata::make(transports) * bdata::make(steps), transport, step) {
  if (starts_threads_in_children(transport))
    return;
  const auto before = testing::belongings();
  {
    const auto channel = make(transport);
    Player sender(*channel, Side::sender, [&] {
      Outcome outcome;
      if (step == Step::claimed)
        static_cast<void>(channel->claim(longest, outcome));
      if (step == Step::between) {
        send_number(*channel, 0);
        send_number(*channel, 1);
      }
      if (step == Step::asleep)
        fill(*channel);
      pause_for_ms(5);
      die();
    });
    if (step == Step::asleep) {
      pause_for_ms(20);
      sender.child().signal(SIGKILL);
    }
    const Seen seen = receive_all(*channel);
    BOOST_TEST(seen.wrong == 0U);
    // The feeder of a queue may not have written what was put, and dies with its process.
    if (step == Step::between && transport != Transport::queue)
      BOOST_TEST(seen.whole == 2U);
    if (step == Step::asleep)
      BOOST_TEST(seen.whole > 0U);
    BOOST_TEST(
        (seen.end == Outcome::gone || (step == Step::asleep && seen.end == Outcome::broken)));
    BOOST_TEST(sender.end() == "killed by SIGKILL");
  }
  BOOST_TEST(testing::belongings() == before);
}

BOOST_DATA_TEST_CASE(the_death_of_a_receiver_is_told_to_a_sender_that_sleeps,
                     bdata::make(transports) * bdata::make(steps), transport, step) {
  if (testing::thread_sanitizer && transport == Transport::queue)
    return;
  const auto before = testing::belongings();
  {
    const auto channel = make(transport);
    Player receiver(*channel, Side::receiver, [&] {
      Outcome outcome;
      if (step != Step::at_once)
        static_cast<void>(channel->peek(outcome));  // and has it in its hands
      if (step == Step::between || step == Step::asleep)
        channel->release();
      pause_for_ms(step == Step::asleep ? 20 : 5);
      die();
    });
    Outcome outcome = Outcome::done;
    unsigned sent = 0;
    for (; outcome == Outcome::done; ++sent)
      outcome = send_number(*channel, sent);
    BOOST_TEST((outcome == Outcome::gone || outcome == Outcome::broken));
    BOOST_TEST(receiver.end() == "killed by SIGKILL");
  }
  BOOST_TEST(testing::belongings() == before);
}

BOOST_DATA_TEST_CASE(a_receiver_killed_in_its_sleep_is_seen, bdata::make(transports), transport) {
  const auto channel = make(transport);
  Player receiver(*channel, Side::receiver, [&] {
    Outcome outcome;
    static_cast<void>(channel->peek(outcome));
  });
  pause_for_ms(5);
  receiver.child().signal(SIGKILL);
  BOOST_TEST(receiver.end() == "killed by SIGKILL");
  Outcome outcome = Outcome::done;
  for (unsigned i = 0; outcome == Outcome::done; ++i)
    outcome = send_number(*channel, i);
  BOOST_TEST((outcome == Outcome::gone || outcome == Outcome::broken));
}

BOOST_DATA_TEST_CASE(a_stream_that_ends_within_a_message_is_broken,
                     bdata::make({Transport::pipe, Transport::socketpair, Transport::queue}),
                     transport) {
  if (starts_threads_in_children(transport))
    return;
  ChannelOptions options;
  options.transport = transport;
  options.longest = 1 << 20;  // more than any of them takes
  const auto channel = Channel::make(options);
  Player sender(*channel, Side::sender, [&] {
    Outcome outcome;
    static_cast<void>(channel->claim(options.longest, outcome));
    channel->publish();
    pause_for_ms(most_ms);
  });
  pause_for_ms(testing::sanitized ? 500 : 50);  // it has filled what there is by then
  sender.child().signal(SIGKILL);
  sender.end();
  Outcome outcome;
  BOOST_TEST(!channel->peek(outcome).has_value());
  BOOST_TEST(outcome == Outcome::broken);
}

// Whoever waits for nothing sleeps, and looks about ten times a second whether its peer lives.
BOOST_DATA_TEST_CASE(an_idle_receiver_hardly_ever_wakes, bdata::make(transports), transport) {
  const auto channel = make(transport);
  Player receiver(*channel, Side::receiver, [&] {
    rusage before{}, after{};
    ::getrusage(RUSAGE_SELF, &before);
    Outcome outcome;
    static_cast<void>(channel->peek(outcome));
    ::getrusage(RUSAGE_SELF, &after);
    ::_exit(static_cast<int>(std::min(after.ru_nvcsw - before.ru_nvcsw, 100L)));
  });
  pause_for_ms(500);
  BOOST_TEST(send_number(*channel, 1) == Outcome::done);
  const auto cause = receiver.child().wait_for(most_ms);
  BOOST_REQUIRE(cause.has_value());
  BOOST_TEST(cause->value <= 20);
}

BOOST_AUTO_TEST_CASE(what_goes_through_the_kernel_is_counted_on_both_sides) {
  const std::vector<std::byte> message(longest);
  for (const auto transport : transports) {
    const auto channel = make(transport, Bell::Scope::threads);
    channel->join(Side::sender);
    channel->join(Side::receiver);
    for (int i = 0; i < 10; ++i) {
      Outcome outcome;
      BOOST_REQUIRE(channel->send(message) == Outcome::done);
      BOOST_REQUIRE(channel->peek(outcome).has_value());
      channel->release();
    }
    const bool shared = transport == Transport::ring || transport == Transport::eventfd;
    const std::uint64_t head = transport == Transport::mq ? 0 : sizeof(std::uint64_t);
    const std::uint64_t expected = shared ? 0 : 10 * (longest + head);
    BOOST_TEST(channel->traffic(Side::receiver).kernel_bytes == expected);
    if (transport != Transport::queue)  // whose feeder counts when it has written
      BOOST_TEST(channel->traffic(Side::sender).kernel_bytes == expected);
    BOOST_TEST(channel->traffic(Side::sender).copied_bytes >= 10 * longest);  // by send()
  }
}

BOOST_AUTO_TEST_CASE(what_the_system_forbids_is_refused_with_its_limit) {
  ChannelOptions options;
  options.transport = Transport::mq;
  options.longest = 1 << 30;
  BOOST_CHECK_THROW(Channel::make(options), Unsupported);
  if (::geteuid() == 0)
    return;
  options = {};
  options.capacity = 1 << 30;
  BOOST_CHECK_THROW(Channel::make(options), Unsupported);
}

}  // namespace
