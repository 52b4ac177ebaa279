// Jobs that workers share, pictures, and the ways to fetch and process them.

#include "affinity/pin.hh"
#include "lab/apparatus/blocking_http.hh"
#include "lab/apparatus/image_work.hh"
#include "lab/apparatus/images.hh"
#include "lab/apparatus/shared_job.hh"
#include "lab/base/error.hh"
#include "tests/left_behind.hh"
#include "tests/task_kind.hh"
#include "tests/topology_fixtures.hh"

#include <boost/test/data/test_case.hpp>

#include <algorithm>
#include <atomic>
#include <cmath>
#include <csignal>
#include <ostream>
#include <set>
#include <thread>

using namespace schedlab;
using namespace schedlab::apparatus;
using namespace schedlab::testing;
using namespace std::chrono_literals;
namespace data = boost::unit_test::data;

namespace schedlab::apparatus {
static std::ostream& operator<<(std::ostream& out, Job job) {
  return out << to_text(job);
}
static std::ostream& operator<<(std::ostream& out, ImageStage stage) {
  return out << to_text(stage);
}
static std::ostream& operator<<(std::ostream& out, ImageArm arm) {
  return out << to_text(arm);
}
}  // namespace schedlab::apparatus

namespace {

constexpr TaskKind task_kinds[] = {TaskKind::threads, TaskKind::processes};
constexpr Job jobs[] = {Job::chain, Job::wide, Job::serial, Job::shared};
constexpr ImageStage stages[] = {ImageStage::fetch, ImageStage::process, ImageStage::pipeline};
constexpr ImageArm arms[] = {ImageArm::sequential, ImageArm::threads, ImageArm::processes,
                             ImageArm::tasks};

// ThreadSanitizer has a thread of its own from the first that is started on.
Belongings belongings_after_a_thread() {
  std::jthread([] {}).join();
  return belongings();
}

bool proven(harness::Subject& subject) {
  return std::ranges::all_of(subject.checks(), &harness::Check::ok);
}

// Anywhere on the CPUs of this test, so that more workers than CPUs are fine.
std::shared_ptr<JobCrew> crew_of(TaskKind kind, std::size_t size) {
  return std::make_shared<JobCrew>(kind, std::vector<std::optional<unsigned>>(size),
                                   affinity::thread_affinity(), false);
}

std::span<const std::byte> bytes_of(const std::string& text) {
  return std::as_bytes(std::span(text));
}

std::shared_ptr<ImageStore> small_store() {
  return std::make_shared<ImageStore>(
      ImageStoreOptions{.pictures = 5, .width = 50, .height = 38, .seed = 3, .latency = 200us});
}

ImageOptions image_options(ImageStage stage, ImageArm arm) {
  ImageOptions options;
  options.stage = stage;
  options.arm = arm;
  options.workers = arm == ImageArm::sequential ? 1 : 3;
  options.cpus = affinity::thread_affinity();
  return options;
}

}  // namespace

