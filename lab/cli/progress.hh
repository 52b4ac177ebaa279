#pragma once
#include "lab/harness/runner.hh"

#include <cstdint>
#include <string>

namespace schedlab::cli {

// Tells on standard error how far a run is: on a terminal one line that is drawn again and again,
// without one a line for each lab.
class ProgressLine {
public:
  // `seconds` is what the whole run is planned to take.
  ProgressLine(bool wanted, double seconds);
  ~ProgressLine();
  ProgressLine(const ProgressLine&) = delete;
  ProgressLine& operator=(const ProgressLine&) = delete;

  // Is the line drawn, so that updates are worth their while?
  [[nodiscard]] bool live() const noexcept { return live_; }
  void begin_lab(const harness::Lab& lab, std::size_t number, std::size_t of);
  void update(const harness::ProgressView& view);
  void end_lab(const harness::LabResult& result);

private:
  void draw(const std::string& text);
  void clear();

  bool wanted_;
  bool live_;
  double seconds_;
  std::int64_t start_ns_;
  std::string position_;
};

}  // namespace schedlab::cli
