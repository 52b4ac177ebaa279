#include "lab/apparatus/stream_crew.hh"

#include "affinity/memory.hh"
#include "lab/base/clock.hh"

#include <fmt/format.h>

#include <algorithm>
#include <atomic>
#include <numeric>
#include <utility>

namespace schedlab::apparatus {

namespace {

constexpr std::size_t looked_at = 256;  // chunks of a part whose node is asked for
constexpr double enough = 0.95;         // of the pages, of the right kind and on the right node

std::uint64_t round_up(std::uint64_t size, std::uint64_t unit) {
  return (size + unit - 1) / unit * unit;
}

}  // namespace

std::vector<std::optional<unsigned>> StreamMemoryOptions::places() const {
  std::vector<std::optional<unsigned>> places;
  for (const auto& owner : owners)
    places.emplace_back(owner.cpu);
  return places;
}

StreamPart::StreamPart(const StreamMemoryOptions& options)
    : array_bytes_(round_up(options.chunk * options.chunks, page_size())),
      area_({.size = 3 * array_bytes_, .pages = options.pages, .node = {}, .shared = false}),
      chunk_count_(options.chunk / sizeof(double)), results_(options.chunks, stream_c) {
  const std::size_t array_count = array_bytes_ / sizeof(double);
  auto* const first = area_.as<double>();
  arrays_ = {first, first + array_count, first + 2 * array_count, chunk_count_ * options.chunks};
  fill_stream(arrays_);
}

std::uint64_t StreamPart::wrong() const noexcept {
  std::uint64_t wrong = 0;
  for (std::size_t i = 0; i < chunks(); ++i)
    wrong += wrong_elements(chunk(i), results_[i]);
  return wrong;
}

double StreamPart::share_on(int node) const {
  const std::size_t every = std::max<std::size_t>(chunks() / looked_at, 1);
  std::size_t right = 0;
  std::size_t all = 0;
  for (std::size_t i = 0; i < chunks(); i += every)
    for (const double* first : {chunk(i).a, chunk(i).b, chunk(i).c}) {
      const auto nodes = affinity::nodes_of({reinterpret_cast<const std::byte*>(first), 1});
      right += nodes.front() == node ? 1 : 0;
      ++all;
    }
  return static_cast<double>(right) / static_cast<double>(all);
}

StreamMemory::StreamMemory(const StreamMemoryOptions& options)
    : options_(options), parts_(options.owners.size()) {
  on_owners([this](unsigned owner) { parts_[owner] = std::make_unique<StreamPart>(options_); });
}

void StreamMemory::on_owners(const std::function<void(unsigned)>& work) const {
  std::vector<std::exception_ptr> failures(options_.owners.size());
  Team team({}, options_.places(), options_.usable, [&](unsigned owner, std::uint64_t) {
    try {
      work(owner);
    } catch (...) {
      failures[owner] = std::current_exception();
    }
  });
  team.start(1);
  team.finish();
  for (const auto& failure : failures)
    if (failure)
      std::rethrow_exception(failure);
}

double StreamMemory::next_scalar() noexcept {
  checks_.clear();
  return 0.25 * static_cast<double>(1 + runs_++ % 1024);
}

const std::vector<harness::Check>& StreamMemory::checks() {
  if (!checks_.empty())
    return checks_;
  const auto allowed = affinity::allowed_nodes();
  std::vector<std::uint64_t> wrong(parts());
  std::vector<double> granted(parts(), 1.0);
  std::vector<double> at_home(parts(), 1.0);
  std::atomic<bool> looked = false;
  on_owners([&](unsigned owner) {
    const int node = options_.owners[owner].node;
    wrong[owner] = parts_[owner]->wrong();
    granted[owner] = parts_[owner]->granted();
    // A node that this process may not use cannot be where its pages are.
    if (std::ranges::find(allowed, static_cast<unsigned>(node)) != allowed.end()) {
      at_home[owner] = parts_[owner]->share_on(node);
      looked = true;
    }
  });
  const std::uint64_t all_wrong = std::reduce(wrong.begin(), wrong.end(), wrong_sums_);
  const double least = *std::ranges::min_element(granted);
  checks_ = {{"elements and sums with a wrong value", 0, all_wrong, all_wrong == 0},
             {fmt::format("share of memory on {} pages", to_text(options_.pages)), 1.0, least,
              least >= enough}};
  if (looked) {
    const double nearest = *std::ranges::min_element(at_home);
    checks_.push_back({"share of chunks on their worker's node", 1.0, nearest, nearest >= enough});
  }
  return checks_;
}

std::vector<StreamLot> deal(StreamMemory& memory, std::size_t workers, Deal how) {
  std::vector<StreamLot> lots(workers);
  const std::size_t parts = how == Deal::one_each ? workers : memory.parts();
  for (std::size_t part = 0; part < parts; ++part)
    lots[part * workers / parts].parts.push_back(&memory.part(part));
  return lots;
}

StreamCrew::StreamCrew(const std::vector<unsigned>& cpus, const affinity::CpuSet& usable)
    : places_(cpus.begin(), cpus.end()), times_(cpus.size()),
      line_(static_cast<unsigned>(cpus.size())),
      team_({}, places_, usable,
            [this](unsigned member, std::uint64_t rounds) { play(member, rounds); }) {}

void StreamCrew::play(unsigned member, std::uint64_t rounds) noexcept {
  Times& times = times_[member];
  StreamLot& lot = (*lots_)[member];
  const auto [kernel, pass, s, whole] = work_;
  const bool writes = kernel != StreamKernel::read;
  const double result = expected_result(kernel, s, stream_c);
  std::uint64_t sum = 0;
  line_.wait();
  if (lot.parts.size() == 1 && lot.parts.front()->chunks() == 1) {
    // A pass over an L1 cache takes 60 ns: looking the chunk up each time would show.
    const StreamArrays arrays = lot.parts.front()->chunk(0);
    times.begin = clock::begin();
    for (std::uint64_t round = 0; round < rounds; ++round)
      sum += pass(arrays, s);
    times.end = clock::end();
    if (writes && rounds > 0)
      lot.parts.front()->expect(0, result);
  } else {
    times.begin = clock::begin();
    for (std::uint64_t round = 0; round < rounds; ++round) {
      StreamPart& part = *lot.parts[lot.turn];
      lot.turn = lot.turn + 1 == lot.parts.size() ? 0 : lot.turn + 1;
      if (whole) {
        sum += pass(part.whole(), s);
        part.expect_everywhere(result);
        continue;
      }
      const std::size_t chunk = part.take();
      sum += pass(part.chunk(chunk), s);
      if (writes)
        part.expect(chunk, result);
    }
    times.end = clock::end();
  }
  times.sum = sum;
}

StreamCrew::Run StreamCrew::run(std::vector<StreamLot>& lots, const Work& work,
                                std::uint64_t rounds) {
  lots_ = &lots;
  work_ = work;
  team_.start(rounds);
  const auto records = team_.finish();

  const StreamPart& one = *lots.front().parts.front();
  const std::size_t count = work.whole ? one.whole().count : one.chunk(0).count;
  const std::uint64_t sum = rounds * expected_sum(work.kernel, count);
  const Times& first = times_.front();
  std::uint64_t begin = first.begin, last_begin = first.begin;
  std::uint64_t end = first.end, first_end = first.end;
  double foreign_ns = 0;
  Run run;
  for (std::size_t i = 0; i < times_.size(); ++i) {
    const Times& times = times_[i];
    begin = std::min(begin, times.begin);
    last_begin = std::max(last_begin, times.begin);
    first_end = std::min(first_end, times.end);
    end = std::max(end, times.end);
    const double spent_ns = clock::ns(times.begin, times.end);
    foreign_ns = std::max(foreign_ns, spent_ns - static_cast<double>(records[i].cpu_ns));
    run.wrong_sums += times.sum == sum ? 0 : 1;
  }
  run.window_ns = clock::ns(begin, end);
  run.common_ns = std::max(clock::ns(last_begin, first_end), 0.0);
  run.proof = prove(records, places_, run.window_ns, false);
  // Each worker keeps a CPU of its own busy; the one that lost most of it counts.
  run.proof.foreign_ns = foreign_ns;
  return run;
}

namespace {

class Stream : public harness::Subject {
public:
  Stream(std::shared_ptr<StreamCrew> crew, std::shared_ptr<StreamMemory> memory, Deal how,
         const StreamSubject& subject)
      : crew_(std::move(crew)), memory_(std::move(memory)),
        lots_(deal(*memory_, crew_->workers(), how)),
        subject_(subject), work_{.kernel = subject.kernel,
                                 .pass = stream_pass(subject.kernel, subject.stores, subject.set),
                                 .whole = subject.stores == Stores::library},
        count_(work_.whole ? memory_->part(0).whole().count : memory_->chunk_count()) {}

