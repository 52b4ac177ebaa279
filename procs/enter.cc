#include "procs/enter.hh"

#include "lab/base/error.hh"
#include "lab/base/file.hh"
#include "lab/base/text.hh"
#include "procs/start_order.hh"

#include <fcntl.h>
#include <unistd.h>

#include <cstdlib>
#include <exception>
#include <span>
#include <string>

namespace schedlab::procs {

namespace {

bool passed = false;

Fd descriptor(std::string_view word) {
  const auto number = to_number(word);
  if (!number || *number < 3 || ::fcntl(static_cast<int>(*number), F_GETFD) < 0)
    throw Unsupported("this command line is for processes that procs starts");
  return Fd(static_cast<int>(*number));
}

int play_child(std::string_view pipe_word, std::string_view order_word) {
  detail::Order order;
  Fd pipe;
  try {
    pipe = descriptor(pipe_word);
    order = detail::Order::read(descriptor(order_word));
  } catch (const std::exception& error) {
    // There is nobody else to tell it to.
    write_all(STDERR_FILENO, error.what() + std::string("\n"), "standard error");
    return 2;
  }
  return detail::play(order, pipe.get());
}

}  // namespace

void enter(int argc, char** argv) {
  passed = true;
  const std::span words(argv, static_cast<std::size_t>(argc));
  if (words.size() == 4 && words[1] == detail::child_word)
    std::exit(play_child(words[2], words[3]));
}

bool entered() noexcept {
  return passed;
}

}  // namespace schedlab::procs
