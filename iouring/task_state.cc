#include "iouring/task_state.hh"

#include <typeinfo>

namespace schedlab::iouring::detail {

bool is_cancelled(const std::exception_ptr& exception) noexcept {
  if (!exception)
    return false;
#if defined(__GLIBCXX__)
  return *exception.__cxa_exception_type() == typeid(Cancelled);  // a throw costs a microsecond
#else
  try {
    std::rethrow_exception(exception);
  } catch (const Cancelled&) {
    return true;
  } catch (...) {
    return false;
  }
#endif
}

}  // namespace schedlab::iouring::detail
