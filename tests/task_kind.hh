#pragma once
// Names a test case by the kind of its tasks.

#include "lab/apparatus/team.hh"

#include <ostream>

namespace schedlab::apparatus {

inline std::ostream& operator<<(std::ostream& out, TaskKind kind) {
  return out << to_text(kind);
}

}  // namespace schedlab::apparatus
