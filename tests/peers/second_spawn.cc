// The second method of spawn_cost: plain libc and CLOCK_MONOTONIC, each measurement in a fresh
// process, medians of single children instead of means of many.
//
//   second_spawn CPU WAY SIZE ROUNDS
//
// WAY is thread, fork, vfork, spawn (of a static program given by the environment's PROGRAM, or
// /bin/true) or write; SIZE bytes are held, on base pages. Prints nanoseconds for a child, or for a
// page written by the child of a fork, and the page faults of the writer for a page.
#include "tests/peers/second.hh"

#include <pthread.h>
#include <spawn.h>
#include <sys/wait.h>

extern char** environ;

namespace {

using second::must;

char* hold(std::size_t size) {
  if (size == 0)
    return nullptr;
  void* at = second::map(size, MAP_PRIVATE);
  must(::madvise(at, size, MADV_NOHUGEPAGE), "madvise");
  std::memset(at, 1, size);
  return static_cast<char*>(at);
}

void wait_for(pid_t pid) {
  int status;
  must(::waitpid(pid, &status, 0), "waitpid");
  if (!WIFEXITED(status))
    std::exit(1);
}

void* nothing(void*) {
  return nullptr;
}

void start_one(const char* way) {
  if (std::strcmp(way, "thread") == 0) {
    pthread_t thread;
    must(-::pthread_create(&thread, nullptr, nothing, nullptr), "pthread_create");
    ::pthread_join(thread, nullptr);
    return;
  }
  pid_t pid;
  if (std::strcmp(way, "vfork") == 0) {
    pid = ::vfork();
    if (pid == 0)
      ::_exit(0);
  } else if (std::strcmp(way, "fork") == 0) {
    pid = ::fork();
    if (pid == 0)
      ::_exit(0);
  } else {
    const char* program = std::getenv("PROGRAM");
    char name[] = "program";
    char* words[] = {name, nullptr};
    must(-::posix_spawn(&pid, program ? program : "/bin/true", nullptr, nullptr, words, environ),
         "posix_spawn");
  }
  must(pid, way);
  wait_for(pid);
}

// In a page that both see: what the child of a fork took.
struct Tail {
  double ns;
  double faults;
};

Tail write_after_fork(char* memory, std::size_t size, volatile Tail* shared) {
  const std::size_t pages = size / 4096;
  const pid_t pid = static_cast<pid_t>(must(::fork(), "fork"));
  if (pid == 0) {
    rusage before, after;
    ::getrusage(RUSAGE_SELF, &before);
    const std::int64_t begin = second::now();
    for (std::size_t i = 0; i < size; i += 4096)
      *static_cast<volatile char*>(memory + i) = 2;
    shared->ns = static_cast<double>(second::now() - begin) / static_cast<double>(pages);
    ::getrusage(RUSAGE_SELF, &after);
    shared->faults =
        static_cast<double>(after.ru_minflt - before.ru_minflt) / static_cast<double>(pages);
    ::_exit(0);
  }
  wait_for(pid);
  return {shared->ns, shared->faults};
}

double median(std::vector<double>& values) {
  std::nth_element(values.begin(), values.begin() + static_cast<long>(values.size() / 2),
                   values.end());
  return values[values.size() / 2];
}

}  // namespace

int main(int argc, char** argv) {
  if (argc != 5)
    return 2;
  second::pin(second::number(argv[1]));
  const std::size_t size = second::number(argv[3]);
  const std::size_t rounds = second::number(argv[4]);
  char* memory = hold(size);
  auto* shared = static_cast<Tail*>(second::map(sizeof(Tail), MAP_SHARED));
  std::vector<double> took, faults;
  for (std::size_t i = 0; i < rounds + 3; ++i) {
    double ns = 0;
    double count = 0;
    if (std::strcmp(argv[2], "write") == 0) {
      const Tail tail = write_after_fork(memory, size, shared);
      ns = tail.ns;
      count = tail.faults;
    } else {
      const std::int64_t begin = second::now();
      start_one(argv[2]);
      ns = static_cast<double>(second::now() - begin);
    }
    if (i < 3)
      continue;  // the first are not warm
    took.push_back(ns);
    faults.push_back(count);
  }
  std::printf("%.1f %.4f\n", median(took), median(faults));
}
