#include "lab/apparatus/chase.hh"

#include "lab/base/error.hh"
#include "lab/base/random.hh"

#include <algorithm>
#include <array>
#include <bit>
#include <stdexcept>
#include <string>
#include <utility>

#if defined(__x86_64__)
#include <emmintrin.h>
#endif

namespace schedlab::apparatus {

namespace {

constexpr std::uint64_t words_of_line = cache_line / sizeof(Link);
constexpr unsigned word_bits = std::bit_width(words_of_line) - 1;
constexpr std::uint64_t batch = 32;  // places drawn ahead, so that their lines are on the way
static_assert(chained_laps <= words_of_line, "each lap has a word of its own in every line");

// The exclusive or of the digits of a number to the base 2^bits.
std::uint64_t fold(std::uint64_t number, unsigned bits) noexcept {
  for (unsigned shift = bits; shift < 64; shift *= 2)
    number ^= number >> shift;
  return number & ((std::uint64_t{1} << bits) - 1);
}

// The places of a chase over an area; each lap of a pattern uses another word of the same lines.
class Places {
public:
  Places(std::span<std::byte> area, std::uint64_t stride)
      : base_(area.data()), stride_(stride), count_(area.size() / stride) {}

  [[nodiscard]] std::uint64_t count() const noexcept { return count_; }
  [[nodiscard]] Link* at(std::uint64_t place, unsigned lap) const noexcept {
    const std::uint64_t offset = place_offset(place, stride_) ^ (lap * sizeof(Link));
    return reinterpret_cast<Link*>(base_ + place * stride_ + offset);
  }

  // Makes one cycle of `count` places from `first` on. Putting each new place behind a random one
  // of those already there gives every cycle with the same probability, and touches each line only
  // twice.
  void close_cycle(std::uint64_t first, std::uint64_t count, unsigned lap, Random& random) const {
    Link* const start = at(first, lap);
    start->next = start;
    std::array<Link*, batch> before;
    for (std::uint64_t place = 1; place < count;) {
      const std::uint64_t ahead = std::min(batch, count - place);
      for (std::uint64_t i = 0; i < ahead; ++i) {
        before[i] = at(first + random.below(place + i), lap);
        __builtin_prefetch(before[i], 1);
      }
      for (std::uint64_t i = 0; i < ahead; ++i, ++place) {
        Link* const fresh = at(first + place, lap);
        fresh->next = before[i]->next;
        before[i]->next = fresh;
      }
    }
  }

private:
  std::byte* base_;
  std::uint64_t stride_;
  std::uint64_t count_;
};

// Cuts cycles open and joins them to one: the end of each leads to the head of the following.
// ends[i] is a link of cycle i; its successor becomes the head.
void join_cycles(std::span<Link* const> ends) {
  const Link* head = ends.front()->next;
  for (std::size_t i = ends.size(); i-- > 0;)
    head = std::exchange(ends[i]->next, head);
}

void write_windows(const Places& places, std::uint64_t window, Random& random) {
  std::vector<Link*> ends;
  for (std::uint64_t first = 0; first < places.count(); first += window) {
    const std::uint64_t count = std::min(window, places.count() - first);
    places.close_cycle(first, count, 0, random);
    ends.push_back(places.at(first + random.below(count), 0));
  }
  shuffle(ends, random);
  join_cycles(ends);
}

void write_laps(const Places& places, Random& random) {
  std::vector<Link*> ends;
  for (unsigned lap = 0; lap < chained_laps; ++lap) {
    places.close_cycle(0, places.count(), lap, random);
    ends.push_back(places.at(random.below(places.count()), lap));
  }
  join_cycles(ends);
}

class Chase : public harness::Subject {
public:
  explicit Chase(const ChaseSubject& subject)
      : area_(subject.area), at_(written(subject)),
        warm_(std::min(subject.warm, chase_length(subject.size, subject.chase))),
        flushed_(subject.flushed),
        loop_(make_loop(subject.loop, [this](std::uint64_t operations) noexcept {
          at_ = walk(at_, operations);
        })) {
    // What the writing of the pattern left in the caches would be hit once, and never again.
    if (!flushed_)
      at_ = walk(at_, std::min(subject.settle, chase_length(subject.size, subject.chase)));
  }

  harness::Sample sample(std::uint64_t operations) override {
    at_ = walk(at_, warm_);
    if (flushed_)
      flush(at_, operations);
    return loop_->sample(operations);
  }

  std::vector<harness::Check> checks() override { return area_->checks(); }

private:
  static const Link* written(const ChaseSubject& subject) {
    stand_on(subject.loop.cpu, subject.loop.usable);
    const auto bytes = subject.area->bytes().subspan(subject.offset, subject.size);
    ChaseOptions options = subject.chase;
    options.seed += reinterpret_cast<std::uintptr_t>(bytes.data());
    return write_chase(bytes, options);
  }

