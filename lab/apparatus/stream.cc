#include "lab/apparatus/stream.hh"

#include <algorithm>
#include <array>
#include <bit>
#include <cstring>
#include <stdexcept>
#include <string>

#if defined(__x86_64__)
#include <immintrin.h>
#endif

namespace schedlab::apparatus {

namespace {

constexpr std::array<std::string_view, 6> kernel_words = {"read",  "write", "copy",
                                                          "scale", "add",   "triad"};

// Bodies start at a multiple of the widest vector and go in steps of this many elements; what is
// left over at both ends is done one by one.
constexpr std::size_t alignment = 64;
constexpr std::size_t step = 32;

// A range of the arrays.
struct Range {
  std::size_t begin;
  std::size_t end;
};

using Body = std::uint64_t (*)(const StreamArrays&, Range, double) noexcept;

// The reference: element by element.
template <StreamKernel kernel>
std::uint64_t one_by_one(const StreamArrays& arrays, Range range, double s) noexcept {
  std::uint64_t sum = 0;
  for (std::size_t i = range.begin; i < range.end; ++i) {
    if constexpr (kernel == StreamKernel::read)
      sum += std::bit_cast<std::uint64_t>(arrays.a[i]);
    else if constexpr (kernel == StreamKernel::write)
      arrays.c[i] = s;
    else if constexpr (kernel == StreamKernel::copy)
      arrays.c[i] = arrays.a[i];
    else if constexpr (kernel == StreamKernel::scale)
      arrays.c[i] = s * arrays.a[i];
    else if constexpr (kernel == StreamKernel::add)
      arrays.c[i] = arrays.a[i] + arrays.b[i];
    else
      arrays.c[i] = arrays.a[i] + s * arrays.b[i];
  }
  return sum;
}

// The bodies are written out for each vector set instead of being left to the compiler: g++ 14 at
// -O2 does not vectorise loops of unknown length, and nobody vectorises non-temporal stores. The
// four vectors of a turn keep the loop's own instructions from mattering in the L1 cache, and give
// `read` four independent sums.

// 16 bytes: SSE2 and NEON alike.
using Doubles = double __attribute__((vector_size(16)));
using Words = std::uint64_t __attribute__((vector_size(16)));

template <typename Vector>
inline Vector load(const double* from) noexcept {
  Vector vector;
  std::memcpy(&vector, from, sizeof vector);
  return vector;
}

template <Stores stores>
inline void store(double* to, Doubles vector) noexcept {
#if defined(__x86_64__)
  if constexpr (stores == Stores::nontemporal)
    return _mm_stream_pd(to, vector);
#endif
  std::memcpy(to, &vector, sizeof vector);
}

template <StreamKernel kernel, Stores stores>
std::uint64_t baseline(const StreamArrays& arrays, Range range, double s) noexcept {
  const Doubles factor = {s, s};
  Words sums[4] = {};
  for (std::size_t i = range.begin; i < range.end; i += 8) {
#pragma GCC unroll 4
    for (std::size_t v = 0; v < 4; ++v) {
      const std::size_t at = i + 2 * v;
      if constexpr (kernel == StreamKernel::read)
        sums[v] += load<Words>(arrays.a + at);
      else if constexpr (kernel == StreamKernel::write)
        store<stores>(arrays.c + at, factor);
      else if constexpr (kernel == StreamKernel::copy)
        store<stores>(arrays.c + at, load<Doubles>(arrays.a + at));
      else if constexpr (kernel == StreamKernel::scale)
        store<stores>(arrays.c + at, factor * load<Doubles>(arrays.a + at));
      else if constexpr (kernel == StreamKernel::add)
        store<stores>(arrays.c + at, load<Doubles>(arrays.a + at) + load<Doubles>(arrays.b + at));
      else
        store<stores>(arrays.c + at,
                      load<Doubles>(arrays.a + at) + factor * load<Doubles>(arrays.b + at));
    }
  }
  const Words sum = sums[0] + sums[1] + sums[2] + sums[3];
  return sum[0] + sum[1];
}

#if defined(__x86_64__)

// vzeroupper is written out, because compilers leave it away at some levels of optimisation and
// the SSE code of the caller would then wait on the upper halves.

template <StreamKernel kernel, Stores stores>
[[gnu::target("avx2")]] std::uint64_t avx2(const StreamArrays& arrays, Range range,
                                           double s) noexcept {
  const double* a = arrays.a;
  const double* b = arrays.b;
  const __m256d factor = _mm256_set1_pd(s);
  __m256i sums[4] = {};
  for (std::size_t i = range.begin; i < range.end; i += 16) {
#pragma GCC unroll 4
    for (std::size_t v = 0; v < 4; ++v) {
      const std::size_t at = i + 4 * v;
      __m256d value = factor;
      if constexpr (kernel == StreamKernel::read)
        sums[v] = _mm256_add_epi64(sums[v], _mm256_castpd_si256(_mm256_loadu_pd(a + at)));
      else if constexpr (kernel == StreamKernel::copy)
        value = _mm256_loadu_pd(a + at);
      else if constexpr (kernel == StreamKernel::scale)
        value = _mm256_mul_pd(factor, _mm256_loadu_pd(a + at));
      else if constexpr (kernel == StreamKernel::add)
        value = _mm256_add_pd(_mm256_loadu_pd(a + at), _mm256_loadu_pd(b + at));
      else if constexpr (kernel == StreamKernel::triad)
        value =
            _mm256_add_pd(_mm256_loadu_pd(a + at), _mm256_mul_pd(factor, _mm256_loadu_pd(b + at)));
      if constexpr (kernel != StreamKernel::read && stores == Stores::nontemporal)
        _mm256_stream_pd(arrays.c + at, value);
      else if constexpr (kernel != StreamKernel::read)
        _mm256_storeu_pd(arrays.c + at, value);
    }
  }
  std::uint64_t lanes[4];
  _mm256_storeu_si256(
      reinterpret_cast<__m256i*>(lanes),
      _mm256_add_epi64(_mm256_add_epi64(sums[0], sums[1]), _mm256_add_epi64(sums[2], sums[3])));
  _mm256_zeroupper();
  return lanes[0] + lanes[1] + lanes[2] + lanes[3];
}

template <StreamKernel kernel, Stores stores>
[[gnu::target("avx512f")]] std::uint64_t avx512(const StreamArrays& arrays, Range range,
                                                double s) noexcept {
  const double* a = arrays.a;
  const double* b = arrays.b;
  const __m512d factor = _mm512_set1_pd(s);
  __m512i sums[4] = {};
  for (std::size_t i = range.begin; i < range.end; i += 32) {
#pragma GCC unroll 4
    for (std::size_t v = 0; v < 4; ++v) {
      const std::size_t at = i + 8 * v;
      __m512d value = factor;
      if constexpr (kernel == StreamKernel::read)
        sums[v] = _mm512_add_epi64(sums[v], _mm512_castpd_si512(_mm512_loadu_pd(a + at)));
      else if constexpr (kernel == StreamKernel::copy)
        value = _mm512_loadu_pd(a + at);
      else if constexpr (kernel == StreamKernel::scale)
        value = _mm512_mul_pd(factor, _mm512_loadu_pd(a + at));
      else if constexpr (kernel == StreamKernel::add)
        value = _mm512_add_pd(_mm512_loadu_pd(a + at), _mm512_loadu_pd(b + at));
      else if constexpr (kernel == StreamKernel::triad)
        value =
            _mm512_add_pd(_mm512_loadu_pd(a + at), _mm512_mul_pd(factor, _mm512_loadu_pd(b + at)));
      if constexpr (kernel != StreamKernel::read && stores == Stores::nontemporal)
        _mm512_stream_pd(arrays.c + at, value);
      else if constexpr (kernel != StreamKernel::read)
        _mm512_storeu_pd(arrays.c + at, value);
    }
  }
  std::uint64_t lanes[8];
  _mm512_storeu_si512(lanes, _mm512_add_epi64(_mm512_add_epi64(sums[0], sums[1]),
                                              _mm512_add_epi64(sums[2], sums[3])));
  _mm256_zeroupper();
  std::uint64_t sum = 0;
  for (const std::uint64_t lane : lanes)
    sum += lane;
  return sum;
}

#endif

// How many elements lie before the first aligned one.
std::size_t head_of(const double* first, std::size_t count) noexcept {
  const auto over = reinterpret_cast<std::uintptr_t>(first) % alignment;
  return std::min(over == 0 ? 0 : (alignment - over) / sizeof(double), count);
}

template <StreamKernel kernel, Stores stores, Body body>
std::uint64_t pass(const StreamArrays& arrays, double s) noexcept {
  const std::size_t count = arrays.count;
  const std::size_t head = head_of(kernel == StreamKernel::read ? arrays.a : arrays.c, count);
  const std::size_t tail = head + (count - head) / step * step;
  std::uint64_t sum = one_by_one<kernel>(arrays, {0, head}, s);
  sum += body(arrays, {head, tail}, s);
  sum += one_by_one<kernel>(arrays, {tail, count}, s);
#if defined(__x86_64__)
  if constexpr (stores == Stores::nontemporal)
    _mm_sfence();
#endif
  return sum;
}

template <StreamKernel kernel, Stores stores>
StreamPass of_set([[maybe_unused]] VectorSet set) noexcept {
#if defined(__x86_64__)
  if (set == VectorSet::avx512)
    return pass<kernel, stores, avx512<kernel, stores>>;
  if (set == VectorSet::avx2)
    return pass<kernel, stores, avx2<kernel, stores>>;
#endif
  return pass<kernel, stores, baseline<kernel, stores>>;
}

std::uint64_t library_copy(const StreamArrays& arrays, double) noexcept {
  std::memcpy(arrays.c, arrays.a, arrays.count * sizeof(double));
  return 0;
}

template <StreamKernel kernel>
StreamPass of_stores(Stores stores, VectorSet set) noexcept {
  if (kernel == StreamKernel::copy && stores == Stores::library)
    return library_copy;
  const bool around = stores == Stores::nontemporal && kernel != StreamKernel::read;
  return around ? of_set<kernel, Stores::nontemporal>(set) : of_set<kernel, Stores::ordinary>(set);
}

std::uint64_t count_other(const double* array, std::size_t count, double value) noexcept {
  std::uint64_t wrong = 0;
  for (std::size_t i = 0; i < count; ++i)
    wrong += array[i] == value ? 0 : 1;  // a NaN is wrong, too
  return wrong;
}

}  // namespace

std::span<const std::string_view> stream_kernel_words() noexcept {
  return kernel_words;
}

std::string_view to_text(StreamKernel kernel) noexcept {
  return kernel_words[static_cast<std::size_t>(kernel)];
}

std::string_view to_text(Stores stores) noexcept {
  constexpr std::array<std::string_view, 3> words = {"ordinary", "nontemporal", "library"};
  return words[static_cast<std::size_t>(stores)];
}

std::string_view to_text(VectorSet set) noexcept {
  constexpr std::array<std::string_view, 3> words = {"baseline", "avx2", "avx512"};
  return words[static_cast<std::size_t>(set)];
}

StreamKernel stream_kernel_from(std::string_view word) {
  const auto* const found = std::ranges::find(kernel_words, word);
  if (found == kernel_words.end())
    throw std::invalid_argument("no such kernel: " + std::string(word));
  return static_cast<StreamKernel>(found - kernel_words.begin());
}

Stores stores_from(std::string_view word) {
  for (const Stores stores : {Stores::ordinary, Stores::nontemporal, Stores::library})
    if (word == to_text(stores))
      return stores;
  throw std::invalid_argument("no such kind of store: " + std::string(word));
}

VectorSet vector_set_from(std::string_view word) {
  for (const VectorSet set : {VectorSet::baseline, VectorSet::avx2, VectorSet::avx512})
    if (word == to_text(set))
      return set;
  throw std::invalid_argument("no such vector set: " + std::string(word));
}

bool has_vector_set(VectorSet set) noexcept {
#if defined(__x86_64__)
  if (set == VectorSet::avx512)
    return __builtin_cpu_supports("avx512f");
  if (set == VectorSet::avx2)
    return __builtin_cpu_supports("avx2");
#endif
  return set == VectorSet::baseline;
}

VectorSet widest_stream_set() noexcept {
  for (const VectorSet set : {VectorSet::avx512, VectorSet::avx2})
    if (has_vector_set(set))
      return set;
  return VectorSet::baseline;
}

bool has_stores([[maybe_unused]] Stores stores) noexcept {
#if defined(__x86_64__)
  return true;
#else
  return stores != Stores::nontemporal;
#endif
}

StreamPass stream_pass(StreamKernel kernel, Stores stores, VectorSet set) noexcept {
  switch (kernel) {
  case StreamKernel::read:
    return of_stores<StreamKernel::read>(stores, set);
  case StreamKernel::write:
    return of_stores<StreamKernel::write>(stores, set);
  case StreamKernel::copy:
    return of_stores<StreamKernel::copy>(stores, set);
  case StreamKernel::scale:
    return of_stores<StreamKernel::scale>(stores, set);
  case StreamKernel::add:
    return of_stores<StreamKernel::add>(stores, set);
  case StreamKernel::triad:
    break;
  }
  return of_stores<StreamKernel::triad>(stores, set);
}

std::uint64_t stream_bytes(StreamKernel kernel) noexcept {
  switch (kernel) {
  case StreamKernel::read:
  case StreamKernel::write:
    return sizeof(double);
  case StreamKernel::copy:
  case StreamKernel::scale:
    return 2 * sizeof(double);
  case StreamKernel::add:
  case StreamKernel::triad:
    break;
  }
  return 3 * sizeof(double);
}

void fill_stream(const StreamArrays& arrays) noexcept {
  std::fill_n(arrays.a, arrays.count, stream_a);
  std::fill_n(arrays.b, arrays.count, stream_b);
  std::fill_n(arrays.c, arrays.count, stream_c);
}

std::uint64_t expected_sum(StreamKernel kernel, std::size_t count) noexcept {
  return kernel == StreamKernel::read ? count * std::bit_cast<std::uint64_t>(stream_a) : 0;
}

double expected_result(StreamKernel kernel, double s, double before) noexcept {
  switch (kernel) {
  case StreamKernel::read:
    return before;
  case StreamKernel::write:
    return s;
  case StreamKernel::copy:
    return stream_a;
  case StreamKernel::scale:
    return s * stream_a;
  case StreamKernel::add:
    return stream_a + stream_b;
  case StreamKernel::triad:
    break;
  }
  return stream_a + s * stream_b;
}

std::uint64_t wrong_elements(const StreamArrays& arrays, double c) noexcept {
  return count_other(arrays.a, arrays.count, stream_a) +
         count_other(arrays.b, arrays.count, stream_b) + count_other(arrays.c, arrays.count, c);
}

}  // namespace schedlab::apparatus
