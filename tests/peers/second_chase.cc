// A second method for cache_latency, of plain libc. Memory is an array of records of one stride
// each, of which one line is used; a record holds the offset of the next. The order is the orbit
// of a Feistel cipher over the record numbers, so that it is drawn without an array and without
// swapping, and is one cycle because it is a list. One lap warms; then CLOCK_MONOTONIC_RAW is read
// around several 20 ms. Each repetition has fresh memory and a fresh key. Prints the median time of
// a load in nanoseconds, for each size on base pages, then on huge pages, 0 where these were not
// granted.
//
//   second_chase CPU STRIDE REPETITIONS SIZE...
#include "tests/peers/second.hh"

namespace {

constexpr std::size_t line = 64;
constexpr std::size_t huge_page = std::size_t{2} << 20;
constexpr std::int64_t sample_ns = 20'000'000;
constexpr int samples = 5;
constexpr int rounds = 6;

// A permutation of [0, count): a balanced Feistel network over the next even power of two, applied
// again to whatever falls outside.
class Order {
public:
  Order(std::size_t count, std::uint64_t key) : count_(count), key_(key) {
    while (std::size_t{1} << (2 * half_) < count)
      ++half_;
  }

  [[nodiscard]] std::size_t operator()(std::size_t index) const {
    do
      index = encrypt(index);
    while (index >= count_);
    return index;
  }

private:
  [[nodiscard]] std::size_t encrypt(std::size_t value) const {
    const std::size_t mask = (std::size_t{1} << half_) - 1;
    std::size_t left = value >> half_, right = value & mask;
    for (std::uint64_t round = 0; round < rounds; ++round) {
      std::uint64_t mixed = (right + key_ + round * 0x632be59bd9b4e019) * 0xd1342543de82ef95;
      mixed ^= mixed >> 32;
      mixed *= 0xaf251af3b0f025b5;
      const std::size_t next = left ^ (static_cast<std::size_t>(mixed >> 40) & mask);
      left = right;
      right = next;
    }
    return left << half_ | right;
  }

  std::size_t count_;
  std::uint64_t key_;
  unsigned half_ = 1;
};

// Which line of its stride a record uses: the sum of its number's digits to the base of the lines
// there are. Any aligned run of as many records as a power of that base uses all lines alike.
std::size_t offset_of(std::size_t record, std::size_t stride) {
  const std::size_t lines = stride / line;
  std::size_t sum = 0;
  for (std::size_t rest = record; lines > 1 && rest > 0; rest /= lines)
    sum += rest % lines;
  return record * stride + sum % lines * line;
}

// How much of this process lies on transparent huge pages, in bytes.
std::size_t on_huge_pages() {
  std::FILE* file = std::fopen("/proc/self/smaps_rollup", "r");
  char text[256];
  unsigned long kib = 0;
  while (file && std::fgets(text, sizeof text, file))
    if (std::sscanf(text, "AnonHugePages: %lu kB", &kib) == 1)
      break;
  if (file)
    std::fclose(file);
  return kib * 1024;
}

std::uint64_t follow(const std::byte* base, std::uint64_t offset, std::int64_t loads) {
  for (; loads > 0; --loads)
    offset = *reinterpret_cast<const std::uint64_t*>(base + offset);
  return offset;
}

// Nanoseconds of a load, or 0 without the pages asked for.
double one_chase(std::size_t size, std::size_t stride, bool huge, std::uint64_t key) {
  const std::size_t whole = size + 2 * huge_page;
  void* const place = second::map(whole, MAP_PRIVATE);
  second::must(::madvise(place, whole, huge ? MADV_HUGEPAGE : MADV_NOHUGEPAGE), "madvise");
  const auto start = reinterpret_cast<std::uintptr_t>(place);
  std::byte* const base = static_cast<std::byte*>(place) + (huge_page - start % huge_page);
  std::memset(base, 1, (size + huge_page - 1) / huge_page * huge_page);
  if (huge && on_huge_pages() < size) {
    ::munmap(place, whole);
    return 0;
  }

  const std::size_t records = size / stride;
  const Order order(records, key);
  const std::size_t first = offset_of(order(0), stride);
  std::size_t here = first;
  for (std::size_t i = 1; i <= records; ++i) {
    const std::size_t next = i == records ? first : offset_of(order(i), stride);
    *reinterpret_cast<std::uint64_t*>(base + here) = next;
    here = next;
  }

  std::uint64_t at = follow(base, first, static_cast<std::int64_t>(std::max(records, 2 * line)));
  std::int64_t loads = 1000;
  std::vector<double> seen;
  for (int sample = 0; sample < samples;) {
    const std::int64_t begin = second::now(CLOCK_MONOTONIC_RAW);
    at = follow(base, at, loads);
    const std::int64_t took = second::now(CLOCK_MONOTONIC_RAW) - begin;
    if (took < sample_ns / 2) {
      loads *= 2;
      continue;
    }
    seen.push_back(static_cast<double>(took) / static_cast<double>(loads));
    ++sample;
  }
  asm volatile("" : : "r"(at));
  ::munmap(place, whole);
  return second::median(seen, [](double value) { return value; });
}

}  // namespace

int main(int argc, char** argv) {
  if (argc < 5)
    return 2;
  second::pin(second::number(argv[1]));
  const std::size_t stride = second::number(argv[2]);
  const std::size_t repetitions = second::number(argv[3]);
  if (stride < line || stride % line != 0 || repetitions == 0)
    return 2;
  for (const bool huge : {false, true})
    for (int i = 4; i < argc; ++i) {
      std::vector<double> seen;
      for (std::size_t repetition = 0; repetition < repetitions; ++repetition)
        seen.push_back(one_chase(second::number(argv[i]), stride, huge,
                                 static_cast<std::uint64_t>(second::now(CLOCK_MONOTONIC_RAW))));
      std::printf("%.4f\n", second::median(seen, [](double value) { return value; }));
    }
  return 0;
}
