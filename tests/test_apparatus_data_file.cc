#include "lab/apparatus/data_file.hh"
#include "lab/base/error.hh"
#include "tests/topology_fixtures.hh"

#include <boost/test/unit_test.hpp>
#include <fcntl.h>
#include <unistd.h>

#include <array>
#include <cstring>
#include <filesystem>
#include <set>

using namespace schedlab;
using namespace schedlab::apparatus;

namespace {

constexpr std::uint64_t size = 1 << 20;

// A folder of this test's own, removed with all it holds.
struct Folder {
  std::filesystem::path path;
  Folder() {
    std::string name = data_folder("auto", "dir") + "/test-XXXXXX";
    BOOST_TEST_REQUIRE(::mkdtemp(name.data()));
    path = name;
  }
  ~Folder() { std::filesystem::remove_all(path); }
  [[nodiscard]] auto files() const {
    return std::distance(std::filesystem::directory_iterator(path), {});
  }
};

std::uint64_t stamp_in(int fd, std::uint64_t block) {
  std::uint64_t stamp = 0;
  check(::pread(fd, &stamp, sizeof stamp, static_cast<off_t>(block * block_size)), "pread");
  return stamp;
}

}  // namespace

BOOST_AUTO_TEST_CASE(a_file_is_never_seen_in_its_folder) {
  const Folder folder;
  const DataFile file(folder.path, size);
  BOOST_TEST(folder.files() == 0);
  BOOST_TEST(file.size() == size);
  BOOST_TEST(file.blocks() == size / block_size);
}

BOOST_AUTO_TEST_CASE(each_block_begins_with_a_stamp_of_its_own) {
  const Folder folder;
  const DataFile file(folder.path, size);
  std::set<std::uint64_t> stamps;
  for (std::uint64_t block = 0; block < file.blocks(); ++block) {
    BOOST_TEST(stamp_in(file.buffered(true), block) == stamp_of(block));
    stamps.insert(stamp_of(block));
  }
  BOOST_TEST(stamps.size() == file.blocks());
}

BOOST_AUTO_TEST_CASE(a_copy_under_a_name_can_be_opened_again) {
  const Folder folder;
  const std::string path = folder.path / "copy";
  DataFile(folder.path, size).save_to(path);
  const DataFile again = DataFile::existing(path);
  BOOST_TEST(folder.files() == 1);
  BOOST_TEST(again.size() == size);
  BOOST_TEST(stamp_in(again.buffered(false), 200) == stamp_of(200));
  BOOST_CHECK_THROW(DataFile::existing(folder.path / "none"), std::system_error);
}

BOOST_AUTO_TEST_CASE(the_page_cache_is_filled_and_emptied_as_it_is_told) {
  const Folder folder;
  if (storage_of(folder.path).starts_with("tmpfs")) {
    BOOST_TEST_MESSAGE("tmpfs is all page cache");
    return;
  }
  DataFile file(folder.path, size);
  for (int i = 0; i < 2; ++i) {
    file.bring(CacheState::cached);
    BOOST_TEST(file.resident() == file.pages());
    file.bring(CacheState::as_it_is);
    BOOST_TEST(file.resident() == file.pages());
    file.bring(CacheState::dropped);
    BOOST_TEST(file.resident() == 0u);
  }
}

BOOST_AUTO_TEST_CASE(what_was_written_survives_being_dropped_from_the_cache) {
  const Folder folder;
  DataFile file(folder.path, size);
  const std::uint64_t other = 42;
  check(::pwrite(file.buffered(true), &other, sizeof other, block_size), "pwrite");
  file.bring(CacheState::dropped);
  BOOST_TEST(stamp_in(file.buffered(true), 1) == other);
}

// The two methods agree: what mincore says is not cached is what the kernel fetches.
BOOST_AUTO_TEST_CASE(bytes_from_devices_are_those_that_were_not_cached) {
  const Folder folder;
  DataFile file(folder.path, size);
  const auto read_all = [&] {
    std::array<std::byte, block_size> area;
    const auto before = bytes_from_devices();
    for (std::uint64_t block = 0; block < file.blocks(); ++block)
      check(::pread(file.buffered(false), area.data(), area.size(),
                    static_cast<off_t>(block * block_size)),
            "pread");
    return bytes_from_devices().value_or(0) - before.value_or(0);
  };
  file.bring(CacheState::cached);
  BOOST_TEST(read_all() == 0u);
  file.bring(CacheState::dropped);
  if (file.resident() > 0 || !bytes_from_devices())
    return;  // a file system that is all page cache, or a kernel that does not count
  BOOST_TEST(read_all() == size);
}

BOOST_AUTO_TEST_CASE(a_folder_that_cannot_be_used_is_named) {
  BOOST_CHECK_EXCEPTION(data_folder("/no/such/folder", "lab.dir"), BadInput,
                        says("lab.dir: '/no/such/folder'"));
  BOOST_CHECK_EXCEPTION(data_folder("/proc/version", "lab.dir"), BadInput, says("Not a directory"));
  BOOST_CHECK_THROW(DataFile("/no/such/folder", size), std::system_error);
}

BOOST_AUTO_TEST_CASE(too_little_room_is_told_before_anything_is_written) {
  const std::string folder = data_folder("auto", "dir");
  BOOST_TEST(no_room(folder, size) == "");
  const std::string reason = no_room(folder, std::uint64_t{1} << 60);
  BOOST_TEST(reason.find("1099511627776 MiB, more than half") != std::string::npos, reason);
}
