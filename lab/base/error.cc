#include "lab/base/error.hh"

namespace schedlab {

void throw_errno(int error, std::string_view call, std::string_view subject) {
  std::string what(call);
  if (!subject.empty())
    what.append(" '").append(subject).append("'");
  throw std::system_error(error, std::system_category(), what);
}

std::string errno_text(int error) {
  return std::system_category().message(error);
}

}  // namespace schedlab
