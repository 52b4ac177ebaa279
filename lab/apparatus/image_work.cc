#include "lab/apparatus/image_work.hh"

#include "affinity/pin.hh"
#include "iouring/gather.hh"
#include "iouring/http_client.hh"
#include "iouring/run_in_executor.hh"
#include "lab/apparatus/blocking_http.hh"
#include "lab/apparatus/images.hh"
#include "lab/apparatus/memory_rollup.hh"
#include "lab/apparatus/team.hh"
#include "lab/base/clock.hh"
#include "lab/base/mapping.hh"
#include "procs/sealed_memory.hh"
#include "procs/thread_pool.hh"

#include <sys/resource.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <cstring>
#include <ctime>
#include <stdexcept>

namespace schedlab::apparatus {

namespace {

using harness::Check;
using harness::Sample;
using iouring::Task;

constexpr int quality = 85;  // of the pictures
constexpr std::array<std::string_view, 3> stage_names = {"fetch", "process", "pipeline"};
constexpr std::array<std::string_view, 4> arm_names = {"sequential", "threads", "processes",
                                                       "tasks"};

std::span<const std::byte> bytes_of(std::string_view text) {
  return std::as_bytes(std::span(text));
}

// What came of one picture of a batch. Written by whoever took it, read when the batch is done.
struct Slot {
  std::uint32_t taken = 0;  // times; 1
  std::uint32_t size = 0;   // bytes that came out
  bool as_sent = false;     // fetched: the picture that was sent
};

// Where the batch, and what comes of it, lies: in memory of this process, or in an arena that
// processes share.
class Board {
public:
  Board(std::size_t pictures, std::size_t workers, std::size_t in_bytes, std::size_t out_bytes,
        bool shared)
      : pictures_(pictures), in_bytes_(in_bytes), out_bytes_(out_bytes) {
    slots_at_ = sizeof(Head) + workers * sizeof(pid_t);
    slots_at_ = (slots_at_ + alignof(Slot) - 1) / alignof(Slot) * alignof(Slot);
    in_at_ = slots_at_ + pictures * sizeof(Slot);
    out_at_ = in_at_ + pictures * in_bytes;
    const std::size_t size = out_at_ + pictures * out_bytes;
    if (shared)
      arena_ = procs::SealedMemory::make(size, "pictures");
    else
      own_ = Mapping::private_memory(size);
    base_ = shared ? arena_.data() : own_.data();
    new (base_) Head;
    for (std::size_t i = 0; i < pictures; ++i)
      new (&slot(i)) Slot;
  }

  void begin() noexcept {
    for (std::size_t i = 0; i < pictures_; ++i)
      slot(i) = Slot{};
    head().next.store(0, std::memory_order_relaxed);
  }
  // The next picture that nobody has taken; past the last one when all are.
  std::size_t take() noexcept { return head().next.fetch_add(1, std::memory_order_relaxed); }
  [[nodiscard]] std::size_t pictures() const noexcept { return pictures_; }
  [[nodiscard]] Slot& slot(std::size_t i) const noexcept {
    return reinterpret_cast<Slot*>(base_ + slots_at_)[i];
  }
  [[nodiscard]] std::span<std::byte> in(std::size_t i) const noexcept {
    return {base_ + in_at_ + i * in_bytes_, in_bytes_};
  }
  [[nodiscard]] std::span<std::byte> out(std::size_t i) const noexcept {
    return {base_ + out_at_ + i * out_bytes_, out_bytes_};
  }
  [[nodiscard]] pid_t& pid(std::size_t worker) const noexcept {
    return reinterpret_cast<pid_t*>(base_ + sizeof(Head))[worker];
  }
  // The first failure is kept.
  void fail(std::string_view why) noexcept {
    if (!head().failed.exchange(true))
      why.copy(head().why, sizeof head().why - 1);
  }
  void throw_failure() const {
    if (head().failed)
      throw std::runtime_error(head().why);
  }

private:
  struct Head {
    std::atomic<std::size_t> next{0};
    std::atomic<bool> failed{false};
    char why[240] = {};
  };
  [[nodiscard]] Head& head() const noexcept { return *reinterpret_cast<Head*>(base_); }

