// SPDX-License-Identifier: BSD-3-Clause
#include "report.h"

#include <cstdio>
#include <fstream>
#include <nlohmann/json.hpp>

#include "machine.h"

namespace chainring::bench {

namespace {

double spread_of(const std::vector<double>& v) {
  const double m = median(v);
  return m == 0 ? 0 : (quantile(v, 0.75) - quantile(v, 0.25)) / 2 / m;
}

std::string number(double x, int decimals) {
  char text[64];
  std::snprintf(text, sizeof text, "%.*f", decimals, x);
  return text;
}

int decimals_for(double x) {
  return x < 0.1 ? 4 : x < 10 ? 2 : x < 1000 ? 1 : 0;
}

} // namespace

row figure(std::string name, std::string unit, const std::vector<double>& values,
           std::optional<target> wanted) {
  row r;
  r.figure = std::move(name);
  r.unit = std::move(unit);
  r.value = median(values);
  r.spread = spread_of(values);
  r.wanted = wanted;
  return r;
}

row against(std::string name, std::string unit, const pairs& p, std::string peer,
            std::optional<target> wanted, bool faster) {
  row r = figure(std::move(name), std::move(unit), p.own, wanted);
  r.peer = std::move(peer);
  r.peer_value = median(p.peer);
  r.ratio = median(p.ratios());
  if (faster) r.ratio = 1 / r.ratio;
  r.faster = faster;
  return r;
}

std::string report::target_text(const row& r) {
  if (!r.wanted) return "";
  const std::string bound =
      number(r.wanted->bound, r.wanted->bound == static_cast<int>(r.wanted->bound) ? 0
                              : r.wanted->bound < 0.1                              ? 4
                                                                                   : 1);
  return (r.wanted->of == target::sense::at_most ? "<= " : ">= ") + bound +
         (r.peer.empty() ? "" : "x");
}

std::string report::verdict(const row& r) const {
  if (!r.wanted) return "";
  if (!judge_) return "not judged";
  return r.wanted->met(r.peer.empty() ? r.value : r.ratio) ? "met" : "missed";
}

void report::heading(const std::string& text) {
  group_ = text;
  if (rows_.empty())
    std::printf("%-48s %9s %-9s %6s  %-30s %9s %14s %9s %s\n", "figure", "value", "unit", "spread",
                "peer", "value", "ratio", "target", "");
  std::printf("%s\n", text.c_str());
  std::fflush(stdout);
}

void report::add(row r) {
  const std::string spread = "+-" + number(r.spread * 100, 0) + "%";
  const std::string ratio = r.peer.empty() ? "-"
                                           : number(r.ratio, decimals_for(r.ratio)) +
                                                 (r.faster ? "x as fast" : "x its time");
  std::printf("  %-46s %9s %-9s %6s  %-30s %9s %14s %9s %s\n", r.figure.c_str(),
              number(r.value, decimals_for(r.value)).c_str(), r.unit.c_str(), spread.c_str(),
              r.peer.empty() ? "-" : r.peer.c_str(),
              r.peer.empty() ? "-" : number(r.peer_value, decimals_for(r.peer_value)).c_str(),
              ratio.c_str(), target_text(r).c_str(), verdict(r).c_str());
  std::fflush(stdout);
  rows_.push_back({group_, std::move(r)});
}

void report::note(const std::string& text) {
  std::printf("    %s\n", text.c_str());
  std::fflush(stdout);
  notes_.push_back(text);
}

void report::summary() const {
  unsigned targets = 0, met = 0;
  for (const entry& e : rows_) {
    targets += e.r.wanted.has_value();
    met += verdict(e.r) == "met";
  }
  if (judge_)
    std::printf("%u of %u targets met\n", met, targets);
  else
    std::printf("%u targets, not judged: --quick measures nothing\n", targets);
}

bool report::write_json(const std::string& path, const options& o) const {
  nlohmann::json all;
  all["version"] = CHAINRING_VERSION;
  const machine m = this_machine();
  all["machine"] = {
      {"cpu", m.cpu},       {"cores", m.cores},       {"memory_pages", m.memory_pages},
      {"kernel", m.kernel}, {"compiler", m.compiler}, {"dpdk", m.dpdk}};
  all["options"] = {{"seconds", o.seconds},      {"window", o.window},   {"clients", o.clients},
                    {"payload", o.payload_size}, {"fan_out", o.fan_out}, {"messages", o.messages}};
  all["judged"] = judge_;
  all["notes"] = notes_;
  for (const entry& e : rows_) {
    nlohmann::json j = {{"group", e.group},
                        {"figure", e.r.figure},
                        {"unit", e.r.unit},
                        {"value", e.r.value},
                        {"spread", e.r.spread}};
    if (!e.r.peer.empty()) {
      j["peer"] = e.r.peer;
      j["peer_value"] = e.r.peer_value;
      j["ratio"] = e.r.ratio;
      j["ratio_is"] = e.r.faster ? "speed" : "time";
    }
    if (e.r.wanted) {
      j["target"] = target_text(e.r);
      j["verdict"] = verdict(e.r);
    }
    all["figures"].push_back(std::move(j));
  }
  std::ofstream out(path);
  out << all.dump(2) << '\n';
  return static_cast<bool>(out.flush());
}

} // namespace chainring::bench
