#include "lab/harness/lab_text.hh"

#include "affinity/cpu_set.hh"
#include "lab/base/text.hh"
#include "lab/harness/findings.hh"
#include "lab/harness/heat_map.hh"
#include "lab/harness/lab.hh"
#include "lab/harness/numbers.hh"
#include "lab/harness/table.hh"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <set>

namespace schedlab::harness {

namespace {

using affinity::CpuSet;
using Align = Table::Align;
using Rows = std::vector<const Series*>;

// How a metric is shown; a lab that this program does not know shows everything.
MetricInfo info_of(const Lab* lab, const std::string& metric) {
  if (lab)
    for (const auto& info : lab->metrics)
      if (info.name == metric)
        return info;
  return {.name = metric, .unit = "", .help = "", .interval = true};
}

bool is_floor(const Series& series) {
  return find_param(series, "role") != nullptr;
}

std::string place_of(const Series& series) {
  constexpr std::size_t most_named = 4;
  std::string text;
  const Placement& place = series.placement;
  if (place.cpus.size() > most_named && place.logical.size() == place.cpus.size())
    return fmt::format(" {} CPUs L#{}(P#{})", place.cpus.size(),
                       CpuSet::from_numbers(place.logical).list(),
                       CpuSet::from_numbers(place.cpus).list());
  for (std::size_t i = 0; i < place.cpus.size(); ++i) {
    if (i > 0 && place.cpus[i] == place.cpus[i - 1])
      continue;
    text += i < place.logical.size() ? fmt::format(" L#{}(P#{})", place.logical[i], place.cpus[i])
                                     : fmt::format(" P#{}", place.cpus[i]);
  }
  return text;
}

std::string heading_of(const Series& series) {
  const std::string what = is_floor(series) ? "floors" : series.placement.relation;
  const std::string text = what + place_of(series);
  return what.empty() && !text.empty() ? text.substr(1) : text;
}

// The names of the parameters in which the series differ.
std::vector<std::string> varying(const Rows& rows) {
  std::vector<std::string> names;
  for (const auto* series : rows)
    for (const auto& [name, value] : series->params)
      if (name != "role" && std::ranges::find(names, name) == names.end())
        names.push_back(name);
  const auto same = [&](const std::string& name) {
    std::set<std::string> seen;
    for (const auto* series : rows)
      if (find_param(*series, name))
        seen.insert(param_text(*series, name));
    return seen.size() < 2;
  };
  const auto all = names;
  std::erase_if(names, same);
  return names.empty() ? all : names;
}

// "round_trip" in two lines, which keeps its column narrow.
std::string title_of(std::string_view name) {
  std::string title(name);
  std::ranges::replace(title, '_', '\n');
  return title;
}

// Words speak for themselves; a column of numbers needs its parameter's name.
std::string title_of_param(const Rows& rows, const std::string& name) {
  for (const auto* series : rows)
    if (find_param(*series, name) && param_text(*series, name).find_first_of("0123456789") != 0)
      return "";
  return title_of(name);
}

std::string mark(Status status) {
  if (status == Status::noisy)
    return "~";
  return status == Status::invalid ? "!" : "";
}

// What a series with a reason is.
std::string_view missing_of(Status status) {
  if (status == Status::skipped || status == Status::failed)
    return to_text(status);
  return "measured in part";
}

std::string mark(Severity severity) {
  return severity == Severity::note
             ? ""
             : mark(severity == Severity::noisy ? Status::noisy : Status::invalid);
}

// How much a table shows: less where the width does not do for more.
enum class Detail : std::uint8_t {
  all,
  important,  // only metrics with an interval or a net
  values,     // of these, no intervals
};

class LabText {
public:
  LabText(const LabResult& result, const TextOptions& options)
      : result_(result), lab_(find_lab(result.name)), options_(options) {}