  std::size_t pictures_, in_bytes_, out_bytes_;
  std::size_t slots_at_ = 0, in_at_ = 0, out_at_ = 0;
  procs::SealedMemory arena_;
  Mapping own_;
  std::byte* base_ = nullptr;
};

// CPU time that the kernel charges processes with: this one as getrusage has it, others as their
// process clocks do. A second way to what threads read of their own clocks. Nothing where one has
// not begun.
std::optional<double> charged_ns(std::span<const pid_t> others) {
  rusage usage{};
  ::getrusage(RUSAGE_SELF, &usage);
  std::int64_t sum = clock::to_ns(usage.ru_utime) + clock::to_ns(usage.ru_stime);
  for (const pid_t pid : others) {
    clockid_t id{};
    timespec time{};
    if (pid == 0 || ::clock_getcpuclockid(pid, &id) != 0 || ::clock_gettime(id, &time) != 0)
      return {};
    sum += clock::to_ns(time);
  }
  return static_cast<double>(sum);
}

iouring::HttpRequest request_for(const ImageStore& store, std::size_t index) {
  iouring::HttpRequest request;
  request.target = FetchServer::document(store.options().latency, index);
  request.headers.add("Host", "localhost");
  return request;
}

// Measures batches; how one is done is the derived class's.
class ImageWork : public harness::Subject {
public:
  ImageWork(std::shared_ptr<ImageStore> store, const ImageOptions& options)
      : store_(std::move(store)), options_(options), pictures_(store_->pictures()),
        board_(pictures_.size(), options.workers, largest(pictures_),
               JpegCodec::most_bytes(store_->options().width / ThumbnailMaker::factor,
                                     store_->options().height / ThumbnailMaker::factor),
               options.arm == ImageArm::processes) {
    if (options.stage != ImageStage::fetch)
      thumbnails_ = store_->thumbnails();
  }

  Sample sample(std::uint64_t operations) override {
    const affinity::Pin pin(options_.cpus);
    cpu_ns_ = copied_ = 0;
    const auto charged_before = charged_ns(others());
    const auto begin = clock::begin();
    for (std::uint64_t i = 0; i < operations; ++i) {
      board_.begin();
      run();
    }
    const auto end = clock::end();
    board_.throw_failure();
    if (const auto charged = charged_ns(others()); charged && charged_before)
      compare_cpu(*charged - *charged_before);
    look_at_results();
    if (!memory_)
      memory_ = measure_memory();
    const auto pictures = static_cast<double>(operations * pictures_.size());
    Sample sample;
    sample.operations = operations;
    sample.elapsed_ns = clock::ns(begin, end);
    sample.proof.wall_ns = sample.elapsed_ns;
    sample.values[options_.metrics.batch] = sample.elapsed_ns / static_cast<double>(operations);
    sample.values[options_.metrics.cores] = cpu_ns_ / sample.elapsed_ns;
    sample.values[options_.metrics.cpu] = cpu_ns_ / pictures;
    sample.values[options_.metrics.copied] = copied_ / pictures;
    sample.values[options_.metrics.memory] = *memory_;
    return sample;
  }

  std::vector<Check> checks() override {
    const bool fetches = options_.stage == ImageStage::fetch;
    return {
        {"pictures taken once each", looked_at_, taken_once_, looked_at_ == taken_once_},
        {fetches ? "pictures that came as they were sent" : "thumbnails as one thread makes them",
         looked_at_, same_, looked_at_ == same_},
        {"ns of CPU time, as the kernel charged it to the processes", counted_ns_, charged_ns_,
         charged_ns_ >= least_charged_ns_ && charged_ns_ <= most_charged_ns_}};
  }

protected:
  // Does one batch, and adds to cpu_ns_ and copied_.
  virtual void run() = 0;
  // The processes at work beside this one.
  [[nodiscard]] virtual std::vector<pid_t> others() const { return {}; }

  // What is done with a picture once it is there. Does not throw.
  void finish(std::size_t i, std::span<const std::byte> jpeg, ThumbnailMaker& maker) noexcept {
    Slot& slot = board_.slot(i);
    ++slot.taken;
    try {
      if (options_.stage == ImageStage::fetch)
        slot.as_sent = std::ranges::equal(jpeg, bytes_of(pictures_[i]));
      else
        slot.size = static_cast<std::uint32_t>(maker.make(jpeg, board_.out(i)));
    } catch (const std::exception& failure) {
      board_.fail(failure.what());
    }
  }

  [[nodiscard]] ImageStore& store() const noexcept { return *store_; }
  [[nodiscard]] const ImageOptions& options() const noexcept { return options_; }
  [[nodiscard]] const std::vector<std::string>& pictures() const noexcept { return pictures_; }

