#pragma once
// The worker's side of a process pool. Inside the pool; programs use process_pool.hh.

#include "lab/base/fd.hh"
#include "procs/callable.hh"
#include "procs/codec.hh"
#include "procs/pool_memory.hh"
#include "procs/remote_error.hh"

#include <cstdint>
#include <type_traits>
#include <utility>

namespace schedlab::procs::pool {

// What a task's entry works with: from encoded arguments to an encoded result.
struct Call {
  Decoder& arguments;
  Encoder& result;
  Stage& stage;
  FaultPoint& fault;
};

template <typename Result, typename Work>
void call_and_encode(Call& call, Work&& work) {
  call.arguments.finish();
  call.fault.reach(Step::decoded);
  call.stage = Stage::run;
  if constexpr (std::is_void_v<Result>) {
    std::forward<Work>(work)();
    call.fault.reach(Step::called);
  } else {
    const Result result = std::forward<Work>(work)();
    call.fault.reach(Step::called);
    call.stage = Stage::encode_result;
    encode(call.result, result);
  }
}

// The number that a slot names it by: the same in every process of the program. Throws Unsupported
// where it is part of a shared library.
template <auto function>
std::uint64_t number_of() {
  static const std::uint64_t offset = callable<void(Call&), function>().offset;
  return offset;
}

// The life of worker number `lane` of this generation, in its process: until it is told to leave.
// Gives the exit status. `bell` wakes the parent's supervisor.
int run_worker(Memory memory, std::uint32_t lane, std::uint32_t generation, Fd bell);

}  // namespace schedlab::procs::pool
