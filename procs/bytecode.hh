#pragma once
// A small bytecode machine, to have something that an interpreter lock is held for: a stack of
// references to boxed integers, each instruction of which counts references as CPython's do. What
// is added is a new object; what is given up is freed where its count says so.
//
// Machine<Count> is compiled for PlainCount, AtomicCount and BiasedCount.

#include "procs/interpreter_lock.hh"
#include "procs/reference_count.hh"

#include <cstdint>
#include <optional>
#include <vector>

namespace schedlab::procs {

enum class Opcode : std::uint32_t {
  push_constant,  // argument: which
  push_local,     // which
  pop_local,      // which; what was there is given up
  add,            // pops two, pushes their sum, a new object
  less,           // pops two, pushes whether the first pushed is the smaller one
  jump_unless,    // pops one; where to go if it is 0
  jump_back,      // where to go; the place where the lock may change hands
  call,           // which native function; with the lock
  call_released,  // likewise; other threads may have the lock meanwhile
  stop,           // pops the result
};

struct Instruction {
  Opcode opcode;
  std::uint32_t argument = 0;
};

// C code that a program calls. It must not throw.
struct Native {
  void (*function)(void* context) = nullptr;
  void* context = nullptr;
};

struct Program {
  std::vector<Instruction> instructions;
  std::vector<std::int64_t> constants;
  std::uint32_t locals = 0;  // all 0 at first
  std::vector<Native> natives = {};
};

// count = 0; while count < limit: count += 1. The result is the count.
Program count_to(std::int64_t limit);

// How the references to a program's constants, which its threads share, are counted.
enum class Constants : std::uint8_t {
  immortal,  // not at all: CPython 3.12 and later for these
  counted,   // as those to any object
};

// A program with its constants as objects, to be shared by machines in several threads. Throws
// std::invalid_argument for a program that would leave its stack, its code or its tables. Built by
// the thread `owner`, and outlives its machines.
template <typename Count>
class Code {
public:
  Code(Program program, Constants constants, const CountedThread& owner);

  [[nodiscard]] const Program& program() const noexcept { return program_; }
  // Of a constant, those beyond the one that the code itself holds: 0 while no machine runs, unless
  // some were lost.
  [[nodiscard]] std::int64_t references(std::size_t constant) const;

private:
  template <typename>
  friend class Machine;
  struct Integer {
    Integer(const CountedThread& owner, std::int64_t initial) noexcept
        : count(owner), value(initial) {}
    Count count;
    std::int64_t value;
  };
  // Counted constants have so many references to lose before they would be freed by mistake.
  static constexpr std::uint32_t reserve = std::uint32_t{1} << 30;

  Program program_;
  Constants kind_;
  mutable std::vector<std::unique_ptr<Integer>> constants_;
  mutable Integer truth_[2];
};

template <typename Count>
class Machine {
public:
  // For the thread that `thread` and `counted` are. Takes all memory it will need.
  Machine(const Code<Count>& code, InterpreterThread& thread, CountedThread& counted);
  Machine(const Machine&) = delete;
  Machine& operator=(const Machine&) = delete;
  // Its objects are gone with it.
  ~Machine();

  // Runs the program from its beginning and gives its result; nothing if the thread was asked to
  // leave. The thread must hold the lock, and still does, unless it left. Neither throws nor
  // allocates.
  std::optional<std::int64_t> run() noexcept;

private:
  using Integer = typename Code<Count>::Integer;
  // An object while it is free.
  union Cell;

  Integer* make(std::int64_t value) noexcept;
  void give_up(Integer* object) noexcept;
  void clear() noexcept;
  bool pause() noexcept;

  const Code<Count>& code_;
  InterpreterThread& thread_;
  CountedThread& counted_;
  std::vector<Integer*> locals_;
  std::vector<Integer*> stack_;
  std::size_t depth_ = 0;
  std::vector<Cell> cells_;
  Cell* free_ = nullptr;
};

extern template class Code<PlainCount>;
extern template class Code<AtomicCount>;
extern template class Code<BiasedCount>;
extern template class Machine<PlainCount>;
extern template class Machine<AtomicCount>;
extern template class Machine<BiasedCount>;

}  // namespace schedlab::procs
