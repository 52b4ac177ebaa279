// A round trip between two processes over two words of shared memory, as a second method for
// process_pool_second.py: second_futex_trip block|spin COUNT CPU [CPU]
// Prints ns for a round trip. Of the project it uses only second.hh.

#include "tests/peers/second.hh"

#include <linux/futex.h>
#include <sys/wait.h>

namespace {

struct Words {
  alignas(128) volatile int there;
  alignas(128) volatile int back;
};

void send(volatile int* word, int value, bool spins) {
  __atomic_store_n(word, value, __ATOMIC_SEQ_CST);
  if (!spins)
    syscall(SYS_futex, word, FUTEX_WAKE, 1, nullptr, nullptr, 0);
}

void receive(volatile int* word, int value, bool spins) {
  for (int seen; (seen = __atomic_load_n(word, __ATOMIC_SEQ_CST)) != value;)
    if (spins) {
#if defined(__x86_64__)
      __builtin_ia32_pause();
#endif
    } else {
      syscall(SYS_futex, word, FUTEX_WAIT, seen, nullptr, nullptr, 0);
    }
}

}  // namespace

int main(int argc, char** argv) {
  if (argc < 4)
    return 2;
  const bool spins = std::strcmp(argv[1], "spin") == 0;
  const int count = static_cast<int>(second::number(argv[2]));
  const int warm = count / 10;
  auto* words = static_cast<Words*>(second::map(sizeof(Words), MAP_SHARED));
  const pid_t child = static_cast<pid_t>(second::must(fork(), "fork"));
  if (child == 0) {
    second::pin(second::number(argv[argc - 1]));
    for (int i = 1; i <= warm + count; ++i) {
      receive(&words->there, i, spins);
      send(&words->back, i, spins);
    }
    _exit(0);
  }
  second::pin(second::number(argv[3]));
  std::int64_t begin = 0;
  for (int i = 1; i <= warm + count; ++i) {
    if (i == warm + 1)
      begin = second::now(CLOCK_MONOTONIC_RAW);
    send(&words->there, i, spins);
    receive(&words->back, i, spins);
  }
  std::printf("%.1f\n", static_cast<double>(second::now(CLOCK_MONOTONIC_RAW) - begin) / count);
  waitpid(child, nullptr, 0);
}
