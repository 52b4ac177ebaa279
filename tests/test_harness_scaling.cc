// The models of scaling against data with known coefficients, and their intervals against chance.

#include "lab/harness/scaling.hh"

#include "lab/base/random.hh"

#include <boost/test/unit_test.hpp>

#include <cmath>
#include <functional>
#include <numbers>

using namespace schedlab;
using namespace schedlab::harness;
namespace tt = boost::test_tools;

namespace {

using Points = std::vector<ScalingPoint>;

// A published SPEC SDM91 benchmark and a ray tracer (Gunther 2007), with the coefficients that R's
// package usl gives for them.
const Points sdm91 = {{1, 64.9},     {18, 995.9},   {36, 1652.4}, {72, 1853.2},
                      {108, 1828.9}, {144, 1775.0}, {216, 1702.2}};
const Points raytracer = {{1, 20},   {4, 78},   {8, 130},  {12, 170}, {16, 190}, {20, 200},
                          {24, 210}, {28, 230}, {32, 260}, {48, 280}, {64, 310}};

// The square root of -2 ln u times a cosine (Box and Muller).
double normal(Random& random) {
  const auto uniform = [&] { return static_cast<double>(random() >> 11) * 0x1p-53; };
  const double radius = std::sqrt(-2 * std::log(1 - uniform()));
  return radius * std::cos(2 * std::numbers::pi * uniform());
}

Points points(const std::function<double(double)>& model, std::initializer_list<double> workers) {
  Points made;
  for (const double n : workers)
    made.push_back({n, model(n)});
  return made;
}

Points with_noise(Points exact, double share, Random& random) {
  for (ScalingPoint& point : exact)
    point.value *= 1 + share * normal(random);
  return exact;
}

bool covers(const Coefficient& found, double truth) {
  return found.interval && found.interval->low <= truth && truth <= found.interval->high;
}

double law(double a, double b, double n) {
  return n / (1 + a * (n - 1) + b * n * (n - 1));
}

}  // namespace

BOOST_AUTO_TEST_CASE(the_spec_benchmark_has_its_published_coefficients) {
  const auto fit = fit_usl(sdm91);
  BOOST_REQUIRE(fit);
  BOOST_TEST(fit->contention.value == 0.0277285, tt::tolerance(2e-6));
  BOOST_TEST(fit->crosstalk.value == 0.0001044, tt::tolerance(5e-4));
  BOOST_TEST(fit->rate.value == 89.995, tt::tolerance(1e-5));
  BOOST_TEST(*fit->peak() == 96.5196, tt::tolerance(1e-6));
  BOOST_TEST(*fit->optimum() == 36.064, tt::tolerance(2e-5));
  BOOST_TEST(*fit->limit() == 3245.59, tt::tolerance(2e-6));
}

BOOST_AUTO_TEST_CASE(the_ray_tracer_has_its_published_coefficients) {
  const auto first = fit_usl(std::span(raytracer).first(6));
  BOOST_REQUIRE(first);
  BOOST_TEST(first->contention.value == 0.02444, tt::tolerance(2e-4));
  BOOST_TEST(first->crosstalk.value == 0.00163, tt::tolerance(3e-3));
  BOOST_TEST(first->rate.value == 20.856, tt::tolerance(2e-5));
  // The published interval takes the t of 90 % and of five degrees of freedom; the standard errors
  // are the same.
  const double reach = student_t(0.90, 5);
  BOOST_TEST(first->contention.value - reach * *first->contention.error == 0.00754,
             tt::tolerance(1e-3));
  BOOST_TEST(first->contention.value + reach * *first->contention.error == 0.04135,
             tt::tolerance(1e-3));
  BOOST_TEST(first->crosstalk.value - reach * *first->crosstalk.error == 0.00110,
             tt::tolerance(5e-3));
  BOOST_TEST(first->crosstalk.value + reach * *first->crosstalk.error == 0.00215,
             tt::tolerance(5e-3));
  BOOST_TEST(first->rate.value - reach * *first->rate.error == 19.27, tt::tolerance(1e-3));
  BOOST_TEST(first->rate.value + reach * *first->rate.error == 22.44, tt::tolerance(1e-3));
}

