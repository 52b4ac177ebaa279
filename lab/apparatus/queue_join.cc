#include "lab/apparatus/queue_join.hh"

#include "lab/base/child.hh"
#include "lab/base/clock.hh"
#include "procs/feeder_queue.hh"

namespace schedlab::apparatus {

namespace {

using procs::FeederQueue;
using procs::Outcome;

// A child that can end does so within a millisecond or two; one that cannot never does.
constexpr int given_up_after_ms = 60;
constexpr int at_last_ms = 10'000;

class QueueJoin final : public harness::Subject {
public:
  explicit QueueJoin(const QueueJoinOptions& options) : options_(options) {}

  harness::Sample sample(std::uint64_t operations) override {
    const auto begin = clock::begin();
    std::uint64_t ended = 0;
    for (std::uint64_t i = 0; i < operations; ++i)
      ended += play();
    harness::Sample sample;
    sample.operations = operations;
    sample.elapsed_ns = clock::ns(begin, clock::end());
    sample.values[options_.ended_metric] =
        static_cast<double>(ended) / static_cast<double>(operations);
    return sample;
  }

  std::vector<harness::Check> checks() override {
    return {{"items that arrived whole", harness::Value(played_), harness::Value(whole_),
             whole_ == played_},
            {"children that ended in the end", harness::Value(played_), harness::Value(left_),
             left_ == played_}};
  }

private:
  // Whether the child ended when it was waited for.
  bool play() {
    FeederQueue queue;
    Child child = Child::fork([&] {
      queue.join(procs::Side::sender);
      queue.put(FeederQueue::Bytes(options_.bytes, std::byte{7}));
      queue.close();
      queue.join_feeder();  // as a process of CPython's does at its end
      return 0;
    });
    queue.join(procs::Side::receiver);
    ++played_;
    FeederQueue::Bytes item;
    std::optional<ExitCause> cause;
    if (!options_.get_first)
      cause = child.wait_for(given_up_after_ms);
    const bool ended = cause.has_value();
    const Outcome outcome = queue.get(item, clock::now_ns() + at_last_ms * 1'000'000LL);
    whole_ += outcome == Outcome::done && item.size() == options_.bytes;
    if (!cause)
      cause = child.wait_for(at_last_ms);
    left_ += cause && cause->success();
    return ended || (options_.get_first && cause);
  }

  QueueJoinOptions options_;
  std::uint64_t played_ = 0;
  std::uint64_t whole_ = 0;
  std::uint64_t left_ = 0;
};

}  // namespace

std::unique_ptr<harness::Subject> make_queue_join(const QueueJoinOptions& options) {
  return std::make_unique<QueueJoin>(options);
}

}  // namespace schedlab::apparatus
