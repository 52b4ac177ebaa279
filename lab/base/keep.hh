#pragma once

namespace schedlab {

// Makes the compiler believe that `value` is used, so that the work behind it stays.
template <typename T>
inline void keep(const T& value) noexcept {
  asm volatile("" : : "r,m"(value) : "memory");
}

// Makes the compiler forget what it knows about `value`, so that nothing is folded across.
template <typename T>
inline void launder(T& value) noexcept {
  asm volatile("" : "+r"(value) : : "memory");
}

// Tells the CPU that this is a spin loop.
inline void pause_cpu() noexcept {
#if defined(__x86_64__) || defined(__i386__)
  __builtin_ia32_pause();
#elif defined(__aarch64__)
  asm volatile("isb" : : : "memory");
#endif
}

}  // namespace schedlab
