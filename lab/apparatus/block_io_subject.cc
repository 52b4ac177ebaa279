#include "lab/apparatus/block_io_subject.hh"

#include "lab/apparatus/task_times.hh"
#include "lab/apparatus/team.hh"
#include "lab/apparatus/witness.hh"
#include "lab/base/error.hh"

namespace schedlab::apparatus {

namespace {

class BlockIoSubject final : public harness::Subject {
public:
  explicit BlockIoSubject(BlockIoSeries series) : series_(std::move(series)) {}

  harness::Sample sample(std::uint64_t operations) override {
    stand_on(series_.cpu, series_.usable);
    if (series_.file)
      prepare_cache();
    BlockIo& io = *series_.io;
    io.latencies().clear();
    const BlockIoCounts before = io.counts();
    const auto read_before = bytes_from_devices();
    witness_.begin();
    times_.begin();
    const double elapsed_ns = io.run(operations);
    const CpuTimes used = times_.end();
    const TaskRecord record = witness_.end();
    const auto read_after = bytes_from_devices();
    io.settle();
    harness::Sample sample;
    sample.operations = operations;
    sample.elapsed_ns = elapsed_ns;
    sample.proof = prove(record, series_.cpu, elapsed_ns, false);
    fill(sample, used, before, io.counts());
    if (read_before && read_after)
      set(sample, series_.metrics.device,
          static_cast<double>(*read_after - *read_before) /
              (static_cast<double>(operations) * block_size));
    return sample;
  }

  std::vector<harness::Check> checks() override {
    const BlockIoCounts counts = series_.io->counts();
    auto checks = series_.io->checks();
    checks.push_back({"requests that failed or ended short", 0, counts.failed, counts.failed == 0});
    if (counts.looked > 0)
      checks.push_back(
          {"blocks looked at that were another's", 0, counts.wrong, counts.wrong == 0});
    if (series_.file && series_.cache == CacheState::cached)
      checks.push_back({"pages of the file in the page cache, at the least", series_.file->pages(),
                        least_cached_, least_cached_ == series_.file->pages()});
    if (series_.file && series_.cache == CacheState::dropped && !series_.around_cache)
      checks.push_back(
          {"pages of the file in the page cache before a sample", 0, most_left_, most_left_ == 0});
    return checks;
  }

private:
  void prepare_cache() {
    series_.file->bring(series_.cache);
    const std::uint64_t resident = series_.file->resident();
    least_cached_ = std::min(least_cached_, resident);
    most_left_ = std::max(most_left_, resident);
  }

  static void set(harness::Sample& sample, std::size_t metric, double value) {
    if (metric != no_metric)
      sample.values[metric] = value;
  }

  void fill(harness::Sample& sample, const CpuTimes& used, const BlockIoCounts& before,
            const BlockIoCounts& after) {
    const BlockIoMetrics& metrics = series_.metrics;
    const auto requests = static_cast<double>(sample.operations);
    const auto calls = static_cast<double>(after.calls - before.calls);
    const auto seen = static_cast<double>(used.own_ns + used.others_ns);
    const double cpu_ns = series_.io->cpu_ns().value_or(seen);
    set(sample, metrics.time, sample.elapsed_ns / requests);
    set(sample, metrics.rate, requests * 1e9 / sample.elapsed_ns);
    set(sample, metrics.cpu, cpu_ns / requests);
    set(sample, metrics.helpers, static_cast<double>(used.others_ns) / requests);
    set(sample, metrics.calls, calls / requests);
    if (calls > 0)
      set(sample, metrics.per_call, requests / calls);
    if (series_.keeps_cpu_busy)
      sample.proof.foreign_ns = sample.elapsed_ns - cpu_ns;
    const harness::Histogram& timed = series_.io->latencies();
    if (timed.count() >= harness::samples_needed(0.5))
      set(sample, metrics.p50, timed.percentile(0.5));
    if (timed.count() >= harness::samples_needed(0.99))
      set(sample, metrics.p99, timed.percentile(0.99));
  }

  BlockIoSeries series_;
  Witness witness_;
  TaskTimes times_;
  std::uint64_t least_cached_ = ~std::uint64_t{0};
  std::uint64_t most_left_ = 0;
};

}  // namespace

std::unique_ptr<harness::Subject> make_block_io_subject(BlockIoSeries series) {
  return std::make_unique<BlockIoSubject>(std::move(series));
}

}  // namespace schedlab::apparatus
