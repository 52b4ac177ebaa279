#include "lab/apparatus/lock_use.hh"
#include "procs/interpreter_lock.hh"
#include "procs/mutex.hh"
#include "procs/rw_lock.hh"

#include <sched.h>

#include <array>
#include <mutex>
#include <shared_mutex>
#include <unordered_map>

namespace schedlab::apparatus {

namespace {

using harness::Check;
using harness::Sample;
using Number = std::atomic<std::uint64_t>;

// What a plain addition does, two at a time of which lose one; seen with what went before it.
void add_plainly(Number& number) noexcept {
  number.store(number.load(std::memory_order_relaxed) + 1, std::memory_order_release);
}

// Ways to keep two words together. write(change), read(look); look may be called again.
template <typename Lock, template <typename> typename ReadGuard = std::lock_guard>
struct UnderLock {
  Lock lock;
  template <typename Change>
  void write(Change change) noexcept {
    const std::lock_guard guard(lock);
    change();
  }
  template <typename Look>
  bool read(Look look) noexcept {
    const ReadGuard<Lock> guard(lock);
    return look();
  }
};
template <typename Lock>
using UnderSharedLock = UnderLock<Lock, std::shared_lock>;
struct Unguarded {
  template <typename Change>
  void write(Change change) noexcept {
    change();
  }
  template <typename Look>
  bool read(Look look) noexcept {
    return look();
  }
};
// A count that is odd while somebody writes (Boehm, "Can Seqlocks Get Along With Programming
// Language Memory Models?", 2012). One writer. No fences, which the race detector does not know:
// the words are stored with release and loaded with acquire, so that who saw a new word sees a new
// count.
struct Seqlock {
  std::atomic<std::uint32_t> count{0};
  template <typename Change>
  void write(Change change) noexcept {
    const auto before = count.load(std::memory_order_relaxed);
    count.store(before + 1, std::memory_order_relaxed);
    change();
    count.store(before + 2, std::memory_order_release);
  }
  template <typename Look>
  bool read(Look look) noexcept {
    for (;;) {
      const auto before = count.load(std::memory_order_acquire);
      if (before % 2 != 0) {
        ::sched_yield();  // the writer may need this CPU
        continue;
      }
      const bool whole = look();
      if (count.load(std::memory_order_relaxed) == before)
        return whole;
    }
  }
};

template <typename Guard>
class PairOfWords final : public Use {
public:
  explicit PairOfWords(const UseOptions& options) : Use(options) { assemble(); }
  ~PairOfWords() override { dismiss(); }
  std::vector<Check> checks() override { return {nothing_wrong("torn readings")}; }

private:
  std::uint64_t prepare(std::uint64_t operations) override {
    const unsigned readers = count() - 1;
    readers_.store(readers);
    Use::prepare(operations);
    share_ = (operations + readers - 1) / readers;
    return share_ * readers;
  }
  void work(unsigned member) noexcept override {
    if (member == 0)
      raise();
    else
      read(member);
  }
  void raise() noexcept {
    for (std::uint64_t i = 1; readers_.load(std::memory_order_relaxed) > 0; ++i) {
      guard_.write([&] {
        add_plainly(first_);
        if (alone_ && i % 4096 == 0)
          ::sched_yield();  // on one CPU a reader comes between no other way
        add_plainly(second_);
      });
      if (alone_ && i % 4096 == 2048)
        ::sched_yield();
    }
  }
  void read(unsigned member) noexcept {
    Tally tally;
    for (; tally.done < share_; ++tally.done)
      tally.wrong += guard_.read([&] {
        const auto first = first_.load(std::memory_order_acquire);
        return first == second_.load(std::memory_order_acquire);
      })
                         ? 0
                         : 1;
    tallies_[member] = tally;
    readers_.fetch_sub(1);
  }

  alignas(line_pair) Guard guard_;
  alignas(line_pair) Number first_{0};
  alignas(line_pair) Number second_{0};
  std::atomic<unsigned> readers_{0};
};

template <typename Guard>
class Reading final : public Use {
public:
  explicit Reading(const UseOptions& options) : Use(options) { assemble(); }
  ~Reading() override { dismiss(); }
  std::vector<Check> checks() override { return {nothing_wrong("torn readings")}; }

private:
  static constexpr std::size_t words = 64;