  harness::Sample sample(std::uint64_t operations) override {
    work_.scalar = memory_->next_scalar();
    const auto run = crew_->run(lots_, work_, operations);
    memory_->add_wrong_sums(run.wrong_sums);
    const double window_ns = std::max(run.window_ns, 1.0);
    const auto elements = static_cast<double>(operations * count_);
    const double share =
        elements * static_cast<double>(stream_bytes(subject_.kernel)) / window_ns * 1e9;
    harness::Sample sample;
    sample.operations = operations;
    sample.elapsed_ns = run.window_ns;
    sample.proof = run.proof;
    sample.values[subject_.rate_metric] = share * static_cast<double>(crew_->workers());
    sample.values[subject_.share_metric] = share;
    sample.values[subject_.common_metric] = run.common_ns / window_ns;
    return sample;
  }

  std::vector<harness::Check> checks() override { return memory_->checks(); }

private:
  std::shared_ptr<StreamCrew> crew_;
  std::shared_ptr<StreamMemory> memory_;
  std::vector<StreamLot> lots_;
  StreamSubject subject_;
  StreamCrew::Work work_;
  std::size_t count_;  // elements of an operation
};

}  // namespace

std::unique_ptr<harness::Subject> make_stream(std::shared_ptr<StreamCrew> crew,
                                              std::shared_ptr<StreamMemory> memory, Deal how,
                                              const StreamSubject& subject) {
  return std::make_unique<Stream>(std::move(crew), std::move(memory), how, subject);
}

}  // namespace schedlab::apparatus
