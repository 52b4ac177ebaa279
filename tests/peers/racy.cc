// A program with a data race, or with two locks in opposite orders, as a beginner's test would run
// it once: two threads, started one after the other. Built a second time with ThreadSanitizer.
//
// usage: racy update UPDATES | racy locks
// Exit status 0: nothing was to be seen; 1: an update was lost. A deadlock ends it by SIGALRM.

#include <unistd.h>

#include <charconv>
#include <cstring>
#include <mutex>
#include <string_view>
#include <thread>

namespace {

long counter = 0;  // the bug: two threads write it
std::mutex a, b;

// A compiler that sees the whole loop adds once.
void update(long times) {
  for (long i = 0; i < times; ++i) {
    ++counter;
    asm volatile("" : : : "memory");
  }
}

int lose(long times) {
  std::thread one(update, times), other(update, times);
  one.join();
  other.join();
  return counter == 2 * times ? 0 : 1;
}

int wait_for_each_other() {
  ::alarm(1);
  std::thread one([] {
    const std::lock_guard first(a);
    const std::lock_guard second(b);
  });
  std::thread other([] {
    const std::lock_guard first(b);
    const std::lock_guard second(a);
  });
  one.join();
  other.join();
  return 0;
}

}  // namespace

int main(int argc, char** argv) {
  const std::string_view what = argc > 1 ? argv[1] : "";
  if (what == "locks")
    return wait_for_each_other();
  long times = 0;
  if (what != "update" || argc < 3 ||
      std::from_chars(argv[2], argv[2] + std::strlen(argv[2]), times).ec != std::errc{})
    return 2;
  return lose(times);
}
