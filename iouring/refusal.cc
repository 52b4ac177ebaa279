#include "iouring/refusal.hh"

#include "lab/base/error.hh"
#include "lab/base/file.hh"
#include "lab/base/text.hh"

#include <sys/resource.h>
#include <unistd.h>

#include <charconv>
#include <cstdlib>
#include <string_view>

namespace schedlab::iouring {

namespace {

constexpr unsigned cap_sys_admin = 21;

std::string_view status_field(std::string_view status, std::string_view key) {
  for (const auto line : split(status, '\n'))
    if (line.starts_with(key))
      return trim(line.substr(key.size()));
  return {};
}

std::uint64_t limit(__rlimit_resource_t resource) {
  rlimit value{};
  return ::getrlimit(resource, &value) == 0 ? value.rlim_cur : 0;
}

std::optional<int> number_in(const std::string& path) {
  const auto text = read_text(path);
  const auto number = text ? to_number(trim(*text)) : std::nullopt;
  return number ? std::optional(static_cast<int>(*number)) : std::nullopt;
}

const std::string profile_fix =
    "allow io_uring_setup, io_uring_enter and io_uring_register in the seccomp profile";

void explain_eperm(const Surroundings& here, std::string& cause, std::string& fix) {
  const int disabled = here.disabled.value_or(0);
  if (disabled == 2) {
    cause = "kernel.io_uring_disabled is 2: io_uring is switched off for everybody";
    fix = "sudo sysctl kernel.io_uring_disabled=0";
  } else if (disabled == 1 && !here.sys_admin) {
    const bool has_group = here.group.value_or(-1) >= 0;
    const std::string group =
        std::to_string(has_group ? *here.group : static_cast<int>(::getgid()));
    cause = "kernel.io_uring_disabled is 1: io_uring is for CAP_SYS_ADMIN and " +
            (has_group ? "group " + group : "no group (kernel.io_uring_group is -1)");
    fix = "sudo sysctl kernel.io_uring_disabled=0, or " +
          (has_group ? "join group " + group : "sudo sysctl kernel.io_uring_group=" + group);
  } else if (here.seccomp_filter && here.container) {
    cause = "the seccomp filter of this container refuses io_uring";
    fix = "docker or podman run --security-opt seccomp=unconfined; better, " + profile_fix;
  } else if (here.seccomp_filter) {
    cause = "a seccomp filter refuses io_uring";
    fix = "in a systemd unit drop @io-event or io_uring_* from SystemCallFilter=; elsewhere " +
          profile_fix;
  } else {
    cause = "a security module refuses io_uring (kernel.io_uring_disabled and seccomp do not)";
    fix = "look for the denial: sudo dmesg | grep -i -e audit -e denied";
  }
}

void explain_absence(int error, const Surroundings& here, std::string& cause, std::string& fix) {
  if (here.seccomp_filter) {
    cause = "a seccomp filter hides io_uring (" + errno_text(error) + ")";
    fix =
        (here.container ? "docker or podman run --security-opt seccomp=unconfined; better, " : "") +
        profile_fix;
  } else if (error == ENOSYS) {
    cause = "this kernel is built without io_uring, or is older than Linux 5.6";
    fix = "boot a kernel with CONFIG_IO_URING=y (zgrep IO_URING /proc/config.gz)";
  } else {
    cause = "the host does not offer io_uring (a user-space kernel or a sandbox)";
    fix = "run outside the sandbox (for gVisor: runsc --iouring, or runtime runc)";
  }
}

}  // namespace

Surroundings surroundings(const std::string& root) {
  Surroundings here;
  here.disabled = number_in(root + "/proc/sys/kernel/io_uring_disabled");
  here.group = number_in(root + "/proc/sys/kernel/io_uring_group");
  const auto status = read_text(root + "/proc/thread-self/status").value_or("");
  here.seccomp_filter = status_field(status, "Seccomp:") == "2";
  const auto digits = status_field(status, "CapEff:");
  std::uint64_t capabilities = 0;
  std::from_chars(digits.data(), digits.data() + digits.size(), capabilities, 16);
  here.sys_admin = (capabilities >> cap_sys_admin & 1) != 0;
  here.container = ::access((root + "/.dockerenv").c_str(), F_OK) == 0 ||
                   ::access((root + "/run/.containerenv").c_str(), F_OK) == 0 ||
                   std::getenv("KUBERNETES_SERVICE_HOST") != nullptr;
  here.memlock = limit(RLIMIT_MEMLOCK);
  here.open_files_limit = limit(RLIMIT_NOFILE);
  return here;
}

void explain_refusal(int error, const Surroundings& here, std::string& cause, std::string& fix) {
  switch (error) {
  case EPERM:
  case EACCES:
    return explain_eperm(here, cause, fix);
  case ENOSYS:
  case EOPNOTSUPP:
    return explain_absence(error, here, cause, fix);
  case ENOMEM:
    cause = here.memlock == UINT64_MAX
                ? "no memory for a ring (memlock is unlimited)"
                : "RLIMIT_MEMLOCK is " + std::to_string(here.memlock >> 10) +
                      " KiB, shared by all rings of this user: too little for a ring of 8 entries";
    fix = here.memlock == UINT64_MAX ? "free memory, or ask for smaller rings"
                                     : "ulimit -l unlimited (LimitMEMLOCK=infinity in a systemd "
                                       "unit, --ulimit memlock=-1 in a container)";
    return;
  case EMFILE:
    cause = "this process has no descriptor left: RLIMIT_NOFILE is " +
            std::to_string(here.open_files_limit);
    fix = "ulimit -n 65536";
    return;
  case ENFILE:
    cause = "the system has no file left (fs.file-max)";
    fix = "sudo sysctl fs.file-max=1000000";
    return;
  case EINVAL:
    cause = "this kernel takes no set-up without flags, or cannot list its operations";
    fix = "boot Linux 5.6 or later";
    return;
  default:
    cause = "io_uring_setup failed: " + errno_text(error);
    fix = "see io_uring_setup(2), section ERRORS";
  }
}

void explain_refusal(int error, std::string& cause, std::string& fix) {
  explain_refusal(error, surroundings(), cause, fix);
}

}  // namespace schedlab::iouring
