#pragma once

namespace schedlab::apparatus {

// Writes a vector register of every part of the state that the widest set of this CPU and kernel
// has (low and upper halves, upper registers, masks), so that none of it is in its initial form
// when the task is switched out, and all of it has to be saved and restored.
using DirtyRegisters = void (*)() noexcept;

// The widest that may be used here: AVX-512, AVX2, SSE or NEON.
DirtyRegisters widest_dirty_registers() noexcept;
const char* widest_vector_set() noexcept;

}  // namespace schedlab::apparatus
