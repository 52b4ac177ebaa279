// Files, the same on all drivers.

#include "iouring/file.hh"

#include "iouring/gather.hh"
#include "iouring/perform.hh"
#include "tests/iouring_io.hh"

#include <sys/resource.h>

#include <cstring>

using namespace schedlab;
using namespace schedlab::testing;
using iouring::File;
using iouring::FixedBuffers;
using iouring::FixedFiles;
using iouring::Task;

namespace {

Task<> write_and_read(const std::string& path) {
  File file = co_await File::open(path, O_RDWR | O_CREAT);
  const std::string text = pattern(1'000'000);
  co_await file.write_all(bytes_of(text), 0);
  co_await file.sync();
  std::string again(text.size() + 10, '\0');
  const std::size_t count = co_await file.read_all(area_of(again), 0);
  again.resize(count);
  BOOST_TEST((again == text));
  const struct statx status = co_await file.stat();
  BOOST_TEST(status.stx_size == text.size());
  co_await file.close();
  BOOST_TEST(!file);
}

Task<> move_the_position(const std::string& path) {
  File file = co_await File::open(path, O_RDWR | O_CREAT);
  co_await file.write_all(bytes_of("one"));
  co_await file.write_all(bytes_of("two"));
  std::string area(3, '\0');
  std::size_t count = co_await file.read(area_of(area));
  BOOST_TEST(count == 0u);  // at the end
  count = co_await file.read(area_of(area), 2);
  BOOST_TEST(count == 3u);
  BOOST_TEST(area == "etw");
  count = co_await file.read(area_of(area), 4);
  BOOST_TEST(count == 2u);
}

// More than a pipe holds: each write is short.
Task<> write_to_a_pipe(Fd end, const std::string& text) {
  File file(std::move(end), "pipe");
  co_await file.write_all(bytes_of(text));
}
Task<> read_from_a_pipe(Fd end, const std::string& text) {
  File file(std::move(end), "pipe");
  std::string all(text.size() + 1, '\0');
  const std::size_t count = co_await file.read_all(area_of(all));
  all.resize(count);
  BOOST_TEST((all == text));
}
Task<> move_through_a_pipe() {
  const std::string text = pattern(300'000);
  Pipe pipe = make_pipe();
  co_await iouring::gather(write_to_a_pipe(std::move(pipe.write), text),
                           read_from_a_pipe(std::move(pipe.read), text));
}

Task<> refuse_with_call_and_path(const std::string& path) {
  std::string text;
  try {
    co_await File::open(path);
  } catch (const std::system_error& error) {
    BOOST_TEST(error.code().value() == ENOENT);
    text = error.what();
  }
  BOOST_TEST(text == "open '" + path + "': No such file or directory");
  File file = co_await File::open(path, O_WRONLY | O_CREAT);
  std::string area(3, '\0');
  try {
    co_await file.read(area_of(area), 0);
  } catch (const std::system_error& error) {
    BOOST_TEST(error.code().value() == EBADF);
    text = error.what();
  }
  BOOST_TEST(text == "read '" + path + "': Bad file descriptor");
}

Task<> use_after_close(const std::string& path) {
  File file = co_await File::open(path, O_RDWR | O_CREAT);
  co_await file.close();
  co_await file.close();  // nothing happens
  std::string area(3, '\0');
  const int error = co_await errno_of(file.read(area_of(area), 0));
  BOOST_TEST(error == EBADF);
}

Task<std::size_t> read_some(File& file, std::string& area) {
  const std::size_t count = co_await file.read(area_of(area));
  co_return count;
}

Task<> close_under_a_read() {
  Pipe pipe = make_pipe();
  const int number = pipe.read.get();
  File file(std::move(pipe.read), "pipe");
  std::string area(3, '\0');
  auto reading = iouring::create_task(errno_of(read_some(file, area)));
  co_await settle();
  co_await file.close();
  BOOST_TEST(::fcntl(number, F_GETFD) == -1);
  const int error = co_await reading;
  BOOST_TEST(error == ECANCELED);
  // The number goes to another file, which the old read does not touch.
  Pipe next = make_pipe();
  BOOST_TEST(next.read.get() == number);
  BOOST_TEST_REQUIRE(::write(next.write.get(), "new", 3) == 3);
  co_await settle();
  BOOST_TEST(area == std::string(3, '\0'));
  BOOST_TEST(::read(next.read.get(), area.data(), 3) == 3);
}

Task<> destroy_under_a_read() {
  Pipe pipe = make_pipe();
  const int number = pipe.read.get();
  std::string area(3, '\0');
  iouring::Running<int> reading;
  {
    File file(std::move(pipe.read), "pipe");
    reading = iouring::create_task(errno_of(read_some(file, area)));
    co_await settle();
  }
  const int error = co_await reading;
  BOOST_TEST(error == ECANCELED);
  co_await settle();
  BOOST_TEST(::fcntl(number, F_GETFD) == -1);
}

Task<> close_when_cancelled(const std::string& path, int& number) {
  File file = co_await File::open(path, O_RDWR | O_CREAT);
  number = file.fd();
  co_await iouring::yield();  // is cancelled here, and takes it for its own
  co_await file.close();
  co_await iouring::yield();
  BOOST_ERROR("the cancellation was lost");
}
Task<> cancel_a_close(const std::string& path) {
  int number = -1;
  auto closing = iouring::create_task(close_when_cancelled(path, number));
  while (number < 0)
    co_await iouring::yield();
  closing.cancel();
  bool cancelled = false;
  try {
    co_await closing;
  } catch (const iouring::Cancelled&) {
    cancelled = true;
  }
  BOOST_TEST(cancelled);
  BOOST_TEST(::fcntl(number, F_GETFD) == -1);
}

Task<> use_fixed_buffers(const std::string& path, bool expected) {
  File file = co_await File::open(path, O_RDWR | O_CREAT);
  FixedBuffers buffers(4, 4096);
  if (expected)
    BOOST_TEST(buffers.registered());
  std::memcpy(buffers.at(1).data(), "fixed", 5);
  std::size_t count = co_await file.write(buffers.at(1).first(5), 0, buffers.index(1));
  BOOST_TEST(count == 5u);
  count = co_await file.read(buffers.at(3), 0, buffers.index(3));
  BOOST_TEST(count == 5u);
  BOOST_TEST(std::memcmp(buffers.at(3).data(), "fixed", 5) == 0);
  if (!buffers.registered())
    co_return;
  // The kernel knows it by its number: another's area is refused.
  const int error = co_await errno_of(file.read(buffers.at(3), 0, buffers.index(2)));
  BOOST_TEST(error == EFAULT);
}

Task<> use_fixed_files(const std::string& path, const std::string& other, bool expected) {
  File first = co_await File::open(path, O_RDWR | O_CREAT);
  File second = co_await File::open(other, O_RDWR | O_CREAT);
  {
    File* both[] = {&first, &second};
    const FixedFiles fixed(both);
    BOOST_TEST(fixed.registered() == expected);
    co_await first.write_all(bytes_of("first"), 0);
    co_await second.write_all(bytes_of("second"), 0);
    co_await second.sync();
  }
  std::string area(6, '\0');
  std::size_t count = co_await first.read(area_of(area), 0);
  BOOST_TEST(area.substr(0, count) == "first");
  count = co_await second.read(area_of(area), 0);
  BOOST_TEST(area.substr(0, count) == "second");
}

Task<> replace_fixed_buffers(const std::string& path) {
  File file = co_await File::open(path, O_RDWR | O_CREAT);
  auto buffers = std::make_unique<FixedBuffers>(2, 4096);
  const FixedBuffers* const old = buffers.get();
  auto next = std::make_unique<FixedBuffers>(2, 4096);
  BOOST_TEST(old->index(0) == iouring::no_buffer);
  const bool registered = next->registered();
  buffers = std::move(next);
  BOOST_TEST(buffers->registered() == registered);
  const std::size_t count = co_await file.write(buffers->at(1), 0, buffers->index(1));
  BOOST_TEST(count == 4096u);
}

Task<> replace_fixed_files(const std::string& path, const std::string& other) {
  File first = co_await File::open(path, O_RDWR | O_CREAT);
  File second = co_await File::open(other, O_RDWR | O_CREAT);
  co_await first.write_all(bytes_of("first"), 0);
  co_await second.write_all(bytes_of("second"), 0);
  File* in_order[] = {&first, &second};
  File* only_second[] = {&second};
  auto fixed = std::make_unique<FixedFiles>(in_order);
  auto next = std::make_unique<FixedFiles>(only_second);
  BOOST_TEST(!fixed->registered());
  for (int i = 0; i < 2; ++i) {
    std::string area(6, '\0');
    std::size_t count = co_await first.read_all(area_of(area), 0);
    BOOST_TEST(area.substr(0, count) == "first");
    count = co_await second.read_all(area_of(area), 0);
    BOOST_TEST(area.substr(0, count) == "second");
    fixed = std::move(next);
  }
}

Task<> read_repeatedly(File& file, const std::string& text, unsigned times) {
  std::string area(4096, '\0');
  for (unsigned i = 0; i < times; ++i) {
    const std::size_t at = (i * 7919U) % (text.size() - area.size());
    const std::size_t count = co_await file.read_all(area_of(area), at);
    BOOST_TEST_REQUIRE(count == area.size());
    BOOST_TEST_REQUIRE((std::string_view(text).substr(at, area.size()) == area));
  }
}

Task<> read_at_once(const std::string& path) {
  File file = co_await File::open(path, O_RDWR | O_CREAT);
  const std::string text = pattern(1'000'000);
  co_await file.write_all(bytes_of(text), 0);
  std::vector<Task<>> readers;
  for (int i = 0; i < 64; ++i)
    readers.push_back(read_repeatedly(file, text, 20));
  co_await iouring::gather(std::move(readers));
}

}  // namespace

BOOST_DATA_TEST_CASE(what_is_written_is_read, on_all_drivers, choice) {
  const TemporaryFolder folder;
  run_io(choice, write_and_read, folder.path("file"));
}

BOOST_DATA_TEST_CASE(without_an_offset_the_position_moves, on_all_drivers, choice) {
  const TemporaryFolder folder;
  run_io(choice, move_the_position, folder.path("file"));
}

BOOST_DATA_TEST_CASE(short_transfers_are_continued, on_all_drivers, choice) {
  run_io(choice, move_through_a_pipe);
}

BOOST_DATA_TEST_CASE(an_error_names_the_call_and_the_path, on_all_drivers, choice) {
  const TemporaryFolder folder;
  run_io(choice, refuse_with_call_and_path, folder.path("file"));
}

BOOST_DATA_TEST_CASE(a_closed_file_is_not_used, on_all_drivers, choice) {
  const TemporaryFolder folder;
  run_io(choice, use_after_close, folder.path("file"));
}

BOOST_DATA_TEST_CASE(close_ends_what_is_under_way_before_the_number_is_used_again, on_all_drivers,
                     choice) {
  run_io(choice, close_under_a_read);
}

BOOST_DATA_TEST_CASE(a_file_destroyed_under_a_read_is_closed_after_it, on_all_drivers, choice) {
  run_io(choice, destroy_under_a_read);
}

BOOST_DATA_TEST_CASE(cancelling_does_not_cut_a_close_short, on_all_drivers, choice) {
  const TemporaryFolder folder;
  run_io(choice, cancel_a_close, folder.path("file"));
}

BOOST_DATA_TEST_CASE(fixed_buffers_are_used_where_the_driver_has_them, on_all_drivers, choice) {
  const TemporaryFolder folder;
  rlimit limit{};
  ::getrlimit(RLIMIT_MEMLOCK, &limit);
  const bool expected = choice == DriverChoice::io_uring && limit.rlim_cur > 1'000'000;
  run_io(choice, use_fixed_buffers, folder.path("file"), expected);
}

BOOST_DATA_TEST_CASE(fixed_files_are_used_where_the_driver_has_them, on_all_drivers, choice) {
  const TemporaryFolder folder;
  run_io(choice, use_fixed_files, folder.path("one"), folder.path("two"),
         choice == DriverChoice::io_uring);
}

BOOST_DATA_TEST_CASE(the_next_fixed_buffers_or_files_take_the_place_of_those_before, on_all_drivers,
                     choice) {
  const TemporaryFolder folder;
  run_io(choice, replace_fixed_buffers, folder.path("file"));
  run_io(choice, replace_fixed_files, folder.path("one"), folder.path("two"));
}

BOOST_DATA_TEST_CASE(many_tasks_read_one_file, on_all_drivers, choice) {
  const TemporaryFolder folder;
  run_io(choice, read_at_once, folder.path("file"));
}

BOOST_DATA_TEST_CASE(no_descriptor_is_left, on_all_drivers, choice) {
  const TemporaryFolder folder;
  const std::size_t before = open_descriptors();
  run_io(choice, write_and_read, folder.path("file"));
  run_io(choice, close_under_a_read);
  run_io(choice, destroy_under_a_read);
  BOOST_TEST(open_descriptors() == before);
}
