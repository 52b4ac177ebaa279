#include "lab/harness/scaling.hh"

#include <algorithm>
#include <array>
#include <cassert>
#include <cmath>
#include <numbers>
#include <set>

namespace schedlab::harness {
namespace {

constexpr double usual_level = 0.95;

bool is_point(const ScalingPoint& point) {
  return point.workers >= 1 && point.value > 0 && std::isfinite(point.workers) &&
         std::isfinite(point.value);
}

Coefficient coefficient(double value, double error, std::size_t degrees) {
  const double reach = student_t(usual_level, degrees) * error;
  return {value, error, Interval{value - reach, value + reach, usual_level, "linearised"}};
}

// The share s of y = s x, by least squares over points whose y is s x up to errors of one size.
std::optional<SerialFit> line_through_zero(std::span<const std::array<double, 2>> points) {
  double xx = 0, xy = 0, rest = 0;
  for (const auto& [x, y] : points) {
    xx += x * x;
    xy += x * y;
  }
  if (xx == 0)
    return {};
  const double s = xy / xx;
  for (const auto& [x, y] : points)
    rest += (y - s * x) * (y - s * x);
  SerialFit fit{{s}, std::sqrt(rest / static_cast<double>(points.size()))};
  if (const std::size_t degrees = points.size() - 1; degrees > 0)
    fit.serial = coefficient(s, std::sqrt(rest / static_cast<double>(degrees) / xx), degrees);
  return fit;
}

// The coefficients of the law, the rate as a multiple of a rate near it: all of like size.
constexpr std::size_t count = 3;
using Vector = std::array<double, count>;
using Square = std::array<Vector, count>;
using Chosen = std::array<bool, count>;
constexpr Vector upper = {1, 1, INFINITY};

double usl(const Vector& c, double n) noexcept {
  return c[2] * n / (1 + c[0] * (n - 1) + c[1] * n * (n - 1));
}

Vector slopes(const Vector& c, double n) noexcept {
  const double divisor = 1 + c[0] * (n - 1) + c[1] * n * (n - 1);
  const double by_divisor = -c[2] * n / (divisor * divisor);
  return {by_divisor * (n - 1), by_divisor * n * (n - 1), n / divisor};
}

double squares(const Vector& c, std::span<const ScalingPoint> points) noexcept {
  double sum = 0;
  for (const auto& [n, x] : points)
    sum += (x - usl(c, n)) * (x - usl(c, n));
  return sum;
}

// The normal equations: curvature * step = downhill.
struct Normal {
  Square curvature{};
  Vector downhill{};
};

Normal normal_at(const Vector& c, std::span<const ScalingPoint> points) noexcept {
  Normal normal;
  for (const auto& [n, x] : points) {
    const Vector slope = slopes(c, n);
    const double rest = x - usl(c, n);
    for (std::size_t i = 0; i < count; ++i) {
      normal.downhill[i] += slope[i] * rest;
      for (std::size_t j = 0; j < count; ++j)
        normal.curvature[i][j] += slope[i] * slope[j];
    }
  }
  return normal;
}

// Those that are not held at a bound which the slope presses them against.
Chosen free_ones(const Vector& c, const Vector& downhill) noexcept {
  Chosen free{};
  for (std::size_t i = 0; i < count; ++i)
    free[i] = !((c[i] <= 0 && downhill[i] <= 0) || (c[i] >= upper[i] && downhill[i] >= 0));
  return free;
}

// Solves for the chosen ones by elimination with pivoting; the others are 0. Nothing if singular.
std::optional<Vector> solve(Square a, Vector b, const Chosen& chosen) noexcept {
  for (std::size_t i = 0; i < count; ++i)
    if (!chosen[i]) {
      for (std::size_t j = 0; j < count; ++j)
        a[i][j] = a[j][i] = 0;
      a[i][i] = 1;
      b[i] = 0;
    }
  for (std::size_t i = 0; i < count; ++i) {
    std::size_t pivot = i;
    for (std::size_t row = i + 1; row < count; ++row)
      if (std::abs(a[row][i]) > std::abs(a[pivot][i]))
        pivot = row;
    if (!(std::abs(a[pivot][i]) > 0))
      return {};
    std::swap(a[i], a[pivot]);
    std::swap(b[i], b[pivot]);
    for (std::size_t row = 0; row < count; ++row) {
      if (row == i)
        continue;
      const double factor = a[row][i] / a[i][i];
      for (std::size_t j = i; j < count; ++j)
        a[row][j] -= factor * a[i][j];
      b[row] -= factor * b[i];
    }
  }
  for (std::size_t i = 0; i < count; ++i)
    b[i] /= a[i][i];
  return b;
}

// A step of the method: damped until it leads downhill, and cut off at the bounds. False where no
// step does.
bool improve(Vector& c, double& damping, std::span<const ScalingPoint> points) noexcept {
  const Normal normal = normal_at(c, points);
  const Chosen free = free_ones(c, normal.downhill);
  const double before = squares(c, points);
  for (; damping < 1e12; damping *= 10) {
    Square damped = normal.curvature;
    for (std::size_t i = 0; i < count; ++i)
      damped[i][i] *= 1 + damping;
    const auto step = solve(damped, normal.downhill, free);
    if (!step)
      continue;
    Vector next = c;
    double moved = 0;
    for (std::size_t i = 0; i < count; ++i) {
      next[i] = std::clamp(c[i] + (*step)[i], 0.0, upper[i]);
      moved = std::max(moved, std::abs(next[i] - c[i]));
    }
    if (squares(next, points) < before && moved > 0) {
      c = next;
      damping = std::max(damping / 10, 1e-12);
      return true;
    }
  }
  return false;
}

Vector solution(std::span<const ScalingPoint> points) noexcept {
  Vector c = {0.01, 1e-4, 1};
  double damping = 1e-3;
  for (int step = 0; step < 1000 && improve(c, damping, points); ++step) {
  }
  return c;
}

// The standard errors of those within their bounds, from the scatter about the curve.
std::array<Coefficient, count> coefficients(const Vector& c, std::span<const ScalingPoint> points) {
  std::array<Coefficient, count> result;
  const Normal normal = normal_at(c, points);
  Chosen free{};
  for (std::size_t i = 0; i < count; ++i) {
    result[i].value = c[i];
    free[i] = c[i] > 0 && c[i] < upper[i];
  }
  const auto held = static_cast<std::size_t>(std::ranges::count(free, false));
  const std::size_t degrees = points.size() - (count - held);
  const double variance = squares(c, points) / static_cast<double>(degrees);
  for (std::size_t i = 0; i < count; ++i) {
    Vector unit{};
    unit[i] = 1;
    if (!free[i])
      continue;
    if (const auto column = solve(normal.curvature, unit, free))
      result[i] = coefficient(c[i], std::sqrt(variance * (*column)[i]), degrees);
  }
  return result;
}

void scale(Coefficient& coefficient, double factor) {
  coefficient.value *= factor;
  if (coefficient.error)
    *coefficient.error *= factor;
  if (coefficient.interval) {
    coefficient.interval->low *= factor;
    coefficient.interval->high *= factor;
  }
}

// No coefficient lies beyond its bounds, whatever the linearised interval says.
void cut(Coefficient& coefficient, double most) {
  if (!coefficient.interval)
    return;
  coefficient.interval->low = std::max(coefficient.interval->low, 0.0);
  coefficient.interval->high = std::min(coefficient.interval->high, most);
}

// P(|T| <= t), the finite sums for whole degrees (Abramowitz and Stegun, 26.7.3 and 26.7.4).
double student_within(double t, std::size_t degrees) noexcept {
  const double angle = std::atan(t / std::sqrt(static_cast<double>(degrees)));
  const double cosine = std::cos(angle);
  const bool odd = degrees % 2 == 1;
  double term = odd ? cosine : 1, sum = 0;
  for (std::size_t k = odd ? 3 : 2; k <= degrees; k += 2) {
    sum += term;
    term *= cosine * cosine * static_cast<double>(k - 1) / static_cast<double>(k);
  }
  sum *= std::sin(angle);
  return odd ? (angle + sum) * 2 / std::numbers::pi : sum;
}

}  // namespace

double amdahl_speedup(double serial, double workers) noexcept {
  return 1 / (serial + (1 - serial) / workers);
}

double gustafson_speedup(double serial, double workers) noexcept {
  return workers - serial * (workers - 1);
}

double karp_flatt(double speedup, double workers) noexcept {
  assert(workers > 1 && speedup > 0);
  return (1 / speedup - 1 / workers) / (1 - 1 / workers);
}

std::optional<SerialFit> fit_amdahl(std::span<const ScalingPoint> speedups) {
  std::vector<std::array<double, 2>> points;
  for (const ScalingPoint& point : speedups) {
    assert(is_point(point));
    // T/T1 - 1/N = s (1 - 1/N), both sides as shares of T/T1.
    if (const auto& [n, speedup] = point; n > 1)
      points.push_back({speedup * (1 - 1 / n), 1 - speedup / n});
  }
  return line_through_zero(points);
}

std::optional<SerialFit> fit_gustafson(std::span<const ScalingPoint> scaled_speedups) {
  std::vector<std::array<double, 2>> points;
  for (const ScalingPoint& point : scaled_speedups) {
    assert(is_point(point));
    if (const auto& [n, speedup] = point; n > 1)
      points.push_back({(n - 1) / speedup, n / speedup - 1});
  }
  return line_through_zero(points);
}

double UslFit::at(double workers) const noexcept {
  return usl({contention.value, crosstalk.value, rate.value}, workers);
}

std::optional<double> UslFit::peak() const noexcept {
  if (crosstalk.value <= 0)
    return {};
  return std::sqrt((1 - contention.value) / crosstalk.value);
}

std::optional<double> UslFit::limit() const noexcept {
  if (contention.value <= 0)
    return {};
  return rate.value / contention.value;
}

std::optional<double> UslFit::optimum() const noexcept {
  if (contention.value <= 0)
    return {};
  return 1 / contention.value;
}

std::optional<UslFit> fit_usl(std::span<const ScalingPoint> rates) {
  std::set<double> numbers;
  double of_one = 0;
  for (const ScalingPoint& point : rates) {
    assert(is_point(point));
    numbers.insert(point.workers);
    of_one = std::max(of_one, point.value / point.workers);
  }
  if (numbers.size() < usl_points)
    return {};
  std::vector<ScalingPoint> scaled(rates.begin(), rates.end());
  for (ScalingPoint& point : scaled)
    point.value /= of_one;
  const auto found = coefficients(solution(scaled), scaled);
  UslFit fit{found[0], found[1], found[2]};
  scale(fit.rate, of_one);
  cut(fit.contention, 1);
  cut(fit.crosstalk, 1);
  cut(fit.rate, INFINITY);
  double sum = 0;
  for (const auto& [n, x] : rates)
    sum += (fit.at(n) / x - 1) * (fit.at(n) / x - 1);
  fit.misfit = std::sqrt(sum / static_cast<double>(rates.size()));
  return fit;
}

double student_t(double level, std::size_t degrees) {
  assert(level > 0 && level < 1 && degrees > 0);
  double low = 0, high = 1;
  while (student_within(high, degrees) < level)
    high *= 2;
  for (int i = 0; i < 80; ++i) {
    const double middle = (low + high) / 2;
    (student_within(middle, degrees) < level ? low : high) = middle;
  }
  return (low + high) / 2;
}

}  // namespace schedlab::harness