BOOST_DATA_TEST_CASE(the_parts_of_all_workers_are_the_job, data::make(jobs), job) {
  for (const unsigned workers : {1u, 2u, 3u, 7u, 384u}) {
    JobOptions options{.job = job, .workers = workers, .serial = 0.1, .steps = 10'007, .turn = 13};
    JobPart all;
    std::set<std::uint64_t> sizes;
    for (unsigned worker = 0; worker < workers; ++worker) {
      const JobPart part = part_of(options, worker);
      all.steps += part.steps;
      all.turns += part.turns;
      sizes.insert(part.turns > 0 || job == Job::shared ? part.turns : part.steps);
    }
    const std::uint64_t alone = job == Job::serial ? 1001 : 0;
    BOOST_TEST(serial_steps(options) == alone);
    BOOST_TEST(all.turns == (job == Job::shared ? 10'007u / 13 : 0u));
    BOOST_TEST(all.steps + alone == (job == Job::shared ? 10'007u / 13 * 13 : 10'007u));
    BOOST_TEST(*sizes.rbegin() - *sizes.begin() <= 1u);  // nobody has more than one piece more
  }
}

BOOST_AUTO_TEST_CASE(weak_growth_gives_everybody_a_job_s_parallel_part) {
  const JobOptions options{
      .job = Job::serial, .workers = 4, .weak = true, .serial = 0.25, .steps = 1000};
  for (unsigned worker = 0; worker < 4; ++worker)
    BOOST_TEST(part_of(options, worker).steps == 750u);
  BOOST_TEST(options.jobs() == 0.25 + 0.75 * 4);
  const JobOptions strong{.job = Job::serial, .workers = 4, .serial = 0.25, .steps = 1000};
  BOOST_TEST(strong.jobs() == 1.0);
}

BOOST_DATA_TEST_CASE(every_job_is_done_to_the_last_step, data::make(task_kinds) * data::make(jobs),
                     kind, job) {
  const auto crew = crew_of(kind, 3);
  for (const unsigned workers : {1u, 3u, 2u}) {
    const auto subject = make_shared_job(
        crew, {.job = job, .workers = workers, .serial = 0.2, .steps = 30'001, .turn = 100});
    for (int i = 0; i < 3; ++i) {
      const harness::Sample sample = subject->sample(5);
      BOOST_TEST(sample.operations == 5u);
      BOOST_TEST(sample.elapsed_ns > 0);
      BOOST_TEST(sample.values[0] == sample.elapsed_ns / 5);
      BOOST_TEST(sample.values[1] == 1e9 / sample.values[0], boost::test_tools::tolerance(1e-9));
    }
    BOOST_TEST(proven(*subject));
  }
  BOOST_CHECK_THROW(make_shared_job(crew, {.workers = 4}), std::invalid_argument);
  BOOST_CHECK_THROW(make_shared_job(crew, {.workers = 0}), std::invalid_argument);
}

// Two subjects of one crew and another count: what one did is not counted for the other.
BOOST_AUTO_TEST_CASE(work_that_is_missing_is_seen) {
  const auto crew = crew_of(TaskKind::threads, 2);
  const JobCrew::Run run =
      crew->run({.job = Job::shared, .workers = 2, .steps = 1000, .turn = 10}, 3);
  BOOST_TEST(run.turns == 300u);
  BOOST_TEST(run.steps == 3000u);
  const JobCrew::Run half =
      crew->run({.job = Job::shared, .workers = 1, .steps = 500, .turn = 10}, 3);
  BOOST_TEST(half.turns == 150u);
  BOOST_TEST(half.steps == 1500u);
}

BOOST_AUTO_TEST_CASE(workers_apart_stay_on_their_cpus, *boost::unit_test::precondition(two_cpus)) {
  const auto cpus = affinity::Topology::machine().usable().cpus();
  JobCrew crew(TaskKind::threads, {cpus[0], cpus[1]}, affinity::thread_affinity(), true);
  const JobCrew::Run run =
      crew.run({.job = Job::serial, .workers = 2, .serial = 0.5, .steps = 100'000}, 20);
  BOOST_TEST(run.steps == 2'000'000u);
  BOOST_TEST(run.proof.on_cpu);
  BOOST_TEST(run.proof.cpus.size() == 2u);
}

BOOST_AUTO_TEST_CASE(a_seed_draws_the_same_picture_again) {
  const Picture picture = draw_picture(1, 0, 40, 30);
  BOOST_TEST(picture.bytes.size() == 3u * 40 * 30);
  BOOST_TEST((picture == draw_picture(1, 0, 40, 30)));
  BOOST_TEST((picture != draw_picture(1, 1, 40, 30)));
  BOOST_TEST((picture != draw_picture(2, 0, 40, 30)));
  BOOST_TEST(draw_picture(1, 0, 1, 1).bytes.size() == 3u);
}

// By the definition, pixel by pixel: the mean over the rows of the means over the columns.
BOOST_AUTO_TEST_CASE(a_blurred_pixel_is_the_mean_of_its_square) {
  const int width = 7, height = 5, radius = 2;
  Picture picture{static_cast<unsigned>(width), static_cast<unsigned>(height),
                  std::vector<std::uint8_t>(3 * 7 * 5)};
  for (std::size_t i = 0; i < picture.bytes.size(); ++i)
    picture.bytes[i] = static_cast<std::uint8_t>(i * 37 % 251);
  const Picture before = picture;
  std::vector<std::uint8_t> scratch;
  blur(picture, radius, scratch);
  for (int y = 0; y < height; ++y)
    for (int x = 0; x < width; ++x)
      for (int colour = 0; colour < 3; ++colour) {
        double sum = 0;
        int count = 0;
        for (int v = std::max(y - radius, 0); v <= std::min(y + radius, height - 1); ++v)
          for (int u = std::max(x - radius, 0); u <= std::min(x + radius, width - 1); ++u, ++count)
            sum += before.bytes[static_cast<std::size_t>((v * width + u) * 3 + colour)];
        const double mean = sum / count;
        const int seen = picture.bytes[static_cast<std::size_t>((y * width + x) * 3 + colour)];
        BOOST_TEST(std::abs(seen - mean) <= 1.0, x << "," << y << ": " << seen << " " << mean);
      }
}

BOOST_AUTO_TEST_CASE(an_even_picture_stays_as_it_is) {
  Picture even{9, 8, std::vector<std::uint8_t>(3 * 9 * 8, 77)};
  const Picture before = even;
  std::vector<std::uint8_t> scratch;
  blur(even, 3, scratch);
  BOOST_TEST((even == before));
  Picture single{1, 1, {1, 2, 3}};
  blur(single, 2, scratch);
  BOOST_TEST((single == Picture{1, 1, {1, 2, 3}}));
}

BOOST_AUTO_TEST_CASE(a_smaller_picture_has_the_means_of_squares) {
  // Two squares of 2 x 2 pixels in the first two rows; the third row and fifth column are cut off.
  Picture from{5, 3, std::vector<std::uint8_t>(3 * 5 * 3, 200)};
  const auto set = [&](std::size_t x, std::size_t y, std::uint8_t value) {
    for (std::size_t colour = 0; colour < 3; ++colour)
      from.bytes[(y * 5 + x) * 3 + colour] = static_cast<std::uint8_t>(value + colour);
  };
  set(0, 0, 10), set(1, 0, 20), set(0, 1, 30), set(1, 1, 40);
  set(2, 0, 0), set(3, 0, 0), set(2, 1, 0), set(3, 1, 2);
  Picture into;
  shrink(from, 2, into);
  BOOST_TEST((into == Picture{2, 1, {25, 26, 27, 1, 2, 3}}));
}

BOOST_AUTO_TEST_CASE(a_jpeg_comes_back_nearly_as_it_went) {
  const Picture picture = draw_picture(5, 0, 64, 48);
  JpegCodec codec;
  std::vector<std::byte> jpeg(JpegCodec::most_bytes(64, 48));
  const std::size_t size = codec.encode(picture, 95, jpeg);
  BOOST_TEST(size < jpeg.size());
  Picture back;
  codec.decode(std::span(jpeg).first(size), back);
  BOOST_REQUIRE(back.bytes.size() == picture.bytes.size());
  double off = 0;
  for (std::size_t i = 0; i < back.bytes.size(); ++i)
    off += std::abs(back.bytes[i] - picture.bytes[i]);
  BOOST_TEST(off / static_cast<double>(back.bytes.size()) < 20);
  JpegCodec other;
  std::vector<std::byte> again(jpeg.size());
  BOOST_TEST(other.encode(picture, 95, again) == size);
  BOOST_TEST((std::ranges::equal(std::span(jpeg).first(size), std::span(again).first(size))));
}

BOOST_AUTO_TEST_CASE(what_is_no_jpeg_is_an_error_with_a_name) {
  JpegCodec codec;
  Picture into;
  const std::string nothing = "this is no picture";
  BOOST_CHECK_EXCEPTION(codec.decode(bytes_of(nothing), into), std::runtime_error,
                        says("tjDecompressHeader3: "));
  std::vector<std::byte> tiny(10);
  BOOST_CHECK_EXCEPTION(codec.encode(draw_picture(1, 0, 64, 48), 80, tiny), std::runtime_error,
                        says("too small"));
  ThumbnailMaker maker;
  std::vector<std::byte> jpeg(JpegCodec::most_bytes(3, 3)), out(JpegCodec::most_bytes(3, 3));
  const std::size_t size = codec.encode(draw_picture(1, 0, 3, 3), 80, jpeg);
  BOOST_CHECK_EXCEPTION(maker.make(std::span(jpeg).first(size), out), std::runtime_error,
                        says("too small"));
}

BOOST_AUTO_TEST_CASE(a_blocking_client_gets_documents_and_statuses) {
  FetchServerOptions options;
  options.documents = {"first", std::string(100'000, 'z')};
  const FetchServer server(options);
  BlockingHttpClient client(server.address());
  const auto get = [&](const std::string& target) {
    iouring::HttpRequest request;
    request.target = target;
    return client.send(client.text_of(request));
  };
  BOOST_TEST(get(FetchServer::document(0us, 0)).body == "first");
  BOOST_TEST(get(FetchServer::document(100us, 1)).body == options.documents[1]);
  BOOST_TEST(get(FetchServer::target(0us, 3)).body == "xxx");
  for (const char* target : {"/0/document/2", "/0/document/-1", "/0/paper/1", "/0/document/"})
    BOOST_TEST(get(target).status == 404, target);
}

BOOST_AUTO_TEST_CASE(a_blocking_client_says_what_keeps_it_from_a_server) {
  const RefusedPort nobody;
  BlockingHttpClient client(nobody.address());
  BOOST_CHECK_EXCEPTION(client.send(client.text_of({})), std::system_error,
                        [](const auto& error) { return error.code().value() == ECONNREFUSED; });
}

BOOST_DATA_TEST_CASE(every_way_makes_the_same_of_all_pictures,
                     data::make(stages) * data::make(arms), stage, arm) {
  if (stage == ImageStage::process && arm == ImageArm::tasks) {
    BOOST_CHECK_THROW(make_image_work(small_store(), image_options(stage, arm)),
                      std::invalid_argument);
    return;
  }
  const auto store = small_store();
  const auto subject = make_image_work(store, image_options(stage, arm));
  for (int i = 0; i < 2; ++i) {
    const harness::Sample sample = subject->sample(2);
    BOOST_TEST(sample.operations == 2u);
    BOOST_TEST(sample.values[0] > 0);
    BOOST_TEST(sample.values[1] > 0);
    BOOST_TEST(sample.values[2] > 0);
    const bool brings = stage == ImageStage::process && arm == ImageArm::processes;
    double sizes = 0;
    for (const auto& picture : store->pictures())
      sizes += static_cast<double>(picture.size());
    BOOST_TEST(sample.values[3] == (brings ? sizes / 5 : 0));
    BOOST_TEST((std::isnan(sample.values[4]) || sample.values[4] > 4096));
  }
  const auto checks = subject->checks();
  BOOST_REQUIRE(checks.size() == 3u);
  for (const harness::Check& check : checks)
    BOOST_TEST(check.ok, check.name);
  BOOST_TEST(*checks[0].expected.number() == 10.0);
  BOOST_TEST(*checks[1].expected.number() == 10.0);
}

BOOST_AUTO_TEST_CASE(jobs_and_pictures_leave_nothing_behind) {
  const auto before = belongings_after_a_thread();
  for (const TaskKind kind : task_kinds)
    make_shared_job(crew_of(kind, 3), {.workers = 3})->sample(1);
  for (const ImageArm arm : arms)
    make_image_work(small_store(), image_options(ImageStage::pipeline, arm))->sample(1);
  BOOST_TEST(belongings() == before);
}

// Two pictures change places after their thumbnails were made.
BOOST_AUTO_TEST_CASE(a_wrong_thumbnail_is_seen) {
  const auto store = small_store();
  auto& pictures = const_cast<std::vector<std::string>&>(store->pictures());
  std::swap(pictures[0], pictures[1]);
  const auto subject =
      make_image_work(store, image_options(ImageStage::process, ImageArm::threads));
  subject->sample(1);
  const auto checks = subject->checks();
  BOOST_TEST(checks[0].ok);
  BOOST_TEST(!checks[1].ok);
  BOOST_TEST(*checks[1].seen.number() == 3.0);
}

// Somebody computes in this process while one thread waits for pictures: that is charged to it, and
// is not what the thread counts.
BOOST_AUTO_TEST_CASE(cpu_time_that_nobody_counted_is_seen) {
  const auto store = std::make_shared<ImageStore>(
      ImageStoreOptions{.pictures = 5, .width = 50, .height = 38, .seed = 3, .latency = 20ms});
  const auto of_team = image_options(ImageStage::fetch, ImageArm::threads);
  for (const bool computing : {false, true}) {
    const auto subject = make_image_work(store, of_team);
    std::atomic<bool> over{!computing};
    std::thread busy([&over] {
      while (!over.load(std::memory_order_relaxed)) {
      }
    });
    subject->sample(5);
    over = true;
    busy.join();
    BOOST_TEST(subject->checks()[2].ok == !computing);
  }
}

BOOST_AUTO_TEST_CASE(a_picture_that_is_none_ends_the_sample_with_its_reason) {
  const auto store = small_store();
  const_cast<std::vector<std::string>&>(store->pictures())[2] = "no jpeg";
  for (const ImageArm arm : {ImageArm::sequential, ImageArm::threads, ImageArm::processes}) {
    const auto subject = make_image_work(store, image_options(ImageStage::process, arm));
    BOOST_CHECK_EXCEPTION(subject->sample(1), std::runtime_error, says("tjDecompressHeader3"));
  }
}

// While a team of processes exists, any child that dies ends the program with a message of its own.
BOOST_DATA_TEST_CASE(a_server_that_is_gone_ends_the_sample_with_its_reason,
                     data::make({ImageArm::sequential, ImageArm::threads, ImageArm::tasks}), arm) {
  const auto store = small_store();
  const auto subject = make_image_work(store, image_options(ImageStage::pipeline, arm));
  subject->sample(1);
  BOOST_REQUIRE(::kill(store->server().pid(), SIGKILL) == 0);
  const auto go_on = [&] {
    for (int i = 0; i < 100; ++i)
      subject->sample(1);
  };
  BOOST_CHECK_THROW(go_on(), std::runtime_error);
}
