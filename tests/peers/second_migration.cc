// A second method for affinity_migration, of plain libc: a process that moves itself to and fro
// between two CPUs and adds one to a word of each line of its set wherever it arrives. Every move
// is stamped on its own, CLOCK_MONOTONIC before the call and after the set; the cost of the stamps
// is taken off. Each repetition is a fresh process with fresh memory, and does moves and calls
// without a move in turns of a few. Prints medians: moved, stay and their difference in
// nanoseconds, then the moves it made and the migrations and switches that the kernel counted for
// them.
//
//   second_migration FROM TO SIZE STRIDE REPETITIONS
#include "tests/peers/second.hh"

#include <sys/mman.h>
#include <sys/wait.h>

namespace {

constexpr double repetition_ns = 40e6;
constexpr int in_a_turn = 32;  // moves, then calls without one
constexpr int pilot_turns = 3;

struct Reading {
  double moved;
  double stay;
  long moves;
  long migrations;
  long switches;
};

struct Set {
  volatile std::byte* at;
  std::size_t size;
  std::size_t stride;

  // Copies of the members: they are of the type that is written, and would be loaded again for each
  // line, which leaves less room for lines under way at once.
  void add_one() const {
    volatile std::byte* const end = at + size;
    const std::size_t step = stride;
    for (volatile std::byte* place = at; place < end; place += step) {
      auto* word = reinterpret_cast<volatile std::uint64_t*>(place);
      *word = *word + 1;
    }
  }
};

Set make_set(std::size_t size, std::size_t stride) {
  if (size == 0)
    return {nullptr, 0, stride};
  void* place = second::map(size, MAP_PRIVATE);
  ::madvise(place, size, MADV_NOHUGEPAGE);
  return {static_cast<std::byte*>(place), size, stride};
}

// The kernel's count of migrations of this process, -1 where it does not tell.
long migrations_so_far() {
  std::FILE* file = std::fopen("/proc/self/sched", "r");
  if (!file)
    return -1;
  long count = -1;
  char line[256];
  while (std::fgets(line, sizeof line, file)) {
    const char* colon = std::strchr(line, ':');
    if (std::strncmp(line, "se.nr_migrations ", 17) != 0 || !colon)
      continue;
    const char* digits = colon + std::strspn(colon, ": ");
    std::from_chars(digits, line + std::strcspn(line, "\n"), count);
  }
  std::fclose(file);
  return count;
}

class Traveller {
public:
  Traveller(std::size_t from, std::size_t to, Set set)
      : places_{second::OneCpu(from), second::OneCpu(to)}, set_(set) {
    second::pin(from);
    set_.add_one();
  }

  // From the call to the end of the walk, in nanoseconds.
  double move() {
    here_ = 1 - here_;
    return call();
  }
  double stay() { return call(); }

private:
  double call() {
    const std::int64_t begin = second::now();
    second::pin(places_[here_]);
    set_.add_one();
    return static_cast<double>(second::now() - begin);
  }

  second::OneCpu places_[2];
  int here_ = 0;
  Set set_;
};

double stamp_ns() {
  std::vector<double> spans(1001);
  for (double& span : spans) {
    const std::int64_t begin = second::now();
    span = static_cast<double>(second::now() - begin);
  }
  return second::median(spans, [](double span) { return span; });
}

// An even number of moves and as many calls without one, by turns.
Reading travel(Traveller& traveller, int turns) {
  double moved = 0, stay = 0;
  const long migrations = migrations_so_far();
  const long switches = second::switches_so_far();
  for (int turn = 0; turn < turns; ++turn) {
    for (int i = 0; i < in_a_turn; ++i)
      moved += traveller.move();
    traveller.stay();  // the first one may still find what a move left behind
    for (int i = 0; i < in_a_turn; ++i)
      stay += traveller.stay();
  }
  const double count = static_cast<double>(turns) * in_a_turn;
  const double stamp = stamp_ns();
  return {moved / count - stamp, stay / count - stamp, long{turns} * in_a_turn,
          migrations_so_far() - migrations, second::switches_so_far() - switches};
}

Reading in_fresh_process(std::size_t from, std::size_t to, std::size_t size, std::size_t stride) {
  int ends[2];
  second::must(::pipe(ends), "pipe");
  const auto pid = static_cast<pid_t>(second::must(::fork(), "fork"));
  if (pid == 0) {
    Traveller traveller(from, to, make_set(size, stride));
    const Reading pilot = travel(traveller, pilot_turns);
    const double turn_ns = in_a_turn * (pilot.moved + pilot.stay);
    Reading reading =
        travel(traveller, std::max(pilot_turns, static_cast<int>(repetition_ns / turn_ns)));
    reading.moves += pilot.moves;
    reading.migrations += pilot.migrations;
    reading.switches += pilot.switches;
    second::must(::write(ends[1], &reading, sizeof reading), "write");
    ::_exit(0);
  }
  ::close(ends[1]);
  Reading reading{};
  if (::read(ends[0], &reading, sizeof reading) != sizeof reading)
    std::exit(1);
  ::close(ends[0]);
  ::waitpid(pid, nullptr, 0);
  return reading;
}

}  // namespace

int main(int argc, char** argv) {
  if (argc != 6)
    return 2;
  const std::size_t stride = second::number(argv[4]);
  const std::size_t repetitions = second::number(argv[5]);
  if (stride < sizeof(std::uint64_t) || repetitions == 0)
    return 2;
  std::vector<Reading> readings(repetitions);
  long moves = 0, migrations = 0, switches = 0;
  for (Reading& reading : readings) {
    reading = in_fresh_process(second::number(argv[1]), second::number(argv[2]),
                               second::number(argv[3]), stride);
    moves += reading.moves;
    migrations += reading.migrations;
    switches += reading.switches;
  }
  std::printf("%.1f %.1f %.1f %ld %ld %ld\n",
              second::median(readings, [](const Reading& r) { return r.moved; }),
              second::median(readings, [](const Reading& r) { return r.stay; }),
              second::median(readings, [](const Reading& r) { return r.moved - r.stay; }), moves,
              migrations, switches);
  return 0;
}