  std::string text(const std::map<std::string, double>& predictions) {
    head();
    predicted(predictions);
    sections();
    matrices();
    not_measured_everywhere();
    warnings();
    claims();
    return std::move(out_);
  }

private:
  [[nodiscard]] std::string bold(const std::string& text) const {
    return options_.colour ? "\033[1m" + text + "\033[0m" : text;
  }

  void paragraph(std::string_view text, std::size_t indent, std::size_t hang = 0) {
    std::size_t margin = indent;
    for (const auto& line : wrap(text, options_.width - indent - hang)) {
      out_ += std::string(margin, ' ') + line + "\n";
      margin = indent + hang;
    }
  }

  void head() {
    const std::size_t margin = display_width(result_.name) + 2;
    out_ += bold(result_.name);
    std::string space = "  ";
    for (const auto& line : wrap(result_.question, options_.width - margin)) {
      out_ += space + line + "\n";
      space.assign(margin, ' ');
    }
    if (result_.status == Status::skipped || result_.status == Status::failed)
      paragraph(fmt::format("{}: {}", to_text(result_.status), result_.reason), 2);
    if (!result_.answer.empty())
      paragraph(result_.answer, 2);
  }

  void predicted(const std::map<std::string, double>& predictions) {
    for (const auto& [key, value] : predictions) {
      if (!key.starts_with(result_.name + "."))
        continue;
      const std::string metric_name = key.substr(result_.name.size() + 1);
      for (const auto& series : result_.series) {
        const Metric* metric = recorded_metric(series, metric_name);
        if (!metric || !metric->median || is_floor(series))
          continue;
        const double off = 100 * (value / *metric->median - 1);
        const bool inside = metric->ci && value >= metric->ci->low && value <= metric->ci->high;
        paragraph(fmt::format("predicted {} {}: measured {} ({}); the prediction is {}",
                              metric_name, quantity(value, metric->unit), with_interval(*metric),
                              series.name,
                              inside ? "within the interval" : fmt::format("{:+.0f} % off", off)),
                  2);
        break;
      }
    }
  }

  // The words that all rows of a section share and the lab's other series do not: no column of the
  // section would say them.
  [[nodiscard]] std::string shared_words(const Rows& rows) const {
    Rows all;
    for (const auto& series : result_.series)
      if (!series.metrics.empty())
        all.push_back(&series);
    const auto columns = varying(rows);
    std::string words;
    for (const auto& name : varying(all)) {
      const std::string word = param_text(*rows.front(), name);
      const bool shared = std::ranges::find(columns, name) == columns.end() &&
                          std::ranges::all_of(rows, [&](const auto* series) {
                            return param_text(*series, name) == word;
                          });
      if (shared && !word.empty() && word != rows.front()->placement.relation &&
          word.find_first_of("0123456789") != 0)
        words += " " + word;
    }
    return words;
  }

  void sections() {
    std::vector<std::string> headings;
    std::map<std::string, Rows> rows;
    for (const auto& series : result_.series) {
      // A matrix is no column, so that a series of matrices alone is no row.
      if (std::ranges::all_of(series.metrics,
                              [](const auto& metric) { return metric.matrix.has_value(); }))
        continue;
      const std::string heading = heading_of(series);
      if (!rows.contains(heading))
        headings.push_back(heading);
      rows[heading].push_back(&series);
    }
    for (const auto& heading : headings)
      for (const auto& fitting : that_fit(rows[heading])) {
        const std::string words = is_floor(*fitting.front()) ? "" : shared_words(fitting);
        section(heading.ends_with(words) ? heading : heading + words, fitting);
      }
  }

  // All rows in one table, or where that is too wide whatever is left out, a table for those with
  // the same parameters.
  [[nodiscard]] std::vector<Rows> that_fit(const Rows& rows) const {
    if (widest_line(table("", rows, Detail::values)) <= options_.width)
      return {rows};
    std::vector<Rows> tables;
    const auto names = [](const Series* series) {
      std::vector<std::string_view> all;
      for (const auto& [name, value] : series->params)
        all.push_back(name);
      return all;
    };
    for (const auto* series : rows) {
      const auto same = std::ranges::find_if(
          tables, [&](const Rows& others) { return names(others.front()) == names(series); });
      (same == tables.end() ? tables.emplace_back() : *same).push_back(series);
    }
    return tables;
  }

