#pragma once
// Why io_uring is refused, and what to do about it. The errno alone does not tell: EPERM is a
// sysctl, a seccomp filter or a security module. All functions may be called from any thread.

#include <cstdint>
#include <optional>
#include <string>

namespace schedlab::iouring {

// What decides why io_uring is refused.
struct Surroundings {
  std::optional<int> disabled;  // kernel.io_uring_disabled; nothing before Linux 6.6
  std::optional<int> group;     // kernel.io_uring_group, whose members `disabled` 1 spares; -1 none
  bool seccomp_filter = false;  // a filter is in force for this thread
  bool container = false;
  bool sys_admin = false;     // CAP_SYS_ADMIN is effective
  std::uint64_t memlock = 0;  // bytes; UINT64_MAX no limit
  std::uint64_t open_files_limit = 0;
};
// From the files of a tree that stands for /, and from the limits of this process.
Surroundings surroundings(const std::string& root = {});

// What an errno of io_uring_setup means there, and what to do about it; used by probe.
void explain_refusal(int error, const Surroundings& here, std::string& cause, std::string& fix);

// The same for this thread, here and now.
void explain_refusal(int error, std::string& cause, std::string& fix);

}  // namespace schedlab::iouring
