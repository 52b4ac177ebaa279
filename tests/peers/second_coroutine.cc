// A second method for the coroutine rungs of switch_coroutine, of plain C++20: a bare handle that
// is resumed, and a minimal task with a list of free frames: no exceptions, no cancellation, no
// loop, one thread. Each repetition has fresh coroutines. Prints the medians, in nanoseconds, of a
// resumption until the next suspension and of call, await and return of a child, and how many
// frames each child took, which must be 1.
//
//   second_coroutine CPU REPETITIONS
#include "tests/peers/second.hh"

#include <coroutine>
#include <new>
#include <utility>

using namespace second;

namespace {

constexpr std::int64_t times = 250'000;

// Frames of one size that were given back, linked through their first word.
struct Spare {
  Spare* below;
};
Spare* spare = nullptr;
std::size_t spare_size = 0;
std::int64_t frames = 0;

void* take_frame(std::size_t size) {
  ++frames;
  if (spare != nullptr && size == spare_size) {
    Spare* const top = spare;
    spare = top->below;
    return top;
  }
  return std::malloc(size);
}

void put_frame(void* frame, std::size_t size) {
  if (spare == nullptr)
    spare_size = size;
  if (size != spare_size) {
    std::free(frame);
    return;
  }
  spare = new (frame) Spare{spare};
}

struct Worker {
  struct promise_type {
    Worker get_return_object() {
      return {std::coroutine_handle<promise_type>::from_promise(*this)};
    }
    std::suspend_always initial_suspend() noexcept { return {}; }
    std::suspend_always final_suspend() noexcept { return {}; }
    void unhandled_exception() { std::abort(); }
    void return_void() {}
  };
  std::coroutine_handle<promise_type> self;
};

class Minimal {
public:
  struct promise_type {
    std::coroutine_handle<> whose;
    std::int64_t result = 0;

    static void* operator new(std::size_t size) { return take_frame(size); }
    static void operator delete(void* frame, std::size_t size) { put_frame(frame, size); }
    Minimal get_return_object() {
      return Minimal(std::coroutine_handle<promise_type>::from_promise(*this));
    }
    std::suspend_always initial_suspend() noexcept { return {}; }
    auto final_suspend() noexcept {
      struct Back {
        bool await_ready() noexcept { return false; }
        std::coroutine_handle<> await_suspend(std::coroutine_handle<promise_type> ended) noexcept {
          return ended.promise().whose;
        }
        void await_resume() noexcept {}
      };
      return Back{};
    }
    void unhandled_exception() { std::abort(); }
    void return_value(std::int64_t value) { result = value; }
  };

  explicit Minimal(std::coroutine_handle<promise_type> coroutine) : coroutine_(coroutine) {}
  Minimal(Minimal&& other) noexcept : coroutine_(std::exchange(other.coroutine_, nullptr)) {}
  ~Minimal() {
    if (coroutine_)
      coroutine_.destroy();
  }
  bool await_ready() noexcept { return false; }
  std::coroutine_handle<> await_suspend(std::coroutine_handle<> whose) noexcept {
    coroutine_.promise().whose = whose;
    return coroutine_;
  }
  std::int64_t await_resume() noexcept { return coroutine_.promise().result; }

private:
  std::coroutine_handle<promise_type> coroutine_;
};

[[gnu::noinline]] Minimal after(std::int64_t value) {
  co_return value + 1;
}

[[gnu::noinline]] Worker count_up(std::int64_t& count) {
  for (;;) {
    ++count;
    co_await std::suspend_always();
  }
}

[[gnu::noinline]] Worker call_children(std::int64_t& value) {
  for (;;) {
    std::int64_t now = value;
    for (std::int64_t i = 0; i < times; ++i)
      now = co_await after(now);
    value = now;
    co_await std::suspend_always();
  }
}

struct Reading {
  double resume;
  double child;
  double frames;
};

double each(std::int64_t since) {
  return static_cast<double>(now() - since) / static_cast<double>(times);
}

Reading read_once() {
  Reading reading{};
  std::int64_t count = 0;
  const Worker counter = count_up(count);
  const std::int64_t begin = now();
  for (std::int64_t i = 0; i < times; ++i)
    counter.self.resume();
  reading.resume = each(begin);
  counter.self.destroy();
  std::int64_t value = 0;
  const Worker caller = call_children(value);
  const std::int64_t before = frames;
  const std::int64_t second_begin = now();
  caller.self.resume();
  reading.child = each(second_begin);
  reading.frames = static_cast<double>(frames - before) / static_cast<double>(times);
  caller.self.destroy();
  if (count != times || value != times)
    std::exit(1);
  return reading;
}

}  // namespace

int main(int argc, char** argv) {
  if (argc != 3)
    return 2;
  pin(number(argv[1]));
  const std::size_t repetitions = number(argv[2]);
  if (repetitions == 0)
    return 2;
  read_once();
  std::vector<Reading> readings(repetitions);
  for (Reading& reading : readings)
    reading = read_once();
  std::printf("%.4f %.4f %.6f\n", median(readings, [](const Reading& r) { return r.resume; }),
              median(readings, [](const Reading& r) { return r.child; }),
              median(readings, [](const Reading& r) { return r.frames; }));
  return 0;
}
