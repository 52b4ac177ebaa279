#pragma once
// A folder of the test's own, which goes with all that is in it.

#include <cerrno>
#include <cstdlib>
#include <filesystem>
#include <iterator>
#include <string>
#include <string_view>
#include <system_error>

namespace schedlab::testing {

// Open to all users, since a test may run programs as another one.
class TemporaryFolder {
public:
  TemporaryFolder() {
    if (!::mkdtemp(path_.data()))
      throw std::system_error(errno, std::generic_category(), "mkdtemp '" + path_ + "'");
    std::filesystem::permissions(path_, std::filesystem::perms::all);
  }
  TemporaryFolder(const TemporaryFolder&) = delete;
  TemporaryFolder& operator=(const TemporaryFolder&) = delete;
  ~TemporaryFolder() {
    std::error_code ignored;
    std::filesystem::remove_all(path_, ignored);
  }

  [[nodiscard]] const std::string& path() const noexcept { return path_; }
  // Of a file in it.
  [[nodiscard]] std::string path(std::string_view name) const {
    return path_ + "/" + std::string(name);
  }
  // How many files and folders lie in it.
  [[nodiscard]] std::size_t files() const {
    return static_cast<std::size_t>(std::distance(std::filesystem::directory_iterator(path_),
                                                  std::filesystem::directory_iterator()));
  }

private:
  std::string path_ = std::filesystem::temp_directory_path() / "schedlab-test-XXXXXX";
};

}  // namespace schedlab::testing
