#pragma once
// What a body throws, as a text to compare.

#include <exception>
#include <string>

namespace schedlab::testing {

template <typename F>
std::string thrown(F body) {
  try {
    body();
  } catch (const std::exception& error) {
    return error.what();
  }
  return "nothing";
}

}  // namespace schedlab::testing
