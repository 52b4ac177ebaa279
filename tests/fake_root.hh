#pragma once
// A /proc and a /sys of the test's own.

#include "tests/temporary_folder.hh"

#include <filesystem>
#include <fstream>
#include <string>

namespace schedlab::testing {

class FakeRoot : public TemporaryFolder {
public:
  FakeRoot& put(const std::string& file, const std::string& text) {
    const std::filesystem::path where(path() + file);
    std::filesystem::create_directories(where.parent_path());
    std::ofstream(where) << text << '\n';
    return *this;
  }
};

}  // namespace schedlab::testing