  // The metrics that some row has and the lab wants shown, in the lab's order.
  [[nodiscard]] std::vector<MetricInfo> columns(const Rows& rows, Detail detail) const {
    std::vector<MetricInfo> shown;
    std::set<std::string_view> important;
    for (const auto* series : rows)
      for (const auto& metric : series->metrics) {
        const MetricInfo info = info_of(lab_, metric.name);
        const bool known = std::ranges::find(shown, info.name, &MetricInfo::name) != shown.end();
        if (info.show && !known && !metric.matrix)
          shown.push_back(info);
        if (info.interval || metric.net)
          important.insert(info.name);
      }
    if (detail != Detail::all && !important.empty())
      std::erase_if(shown, [&](const auto& info) { return !important.contains(info.name); });
    return shown;
  }

  void section(const std::string& heading, const Rows& rows) {
    // The heading stands on a line of its own where it would push the columns out.
    const bool own_line = display_width(heading) > 14 || varying(rows).empty();
    out_ += "\n";
    if (own_line)
      out_ += "  " + bold(heading) + "\n";
    std::string text;
    for (const auto detail : {Detail::all, Detail::important, Detail::values}) {
      text = table(own_line ? "" : heading, rows, detail);
      if (widest_line(text) <= options_.width)
        break;
    }
    out_ += text;
  }

  [[nodiscard]] std::string table(const std::string& title, const Rows& rows, Detail detail) const {
    const auto names = varying(rows);
    const auto metrics = columns(rows, detail);
    std::vector<std::pair<std::string, Align>> titles;
    for (std::size_t i = 0; i < names.size(); ++i)
      titles.emplace_back(i == 0 && !title.empty() ? title : title_of_param(rows, names[i]),
                          Align::left);
    for (const auto& info : metrics) {
      titles.emplace_back(title_of(info.name), Align::right);
      titles.emplace_back("", Align::beside);
      titles.emplace_back(title_of(info.net), Align::right);
      titles.emplace_back("", Align::beside);
    }
    titles.emplace_back("", Align::beside);
    Table table(std::move(titles));
    for (const auto* series : rows)
      table.add(row(*series, names, metrics, detail));
    return table.text(2);
  }

  [[nodiscard]] std::vector<std::string> row(const Series& series,
                                             const std::vector<std::string>& names,
                                             const std::vector<MetricInfo>& metrics,
                                             Detail detail) const {
    std::vector<std::string> cells;
    for (const auto& name : names)
      cells.push_back(param_text(series, name));
    const bool intervals = detail != Detail::values;
    for (const auto& info : metrics) {
      const Metric* metric = recorded_metric(series, info.name);
      const bool below = metric && metric->omitted.contains("median");
      add_value(cells, metric ? metric->median : std::nullopt,
                metric && info.interval && intervals ? metric->ci : std::nullopt, below, metric);
      const bool net = metric && metric->net;
      add_value(cells, net ? metric->net->median : std::nullopt,
                net && intervals ? metric->net->ci : std::nullopt,
                net && metric->net->below_resolution, metric);
    }
    cells.push_back(mark(series.status));
    return cells;
  }

  // Two cells: the value and its interval.
  static void add_value(std::vector<std::string>& cells, const std::optional<double>& value,
                        const std::optional<Interval>& interval, bool below, const Metric* metric) {
    if (below) {
      cells.insert(cells.end(), {"below", "resolution"});
      return;
    }
    cells.push_back(value ? quantity(*value, metric->unit) : "");
    cells.push_back(value ? bounds(*value, interval, metric->unit) : "");
  }