  void work(unsigned member) noexcept override {
    Tally tally;
    std::uint64_t draw = member * 37 + 11;
    for (; tally.done < share_; ++tally.done) {
      draw = draw * 6364136223846793005u + 1442695040888963407u;
      if ((draw >> 33) % 100 >= options_.number) {
        guard_.write([&] {
          for (auto& word : table_)
            add_plainly(word);
        });
        continue;
      }
      const bool whole = guard_.read([&] {
        bool same = true;
        for (const auto& word : table_)
          same &= word.load(std::memory_order_relaxed) == table_[0].load(std::memory_order_relaxed);
        return same;
      });
      tally.wrong += whole ? 0 : 1;
    }
    tallies_[member] = tally;
  }

  alignas(line_pair) Guard guard_;
  alignas(line_pair) std::array<Number, words> table_{};
};

using Dictionary = std::unordered_map<std::uint64_t, std::uint64_t>;

// Counts words in tables; the ways differ in who may when.
class Counting : public Use {
public:
  using Use::Use;
  std::vector<Check> checks() override {
    const std::uint64_t counted = total();
    return {{"words counted", expected_, counted, counted == expected_}};
  }

protected:
  static constexpr std::uint64_t words = 4096;
  static std::uint64_t word(std::uint64_t& draw) noexcept {
    draw = draw * 6364136223846793005u + 1442695040888963407u;
    return (draw >> 33) % words;
  }
  static std::uint64_t sum(const Dictionary& table) {
    std::uint64_t all = 0;
    for (const auto& [key, count] : table)
      all += count;
    return all;
  }
  virtual std::uint64_t total() const = 0;
  void fill(Sample& sample, const Span& span) override {
    Use::fill(sample, span);
    expected_ += sample.operations;
    sample.values[options_.wrong] = harness::not_measured;  // known at the end: see the check
  }
  std::uint64_t expected_ = 0;
};

class OneLock final : public Counting {
public:
  explicit OneLock(const UseOptions& options) : Counting(options) {
    for (std::uint64_t key = 0; key < words; ++key)
      table_[key] = 0;
    assemble();
  }
  ~OneLock() override { dismiss(); }

private:
  void work(unsigned member) noexcept override {
    std::uint64_t draw = member + 1;
    for (std::uint64_t i = 0; i < share_; ++i) {
      const std::uint64_t key = word(draw);
      const std::lock_guard guard(lock_);
      ++table_[key];
    }
    tallies_[member].done = share_;
  }
  std::uint64_t total() const override { return sum(table_); }
  procs::Mutex lock_;
  Dictionary table_;
};

class Sharded final : public Counting {
public:
  explicit Sharded(const UseOptions& options) : Counting(options) {
    for (std::uint64_t key = 0; key < words; ++key)
      shards_[key % shards].table[key] = 0;
    assemble();
  }
  ~Sharded() override { dismiss(); }

private:
  static constexpr std::size_t shards = 64;
  struct alignas(line_pair) Shard {
    procs::Mutex lock;
    Dictionary table;
  };
  void work(unsigned member) noexcept override {
    std::uint64_t draw = member + 1;
    for (std::uint64_t i = 0; i < share_; ++i) {
      const std::uint64_t key = word(draw);
      Shard& shard = shards_[key % shards];
      const std::lock_guard guard(shard.lock);
      ++shard.table[key];
    }
    tallies_[member].done = share_;
  }
  std::uint64_t total() const override {
    std::uint64_t all = 0;
    for (const auto& shard : shards_)
      all += sum(shard.table);
    return all;
  }
  std::array<Shard, shards> shards_;
};

// No lock of its own: the table is safe because one thread at a time is in the interpreter.
class UnderInterpreterLock final : public Counting {
public:
  explicit UnderInterpreterLock(const UseOptions& options) : Counting(options) {
    for (std::uint64_t key = 0; key < words; ++key)
      table_[key] = 0;
    for (unsigned i = 0; i < count(); ++i)
      threads_.push_back(std::make_unique<procs::InterpreterThread>(lock_));
    assemble();
  }
  ~UnderInterpreterLock() override { dismiss(); }

private:
  void work(unsigned member) noexcept override {
    procs::InterpreterThread& thread = *threads_[member];
    const procs::HoldInterpreter hold(thread);
    std::uint64_t draw = member + 1;
    for (std::uint64_t i = 0; i < share_; ++i) {
      ++table_[word(draw)];
      thread.tick();
    }
    tallies_[member].done = share_;
  }
  std::uint64_t total() const override { return sum(table_); }
  procs::InterpreterLock lock_;
  std::vector<std::unique_ptr<procs::InterpreterThread>> threads_;
  Dictionary table_;
};

// The function that cuts, as strtok: the next word of the text that was given last.
struct Place {
  std::atomic<const char*> at{nullptr};

