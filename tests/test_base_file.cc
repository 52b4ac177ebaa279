#include "lab/base/child.hh"
#include "lab/base/error.hh"
#include "lab/base/file.hh"
#include "lab/base/mapping.hh"
#include "tests/temporary_folder.hh"

#include <boost/test/unit_test.hpp>
#include <fcntl.h>
#include <sys/resource.h>
#include <sys/stat.h>

#include <atomic>
#include <csignal>
#include <filesystem>
#include <fstream>
#include <string>

using namespace schedlab;
using testing::TemporaryFolder;
namespace fs = std::filesystem;

namespace {

mode_t mode_of(const std::string& path) {
  struct stat info {};
  check(::stat(path.c_str(), &info), "stat", path);
  return info.st_mode;
}

// The one line that a user sees.
std::string refusal(const std::string& path, std::size_t limit) {
  try {
    read_input(path, limit);
  } catch (const BadInput& error) {
    return error.what();
  }
  return "no refusal";
}

std::string failure(const std::string& path, std::string_view text) {
  try {
    write_output(path, text);
  } catch (const std::system_error& error) {
    return error.what();
  }
  return "no failure";
}

// What a forked child saw, as a user who may not write everywhere.
int as_nobody(const std::function<bool()>& seen) {
  return Child::fork([&] {
           if (::getuid() == 0 && ::setuid(65534) != 0)
             return 2;
           return seen() ? 0 : 1;
         })
      .wait()
      .value;
}

void plainly(const std::string& path, std::string_view text) {
  const Fd fd(::open(path.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644));
  write_all(fd.get(), text, path);
}

constexpr std::size_t long_text = 200'000;

// Is there a moment at which a reader sees neither the whole old text nor the whole new one?
bool half_seen(const std::string& path, void (*write)(const std::string&, std::string_view)) {
  const Mapping shared = Mapping::shared_memory(sizeof(std::atomic<bool>));
  auto& stop = *shared.as<std::atomic<bool>>();
  write(path, std::string(long_text, 'a'));
  Child writer = Child::fork([&] {
    for (bool a = false; !stop; a = !a)
      write(path, std::string(long_text, a ? 'a' : 'b'));
    return 0;
  });
  bool half = false;
  for (int i = 0; i < 2000 && !half; ++i) {
    const std::string text = read_input(path, 2 * long_text);
    half = text.size() != long_text || text.find_first_not_of(text[0]) != text.npos;
  }
  stop = true;
  writer.wait();
  return half;
}

}  // namespace

BOOST_AUTO_TEST_CASE(a_small_file_is_read_without_its_last_newline_or_not_at_all) {
  const TemporaryFolder folder;
  write_output(folder.path("a"), "one\ntwo\n\n");
  BOOST_TEST(read_text(folder.path("a")).value() == "one\ntwo\n");
  BOOST_TEST(!read_text(folder.path("b")));
  BOOST_TEST(errno == ENOENT);
  BOOST_TEST(!read_text(folder.path("")));
  BOOST_TEST(errno == EISDIR);
}

BOOST_AUTO_TEST_CASE(an_input_is_read_as_it_is_up_to_the_limit) {
  const TemporaryFolder folder;
  const std::string text("a\0b\n", 4);
  write_output(folder.path("a"), text);
  BOOST_TEST(read_input(folder.path("a"), 4) == text);
  write_output(folder.path("empty"), "");
  BOOST_TEST(read_input(folder.path("empty"), 0) == "");
}

BOOST_AUTO_TEST_CASE(an_input_that_cannot_be_read_is_refused_in_one_line_with_its_path) {
  const TemporaryFolder folder;
  const std::string missing = folder.path("missing");
  BOOST_TEST(refusal(missing, 10) == missing + ": No such file or directory");
  BOOST_TEST(refusal("/", 10) == "/: is a directory");
  BOOST_TEST(refusal("/dev/zero", 3 << 20) == "/dev/zero: is longer than 3 MiB");
  // Ten sparse gigabytes are refused by their size, not by reading them.
  const std::string large = folder.path("large");
  plainly(large, "");
  BOOST_REQUIRE_EQUAL(::truncate(large.c_str(), std::int64_t{10} << 30), 0);
  BOOST_TEST(refusal(large, 3 << 20) == large + ": is 10240 MiB; at most 3 MiB are read");
  write_output(folder.path("six"), "123456");
  BOOST_TEST(refusal(folder.path("six"), 5) ==
             folder.path("six") + ": is 6 bytes; at most 5 bytes are read");
}

BOOST_AUTO_TEST_CASE(an_output_is_created_and_replaced_and_nothing_lies_beside_it) {
  const TemporaryFolder folder;
  write_output(folder.path("a"), "first, longer");
  BOOST_TEST(read_text(folder.path("a")).value() == "first, longer");
  write_output(folder.path("a"), "second");
  BOOST_TEST(read_text(folder.path("a")).value() == "second");
  BOOST_TEST(folder.files() == 1u);
}

BOOST_AUTO_TEST_CASE(a_replaced_output_keeps_its_mode_and_a_new_one_heeds_the_umask) {
  const TemporaryFolder folder;
  const mode_t before = ::umask(077);
  write_output(folder.path("new"), "text");
  ::umask(022);
  plainly(folder.path("old"), "");
  for (const mode_t mode : {0600u, 0664u, 0640u}) {
    BOOST_REQUIRE_EQUAL(::chmod(folder.path("old").c_str(), mode), 0);
    write_output(folder.path("old"), "text");
    BOOST_TEST(mode_of(folder.path("old")) == (S_IFREG | mode));
  }
  ::umask(before);
  BOOST_TEST(mode_of(folder.path("new")) == (S_IFREG | 0600u));
}

