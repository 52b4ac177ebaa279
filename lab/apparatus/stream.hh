#pragma once
// Streaming kernels over arrays of doubles: those of McCalpin's STREAM (copy, scale, add, triad), a
// plain read and a plain write.
//
// The names are STREAM's and so are the numbers of arrays read and written, but the result always
// goes to c, and a and b are only read. So a pass may be repeated, and kernels may take turns on
// the same arrays, without the values growing; what c must hold follows from the last pass alone.
//
// Bytes are counted by STREAM's rule: what the kernel reads and writes, 8 bytes each, and nothing
// for the line that an ordinary store fetches before it changes it (write-allocate). With a
// non-temporal store there is no such fetch.

#include <cstddef>
#include <cstdint>
#include <span>
#include <string_view>

namespace schedlab::apparatus {

enum class StreamKernel : std::uint8_t {
  read,   //          a
  write,  // c = s
  copy,   // c = a
  scale,  // c = s a
  add,    // c = a + b
  triad,  // c = a + s b
};
enum class Stores : std::uint8_t {
  ordinary,     // fetch the line, change it in the cache
  nontemporal,  // go to memory around the caches; x86-64 only
  library,      // as the C library's memcpy does it; the kernels but copy have none
};
// What the kernels are vectorised with. `baseline` is what every machine of the architecture has:
// SSE2 on x86-64, NEON on aarch64.
enum class VectorSet : std::uint8_t { baseline, avx2, avx512 };

std::span<const std::string_view> stream_kernel_words() noexcept;  // in the order of the type
std::string_view to_text(StreamKernel kernel) noexcept;
std::string_view to_text(Stores stores) noexcept;
std::string_view to_text(VectorSet set) noexcept;  // "baseline", "avx2", "avx512"
// The reverse; throw std::invalid_argument for another word.
StreamKernel stream_kernel_from(std::string_view word);
Stores stores_from(std::string_view word);
VectorSet vector_set_from(std::string_view word);

// Does this CPU, and its kernel, have the set?
bool has_vector_set(VectorSet set) noexcept;
// The widest that it has.
VectorSet widest_stream_set() noexcept;
// Has this build such stores?
bool has_stores(Stores stores) noexcept;

// Three arrays of `count` elements, or a part of each. They are aligned to 8 bytes, do not overlap,
// and c may not be read by others while a pass runs.
struct StreamArrays {
  double* a = nullptr;
  double* b = nullptr;
  double* c = nullptr;
  std::size_t count = 0;

  // Elements [first, first + some) of each.
  [[nodiscard]] StreamArrays part(std::size_t first, std::size_t some) const noexcept {
    return {a + first, b + first, c + first, some};
  }
};

// What fill_stream() puts into a and b: powers of two, so that results are exact whether or not the
// compiler contracts a + s b into one operation.
inline constexpr double stream_a = 1.0;
inline constexpr double stream_b = 2.0;
// What it puts into c: no kernel's result.
inline constexpr double stream_c = -1.0;

// One pass over the arrays with scalar s. Non-temporal stores are in order with what follows it.
// Gives, for `read`, the sum of the elements' bit patterns modulo 2^64, which does not hang on the
// order of the summation; 0 for the others.
using StreamPass = std::uint64_t (*)(const StreamArrays& arrays, double s) noexcept;

// The pass of a kernel. `set` must be there; `stores` is ignored by `read`, and `library` means
// ordinary stores to all but `copy`.
StreamPass stream_pass(StreamKernel kernel, Stores stores, VectorSet set) noexcept;
inline StreamPass stream_pass(StreamKernel kernel, Stores stores) noexcept {
  return stream_pass(kernel, stores, widest_stream_set());
}

// Bytes that a pass moves for each element, by STREAM's rule: 8, 16 or 24.
std::uint64_t stream_bytes(StreamKernel kernel) noexcept;

// Writes all three arrays, and so gives untouched pages a frame on the caller's node.
void fill_stream(const StreamArrays& arrays) noexcept;

// What a pass over filled arrays gives back, and what it leaves in every element of c (for `read`:
// what was there).
std::uint64_t expected_sum(StreamKernel kernel, std::size_t count) noexcept;
double expected_result(StreamKernel kernel, double s, double before) noexcept;

// How many elements of a, b and c are not what they must be: STREAM's validation, but exact.
std::uint64_t wrong_elements(const StreamArrays& arrays, double c) noexcept;

}  // namespace schedlab::apparatus
