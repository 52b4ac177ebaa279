#include "lab/cli/progress.hh"

#include "lab/base/clock.hh"
#include "lab/cli/output.hh"
#include "lab/harness/numbers.hh"

#include <fmt/format.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include <algorithm>
#include <cstdlib>

namespace schedlab::cli {

namespace {

bool drawable() {
  const char* terminal = std::getenv("TERM");
  return ::isatty(STDERR_FILENO) && terminal && std::string_view(terminal) != "dumb";
}

std::size_t columns() {
  winsize size{};
  return ::ioctl(STDERR_FILENO, TIOCGWINSZ, &size) == 0 && size.ws_col > 0 ? size.ws_col : 80;
}

}  // namespace

ProgressLine::ProgressLine(bool wanted, double seconds)
    : wanted_(wanted), live_(wanted && drawable()), seconds_(seconds), start_ns_(clock::now_ns()) {}

ProgressLine::~ProgressLine() {
  clear();
}

void ProgressLine::clear() {
  if (live_)
    say("\r\033[K");
}

void ProgressLine::draw(const std::string& text) {
  say("\r\033[K" + text.substr(0, columns() - 1));
}

void ProgressLine::begin_lab(const harness::Lab& lab, std::size_t number, std::size_t of) {
  position_ = fmt::format("[{}/{}] {}", number, of, lab.name);
  if (live_)
    draw(position_);
}

void ProgressLine::update(const harness::ProgressView& view) {
  const double elapsed_s = static_cast<double>(clock::now_ns() - start_ns_) * 1e-9;
  std::string text = fmt::format("{} {:.0f} %", position_, 100 * std::min(view.done, 1.0));
  text += fmt::format("  ETA {:.0f} s", std::max(seconds_ - elapsed_s, 0.0));
  text += fmt::format("  process {}/{} round {}/{}", view.process + 1, view.processes, view.round,
                      view.rounds);
  if (view.series) {
    text += "  " + view.series->name;
    if (view.estimate > 0)
      text += " " + harness::quantity(view.estimate, view.lab->metrics[0].unit);
  }
  draw(text);
}

void ProgressLine::end_lab(const harness::LabResult& result) {
  clear();
  if (wanted_ && !live_)
    say(fmt::format("{} {} ({:.1f} s)\n", position_, to_text(result.status),
                    result.wall_ns * 1e-9));
}

}  // namespace schedlab::cli