BOOST_AUTO_TEST_CASE(a_reader_never_sees_half_of_an_output) {
  const TemporaryFolder folder;
  BOOST_TEST(!half_seen(folder.path("a"), write_output));
  // The control: writing in place is seen half done.
  BOOST_TEST(half_seen(folder.path("b"), plainly));
}

BOOST_AUTO_TEST_CASE(of_a_link_the_target_is_replaced_and_the_link_stays) {
  const TemporaryFolder folder;
  fs::create_directory(folder.path("there"));
  plainly(folder.path("there/target"), "old");
  fs::create_symlink("there/target", folder.path("near"));
  fs::create_symlink(folder.path("near"), folder.path("far"));
  fs::create_symlink("there/not yet", folder.path("dangling"));
  write_output(folder.path("far"), "new");
  write_output(folder.path("dangling"), "made");
  BOOST_TEST(read_text(folder.path("there/target")).value() == "new");
  BOOST_TEST(read_text(folder.path("there/not yet")).value() == "made");
  for (const auto* link : {"near", "far", "dangling"})
    BOOST_TEST(fs::is_symlink(folder.path(link)));
  BOOST_TEST(folder.files() == 4u);
  BOOST_TEST(!fs::is_symlink(folder.path("there/target")));
}

BOOST_AUTO_TEST_CASE(links_in_a_circle_are_an_error_that_names_the_path) {
  const TemporaryFolder folder;
  fs::create_symlink("b", folder.path("a"));
  fs::create_symlink("a", folder.path("b"));
  BOOST_TEST(failure(folder.path("a"), "text") ==
             "open '" + folder.path("a") + "': Too many levels of symbolic links");
}

BOOST_AUTO_TEST_CASE(a_device_is_written_in_place_and_stays_a_device) {
  for (const auto* device : {"/dev/null", "/dev/full"})
    BOOST_TEST(!is_replaceable(device));
  write_output("/dev/null", "text");
  BOOST_TEST(failure("/dev/full", "text") == "write '/dev/full': No space left on device");
  BOOST_TEST(S_ISCHR(mode_of("/dev/null")));
  BOOST_TEST(S_ISCHR(mode_of("/dev/full")));
  // Through a link as well.
  const TemporaryFolder folder;
  fs::create_symlink("/dev/full", folder.path("link"));
  BOOST_TEST(failure(folder.path("link"), "text") ==
             "write '" + folder.path("link") + "': No space left on device");
  BOOST_TEST(fs::is_symlink(folder.path("link")));
}

BOOST_AUTO_TEST_CASE(a_pipe_is_written_in_place) {
  const Pipe pipe = make_pipe();
  write_output("/dev/fd/" + std::to_string(pipe.write.get()), "text");
  char text[8] = {};
  BOOST_TEST(::read(pipe.read.get(), text, sizeof text) == 4);
  BOOST_TEST(text == std::string("text"));
}

BOOST_AUTO_TEST_CASE(an_output_that_cannot_be_written_names_path_and_reason) {
  const TemporaryFolder folder;
  BOOST_TEST(failure(folder.path("no/such"), "text") ==
             "open '" + folder.path("no/such") + "': No such file or directory");
  plainly(folder.path("file"), "");
  BOOST_TEST(failure(folder.path("file/a"), "text") ==
             "open '" + folder.path("file/a") + "': Not a directory");
  BOOST_TEST(failure(folder.path(""), "text") == "open '" + folder.path("") + "': Is a directory");
}

BOOST_AUTO_TEST_CASE(a_folder_that_may_not_be_written_is_told_and_left_as_it_was) {
  const TemporaryFolder folder;
  fs::create_directory(folder.path("closed"));
  plainly(folder.path("closed/old"), "old");
  for (const auto& [path, mode] :
       {std::pair(folder.path("closed/old"), 0644u), std::pair(folder.path("closed"), 0555u),
        std::pair(folder.path(""), 0755u)})
    BOOST_REQUIRE_EQUAL(::chmod(path.c_str(), mode), 0);
  const auto told = [&](const std::string& name) {
    return as_nobody([&] {
      return failure(folder.path(name), "text") ==
             "open '" + folder.path(name) + "': Permission denied";
    });
  };
  BOOST_TEST(told("closed/new") == 0);
  BOOST_TEST(told("closed/old") == 0);
  BOOST_TEST(read_text(folder.path("closed/old")).value() == "old");
  ::chmod(folder.path("closed").c_str(), 0755);
}

BOOST_AUTO_TEST_CASE(a_write_that_fails_leaves_the_old_output_and_nothing_beside_it) {
  const TemporaryFolder folder;
  plainly(folder.path("a"), "old");
  Child limited = Child::fork([&] {
    std::signal(SIGXFSZ, SIG_IGN);
    const rlimit limit{1000, 1000};
    ::setrlimit(RLIMIT_FSIZE, &limit);
    return failure(folder.path("a"), std::string(2000, 'b')) ==
                   "write '" + folder.path("a") + "': File too large"
               ? 0
               : 1;
  });
  BOOST_TEST(limited.wait().success());
  BOOST_TEST(read_text(folder.path("a")).value() == "old");
  BOOST_TEST(folder.files() == 1u);
}
