#pragma once
#include <cstddef>
#include <optional>
#include <string>
#include <string_view>

namespace schedlab {

// A small text file (sysfs, procfs) without the trailing newline, or nothing if it cannot be read.
// errno tells why.
std::optional<std::string> read_text(const std::string& path);

// A whole file. Throws BadInput, naming the path, if it is missing, a directory, unreadable or
// larger than `limit` bytes.
std::string read_input(const std::string& path, std::size_t limit);

// Writes a whole output file, so that a reader never sees half of it: a regular or new file is
// written beside itself and renamed over (of a symlink the target, not the link); anything else
// (/dev/stdout, /dev/full, a pipe) is written in place and stays what it is.
// Throws std::system_error naming the path.
void write_output(const std::string& path, std::string_view text);

// Would write_output replace the file as a whole, rather than write in place?
bool is_replaceable(const std::string& path);

// Writes all of `text` to a descriptor, through short writes and EINTR.
void write_all(int fd, std::string_view text, std::string_view subject);

}  // namespace schedlab
