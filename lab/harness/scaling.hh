#pragma once
// How work goes faster with more workers: the four models of scaling, and what measured points say
// of their coefficients.
//
//   Amdahl      S(N) = 1 / (s + (1-s)/N)                  the same work; a share s is done by one
//   Gustafson   S(N) = N - s(N-1)                         N times the work in its parallel part
//   Karp-Flatt  e(N) = (1/S - 1/N) / (1 - 1/N)            the s that a single point speaks for
//   USL         X(N) = rN / (1 + a(N-1) + bN(N-1))        a contention, b crosstalk, r rate of one
//
// Sources: Amdahl 1967; Gustafson 1988; Karp and Flatt 1990; Gunther 2007 (Universal Scalability
// Law). A standard error and its interval come from the fit's own scatter about the curve,
// linearised at the solution (Student's t): they hold for points that err independently. Points of
// one process do not; fit each process on its own then, and take an interval over the coefficients.
//
// All functions are pure and take finite values, workers >= 1 and rates or speedups > 0 (asserted).

#include "lab/harness/statistics.hh"

#include <cstddef>
#include <optional>
#include <span>

namespace schedlab::harness {

struct ScalingPoint {
  double workers = 1;
  double value = 0;  // a speedup, or a rate in any unit
};

double amdahl_speedup(double serial, double workers) noexcept;
double gustafson_speedup(double serial, double workers) noexcept;
// More than one worker. Negative where they were more than N times as fast.
double karp_flatt(double speedup, double workers) noexcept;

struct Coefficient {
  double value = 0;
  // Nothing where the fit has no degree of freedom left, or the value lies on its bound.
  std::optional<double> error = {};       // standard error
  std::optional<Interval> interval = {};  // 95 %, "linearised"
};

struct SerialFit {
  Coefficient serial;  // not bounded: below 0 the workers gained more than their number
  double misfit = 0;   // root mean square of the points' relative distances from the curve
};

// Least squares of the relative errors of the times. Points of one worker say nothing and are left
// out; nothing if no other is there. What they find is the mean of the Karp-Flatt values (Amdahl),
// or of their like, with weights that grow with N.
std::optional<SerialFit> fit_amdahl(std::span<const ScalingPoint> speedups);
std::optional<SerialFit> fit_gustafson(std::span<const ScalingPoint> scaled_speedups);

// With three coefficients, fewer different numbers of workers than these fit any curve.
inline constexpr std::size_t usl_points = 6;

struct UslFit {
  Coefficient contention;  // a, in [0, 1]
  Coefficient crosstalk;   // b, in [0, 1]
  Coefficient rate;        // r, >= 0, in the unit of the points
  double misfit = 0;       // as in SerialFit

  [[nodiscard]] double at(double workers) const noexcept;
  // Workers beyond which the rate falls; nothing where it never does (b = 0).
  [[nodiscard]] std::optional<double> peak() const noexcept;
  // The rate that no number of workers would reach if there were no crosstalk; nothing for a = 0.
  [[nodiscard]] std::optional<double> limit() const noexcept;
  // Workers up to which contention leaves most of each new one's rate: 1/a.
  [[nodiscard]] std::optional<double> optimum() const noexcept;
};

// Least squares of the rates within the bounds, by Levenberg and Marquardt's method. Nothing below
// usl_points different numbers of workers.
std::optional<UslFit> fit_usl(std::span<const ScalingPoint> rates);

// The t for which Student's distribution lies within [-t, t] with probability `level`.
double student_t(double level, std::size_t degrees);

}  // namespace schedlab::harness
