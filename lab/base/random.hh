#pragma once
#include <cstdint>
#include <iterator>
#include <utility>

namespace schedlab {

// xoshiro256** seeded through splitmix64 (Blackman and Vigna, 2018). The same seed gives the same
// sequence on every machine. One object belongs to one thread.
class Random {
public:
  using result_type = std::uint64_t;

  explicit Random(std::uint64_t seed) noexcept;

  static constexpr std::uint64_t min() { return 0; }
  static constexpr std::uint64_t max() { return ~std::uint64_t{0}; }
  std::uint64_t operator()() noexcept;
  // Uniform in [0, bound), without modulo bias (Lemire's multiplication). `bound` is not 0.
  std::uint64_t below(std::uint64_t bound) noexcept;

private:
  std::uint64_t state_[4];
};

// Fisher-Yates: each order is equally likely.
template <typename Range>
void shuffle(Range& range, Random& random) {
  for (auto i = std::size(range); i > 1; --i)
    std::swap(range[i - 1], range[random.below(i)]);
}

}  // namespace schedlab