  // The word's length and its first letter; nothing at the end of the text.
  struct Word {
    std::size_t length = 0;
    char first = 0;
  };
  Word next(const char* text) noexcept {
    const char* from = text ? text : at.load(std::memory_order_relaxed);
    if (!from)
      return {};
    while (*from == ' ')
      ++from;
    const char* end = from;
    while (*end != ' ' && *end != 0)
      ++end;
    at.store(end, std::memory_order_relaxed);
    return {static_cast<std::size_t>(end - from), *from};
  }
};
Place static_place;

// Cuts a text of seven words of the same letter and of lengths 1 to 7.
bool cut_well(Place& place, const char* text, char letter) noexcept {
  Place::Word word = place.next(text);
  for (std::size_t length = 1; length <= 7; ++length) {
    if (word.length != length || word.first != letter)
      return false;
    word = place.next(nullptr);
  }
  return word.length == 0;
}

class Words final : public Use {
public:
  explicit Words(const UseOptions& options) : Use(options), own_(count()), texts_(count()) {
    for (unsigned i = 0; i < count(); ++i)
      for (std::size_t length = 1; length <= 7; ++length)
        texts_[i] += std::string(length, letter(i)) + ' ';
    assemble();
  }
  ~Words() override { dismiss(); }
  std::vector<Check> checks() override { return {nothing_wrong("texts cut wrongly")}; }

private:
  struct alignas(line_pair) Own {
    procs::Mutex lock;
    Place place;
  };
  static char letter(unsigned member) noexcept { return static_cast<char>('a' + member % 26); }

  void work(unsigned member) noexcept override {
    Tally tally;
    const char* const text = texts_[member].c_str();
    for (; tally.done < share_; ++tally.done) {
      tally.wrong += cut(member, text) ? 0 : 1;
      if (alone_ && tally.done % 64 == 0)
        ::sched_yield();
    }
    tallies_[member] = tally;
  }
  bool cut(unsigned member, const char* text) noexcept {
    if (options_.way == "none")
      return cut_well(static_place, text, letter(member));
    if (options_.way == "coarse") {
      const std::lock_guard guard(coarse_);
      return cut_well(static_place, text, letter(member));
    }
    const std::lock_guard guard(own_[member].lock);
    return cut_well(own_[member].place, text, letter(member));
  }

  procs::Mutex coarse_;
  std::vector<Own> own_;
  std::vector<std::string> texts_;
};

}  // namespace

std::unique_ptr<harness::Subject> make_pair_of_words(const UseOptions& options) {
  if (options.way == "none")
    return made<PairOfWords<Unguarded>>(options);
  if (options.way == "mutex")
    return made<PairOfWords<UnderLock<procs::Mutex>>>(options);
  if (options.way == "std")
    return made<PairOfWords<UnderLock<std::mutex>>>(options);
  if (options.way == "rw")
    return made<PairOfWords<UnderSharedLock<procs::RwLock>>>(options);
  if (options.way == "seqlock")
    return made<PairOfWords<Seqlock>>(options);
  no_way(options);
}

std::unique_ptr<harness::Subject> make_reading(const UseOptions& options) {
  if (options.way == "procs")
    return made<Reading<UnderSharedLock<procs::RwLock>>>(options);
  if (options.way == "std")
    return made<Reading<UnderSharedLock<std::shared_mutex>>>(options);
  if (options.way == "mutex")
    return made<Reading<UnderLock<procs::Mutex>>>(options);
  if (options.way == "std-mutex")
    return made<Reading<UnderLock<std::mutex>>>(options);
  no_way(options);
}

std::unique_ptr<harness::Subject> make_dictionary(const UseOptions& options) {
  if (options.way == "gil")
    return made<UnderInterpreterLock>(options);
  if (options.way == "one-lock")
    return made<OneLock>(options);
  if (options.way == "sharded")
    return made<Sharded>(options);
  no_way(options);
}

std::unique_ptr<harness::Subject> make_words(const UseOptions& options) {
  return made<Words>(options);
}

}  // namespace schedlab::apparatus