BOOST_AUTO_TEST_CASE(a_coefficient_stops_at_its_bound) {
  const auto fit = fit_usl(raytracer);
  BOOST_REQUIRE(fit);
  BOOST_TEST(fit->crosstalk.value == 0.0);
  BOOST_TEST(!fit->crosstalk.interval);
  BOOST_TEST(fit->contention.value == 0.05777, tt::tolerance(2e-4));
  BOOST_TEST(fit->rate.value == 21.849, tt::tolerance(2e-5));
  BOOST_TEST(!fit->peak());
}

BOOST_AUTO_TEST_CASE(exact_points_give_their_coefficients_back) {
  const Points rounded = {{1, 1}, {2, 1.8868}, {4, 3.0769}, {6, 3.5294}, {8, 3.5398}, {10, 3.3557}};
  const auto fit = fit_usl(rounded);
  BOOST_REQUIRE(fit);
  BOOST_TEST(fit->contention.value == 0.02, tt::tolerance(1e-3));
  BOOST_TEST(fit->crosstalk.value == 0.02, tt::tolerance(1e-3));
  BOOST_TEST(fit->rate.value == 1.0, tt::tolerance(1e-4));
  BOOST_TEST(*fit->peak() == 7.0, tt::tolerance(1e-3));
}

BOOST_AUTO_TEST_CASE(the_law_is_found_wherever_its_coefficients_lie) {
  for (const double a : {0.0, 0.001, 0.1, 0.5, 1.0})
    for (const double b : {0.0, 1e-6, 1e-3, 0.3})
      for (const double rate : {1e-9, 1.0, 1e12}) {
        const auto fit = fit_usl(
            points([=](double n) { return rate * law(a, b, n); }, {1, 2, 4, 8, 16, 32, 64, 128}));
        BOOST_REQUIRE(fit);
        BOOST_TEST(std::abs(fit->contention.value - a) < 1e-6, "a " << a << " b " << b);
        BOOST_TEST(std::abs(fit->crosstalk.value - b) < 1e-6, "a " << a << " b " << b);
        BOOST_TEST(fit->rate.value == rate, tt::tolerance(1e-6));
        BOOST_TEST(fit->misfit < 1e-6);
      }
}

BOOST_AUTO_TEST_CASE(fewer_than_six_numbers_of_workers_make_no_law) {
  BOOST_TEST(!fit_usl({}));
  BOOST_TEST(!fit_usl(std::span(raytracer).first(5)));
  Points twice(raytracer.begin(), raytracer.begin() + 5);
  twice.insert(twice.end(), raytracer.begin(), raytracer.begin() + 5);
  BOOST_TEST(!fit_usl(twice));
  BOOST_TEST(fit_usl(std::span(raytracer).first(6)).has_value());
}

// What a claimed 95 % covers of 400 draws, of which 363 to 393 are within four standard deviations.
BOOST_AUTO_TEST_CASE(the_law_s_intervals_cover_the_truth_as_often_as_they_say) {
  Random random(7);
  const auto exact =
      points([](double n) { return law(0.05, 0.002, n); }, {1, 2, 4, 6, 8, 12, 16, 24, 32, 48});
  int contention = 0, crosstalk = 0, rate = 0;
  for (int i = 0; i < 400; ++i) {
    Points noisy = exact;
    for (ScalingPoint& point : noisy)
      point.value += 0.05 * normal(random);  // errors of one size, as least squares has it
    const auto fit = fit_usl(noisy);
    BOOST_REQUIRE(fit);
    contention += covers(fit->contention, 0.05);
    crosstalk += covers(fit->crosstalk, 0.002);
    rate += covers(fit->rate, 1);
  }
  for (const int covered : {contention, crosstalk, rate})
    BOOST_TEST((covered >= 363 && covered <= 397), covered);
}

