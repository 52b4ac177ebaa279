// Awaits inside conditions: g++ 12 loses the temporaries of a condition, or runs the wrong branch.
#include "tests/coroutine_check/task.hh"

using namespace coroutine_check;

namespace {

Task in_if() {
  if (co_await Ready{1})
    co_return 1;
  co_return 0;
}

Task in_if_of_a_task() {
  if (co_await leaf(1) == 1)
    co_return 1;
  co_return 0;
}

Task both_sides_of_and() {
  if (co_await leaf(1) == 1 && co_await leaf(2) == 2)
    co_return 1;
  co_return 0;
}

Task left_side_of_or() {
  const int local = 7;
  if (co_await leaf(1) == 1 || co_await leaf(2) == 3)
    co_return local;
  co_return 0;
}

Task negated_after_a_plain_condition() {
  const Counted guard(1);
  if (guard.value() == 1 && !co_await leaf(0))
    co_return 1;
  co_return 0;
}

Task in_a_bool() {
  const bool all = co_await leaf(1) == 1 && !co_await leaf(0);
  co_return all ? 1 : 0;
}

Task in_switch() {
  switch (co_await leaf(2)) {
  case 2:
    co_return 20;
  default:
    co_return 0;
  }
}

Task in_while() {
  int turns = 0;
  while (turns < 3 && co_await leaf(1))
    ++turns;
  co_return turns;
}

Task in_do_while() {
  int turns = 0;
  do
    ++turns;
  while (co_await leaf(turns) < 4);
  co_return turns;
}

Task in_for() {
  int turns = 0;
  for (int i = co_await leaf(0); i < co_await leaf(3); i += co_await leaf(1))
    ++turns;
  co_return turns;
}

Task in_one_arm_of_a_choice() {
  const bool chosen = live_frames > 0;
  co_return chosen ? co_await leaf(5) : 6;
}

constexpr Case cases[] = {
    {"in_if", in_if, 1},
    {"in_if_of_a_task", in_if_of_a_task, 1},
    {"both_sides_of_and", both_sides_of_and, 1},
    {"left_side_of_or", left_side_of_or, 7},
    {"negated_after_a_plain_condition", negated_after_a_plain_condition, 1},
    {"in_a_bool", in_a_bool, 1},
    {"in_switch", in_switch, 20},
    {"in_while", in_while, 3},
    {"in_do_while", in_do_while, 4},
    {"in_for", in_for, 3},
    {"in_one_arm_of_a_choice", in_one_arm_of_a_choice, 5},
};

}  // namespace

int main() {
  return run_all(cases);
}
