#pragma once
#include <cerrno>
#include <concepts>
#include <stdexcept>
#include <string>
#include <string_view>
#include <system_error>

namespace schedlab {

// This machine cannot do it: one CPU, an old kernel, no permission. Not a failure. The text names
// what is missing and the next step; the series or lab is skipped with it.
struct Unsupported : std::runtime_error {
  using std::runtime_error::runtime_error;
};

// The user asked for something that does not exist or is out of range. Exit code 2.
struct BadInput : std::runtime_error {
  using std::runtime_error::runtime_error;
};

// Throws std::system_error whose text is "call 'subject': strerror(error)".
[[noreturn]] void throw_errno(int error, std::string_view call, std::string_view subject = {});

// For libc calls that answer -1 and set errno: gives the result back, or throws.
template <std::signed_integral T>
T check(T result, std::string_view call, std::string_view subject = {}) {
  if (result < 0)
    throw_errno(errno, call, subject);
  return result;
}

// For liburing and pthread_-like calls whose negative result is -errno.
template <std::signed_integral T>
T check_kernel(T result, std::string_view call, std::string_view subject = {}) {
  if (result < 0)
    throw_errno(static_cast<int>(-result), call, subject);
  return result;
}

// The text of an errno value, thread-safe: "Permission denied".
std::string errno_text(int error);

}  // namespace schedlab
