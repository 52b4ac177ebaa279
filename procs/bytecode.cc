#include "procs/bytecode.hh"

#include <algorithm>
#include <new>
#include <stdexcept>
#include <string>
#include <type_traits>
#include <utility>

namespace schedlab::procs {
namespace {

constexpr unsigned stack_size = 32;

// What an instruction takes from the stack and leaves there.
struct Effect {
  unsigned pops = 0;
  unsigned pushes = 0;
};

Effect effect_of(Opcode opcode) noexcept {
  switch (opcode) {
  case Opcode::push_constant:
  case Opcode::push_local:
    return {0, 1};
  case Opcode::pop_local:
  case Opcode::jump_unless:
  case Opcode::stop:
    return {1, 0};
  case Opcode::add:
  case Opcode::less:
    return {2, 1};
  case Opcode::jump_back:
  case Opcode::call:
  case Opcode::call_released:
    break;
  }
  return {0, 0};
}

bool is_jump(Opcode opcode) noexcept {
  return opcode == Opcode::jump_unless || opcode == Opcode::jump_back;
}

// Follows all ways through a program once.
class Verifier {
public:
  explicit Verifier(const Program& program)
      : program_(program), depths_(program.instructions.size()) {}

  void verify() {
    reach(0, 0);
    while (!open_.empty()) {
      const std::uint32_t at = open_.back();
      open_.pop_back();
      follow(at);
    }
  }

private:
  [[noreturn]] static void refuse(std::size_t at, std::string_view why) {
    throw std::invalid_argument("instruction " + std::to_string(at) + " " + std::string(why));
  }

  void reach(std::size_t at, unsigned depth) {
    if (at >= depths_.size())
      refuse(at, "is beyond the end of the program");
    if (depths_[at] && *depths_[at] != depth)
      refuse(at, "finds stacks of two depths");
    if (depths_[at])
      return;
    depths_[at] = depth;
    open_.push_back(static_cast<std::uint32_t>(at));
  }

  void follow(std::uint32_t at) {
    const auto [opcode, argument] = program_.instructions[at];
    const auto [pops, pushes] = effect_of(opcode);
    if (*depths_[at] < pops)
      refuse(at, "pops from an empty stack");
    const unsigned depth = *depths_[at] - pops + pushes;
    if (depth > stack_size)
      refuse(at, "pushes onto a full stack");
    if (argument >= limit_of(opcode))
      refuse(at, "names what is not there");
    if (opcode == Opcode::jump_back && argument > at)
      refuse(at, "jumps back to what comes later");
    if (is_jump(opcode))
      reach(argument, depth);
    if (opcode != Opcode::jump_back && opcode != Opcode::stop)
      reach(at + 1, depth);
  }

  // What the argument must be below.
  [[nodiscard]] std::size_t limit_of(Opcode opcode) const noexcept {
    switch (opcode) {
    case Opcode::push_constant:
      return program_.constants.size();
    case Opcode::push_local:
    case Opcode::pop_local:
      return program_.locals;
    case Opcode::call:
    case Opcode::call_released:
      return program_.natives.size();
    default:
      return SIZE_MAX;
    }
  }

