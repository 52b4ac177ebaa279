#pragma once
// A batch of pictures that are fetched, made into thumbnails, or both, by each of the ways a
// program can share such work out.

#include "affinity/cpu_set.hh"
#include "iouring/driver.hh"
#include "lab/apparatus/fetch_server.hh"
#include "lab/harness/sample.hh"

#include <chrono>
#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

namespace schedlab::apparatus {

enum class ImageStage : std::uint8_t {
  fetch,     // over HTTP, from a server that takes its time
  process,   // decode, blur, shrink, encode
  pipeline,  // both
};
std::string_view to_text(ImageStage stage) noexcept;

enum class ImageArm : std::uint8_t {
  sequential,  // one thread, picture after picture
  threads,     // that take pictures from the batch; calls that block
  processes,   // likewise; pictures lie in an arena that all have mapped
  tasks,       // coroutines of one thread; thumbnails are made by threads of the loop
};
std::string_view to_text(ImageArm arm) noexcept;

struct ImageStoreOptions {
  unsigned pictures = 8;  // of a batch
  unsigned width = 320;
  unsigned height = 240;
  std::uint64_t seed = 1;
  std::chrono::microseconds latency{2000};  // that the server adds to each answer
  iouring::DriverChoice driver = iouring::DriverChoice::automatic;  // of the server
};

// The pictures, what their thumbnails must be, and their server: made when first asked for, the
// same for all subjects of a process. For one thread.
class ImageStore {
public:
  explicit ImageStore(const ImageStoreOptions& options) : options_(options) {}

  [[nodiscard]] const ImageStoreOptions& options() const noexcept { return options_; }
  // JPEGs, and the thumbnails that one thread makes of them. Throws std::runtime_error.
  const std::vector<std::string>& pictures();
  const std::vector<std::string>& thumbnails();
  const FetchServer& server();

private:
  void make();
  ImageStoreOptions options_;
  std::vector<std::string> pictures_;
  std::vector<std::string> thumbnails_;
  std::unique_ptr<FetchServer> server_;
};

struct ImageMetrics {
  std::size_t batch = 0;   // nanoseconds
  std::size_t cores = 1;   // CPU time by wall time
  std::size_t cpu = 2;     // nanoseconds of CPU time for a picture
  std::size_t copied = 3;  // bytes for a picture, from where one side has it to where the other can
  std::size_t memory = 4;  // bytes of all processes at work, shared pages in proportion (PSS)
};

struct ImageOptions {
  ImageStage stage = ImageStage::process;
  ImageArm arm = ImageArm::sequential;
  unsigned workers = 1;  // threads or processes; of tasks, threads that make thumbnails
  iouring::DriverChoice driver = iouring::DriverChoice::automatic;  // of tasks
  affinity::CpuSet cpus;                                            // where all of them may run
  ImageMetrics metrics;
};

// An operation is a batch. checks() compares what came out with what one thread makes, byte for
// byte, after each sample, and CPU times with what the kernel charged. Tasks do not process without
// fetching.
std::unique_ptr<harness::Subject> make_image_work(std::shared_ptr<ImageStore> store,
                                                  const ImageOptions& options);

}  // namespace schedlab::apparatus
