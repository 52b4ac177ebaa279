#include "procs/pool_options.hh"

namespace schedlab::procs {

std::string_view to_text(Ended ended) noexcept {
  switch (ended) {
  case Ended::left:
    return "left";
  case Ended::tasks:
    return "was recycled";
  case Ended::rss:
    return "was recycled for its size";
  case Ended::exited:
    return "ended in it";
  case Ended::signalled:
    return "died in it";
  case Ended::oom:
    return "ran out of memory";
  case Ended::timeout:
    return "was killed, its time being up";
  case Ended::killed:
    break;
  }
  return "was killed with the pool";
}

}  // namespace schedlab::procs