  std::shared_ptr<SharedArea> area_;
  const Link* at_;
  std::uint64_t warm_;
  bool flushed_;
  std::unique_ptr<harness::Subject> loop_;
};

}  // namespace

std::string_view to_text(Pattern pattern) noexcept {
  switch (pattern) {
  case Pattern::random:
    return "random";
  case Pattern::page_local:
    return "page-local";
  case Pattern::chained:
    break;
  }
  return "long";
}

Pattern pattern_from(std::string_view word) {
  for (const auto pattern : {Pattern::random, Pattern::page_local, Pattern::chained})
    if (to_text(pattern) == word)
      return pattern;
  throw std::invalid_argument("no such pattern: " + std::string(word));
}

std::uint64_t place_offset(std::uint64_t place, std::uint64_t stride) noexcept {
  const auto line_bits = static_cast<unsigned>(std::countr_zero(stride / cache_line));
  std::uint64_t line = line_bits == 0 ? 0 : fold(place, line_bits);
  if (line_bits > 6)
    line ^= (place << 6) & (stride / cache_line - 1);
  return line * cache_line + fold(place, word_bits) * sizeof(Link);
}

const Link* write_chase(std::span<std::byte> area, const ChaseOptions& options) {
  if (options.stride < cache_line || !std::has_single_bit(options.stride))
    throw std::invalid_argument("the stride of a chase is a power of two, at least a line");
  const auto start = reinterpret_cast<std::uintptr_t>(area.data());
  if (area.size() < options.stride || start % cache_line != 0)
    throw std::invalid_argument("a chase needs an area of a stride or more that begins on a line");
  const Places places(area, options.stride);
  Random random(options.seed);
  if (options.pattern == Pattern::page_local)
    write_windows(places, std::max<std::uint64_t>(options.window / options.stride, 1), random);
  else if (options.pattern == Pattern::chained)
    write_laps(places, random);
  else
    places.close_cycle(0, places.count(), 0, random);
  return places.at(0, 0);
}

const Link* walk(const Link* from, std::uint64_t loads) noexcept {
  const Link* at = from;
  for (std::uint64_t turn = loads / 16; turn > 0; --turn) {
    // One load each: the address is what the load before it gave.
    at = at->next->next->next->next;
    at = at->next->next->next->next;
    at = at->next->next->next->next;
    at = at->next->next->next->next;
  }
  for (std::uint64_t rest = loads % 16; rest > 0; --rest)
    at = at->next;
  return at;
}

bool can_flush() noexcept {
#if defined(__x86_64__) || defined(__aarch64__)
  return true;
#else
  return false;
#endif
}

void flush([[maybe_unused]] const Link* from, [[maybe_unused]] std::uint64_t loads) {
#if defined(__x86_64__)
  for (; loads > 0; --loads)
    _mm_clflush(std::exchange(from, from->next));
  _mm_mfence();
#elif defined(__aarch64__)
  for (; loads > 0; --loads)
    asm volatile("dc civac, %0" : : "r"(std::exchange(from, from->next)) : "memory");
  asm volatile("dsb ish" : : : "memory");
#else
  throw Unsupported("a process cannot flush cache lines on this architecture");
#endif
}

std::uint64_t cycle_length(const Link* start, std::uint64_t limit) noexcept {
  const Link* at = start->next;
  std::uint64_t loads = 1;
  for (; at != start && loads < limit; ++loads)
    at = at->next;
  return at == start ? loads : 0;
}

std::uint64_t chase_length(std::uint64_t size, const ChaseOptions& options) noexcept {
  const std::uint64_t places = size / options.stride;
  return options.pattern == Pattern::chained ? places * chained_laps : places;
}

std::span<std::byte> SharedArea::bytes() {
  if (failure_)
    std::rethrow_exception(failure_);
  if (!area_)
    try {
      area_ = std::make_unique<Area>(options_);
    } catch (...) {
      failure_ = std::current_exception();
      throw;
    }
  return area_->bytes();
}

const std::vector<harness::Check>& SharedArea::checks() {
  if (checks_.empty() && area_)
    checks_ = area_->checks();
  return checks_;
}

std::unique_ptr<harness::Subject> make_chase(const ChaseSubject& subject) {
  if (subject.flushed && chase_length(subject.size, subject.chase) < least_flushed)
    throw std::invalid_argument("a flushed chase needs more lines than a sample has loads");
  return std::make_unique<Chase>(subject);
}

double chase_set_up_s(const ChaseSubject& subject) noexcept {
  constexpr double fault_in_ns = 0.25;  // a byte
  constexpr double write_ns = 10;       // a place
  constexpr double load_ns = 100;       // from memory; from a cache it is soon done
  const auto places = chase_length(subject.size, subject.chase);
  const auto walked = subject.flushed ? 0 : std::min(subject.settle, places);
  return 1e-9 * (fault_in_ns * static_cast<double>(subject.size) +
                 write_ns * static_cast<double>(places) + load_ns * static_cast<double>(walked));
}

}  // namespace schedlab::apparatus
