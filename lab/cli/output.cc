#include "lab/cli/output.hh"

#include "lab/base/file.hh"

#include <sys/ioctl.h>
#include <unistd.h>

#include <algorithm>
#include <cstdlib>
#include <string>

namespace schedlab::cli {

void print(std::string_view text) {
  write_all(STDOUT_FILENO, text, "standard output");
}

void say(std::string_view text) noexcept {
  try {
    write_all(STDERR_FILENO, text, "standard error");
  } catch (...) {
    return;
  }
}

std::size_t output_width() noexcept {
  winsize size{};
  if (::ioctl(STDOUT_FILENO, TIOCGWINSZ, &size) != 0 || size.ws_col == 0)
    return 80;
  return std::clamp<std::size_t>(size.ws_col, 40, 160);
}

bool use_colour(Colour choice, int fd) noexcept {
  if (choice != Colour::automatic)
    return choice == Colour::always;
  const char* no_colour = std::getenv("NO_COLOR");
  const char* terminal = std::getenv("TERM");
  return ::isatty(fd) && !(no_colour && *no_colour) && terminal &&
         std::string_view(terminal) != "dumb";
}

}  // namespace schedlab::cli
