// Words of 8 bytes from one pinned thread to another through a bounded queue of one producer and
// one consumer: ours beside boost::lockfree::spsc_queue, and rigtorp::SPSCQueue where its header is
// installed. All are driven by the same loops, which try again after some pauses. Prints millions
// of words a second, by CLOCK_MONOTONIC from before the first word until the consumer has the last.
//
//   spsc_peer CPU CPU ours|ours-waits|ours-may-sleep|ours-batch|boost|boost-batch|rigtorp CAPACITY
//     WORDS
//
// CAPACITY is 16, 1024 or 65536, because Boost's queue is quicker with one fixed at compile time.
// Exit status 77 where the queue is not there.
#include "lab/base/keep.hh"
#include "lab/base/mapping.hh"
#include "procs/spsc_ring.hh"
#include "tests/peers/second.hh"

#include <array>
#include <atomic>
#include <boost/lockfree/spsc_queue.hpp>
#include <memory>
#include <span>
#include <string_view>
#include <thread>
#if __has_include(<rigtorp/SPSCQueue.h>)
#include <rigtorp/SPSCQueue.h>
#endif

namespace {

using Word = std::uint64_t;
constexpr std::size_t at_once = 16;
constexpr int not_there = 77;

struct Task {
  std::size_t cpus[2];
  Word words;
};

template <std::size_t Capacity>
class Ours {
public:
  explicit Ours(bool sleeps)
      : memory_(schedlab::Mapping::private_memory(Ring::bytes(Capacity))),
        ring_(Ring::make(memory_.bytes(), Capacity,
                         {.sleeps = sleeps, .scope = schedlab::procs::Bell::Scope::threads})) {}
  auto producer() { return ring_.producer(); }
  auto consumer() { return ring_.consumer(); }

private:
  using Ring = schedlab::procs::SpscRing<Word>;
  schedlab::Mapping memory_;
  Ring ring_;
};

template <std::size_t Capacity>
class Boost {
public:
  class End {
  public:
    explicit End(Boost& queue) : queue_(&queue.queue_) {}
    bool try_push(Word word) { return queue_->push(word); }
    bool try_pop(Word& word) { return queue_->pop(word); }
    std::size_t push_some(std::span<const Word> words) {
      return queue_->push(words.data(), words.size());
    }
    std::size_t pop_some(std::span<Word> words) { return queue_->pop(words.data(), words.size()); }

  private:
    boost::lockfree::spsc_queue<Word, boost::lockfree::capacity<Capacity>>* queue_;
  };
  End producer() { return End(*this); }
  End consumer() { return End(*this); }

private:
  boost::lockfree::spsc_queue<Word, boost::lockfree::capacity<Capacity>> queue_;
};

#if __has_include(<rigtorp/SPSCQueue.h>)
template <std::size_t Capacity>
class Rigtorp {
public:
  class End {
  public:
    explicit End(Rigtorp& queue) : queue_(&queue.queue_) {}
    bool try_push(Word word) { return queue_->try_push(word); }
    bool try_pop(Word& word) {
      const Word* const front = queue_->front();
      if (!front)
        return false;
      word = *front;
      queue_->pop();
      return true;
    }

