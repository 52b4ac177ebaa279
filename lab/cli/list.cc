#include "affinity/topology.hh"
#include "lab/base/error.hh"
#include "lab/base/text.hh"
#include "lab/cli/commands.hh"
#include "lab/cli/output.hh"
#include "lab/cli/selection.hh"
#include "lab/harness/plan.hh"
#include "lab/harness/table.hh"

#include <nlohmann/json.hpp>

#include <algorithm>
#include <utility>

namespace schedlab::cli {

namespace {

using nlohmann::ordered_json;

// Why a lab cannot run here, or empty.
std::string objection(const harness::Lab& lab, const affinity::Topology& topology) {
  const auto outcome = harness::plan_lab(lab, topology, {.placement = "all", .values = {}});
  if (!outcome.unsupported.empty())
    return outcome.unsupported;
  if (outcome.plan->runnable() > 0)
    return "";
  for (const auto& series : outcome.plan->series())
    if (!series.skip.empty())
      return series.skip;
  return "nothing to measure";
}

ordered_json params_json(const harness::Lab& lab) {
  ordered_json params = ordered_json::array();
  for (const auto& param : lab.params) {
    ordered_json one = {{"name", param.name},   {"help", param.help},   {"list", param.list},
                        {"smoke", param.smoke}, {"quick", param.quick}, {"full", param.full}};
    if (!param.words.empty())
      one["words"] = std::vector<std::string>(param.words.begin(), param.words.end());
    params.push_back(one);
  }
  return params;
}

ordered_json lab_json(const harness::Lab& lab, const std::string& objection) {
  ordered_json metrics = ordered_json::array();
  for (const auto& metric : lab.metrics)
    metrics.push_back({{"name", metric.name},
                       {"unit", metric.unit},
                       {"better", to_text(metric.better)},
                       {"kind", to_text(metric.kind)},
                       {"help", metric.help}});
  std::vector<std::string> claims;
  for (const auto& claim : lab.claims)
    claims.emplace_back(claim.id);
  return {{"name", lab.name},
          {"family", lab.family},
          {"question", lab.question},
          {"version", lab.version},
          {"runnable", objection.empty()},
          {"reason", objection.empty() ? ordered_json() : ordered_json(objection)},
          {"params", params_json(lab)},
          {"metrics", metrics},
          {"claims", claims},
          {"budget_s", {{"quick", lab.budget.quick_s}, {"full", lab.budget.full_s}}}};
}

}  // namespace

int list_labs(const Options& options) {
  const auto labs = select_labs(options.names);
  const auto topology = affinity::Topology::machine();
  ordered_json document = ordered_json::array();
  std::size_t longest = 0;
  for (const auto* lab : labs)
    longest = std::max(longest, lab->name.size());
  harness::Table table({{"lab", harness::Table::Align::left},
                        {"here", harness::Table::Align::left},
                        {"question", harness::Table::Align::left}});
  const std::size_t margin = longest + std::string_view("  here  ").size();
  const std::size_t room = std::max<std::size_t>(output_width(), margin + 20) - margin;
  for (const auto* lab : labs) {
    const std::string reason = objection(*lab, topology);
    document.push_back(lab_json(*lab, reason));
    std::vector<std::string> cells = {std::string(lab->name), reason.empty() ? "yes" : "no", ""};
    for (const auto& text : {std::string(lab->question), reason})
      for (const auto& line : wrap(text, room)) {
        cells.back() = line;
        if (!line.empty())
          table.add(std::exchange(cells, {"", "", ""}));
      }
  }
  print(options.json ? document.dump(2) + "\n" : table.text(0));
  return status_done;
}

int explain_lab(const Options& options) {
  const auto labs = select_labs(options.names);
  if (labs.size() != 1)
    throw BadInput("'" + options.names.at(0) + "' stands for " + std::to_string(labs.size()) +
                   " labs; explain takes one");
  print(harness::lab_page(labs[0]->name));
  return status_done;
}

}  // namespace schedlab::cli
