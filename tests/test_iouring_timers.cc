#include "iouring/timers.hh"

#include "lab/base/random.hh"

#include <boost/test/unit_test.hpp>

#include <limits>
#include <map>
#include <memory>
#include <vector>

using namespace schedlab;
using iouring::Timers;

namespace {

// Notes its number when it expires.
class Bell final : public iouring::Timer {
public:
  Bell(int number, std::vector<int>& rung) : number_(number), rung_(rung) {}

private:
  void expired() noexcept override { rung_.push_back(number_); }
  int number_;
  std::vector<int>& rung_;
};

struct Bells {
  std::vector<int> rung;
  std::vector<std::unique_ptr<Bell>> all;
  Timers timers;

  explicit Bells(int count) {
    for (int i = 0; i < count; ++i)
      all.push_back(std::make_unique<Bell>(i, rung));
  }
  Bell& operator[](int i) { return *all[static_cast<std::size_t>(i)]; }
};

}  // namespace

BOOST_AUTO_TEST_CASE(timers_expire_in_the_order_of_their_times) {
  Bells bells(5);
  const std::int64_t due[] = {30, 10, 50, 20, 40};
  for (int i = 0; i < 5; ++i)
    bells.timers.set(bells[i], due[i]);
  BOOST_TEST(bells.timers.first_ns() == 10);
  BOOST_TEST(bells.timers.expire(9) == 0u);
  BOOST_TEST(bells.timers.expire(30) == 3u);
  BOOST_TEST(bells.rung == (std::vector{1, 3, 0}), boost::test_tools::per_element());
  BOOST_TEST(!bells[0].is_set());
  BOOST_TEST(bells[2].is_set());
  BOOST_TEST(bells.timers.expire(1000) == 2u);
  BOOST_TEST(bells.timers.empty());
}

BOOST_AUTO_TEST_CASE(of_timers_due_at_once_the_first_set_expires_first) {
  Bells bells(100);
  std::vector<int> expected;
  for (int i = 0; i < 100; ++i) {
    bells.timers.set(bells[i], 7);
    if (i != 50)
      expected.push_back(i);
  }
  bells.timers.set(bells[50], 7);  // set again: now it is the last
  expected.push_back(50);
  bells.timers.expire(7);
  BOOST_TEST(bells.rung == expected, boost::test_tools::per_element());
}

BOOST_AUTO_TEST_CASE(what_is_left_of_a_time_is_never_negative_nor_beyond_what_a_number_holds) {
  constexpr std::int64_t least = std::numeric_limits<std::int64_t>::min();
  constexpr std::int64_t most = std::numeric_limits<std::int64_t>::max();
  Bells bells(3);
  bells.timers.set(bells[0], most);
  BOOST_TEST(bells.timers.left_ns(most - 7) == 7);
  BOOST_TEST(bells.timers.left_ns(0) == most);
  bells.timers.set(bells[1], 100);
  BOOST_TEST(bells.timers.left_ns(40) == 60);
  BOOST_TEST(bells.timers.left_ns(100) == 0);
  bells.timers.set(bells[2], least);
  BOOST_TEST(bells.timers.left_ns(most) == 0);
  BOOST_TEST(bells.timers.expire(0) == 1u);
  bells.timers.unset(bells[0]);
  bells.timers.unset(bells[1]);
}

BOOST_AUTO_TEST_CASE(a_timer_can_be_taken_out_of_any_place) {
  constexpr int count = 40;
  for (int out = 0; out < count; ++out) {
    Bells bells(count);
    Random random(static_cast<std::uint64_t>(out));
    std::map<std::int64_t, int> expected;
    for (int i = 0; i < count; ++i) {
      const auto due = static_cast<std::int64_t>(random.below(1'000'000)) * count + i;
      bells.timers.set(bells[i], due);
      if (i != out)
        expected.emplace(due, i);
    }
    bells.timers.unset(bells[out]);
    bells.timers.unset(bells[out]);  // nothing more happens
    bells.timers.expire(INT64_MAX);
    std::vector<int> order;
    for (const auto& [due, number] : expected)
      order.push_back(number);
    BOOST_TEST_REQUIRE(bells.rung == order, boost::test_tools::per_element());
  }
}

BOOST_AUTO_TEST_CASE(one_that_is_set_again_while_it_expires_waits_for_the_next_call) {
  struct Again final : iouring::Timer {
    Timers* timers = nullptr;
    int times = 0;
    void expired() noexcept override {
      ++times;
      timers->set(*this, 5);
    }
  } again;
  Timers timers;
  again.timers = &timers;
  timers.set(again, 5);
  BOOST_TEST(timers.expire(10) == 1u);
  BOOST_TEST(timers.expire(10) == 1u);
  BOOST_TEST(again.times == 2);
  timers.unset(again);
}

BOOST_AUTO_TEST_CASE(one_set_meanwhile_for_an_earlier_time_keeps_none_that_is_due_waiting) {
  struct Setting final : iouring::Timer {
    Timers* timers = nullptr;
    iouring::Timer* other = nullptr;
    void expired() noexcept override { timers->set(*other, 0); }
  } setting;
  Bells bells(3);
  setting.timers = &bells.timers;
  setting.other = &bells[2];
  bells.timers.set(setting, 5);
  bells.timers.set(bells[0], 6);
  bells.timers.set(bells[1], 10);
  BOOST_TEST(bells.timers.expire(10) == 3u);
  BOOST_TEST(bells.rung == (std::vector{0, 1}), boost::test_tools::per_element());
  BOOST_TEST(bells.timers.expire(10) == 1u);
  BOOST_TEST(bells.rung.back() == 2);
  bells.timers.set(bells[0], 3);  // later on times are as they are given
  BOOST_TEST(bells.timers.first_ns() == 3);
  bells.timers.unset(bells[0]);
}

BOOST_AUTO_TEST_CASE(any_sequence_of_operations_agrees_with_an_ordered_map) {
  constexpr int count = 300;
  Bells bells(count);
  std::multimap<std::int64_t, int> model;
  const auto forget = [&](int number) {
    std::erase_if(model, [&](const auto& entry) { return entry.second == number; });
  };
  Random random(42);
  std::int64_t now = 0;
  for (int step = 0; step < 20'000; ++step) {
    const int number = static_cast<int>(random.below(count));
    const auto what = random.below(10);
    if (what < 6) {
      const auto due = now + static_cast<std::int64_t>(random.below(200));
      bells.timers.set(bells[number], due);
      forget(number);
      model.emplace(due, number);  // after its equals, as in the heap
    } else if (what < 9) {
      bells.timers.unset(bells[number]);
      forget(number);
    } else {
      now += static_cast<std::int64_t>(random.below(40));
      bells.rung.clear();
      std::vector<int> expected;
      while (!model.empty() && model.begin()->first <= now) {
        expected.push_back(model.begin()->second);
        model.erase(model.begin());
      }
      bells.timers.expire(now);
      BOOST_TEST_REQUIRE(bells.rung == expected, boost::test_tools::per_element());
    }
    BOOST_TEST_REQUIRE(bells.timers.size() == model.size());
    if (!model.empty())
      BOOST_TEST_REQUIRE(bells.timers.first_ns() == model.begin()->first);
  }
}