  Board& board() noexcept { return board_; }
  [[nodiscard]] const Board& board() const noexcept { return board_; }
  double cpu_ns_ = 0;
  double copied_ = 0;

private:
  static std::size_t largest(const std::vector<std::string>& pictures) {
    return std::ranges::max(pictures, {}, &std::string::size).size();
  }
  // What is charged has more in it: falling asleep and waking up, and whoever waits for the batch;
  // and is told in microseconds.
  void compare_cpu(double charged) {
    constexpr double reading = 50'000, ends = 2'000'000;
    counted_ns_ += cpu_ns_;
    charged_ns_ += charged;
    least_charged_ns_ += 0.95 * cpu_ns_ - reading;
    most_charged_ns_ += 1.5 * cpu_ns_ + ends;
  }
  void look_at_results() {
    for (std::size_t i = 0; i < pictures_.size(); ++i) {
      const Slot& slot = board_.slot(i);
      ++looked_at_;
      taken_once_ += slot.taken == 1;
      same_ += options_.stage == ImageStage::fetch
                   ? slot.as_sent
                   : std::ranges::equal(board_.out(i).first(slot.size), bytes_of(thumbnails_[i]));
    }
  }
  [[nodiscard]] double measure_memory() const {
    const auto of = [](pid_t pid) {
      return memory_rollup(pid).value_or(MemoryRollup{}).proportional;
    };
    double sum = of(::getpid());
    for (const pid_t pid : others())
      sum += of(pid);
    return sum > 0 ? sum : harness::not_measured;
  }

  std::shared_ptr<ImageStore> store_;
  ImageOptions options_;
  std::vector<std::string> pictures_;
  std::vector<std::string> thumbnails_;
  Board board_;
  std::optional<double> memory_;
  std::uint64_t looked_at_ = 0;
  std::uint64_t taken_once_ = 0;
  std::uint64_t same_ = 0;
  double counted_ns_ = 0;  // CPU time in all samples
  double charged_ns_ = 0;
  double least_charged_ns_ = 0;  // that still agrees
  double most_charged_ns_ = 0;
};

// What each thread or process of the blocking arms has of its own.
struct Hand {
  std::optional<BlockingHttpClient> client;
  ThumbnailMaker maker;
};

// The arms whose calls block.
class BlockingImages : public ImageWork {
public:
  BlockingImages(std::shared_ptr<ImageStore> store, const ImageOptions& options)
      : ImageWork(std::move(store), options), hands_(options.workers) {
    if (options.stage == ImageStage::process)
      return;
    for (Hand& hand : hands_)
      hand.client.emplace(this->store().server().address());
    for (std::size_t i = 0; i < pictures().size(); ++i)
      requests_.push_back(hands_[0].client->text_of(request_for(this->store(), i)));
  }

protected:
  // Takes pictures until none is left.
  void work(unsigned worker) noexcept {
    Hand& hand = hands_[worker];
    for (std::size_t i = board().take(); i < pictures().size(); i = board().take()) {
      if (!hand.client) {
        finish(i, here(i), hand.maker);
        continue;
      }
      try {
        const iouring::HttpResponse response = hand.client->send(requests_[i]);
        finish(i, bytes_of(response.body), hand.maker);
      } catch (const std::exception& failure) {
        board().fail(failure.what());
      }
    }
  }
  // A picture that needs no fetching.
  [[nodiscard]] virtual std::span<const std::byte> here(std::size_t i) noexcept {
    return bytes_of(pictures()[i]);
  }

private:
  std::vector<Hand> hands_;
  std::vector<std::string> requests_;
};

class SequentialImages final : public BlockingImages {
  using BlockingImages::BlockingImages;

  void run() override {
    const std::int64_t before = clock::process_cpu_ns();
    work(0);
    cpu_ns_ += static_cast<double>(clock::process_cpu_ns() - before);
  }
};

class TeamImages final : public BlockingImages {
public:
  TeamImages(std::shared_ptr<ImageStore> store, const ImageOptions& options)
      : BlockingImages(std::move(store), options),
        team_(TaskOptions{.kind = options.arm == ImageArm::processes ? TaskKind::processes
                                                                     : TaskKind::threads},
              std::vector<std::optional<unsigned>>(options.workers), options.cpus,
              [this](unsigned worker, std::uint64_t) {
                board().pid(worker) = ::getpid();
                work(worker);
              }) {}

private:
  void run() override {
    // To another process a picture must be brought; it then lies where its thumbnail is made from.
    if (brings())
      for (std::size_t i = 0; i < pictures().size(); ++i) {
        std::memcpy(board().in(i).data(), pictures()[i].data(), pictures()[i].size());
        copied_ += static_cast<double>(pictures()[i].size());
      }
    team_.start(1);
    for (const TaskRecord& record : team_.finish())
      cpu_ns_ += static_cast<double>(record.cpu_ns);
  }
  [[nodiscard]] std::span<const std::byte> here(std::size_t i) noexcept override {
    return brings() ? board().in(i).first(pictures()[i].size()) : BlockingImages::here(i);
  }
  [[nodiscard]] bool brings() const noexcept {
    return options().arm == ImageArm::processes && options().stage == ImageStage::process;
  }
  [[nodiscard]] std::vector<pid_t> others() const override {
    std::vector<pid_t> pids;
    for (unsigned i = 0; i < options().workers && options().arm == ImageArm::processes; ++i)
      pids.push_back(board().pid(i));
    return pids;
  }

