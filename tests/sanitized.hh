#pragma once
// Whether a sanitizer is built in: it slows the program down and keeps memory and threads of its
// own.

namespace schedlab::testing {

#if defined(__SANITIZE_THREAD__)
inline constexpr bool thread_sanitizer = true;
inline constexpr bool address_sanitizer = false;
#elif defined(__SANITIZE_ADDRESS__)
inline constexpr bool thread_sanitizer = false;
inline constexpr bool address_sanitizer = true;
#elif defined(__has_feature)
inline constexpr bool thread_sanitizer = __has_feature(thread_sanitizer);
inline constexpr bool address_sanitizer = __has_feature(address_sanitizer);
#else
inline constexpr bool thread_sanitizer = false;
inline constexpr bool address_sanitizer = false;
#endif
inline constexpr bool sanitized = thread_sanitizer || address_sanitizer;

}  // namespace schedlab::testing