BOOST_AUTO_TEST_CASE(amdahl_s_and_gustafson_s_intervals_cover_the_truth_as_often_as_they_say) {
  Random random(11);
  const auto strong = points([](double n) { return amdahl_speedup(0.1, n); }, {1, 2, 3, 4, 6, 8});
  const auto weak = points([](double n) { return gustafson_speedup(0.1, n); }, {1, 2, 3, 4, 6, 8});
  int by_amdahl = 0, by_gustafson = 0;
  for (int i = 0; i < 400; ++i) {
    by_amdahl += covers(fit_amdahl(with_noise(strong, 0.01, random))->serial, 0.1);
    by_gustafson += covers(fit_gustafson(with_noise(weak, 0.01, random))->serial, 0.1);
  }
  for (const int covered : {by_amdahl, by_gustafson})
    BOOST_TEST((covered >= 363 && covered <= 397), covered);
}

BOOST_AUTO_TEST_CASE(models_are_what_hand_calculation_gives) {
  BOOST_TEST(amdahl_speedup(0.1, 2) == 1 / 0.55, tt::tolerance(1e-12));
  BOOST_TEST(amdahl_speedup(0.1, 1e9) == 10.0, tt::tolerance(1e-6));
  BOOST_TEST(gustafson_speedup(0.1, 2) == 1.9, tt::tolerance(1e-12));
  BOOST_TEST(karp_flatt(1 / 0.55, 2) == 0.1, tt::tolerance(1e-12));
  BOOST_TEST(karp_flatt(4, 4) == 0.0);
  BOOST_TEST(karp_flatt(1, 4) == 1.0);
  BOOST_TEST(karp_flatt(2.2, 2) < 0);
}

// With one point the fit is Karp and Flatt's e of it; with two, a mean that leans to the larger.
BOOST_AUTO_TEST_CASE(amdahl_s_fit_is_a_weighted_mean_of_karp_and_flatt) {
  const Points one = {{1, 1}, {2, 1.8}};
  const auto single = fit_amdahl(one);
  BOOST_REQUIRE(single);
  BOOST_TEST(single->serial.value == karp_flatt(1.8, 2), tt::tolerance(1e-12));
  BOOST_TEST(!single->serial.interval);
  const Points two = {{1, 1}, {2, 1.8}, {4, 3.0}};
  const double low = karp_flatt(3.0, 4), high = karp_flatt(1.8, 2);
  BOOST_TEST(low < high);  // the example must be one
  const auto both = fit_amdahl(two);
  // Weights (S (1 - 1/N))^2: 0.81 and 5.0625.
  BOOST_TEST(both->serial.value == (0.81 * high + 5.0625 * low) / 5.8725, tt::tolerance(1e-12));
  BOOST_TEST(both->serial.error.has_value());
  BOOST_TEST(both->misfit > 0);
}

BOOST_AUTO_TEST_CASE(one_worker_alone_speaks_for_no_serial_share) {
  const Points alone = {{1, 1}};
  BOOST_TEST(!fit_amdahl(alone));
  BOOST_TEST(!fit_gustafson(alone));
  BOOST_TEST(!fit_amdahl({}));
}

BOOST_AUTO_TEST_CASE(gustafson_s_fit_finds_the_share_of_growing_work) {
  const auto exact = points([](double n) { return gustafson_speedup(0.25, n); }, {1, 2, 4, 8, 16});
  BOOST_TEST(fit_gustafson(exact)->serial.value == 0.25, tt::tolerance(1e-12));
  // It is another share than Amdahl's of the same points.
  BOOST_TEST(fit_amdahl(exact)->serial.value < 0.2);
}

BOOST_AUTO_TEST_CASE(student_s_quantiles_are_those_of_the_tables) {
  BOOST_TEST(student_t(0.95, 1) == 12.7062, tt::tolerance(1e-5));
  BOOST_TEST(student_t(0.95, 2) == 4.30265, tt::tolerance(1e-5));
  BOOST_TEST(student_t(0.95, 3) == 3.18245, tt::tolerance(1e-5));
  BOOST_TEST(student_t(0.99, 5) == 4.03214, tt::tolerance(1e-5));
  BOOST_TEST(student_t(0.90, 10) == 1.81246, tt::tolerance(1e-5));
  BOOST_TEST(student_t(0.95, 1000) == 1.96234, tt::tolerance(1e-5));
}
