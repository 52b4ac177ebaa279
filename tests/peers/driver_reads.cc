// Random reads of 4 KiB around the page cache through the library's io_uring driver, with
// registered buffers and file, for the comparison with fio.
//
// usage: driver_reads make FILE BYTES
//        driver_reads read FILE DEPTH MILLISECONDS CPU
// The second prints: reads, nanoseconds, nanoseconds of CPU time of all tasks, system calls.

#include "affinity/pin.hh"
#include "lab/apparatus/block_io.hh"
#include "lab/apparatus/task_times.hh"
#include "lab/base/clock.hh"
#include "lab/base/error.hh"
#include "lab/base/text.hh"

#include <cstdio>
#include <exception>
#include <string_view>

namespace {

using namespace schedlab;

std::uint64_t number(const char* text) {
  const auto value = to_number(text);
  if (!value || *value < 0)
    throw BadInput(std::string(text) + " is no number");
  return static_cast<std::uint64_t>(*value);
}

void make(const std::string& path, std::uint64_t size) {
  const auto folder = path.substr(0, path.rfind('/'));
  apparatus::DataFile(folder, size).save_to(path);
}

void read(const std::string& path, unsigned depth, std::uint64_t milliseconds, unsigned cpu) {
  const affinity::Pin pin(cpu);
  const auto file = std::make_shared<apparatus::DataFile>(apparatus::DataFile::existing(path));
  file->bring(apparatus::CacheState::dropped);
  apparatus::BlockIoOptions options;
  options.file = file;
  options.direct = true;
  options.depth = depth;
  const auto io = apparatus::make_driver_io(options, iouring::DriverChoice::io_uring, true);
  constexpr std::uint64_t some = 1 << 14;
  io->run(some);
  const auto calls = io->counts().calls;
  apparatus::TaskTimes times;
  times.begin();
  // For a time, as fio does: of a fixed number more would fall into times when the disk is slow.
  std::uint64_t reads = 0;
  double elapsed_ns = 0;
  for (; elapsed_ns < static_cast<double>(milliseconds) * 1e6; reads += some)
    elapsed_ns += io->run(some);
  const auto used = times.end();
  if (io->counts().failed > 0)
    throw_errno(io->counts().error, "read", path);
  std::printf("%llu %.0f %lld %llu\n", static_cast<unsigned long long>(reads), elapsed_ns,
              static_cast<long long>(used.own_ns + used.others_ns),
              static_cast<unsigned long long>(io->counts().calls - calls));
}

}  // namespace

int main(int count, char** arguments) {
  try {
    clock::select();
    const std::string_view what = count > 1 ? arguments[1] : "";
    if (what == "make" && count == 4)
      make(arguments[2], number(arguments[3]));
    else if (what == "read" && count == 6)
      read(arguments[2], static_cast<unsigned>(number(arguments[3])), number(arguments[4]),
           static_cast<unsigned>(number(arguments[5])));
    else
      return 2;
    return 0;
  } catch (const std::exception& error) {
    std::fprintf(stderr, "driver_reads: %s\n", error.what());
    return 1;
  }
}
