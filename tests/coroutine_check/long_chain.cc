// A loop that awaits many tasks, all of which end at once. Without a real tail call in symmetric
// transfer each of them leaves a frame on the stack, and a busy event loop overflows it.
#include "tests/coroutine_check/task.hh"

#include <cstdint>

using namespace coroutine_check;

namespace {

constexpr int length = 20'000;
constexpr std::uintptr_t allowed_growth = 16 * 1024;  // bytes

std::uintptr_t lowest = ~std::uintptr_t{0};
std::uintptr_t highest = 0;

[[gnu::noinline]] int note_depth(int value) {
  const auto here = reinterpret_cast<std::uintptr_t>(__builtin_frame_address(0));
  lowest = here < lowest ? here : lowest;
  highest = here > highest ? here : highest;
  return value;
}

Task noting_leaf(int value) {
  co_return note_depth(value);
}

Task await_many() {
  int sum = 0;
  for (int i = 0; i < length; ++i)
    sum += co_await noting_leaf(1);
  co_return sum;
}

constexpr Case cases[] = {{"await_many", await_many, length}};

}  // namespace

int main() {
  const int failed = run_all(cases);
  std::printf("stack grew by %ju bytes\n", static_cast<std::uintmax_t>(highest - lowest));
  return failed != 0 || highest - lowest > allowed_growth ? 1 : 0;
}
