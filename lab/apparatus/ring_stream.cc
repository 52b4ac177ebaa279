#include "lab/apparatus/ring_stream.hh"

#include "lab/base/cache_line.hh"
#include "lab/base/clock.hh"
#include "procs/sealed_memory.hh"
#include "procs/spsc_ring.hh"

#include <algorithm>
#include <array>
#include <span>

namespace schedlab::apparatus {

namespace {

using procs::Outcome;
using Word = std::uint64_t;
using Ring = procs::SpscRing<Word>;

constexpr std::size_t most_at_once = 64;
constexpr std::uint64_t at_least = 1024;  // words: fewer show the beginning alone

class RingStream final : public harness::Subject {
public:
  explicit RingStream(const RingStreamOptions& options)
      : options_(options), begun_(Mapping::shared_memory(sizeof(std::uint64_t))),
        memory_(procs::SealedMemory::make(Ring::bytes(options.items), "words")),
        ring_(Ring::make(memory_.bytes(), options.items,
                         {.sleeps = options.sleeps,
                          .scope = options.kind == TaskKind::processes
                                       ? procs::Bell::Scope::processes
                                       : procs::Bell::Scope::threads})),
        team_({.kind = options.kind}, {options.second}, options.usable,
              [this](unsigned, std::uint64_t words) { produce(words); }) {}

  harness::Sample sample(std::uint64_t operations) override {
    stand_on(options_.first, options_.usable);
    const std::uint64_t words = operations * at_least;
    team_.start(words);
    const auto window_begin = clock::begin();
    witness_.begin();
    consume(words);
    const auto end = clock::end();
    std::array records = {witness_.end(), TaskRecord{}};
    const double window_ns = clock::ns(window_begin, clock::end());
    records[1] = team_.finish()[0];
    harness::Sample sample;
    sample.operations = operations;
    sample.elapsed_ns = clock::ns(*begun_.as<std::uint64_t>(), end);
    const std::array<std::optional<unsigned>, 2> places = {options_.first, options_.second};
    sample.proof = prove(records, places, window_ns, false);
    sample.values[options_.rate_metric] = static_cast<double>(words) / sample.elapsed_ns * 1e9;
    return sample;
  }

  std::vector<harness::Check> checks() override {
    return {{"words lost, doubled or out of order", harness::Value(0), harness::Value(wrong_),
             wrong_ == 0}};
  }

private:
  static constexpr procs::Wait spinning{.patience = {procs::Patience::forever}};

  void produce(std::uint64_t words) noexcept {
    auto producer = ring_.producer();
    std::array<Word, most_at_once> batch;
    *begun_.as<std::uint64_t>() = clock::begin();
    if (options_.batch == 1) {
      for (Word i = 0; i < words; ++i)
        producer.push(i, spinning);
      return;
    }
    for (Word next = 0; next < words;) {
      const auto count = std::min<std::uint64_t>(options_.batch, words - next);
      for (std::uint64_t i = 0; i < count; ++i)
        batch[i] = next + i;
      std::size_t done = producer.push_some(std::span(batch).first(count));
      if (done == 0)
        producer.wait_for_room(spinning);
      next += done;
    }
  }

  void consume(std::uint64_t words) noexcept {
    auto consumer = ring_.consumer();
    std::array<Word, most_at_once> batch;
    if (options_.batch == 1) {
      Word word = 0;
      for (Word i = 0; i < words; ++i) {
        consumer.pop(word, spinning);
        wrong_ += word != i;
      }
      return;
    }
    for (Word next = 0; next < words;) {
      const std::size_t count = consumer.pop_some(std::span(batch).first(options_.batch));
      if (count == 0)
        consumer.wait_for_items(spinning);
      for (std::size_t i = 0; i < count; ++i)
        wrong_ += batch[i] != next++;
    }
  }

  RingStreamOptions options_;
  Mapping begun_;
  procs::SealedMemory memory_;
  Ring ring_;
  alignas(line_pair) std::uint64_t wrong_ = 0;
  Witness witness_;
  Team team_;  // last: its member uses the rest
};

}  // namespace

std::unique_ptr<harness::Subject> make_ring_stream(const RingStreamOptions& options) {
  return std::make_unique<RingStream>(options);
}

}  // namespace schedlab::apparatus
