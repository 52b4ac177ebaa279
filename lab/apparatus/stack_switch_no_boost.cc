// Without Boost.Context at build time.

#include "lab/apparatus/stack_switch.hh"

namespace schedlab::apparatus {

std::unique_ptr<StackSwitch> detail::make_boost_switch(std::string_view) {
  return nullptr;
}

std::string detail::boost_refusal() {
  return "built without Boost.Context; apt install libboost-context-dev, then build anew";
}

}  // namespace schedlab::apparatus
