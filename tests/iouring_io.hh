#pragma once
// What tests of files, sockets, streams and processes share.

#include "iouring/sleep.hh"
#include "iouring/start.hh"
#include "tests/iouring_drivers.hh"
#include "tests/temporary_folder.hh"

#include <boost/test/unit_test.hpp>

#include <chrono>
#include <cstddef>
#include <filesystem>
#include <span>
#include <string>
#include <string_view>
#include <system_error>

namespace schedlab::testing {

// Runs a coroutine function as the main task of a loop on this driver.
template <typename F, typename... Arguments>
void run_io(DriverChoice choice, F function, Arguments&&... arguments) {
  iouring::Loop loop(on(choice));
  loop.run(function(std::forward<Arguments>(arguments)...));
}

inline std::span<const std::byte> bytes_of(std::string_view text) {
  return std::as_bytes(std::span(text));
}
inline std::span<std::byte> area_of(std::string& text) {
  return std::as_writable_bytes(std::span(text));
}

// A text in which every part is different.
inline std::string pattern(std::size_t size) {
  std::string text;
  text.reserve(size + 16);
  for (std::size_t i = 0; text.size() < size; ++i)
    text += std::to_string(i * 2654435761U) + ' ';
  text.resize(size);
  return text;
}

// The errno that a task throws; 0 if it throws nothing.
template <typename T>
iouring::Task<int> errno_of(iouring::Task<T> task) {
  try {
    co_await std::move(task);
  } catch (const std::system_error& error) {
    co_return error.code().value();
  }
  co_return 0;
}

// Is the task cancelled?
template <typename T>
iouring::Task<bool> is_cancelled(iouring::Task<T> task) {
  try {
    co_await std::move(task);
  } catch (const iouring::Cancelled&) {
    co_return true;
  }
  co_return false;
}

// What can happen without anybody's help has happened.
inline iouring::Task<> settle() {
  for (int i = 0; i < 5; ++i)
    co_await iouring::sleep_for(std::chrono::milliseconds(1));
}

inline std::size_t open_descriptors() {
  std::size_t count = 0;
  for ([[maybe_unused]] const auto& entry : std::filesystem::directory_iterator("/proc/self/fd"))
    ++count;
  return count;
}

}  // namespace schedlab::testing