  void matrices() {
    for (const auto& series : result_.series)
      for (const auto& metric : series.metrics) {
        if (!metric.matrix || !info_of(lab_, metric.name).show)
          continue;
        std::string title = series.name;
        if (title.find(metric.name) == std::string::npos)
          title += ", " + metric.name;
        std::ranges::replace(title, '_', ' ');
        const std::string sign = mark(series.status);
        out_ += "\n" + heat_map(sign.empty() ? title : sign + " " + title, *metric.matrix,
                                metric.unit, options_);
      }
  }

  // What is missing, each reason once: of whole series, or of some processes of a series.
  void not_measured_everywhere() {
    if (result_.status == Status::skipped)
      return;
    std::map<std::pair<std::string_view, std::string>, std::vector<std::string>> by_reason;
    for (const auto& series : result_.series)
      if (!series.reason.empty())
        by_reason[{missing_of(series.status), series.reason}].push_back(series.name);
    if (by_reason.empty())
      return;
    out_ += "\n";
    for (const auto& [why, names] : by_reason)
      paragraph(fmt::format("{} {}: {}", why.first,
                            names.size() > 3
                                ? fmt::format("{} and {} more", names[0], names.size() - 1)
                                : join(names, ", "),
                            why.second),
                2, 2);
  }

  struct Warned {
    const Warning* warning;
    std::size_t series;
    Severity worst;
  };

  void warnings() {
    std::vector<Warned> all;
    const auto note = [&](const Warning& warning, std::size_t series) {
      const auto known = std::ranges::find_if(
          all, [&](const Warned& other) { return other.warning->code == warning.code; });
      if (known == all.end()) {
        all.push_back({&warning, series, warning.severity});
        return;
      }
      known->series += series;
      if (warning.severity > known->worst) {
        known->worst = warning.severity;
        known->warning = &warning;
      }
    };
    for (const auto& warning : result_.warnings)
      note(warning, 0);
    for (const auto& series : result_.series)
      for (const auto& warning : series.warnings)
        note(warning, 1);
    if (all.empty())
      return;
    out_ += "\n";
    signs(all);
    for (const auto& warned : all) {
      const std::string where =
          warned.series == 0 ? "" : fmt::format(" ({} series)", warned.series);
      const std::string sign = mark(warned.worst);
      // A note about the machine as a whole stands under every lab; its fix is doctor's to tell.
      const bool brief = warned.series == 0 && warned.worst == Severity::note;
      paragraph(fmt::format("{}{}{}{}: {} {}", sign, sign.empty() ? "" : " ", warned.warning->code,
                            where, warned.warning->message, brief ? "" : warned.warning->fix),
                2, 2);
    }
  }

  // What the signs beside rows and warnings say, of those there are.
  void signs(const std::vector<Warned>& all) {
    const auto seen = [&](Severity severity) {
      return std::ranges::find(all, severity, &Warned::worst) != all.end();
    };
    std::vector<std::string> meanings;
    if (seen(Severity::noisy))
      meanings.push_back(fmt::format("{} noisy, read it with care", mark(Severity::noisy)));
    if (seen(Severity::invalid))
      meanings.push_back(fmt::format("{} invalid, do not use it", mark(Severity::invalid)));
    if (!meanings.empty())
      paragraph(join(meanings, "; ") + ":", 2);
  }

  void claims() {
    if (result_.claims.empty())
      return;
    out_ += "\n";
    for (const auto& claim : result_.claims) {
      std::string text = fmt::format("{} {}: {}.", claim.id, to_text(claim.verdict), claim.text);
      if (!claim.evidence.empty())
        text += " Here: " + claim.evidence + ".";
      if (!claim.needs.empty())
        text += " Needs " + claim.needs + ".";
      paragraph(text, 2, 2);
    }
  }

  const LabResult& result_;
  const Lab* lab_;
  TextOptions options_;
  std::string out_;
};

}  // namespace

std::string lab_text(const LabResult& lab, const std::map<std::string, double>& predictions,
                     const TextOptions& options) {
  return LabText(lab, options).text(predictions);
}

}  // namespace schedlab::harness
