#pragma once

namespace schedlab::apparatus {

// Writes all vector registers of the widest set that this CPU and kernel have, so that their state
// is not in its initial form when the task is switched out, and has to be saved and restored.
using DirtyRegisters = void (*)() noexcept;

// The widest that may be used here: AVX-512, AVX2, SSE or NEON.
DirtyRegisters widest_dirty_registers() noexcept;
const char* widest_vector_set() noexcept;

}  // namespace schedlab::apparatus
