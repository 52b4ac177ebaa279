#pragma once
// Programs to execute: one that could not be smaller, and one as they usually are.

#include "lab/base/fd.hh"

#include <string>

namespace schedlab::apparatus {

inline constexpr int smallest_program_status = 7;

// A statically linked program of two instructions and a system call, which exits with the status
// above; written to a memfd, since nothing of the kind is installed everywhere. Throws Unsupported
// on an architecture it is not written for, or where a memfd may not be executed.
class SmallestProgram {
public:
  SmallestProgram();
  // A path for exec and posix_spawn, valid while this exists.
  [[nodiscard]] const std::string& path() const noexcept { return path_; }

private:
  Fd file_;
  std::string path_;
};

// Whether a program asks for a dynamic linker; false if it cannot be read.
bool is_dynamic(const std::string& path);

}  // namespace schedlab::apparatus