  const Program& program_;
  std::vector<std::optional<unsigned>> depths_;  // of the stack before each instruction
  std::vector<std::uint32_t> open_;
};

}  // namespace

Program count_to(std::int64_t limit) {
  constexpr std::uint32_t zero = 0, end = 1, one = 2, count = 0, test = 2, done = 11;
  return {.instructions = {{Opcode::push_constant, zero},
                           {Opcode::pop_local, count},
                           {Opcode::push_local, count},
                           {Opcode::push_constant, end},
                           {Opcode::less},
                           {Opcode::jump_unless, done},
                           {Opcode::push_local, count},
                           {Opcode::push_constant, one},
                           {Opcode::add},
                           {Opcode::pop_local, count},
                           {Opcode::jump_back, test},
                           {Opcode::push_local, count},
                           {Opcode::stop}},
          .constants = {0, limit, 1},
          .locals = 1};
}

template <typename Count>
Code<Count>::Code(Program program, Constants constants, const CountedThread& owner)
    : program_(std::move(program)), kind_(constants), truth_{{owner, 0}, {owner, 1}} {
  Verifier(program_).verify();
  for (const auto value : program_.constants) {
    constants_.push_back(std::make_unique<Integer>(owner, value));
    if (kind_ == Constants::immortal)
      constants_.back()->count.make_immortal();
    else
      constants_.back()->count.add_many(owner, reserve);
  }
  for (auto& value : truth_)
    value.count.make_immortal();
}

template <typename Count>
std::int64_t Code<Count>::references(std::size_t constant) const {
  return kind_ == Constants::immortal ? 0 : constants_.at(constant)->count.value() - 1 - reserve;
}

template <typename Count>
union Machine<Count>::Cell {
  Cell() noexcept : next(nullptr) {}
  ~Cell() {}
  Cell* next;
  Integer object;
};

// Whatever a program holds is on its stack or a local, or was made last.
template <typename Count>
Machine<Count>::Machine(const Code<Count>& code, InterpreterThread& thread, CountedThread& counted)
    : code_(code), thread_(thread), counted_(counted), locals_(code.program().locals),
      stack_(stack_size), cells_(locals_.size() + stack_size + 1) {
  for (auto& cell : cells_) {
    cell.next = free_;
    free_ = &cell;
  }
}

template <typename Count>
Machine<Count>::~Machine() = default;

template <typename Count>
typename Machine<Count>::Integer* Machine<Count>::make(std::int64_t value) noexcept {
  Cell* cell = free_;
  free_ = cell->next;
  return new (&cell->object) Integer(counted_, value);
}

template <typename Count>
void Machine<Count>::give_up(Integer* object) noexcept {
  if (!object->count.drop(counted_))
    return;
  Cell* cell = reinterpret_cast<Cell*>(object);
  cell->next = free_;
  free_ = cell;
}

template <typename Count>
void Machine<Count>::clear() noexcept {
  while (depth_ > 0)
    give_up(stack_[--depth_]);
  for (auto& local : locals_)
    if (local)
      give_up(std::exchange(local, nullptr));
}

// False if the thread is to leave.
template <typename Count>
bool Machine<Count>::pause() noexcept {
  if constexpr (std::is_same_v<Count, BiasedCount>)
    counted_.process_queue();
  return thread_.tick();
}

template <typename Count>
std::optional<std::int64_t> Machine<Count>::run() noexcept {
  const Instruction* const first = code_.program().instructions.data();
  const Native* const natives = code_.program().natives.data();
  const Instruction* next = first;
  for (auto& local : locals_)
    local = make(0);
  Integer** top = stack_.data();  // one above the last pushed
  for (;;) {
    const auto [opcode, argument] = *next++;
    switch (opcode) {
    case Opcode::push_constant:
      *top = code_.constants_[argument].get();
      (*top++)->count.add(counted_);
      break;
    case Opcode::push_local:
      *top = locals_[argument];
      (*top++)->count.add(counted_);
      break;
    case Opcode::pop_local:
      give_up(std::exchange(locals_[argument], *--top));
      break;
    case Opcode::add: {
      Integer* const sum = make(top[-2]->value + top[-1]->value);
      give_up(*--top);
      give_up(std::exchange(top[-1], sum));
      break;
    }
    case Opcode::less: {
      Integer* const truth = &code_.truth_[top[-2]->value < top[-1]->value];
      give_up(*--top);
      give_up(std::exchange(top[-1], truth));
      break;
    }
    case Opcode::jump_unless: {
      Integer* const condition = *--top;
      if (condition->value == 0)
        next = first + argument;
      give_up(condition);
      break;
    }
    case Opcode::jump_back:
      next = first + argument;
      if (!pause()) [[unlikely]] {
        depth_ = static_cast<std::size_t>(top - stack_.data());
        clear();
        return std::nullopt;
      }
      break;
    case Opcode::call:
      natives[argument].function(natives[argument].context);
      break;
    case Opcode::call_released: {
      const AllowThreads released(thread_);
      natives[argument].function(natives[argument].context);
      break;
    }
    case Opcode::stop: {
      const std::int64_t result = (*--top)->value;
      give_up(*top);
      depth_ = static_cast<std::size_t>(top - stack_.data());
      clear();
      return result;
    }
    }
  }
}

template class Code<PlainCount>;
template class Code<AtomicCount>;
template class Code<BiasedCount>;
template class Machine<PlainCount>;
template class Machine<AtomicCount>;
template class Machine<BiasedCount>;

}  // namespace schedlab::procs
