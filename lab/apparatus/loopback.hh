#pragma once
// Can programs of this machine talk to each other over TCP?

namespace schedlab::apparatus {

// Throws Unsupported, with the fix, where 127.0.0.1 cannot be reached: a network namespace of its
// own begins with its loopback switched off.
void require_loopback();

}  // namespace schedlab::apparatus
