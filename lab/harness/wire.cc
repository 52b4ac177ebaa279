#include "lab/harness/wire.hh"

#include <cmath>
#include <nlohmann/json.hpp>

namespace schedlab::harness {

using nlohmann::json;

namespace {

// NaN travels as null, and so does infinity, which JSON lacks as well.
json number(double value) {
  return std::isnan(value) ? json() : json(value);
}
double number(const json& value) {
  return value.is_null() ? not_measured : value.get<double>();
}

json pack(const Sample& sample) {
  const Proof& proof = sample.proof;
  json values = json::array();
  for (const double value : sample.values)
    values.push_back(number(value));
  return {sample.operations,
          sample.elapsed_ns,
          values,
          {proof.on_cpu, proof.expected_switches, proof.counted_switches, proof.wall_ns,
           proof.waited_ns, number(proof.foreign_ns), proof.steal_ticks, proof.cpus,
           proof.most_switches}};
}

json pack(const Value& value) {
  return value.text() ? json(*value.text()) : json(*value.number());
}
Value value_of(const json& packed) {
  return packed.is_string() ? Value(packed.get<std::string>()) : Value(packed.get<double>());
}

json pack(const Check& check) {
  return {check.name, pack(check.expected), pack(check.seen), check.ok};
}
Check check_of(const json& packed) {
  return {packed.at(0), value_of(packed.at(1)), value_of(packed.at(2)), packed.at(3)};
}

Sample unpack(const json& packed) {
  Sample sample;
  sample.operations = packed.at(0);
  sample.elapsed_ns = number(packed.at(1));
  for (std::size_t i = 0; i < max_metrics; ++i)
    sample.values[i] = number(packed.at(2).at(i));
  const json& proof = packed.at(3);
  sample.proof = {.on_cpu = proof.at(0),
                  .expected_switches = proof.at(1),
                  .most_switches = proof.at(8),
                  .counted_switches = proof.at(2),
                  .wall_ns = number(proof.at(3)),
                  .waited_ns = number(proof.at(4)),
                  .foreign_ns = number(proof.at(5)),
                  .steal_ticks = proof.at(6),
                  .cpus = proof.at(7).get<std::vector<unsigned>>()};
  return sample;
}

}  // namespace

std::string encode(const Request& request, const clock::Calibration& calibration) {
  return json{{"lab", request.lab},
              {"usable", request.usable},
              {"preset", static_cast<int>(request.settings.preset)},
              {"placement", request.settings.placement},
              {"values", request.settings.values},
              {"driver", request.settings.driver},
              {"processes", request.settings.processes},
              {"process", request.process},
              {"seed", request.seed},
              {"budget_s", request.budget_s},
              {"operations", request.operations},
              {"clock",
               {static_cast<int>(calibration.source), calibration.ns_per_tick, calibration.reason}}}
      .dump();
}

Request decode_request(std::string_view text, clock::Calibration& calibration) {
  const json j = json::parse(text);
  Request request;
  request.lab = j.at("lab");
  request.usable = j.at("usable");
  request.settings.preset = static_cast<Preset>(j.at("preset").get<int>());
  request.settings.placement = j.at("placement");
  request.settings.values = j.at("values").get<std::map<std::string, std::string>>();
  request.settings.driver = j.at("driver");
  request.settings.processes = j.at("processes");
  request.process = j.at("process");
  request.seed = j.at("seed");
  request.budget_s = j.at("budget_s");
  request.operations = j.at("operations").get<std::map<std::string, std::uint64_t>>();
  const json& clock = j.at("clock");
  calibration = {static_cast<clock::Source>(clock.at(0).get<int>()), clock.at(1), clock.at(2)};
  return request;
}

std::string encode(const Reply& reply) {
  json series = json::array();
  for (const auto& raw : reply.series) {
    json samples = json::array();
    for (const auto& sample : raw.samples)
      samples.push_back(pack(sample));
    json checks = json::array();
    for (const auto& check : raw.checks)
      checks.push_back(pack(check));
    series.push_back({{"name", raw.name},
                      {"operations", raw.operations},
                      {"samples", samples},
                      {"checks", checks},
                      {"failure", raw.failure}});
  }
  return json{{"series", series},
              {"rounds_planned", reply.rounds_planned},
              {"rounds_cut", reply.rounds_cut},
              {"clock_pair_ns", reply.clock_pair_ns},
              {"layout", {reply.layout.text, reply.layout.heap, reply.layout.stack}}}
      .dump(-1, ' ', false, json::error_handler_t::replace);
}

Reply decode_reply(std::string_view text) {
  try {
    const json j = json::parse(text);
    Reply reply;
    for (const auto& item : j.at("series")) {
      RawSeries raw{.name = item.at("name"),
                    .operations = item.at("operations"),
                    .samples = {},
                    .checks = {},
                    .failure = item.at("failure")};
      for (const auto& check : item.at("checks"))
        raw.checks.push_back(check_of(check));
      for (const auto& sample : item.at("samples"))
        raw.samples.push_back(unpack(sample));
      reply.series.push_back(std::move(raw));
    }
    reply.rounds_planned = j.at("rounds_planned");
    reply.rounds_cut = j.at("rounds_cut");
    reply.clock_pair_ns = number(j.at("clock_pair_ns"));
    reply.layout = {j.at("layout").at(0), j.at("layout").at(1), j.at("layout").at(2)};
    return reply;
  } catch (const json::exception& error) {
    throw std::runtime_error(std::string("a replicate's reply cannot be read: ") + error.what());
  }
}

}  // namespace schedlab::harness
