#include "lab/apparatus/crew.hh"

#include "lab/base/clock.hh"

#include <algorithm>

namespace schedlab::apparatus {

std::vector<unsigned> dealt_out(const std::vector<unsigned>& cpus, std::size_t threads) {
  std::vector<unsigned> dealt;
  for (std::size_t i = 0; i < threads; ++i)
    dealt.push_back(cpus[i % cpus.size()]);
  return dealt;
}

Crew::Crew(const CrewOptions& options)
    : options_(options), times_(options.cpus.size()),
      gate_(static_cast<std::uint32_t>(options.cpus.size())) {}

void Crew::assemble() {
  team_.emplace(TaskOptions{},
                std::vector<std::optional<unsigned>>(options_.cpus.begin(), options_.cpus.end()),
                options_.usable, [this](unsigned member, std::uint64_t) {
                  gate_.arrive_and_wait();
                  times_[member].begin = clock::begin();
                  work(member);
                  times_[member].end = clock::end();
                });
}

harness::Sample Crew::sample(std::uint64_t operations) {
  const std::uint64_t planned = prepare(operations);
  team_->start(1);
  const auto records = team_->finish();
  std::uint64_t begin = times_.front().begin;
  std::uint64_t end = times_.front().end;
  for (const Times& times : times_) {
    begin = std::min(begin, times.begin);
    end = std::max(end, times.end);
  }
  Span span{.wall_ns = clock::ns(begin, end)};
  for (const auto& record : records) {
    span.cpu_ns += static_cast<double>(record.cpu_ns);
    span.sleeps += static_cast<double>(record.voluntary);
    span.switches += static_cast<double>(record.switches());
  }
  harness::Sample sample;
  sample.operations = planned;
  sample.elapsed_ns = span.wall_ns;
  const std::vector<std::optional<unsigned>> places(options_.cpus.begin(), options_.cpus.end());
  sample.proof = prove(records, places, span.wall_ns, false, !all_apart(places));
  fill(sample, span);
  return sample;
}

}  // namespace schedlab::apparatus