  private:
    rigtorp::SPSCQueue<Word>* queue_;
  };
  End producer() { return End(*this); }
  End consumer() { return End(*this); }

private:
  rigtorp::SPSCQueue<Word> queue_{Capacity};
};
#endif

// Of 1, 4 and 8 pauses, those with which both queues were quickest at most capacities.
void pause() {
  for (int i = 0; i < 8; ++i)
    schedlab::pause_cpu();
}

template <typename End>
void produce(End end, Word words) {
  for (Word i = 0; i < words; ++i)
    while (!end.try_push(i))
      pause();
}

// How many words were not those whose turn it was.
template <typename End>
Word consume(End end, Word words) {
  Word wrong = 0, word = 0;
  for (Word i = 0; i < words; ++i) {
    while (!end.try_pop(word))
      pause();
    wrong += word != i;
  }
  return wrong;
}

// Ours with its own way to wait, which spins as well.
constexpr schedlab::procs::Wait spinning{.patience = {schedlab::procs::Patience::forever}};

template <typename End>
void push_all(End end, Word words) {
  for (Word i = 0; i < words; ++i)
    end.push(i, spinning);
}

template <typename End>
Word pop_all(End end, Word words) {
  Word wrong = 0, word = 0;
  for (Word i = 0; i < words; ++i) {
    end.pop(word, spinning);
    wrong += word != i;
  }
  return wrong;
}

template <typename End>
void produce_batches(End end, Word words) {
  std::array<Word, at_once> batch;
  for (Word next = 0; next < words;) {
    const auto count = std::min<Word>(at_once, words - next);
    for (Word i = 0; i < count; ++i)
      batch[i] = next + i;
    std::size_t done = end.push_some(std::span<const Word>(batch).first(count));
    if (done == 0)
      pause();
    next += done;
  }
}

template <typename End>
Word consume_batches(End end, Word words) {
  std::array<Word, at_once> batch;
  Word wrong = 0;
  for (Word next = 0; next < words;) {
    const std::size_t count = end.pop_some(batch);
    if (count == 0)
      pause();
    for (std::size_t i = 0; i < count; ++i)
      wrong += batch[i] != next++;
  }
  return wrong;
}

enum class Way { pause, wait, batch };

template <Way way, typename Queue>
int measure(const Task& task, Queue& queue) {
  std::atomic<int> there{0};
  const auto meet = [&] {
    ++there;
    while (there < 2)
      schedlab::pause_cpu();
  };
  std::int64_t begin = 0;
  std::jthread producer([&] {
    second::pin(task.cpus[1]);
    meet();
    begin = second::now();
    if constexpr (way == Way::batch)
      produce_batches(queue.producer(), task.words);
    else if constexpr (way == Way::wait)
      push_all(queue.producer(), task.words);
    else
      produce(queue.producer(), task.words);
  });
  second::pin(task.cpus[0]);
  meet();
  Word wrong = 0;
  if constexpr (way == Way::batch)
    wrong = consume_batches(queue.consumer(), task.words);
  else if constexpr (way == Way::wait)
    wrong = pop_all(queue.consumer(), task.words);
  else
    wrong = consume(queue.consumer(), task.words);
  const std::int64_t end = second::now();
  producer.join();
  std::printf("%.3f\n", static_cast<double>(task.words) * 1e3 / static_cast<double>(end - begin));
  return wrong == 0 ? 0 : 1;
}

template <std::size_t Capacity>
int run(const Task& task, std::string_view queue) {
  if (queue.starts_with("ours")) {
    Ours<Capacity> ours(queue == "ours-may-sleep");
    if (queue == "ours-batch")
      return measure<Way::batch>(task, ours);
    return queue == "ours-waits" ? measure<Way::wait>(task, ours) : measure<Way::pause>(task, ours);
  }
  if (queue.starts_with("boost")) {
    const auto boost = std::make_unique<Boost<Capacity>>();
    return queue == "boost-batch" ? measure<Way::batch>(task, *boost)
                                  : measure<Way::pause>(task, *boost);
  }
#if __has_include(<rigtorp/SPSCQueue.h>)
  if (queue == "rigtorp") {
    Rigtorp<Capacity> rigtorp;
    return measure<Way::pause>(task, rigtorp);
  }
#endif
  return not_there;
}

}  // namespace

int main(int argc, char** argv) {
  if (argc != 6)
    return 2;
  const Task task{{second::number(argv[1]), second::number(argv[2])}, second::number(argv[5])};
  switch (second::number(argv[4])) {
  case 16:
    return run<16>(task, argv[3]);
  case 1024:
    return run<1024>(task, argv[3]);
  case 65536:
    return run<65536>(task, argv[3]);
  default:
    return 2;
  }
}