  Team team_;  // last: gone before what its members use
};

iouring::LoopOptions loop_options(const ImageOptions& options) {
  iouring::LoopOptions made;
  made.driver.choice = options.driver;
  return made;
}

class TaskImages final : public ImageWork {
public:
  TaskImages(std::shared_ptr<ImageStore> store, const ImageOptions& options)
      : ImageWork(std::move(store), options), loop_(loop_options(options)),
        makers_(pictures().size()) {
    if (options.stage != ImageStage::fetch)
      pool_.emplace(procs::ThreadPoolOptions{
          .name = "thumbnails", .workers = options.workers, .waiting = procs::Waiting::block});
    for (std::size_t i = 0; i < pictures().size(); ++i)
      clients_.emplace_back(this->store().server().address());
  }

private:
  void run() override {
    const std::int64_t before = clock::process_cpu_ns();
    loop_.run(all());
    cpu_ns_ += static_cast<double>(clock::process_cpu_ns() - before);
  }
  Task<> all() {
    std::vector<Task<>> pictures;
    pictures.reserve(clients_.size());
    for (std::size_t i = 0; i < clients_.size(); ++i)
      pictures.push_back(one(i));
    co_await iouring::gather(std::move(pictures));
  }
  Task<> one(std::size_t i) {
    const iouring::HttpResponse response = co_await clients_[i].send(request_for(store(), i));
    const auto jpeg = bytes_of(response.body);
    if (options().stage == ImageStage::fetch)
      finish(i, jpeg, makers_[i]);
    else
      co_await iouring::run_in(*pool_, [this, i, jpeg] { finish(i, jpeg, makers_[i]); });
  }

  iouring::Loop loop_;
  std::vector<iouring::HttpClient> clients_;
  std::vector<ThumbnailMaker> makers_;  // one for each picture that may be in work at once
  std::optional<procs::ThreadPool> pool_;
};

}  // namespace

std::string_view to_text(ImageStage stage) noexcept {
  return stage_names[static_cast<std::size_t>(stage)];
}

std::string_view to_text(ImageArm arm) noexcept {
  return arm_names[static_cast<std::size_t>(arm)];
}

void ImageStore::make() {
  if (!pictures_.empty())
    return;
  JpegCodec codec;
  ThumbnailMaker maker;
  std::vector<std::byte> space(JpegCodec::most_bytes(options_.width, options_.height));
  const auto text = [&](std::size_t size) {
    return std::string(reinterpret_cast<const char*>(space.data()), size);
  };
  for (unsigned i = 0; i < options_.pictures; ++i) {
    const Picture picture = draw_picture(options_.seed, i, options_.width, options_.height);
    pictures_.push_back(text(codec.encode(picture, quality, space)));
    thumbnails_.push_back(text(maker.make(bytes_of(pictures_.back()), space)));
  }
}

const std::vector<std::string>& ImageStore::pictures() {
  make();
  return pictures_;
}

const std::vector<std::string>& ImageStore::thumbnails() {
  make();
  return thumbnails_;
}

const FetchServer& ImageStore::server() {
  if (!server_) {
    FetchServerOptions options;
    options.driver = options_.driver;
    options.documents = pictures();
    server_ = std::make_unique<FetchServer>(options);
  }
  return *server_;
}

std::unique_ptr<harness::Subject> make_image_work(std::shared_ptr<ImageStore> store,
                                                  const ImageOptions& options) {
  const affinity::Pin pin(options.cpus);
  switch (options.arm) {
  case ImageArm::sequential:
    return std::make_unique<SequentialImages>(std::move(store), options);
  case ImageArm::threads:
  case ImageArm::processes:
    return std::make_unique<TeamImages>(std::move(store), options);
  case ImageArm::tasks:
    break;
  }
  if (options.stage == ImageStage::process)
    throw std::invalid_argument("tasks process what they fetch");
  return std::make_unique<TaskImages>(std::move(store), options);
}

}  // namespace schedlab::apparatus
