// Runs a command in a smaller world than this machine's, or says what world it is in:
//
//   restrict [--read-only-sys] [--one-cpu] [--memlock=SIZE] [--nofile=N] [--user=NAME]
//            [--no-io-uring=ERRNO] -- COMMAND...
//   restrict --show
//
// Ends with 77, which Meson reports as a skip, where this user may not make such a world.
#include "lab/base/error.hh"
#include "lab/base/text.hh"

#include <array>
#include <cstddef>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <fcntl.h>
#include <grp.h>
#include <linux/filter.h>
#include <linux/io_uring.h>
#include <linux/seccomp.h>
#include <pwd.h>
#include <sched.h>
#include <span>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/statvfs.h>
#include <sys/syscall.h>
#include <unistd.h>

using namespace schedlab;

namespace {

using CpuMask = std::array<unsigned long, 1024>;

unsigned popcount(const CpuMask& mask) {
  unsigned count = 0;
  for (const unsigned long word : mask)
    count += static_cast<unsigned>(__builtin_popcountl(word));
  return count;
}

CpuMask own_cpus() {
  CpuMask mask{};
  check(::syscall(SYS_sched_getaffinity, 0, sizeof mask, mask.data()), "sched_getaffinity");
  return mask;
}

void keep_one_cpu(std::string_view) {
  CpuMask mask = own_cpus();
  bool found = false;
  for (unsigned long& word : mask) {
    word = found ? 0 : word & -word;  // the lowest bit of the first word that has one
    found = found || word != 0;
  }
  check(::syscall(SYS_sched_setaffinity, 0, sizeof mask, mask.data()), "sched_setaffinity");
}

void make_sys_read_only(std::string_view) {
  check(::unshare(CLONE_NEWNS), "unshare", "mounts");
  if (::mount(nullptr, "/", nullptr, MS_REC | MS_PRIVATE, nullptr) != 0)
    throw Unsupported("/ is no mount point here, as in a chroot; bind it onto itself first");
  check(::mount("/sys", "/sys", nullptr, MS_BIND | MS_REC, nullptr), "mount", "/sys");
  mount_attr attributes{};
  attributes.attr_set = MOUNT_ATTR_RDONLY;
  check(::mount_setattr(AT_FDCWD, "/sys", AT_RECURSIVE, &attributes, sizeof attributes),
        "mount_setattr", "/sys");
}

void lower_limit(__rlimit_resource resource, std::optional<std::int64_t> value) {
  if (!value)
    throw BadInput("a limit is a number, or a size such as 64K");
  const auto both = static_cast<rlim_t>(*value);
  const rlimit limit{both, both};
  check(::setrlimit(resource, &limit), "setrlimit");
}

void limit_locked_memory(std::string_view value) {
  lower_limit(RLIMIT_MEMLOCK, to_size(value));
}

void limit_files(std::string_view value) {
  lower_limit(RLIMIT_NOFILE, to_number(value));
}

void become(std::string_view value) {
  const std::string name(value);
  const passwd* user = ::getpwnam(name.c_str());
  if (user == nullptr)
    throw BadInput("there is no user '" + name + "'");
  check(::setgroups(0, nullptr), "setgroups");
  check(::setgid(user->pw_gid), "setgid", name);
  check(::setuid(user->pw_uid), "setuid", name);
}

int errno_called(std::string_view name) {
  for (int error = 1; error < 134; ++error)
    if (const char* known = ::strerrorname_np(error); known != nullptr && name == known)
      return error;
  throw BadInput("'" + std::string(name) + "' is no errno name; ENOSYS and EPERM are");
}

void refuse_io_uring(std::string_view value) {
  const auto error = static_cast<unsigned>(errno_called(value));
  std::array<sock_filter, 4> filter = {{
      BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(seccomp_data, nr)),
      BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_io_uring_setup, 0, 1),
      BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | error),
      BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
  }};
  const sock_fprog program{static_cast<unsigned short>(filter.size()), filter.data()};
  check(::prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0), "prctl");
  check(::prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program), "prctl", "seccomp");
}

struct Restriction {
  const char* option;
  void (*apply)(std::string_view value);
  const char* value = nullptr;  // what the command line gave
};

// In the order of application, whatever that of the command line: each takes away what those before
// it need.
std::array<Restriction, 6> restrictions = {{
    {"--read-only-sys", make_sys_read_only},
    {"--one-cpu", keep_one_cpu},
    {"--memlock", limit_locked_memory},
    {"--nofile", limit_files},
    {"--user", become},
    {"--no-io-uring", refuse_io_uring},
}};

Restriction& restriction_called(std::string_view name) {
  for (Restriction& one : restrictions)
    if (name == one.option)
      return one;
  throw BadInput("unknown option '" + std::string(name) + "'");
}

std::string io_uring_answer() {
  io_uring_params params{};
  const long ring = ::syscall(SYS_io_uring_setup, 1, &params);
  if (ring < 0)
    return ::strerrorname_np(errno);
  ::close(static_cast<int>(ring));
  return "works";
}

rlim_t limit_of(__rlimit_resource resource) {
  rlimit limit{};
  check(::getrlimit(resource, &limit), "getrlimit");
  return limit.rlim_cur;
}

void show() {
  struct statvfs sys {};
  check(::statvfs("/sys", &sys), "statvfs", "/sys");
  std::printf("sys %s\n", (sys.f_flag & ST_RDONLY) != 0 ? "read-only" : "writable");
  std::printf("cpus %u\n", popcount(own_cpus()));
  std::printf("memlock %ju\n", static_cast<std::uintmax_t>(limit_of(RLIMIT_MEMLOCK)));
  std::printf("nofile %ju\n", static_cast<std::uintmax_t>(limit_of(RLIMIT_NOFILE)));
  std::printf("uid %u\n", ::getuid());
  std::printf("io_uring %s\n", io_uring_answer().c_str());
}

// Takes the options and gives the command behind them.
std::span<char*> parse(std::span<char*> words) {
  while (!words.empty() && std::strcmp(words[0], "--") != 0) {
    const std::string_view word = words[0];
    const auto equals = word.find('=');
    restriction_called(word.substr(0, equals)).value =
        equals == std::string_view::npos ? "" : words[0] + equals + 1;
    words = words.subspan(1);
  }
  if (words.size() < 2)
    throw BadInput("no command after --");
  return words.subspan(1);
}

int run(std::span<char*> words) {
  if (words.size() == 1 && std::strcmp(words[0], "--show") == 0) {
    show();
    return 0;
  }
  const auto command = parse(words);
  for (const Restriction& one : restrictions)
    if (one.value != nullptr)
      one.apply(one.value);
  ::execvp(command[0], command.data());  // argv ends with a null, so the rest of it does too
  throw_errno(errno, "execvp", command[0]);
}

bool is_refusal(const std::error_code& code) {
  return code == std::errc::operation_not_permitted || code == std::errc::permission_denied ||
         code == std::errc::function_not_supported;
}

}  // namespace

int main(int argc, char** argv) {
  try {
    return run(std::span(argv, static_cast<std::size_t>(argc)).subspan(1));
  } catch (const BadInput& error) {
    std::fprintf(stderr, "restrict: %s\n", error.what());
    return 2;
  } catch (const Unsupported& reason) {
    std::fprintf(stderr, "restrict: skipped: %s\n", reason.what());
    return 77;
  } catch (const std::system_error& error) {
    const bool skip = is_refusal(error.code());
    std::fprintf(stderr, "restrict: %s%s\n", skip ? "skipped: " : "", error.what());
    return skip ? 77 : 1;
  }
}
