#pragma once
// A /proc and a /sys of the test's own.

#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <stdexcept>
#include <string>

namespace schedlab::testing {

class FakeRoot {
public:
  FakeRoot() {
    if (!::mkdtemp(path_.data()))
      throw std::runtime_error("mkdtemp " + path_);
  }
  FakeRoot(const FakeRoot&) = delete;
  FakeRoot& operator=(const FakeRoot&) = delete;
  ~FakeRoot() { std::filesystem::remove_all(path_); }

  FakeRoot& put(const std::string& file, const std::string& text) {
    const std::filesystem::path path(path_ + file);
    std::filesystem::create_directories(path.parent_path());
    std::ofstream(path) << text << '\n';
    return *this;
  }
  [[nodiscard]] const std::string& path() const { return path_; }

private:
  std::string path_ = "/tmp/schedlab-root-XXXXXX";
};

}  // namespace schedlab::testing
