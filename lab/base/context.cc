#include "lab/base/context.hh"

namespace schedlab::detail {

constinit thread_local Binding* bindings = nullptr;

Binding* retain(Binding* binding) noexcept {
  if (binding)
    binding->references.fetch_add(1, std::memory_order_relaxed);
  return binding;
}

// Whoever is last lets go of what is behind it too; a loop, because there may be many.
void release(Binding* binding) noexcept {
  while (binding && binding->references.fetch_sub(1, std::memory_order_acq_rel) == 1) {
    Binding* const outer = binding->outer;
    delete binding;
    binding = outer;
  }
}

}  // namespace schedlab::detail
