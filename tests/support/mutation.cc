// SPDX-License-Identifier: BSD-3-Clause
#include "support/mutation.h"

#include <algorithm>
#include <chrono>
#include <climits>
#include <cstdio>
#include <cstdlib>
#include <fcntl.h>
#include <fstream>
#include <map>
#include <memory>
#include <set>
#include <string>
#include <tuple>
#include <unistd.h>

#include "support/children.h"
#include "support/crash_case.h"
#include "support/explorer.h"

namespace chainring::test {

namespace {

using clock = std::chrono::steady_clock;

double seconds_since(clock::time_point start) {
  return std::chrono::duration<double>(clock::now() - start).count();
}

/// A trial with nothing switched off, and what it called.
struct baseline {
  const mutation_trial* what;
  call_watch watch;
  std::string failure;
  double seconds = 0;
};

/// What a child says of a baseline, as octets: the failure, the stacks, and what is known to hold.
class record {
 public:
  record() = default;
  explicit record(std::string octets) : octets_(std::move(octets)) {}

  void put(std::uint64_t n) { octets_.append(reinterpret_cast<const char*>(&n), sizeof n); }
  void put(const std::string& text) {
    put(text.size());
    octets_ += text;
  }
  std::uint64_t number() {
    std::uint64_t n = 0;
    octets_.copy(reinterpret_cast<char*>(&n), sizeof n, at_);
    at_ += sizeof n;
    return n;
  }
  std::string text() {
    const std::uint64_t size = number();
    at_ += size;
    return octets_.substr(at_ - size, size);
  }
  [[nodiscard]] const std::string& octets() const { return octets_; }

 private:
  std::string octets_;
  std::size_t at_ = 0;
};

std::string run_baseline(const mutation_trial& trial) {
  call_watch watch;
  record out;
  out.put(trial.run(watch));
  out.put(watch.stacks().size());
  for (const call_watch::stack& s : watch.stacks()) {
    out.put(s.size());
    for (const std::uint64_t r : s)
      out.put(r);
  }
  out.put(trial.known ? trial.known->size() : 0);
  if (trial.known)
    for (const std::uint64_t k : *trial.known)
      out.put(k);
  return out.octets();
}

void read_baseline(baseline& b, const child_end& end) {
  b.seconds = end.seconds;
  b.failure = end.wrong();
  if (!end.returned()) return;
  record in(end.said);
  b.failure = in.text();
  for (std::uint64_t stacks = in.number(); stacks > 0; --stacks) {
    call_watch::stack s(in.number());
    for (std::uint64_t& r : s)
      r = in.number();
    b.watch.add(std::move(s));
  }
  for (std::uint64_t known = in.number(); known > 0; --known)
    b.what->known->insert(in.number());
}

/// Runs in a child: the trials one after the other without the site, until one fails. Returns its
/// name, and nothing where none fails.
std::string run_mutant(const std::vector<const mutation_trial*>& trials, const call_site& site) {
  const int null = open("/dev/null", O_WRONLY);
  dup2(null, STDOUT_FILENO);
  dup2(null, STDERR_FILENO);
  call_watch watch;
  watch.switch_off(site);
  for (const mutation_trial* t : trials)
    if (!t->run(watch).empty()) return t->name;
  return {};
}

/// The sites of the stacks that no direct call explains.
std::vector<call_site> indirect_sites(const std::vector<std::unique_ptr<baseline>>& all,
                                      const std::vector<std::string>& under) {
  std::set<std::uint64_t> unknown;
  for (const auto& b : all)
    for (const call_watch::stack& s : b->watch.stacks())
      unknown.insert(s.begin(), s.end());
  for (const call_site& s : find_call_sites({""}))
    for (const std::uint64_t r : s.returns)
      unknown.erase(r);
  std::vector<call_site> out;
  for (call_site& s : call_sites_at({unknown.begin(), unknown.end()}))
    if (is_under(s.path, under)) out.push_back(std::move(s));
  return out;
}

/// Which stacks of which trials pass through a site: equal for sites that are one mutant.
using footprint = std::vector<std::pair<std::size_t, std::size_t>>;

footprint footprint_of(const call_site& site, const std::vector<std::unique_ptr<baseline>>& all) {
  footprint out;
  for (std::size_t t = 0; t < all.size(); ++t) {
    const auto& stacks = all[t]->watch.stacks();
    for (std::size_t i = 0; i < stacks.size(); ++i)
      if (std::ranges::any_of(stacks[i], [&](std::uint64_t r) {
            return std::ranges::binary_search(site.returns, r);
          }))
        out.emplace_back(t, i);
  }
  return out;
}

/// The source line of a call, and the same behind the line before it: a line alone may say too
/// little, as a brace at which an object goes.
struct source_text {
  std::string line, with_before;
  explicit source_text(const call_site& s) : line(trimmed(s, s.line)) {
    with_before = trimmed(s, s.line - 1) + " | " + line;
  }

 private:
  static std::string trimmed(const call_site& s, unsigned number) {
    const std::string& all = source_line(s.path, number);
    return all.substr(std::min(all.find_first_not_of(' '), all.size()));
  }
};

/// Why a site may survive; null where it may not.
const std::string* proof_of(const call_site& s, const mutation_options& which) {
  const auto found = std::ranges::find_if(which.stay, [&](const auto& stay) {
    if (stay.first.starts_with('[')) return s.label == stay.first;
    return source_line(s.path, s.line).find(stay.first) != std::string::npos ||
           source_text(s).with_before == stay.first;
  });
  return found == which.stay.end() ? nullptr : &found->second;
}

/// Whether tests/support/open_call_sites has the site: by file and source line, so that it stays
/// right where lines move.
bool is_open(const call_site& s) {
  static const std::set<std::string> listed = [] {
    std::set<std::string> out;
    std::ifstream in(CHAINRING_SOURCE_ROOT "/tests/support/open_call_sites");
    for (std::string line; std::getline(in, line);)
      out.insert(line);
    return out;
  }();
  const source_text text(s);
  return listed.contains(s.path + ": " + text.line) ||
         listed.contains(s.path + ": " + text.with_before);
}

} // namespace

mutation_report mutate(const std::vector<mutation_trial>& trials, const mutation_options& which) {
  const auto start = clock::now();
  mutation_report report;
  std::vector<std::unique_ptr<baseline>> all;
  for (const mutation_trial& t : trials)
    all.emplace_back(std::make_unique<baseline>())->what = &t;
  in_children(
      all.size(), UINT_MAX, [&](std::size_t i) { return run_baseline(*all[i]->what); },
      [&](std::size_t i, const child_end& end) {
        read_baseline(*all[i], end);
        std::fprintf(stderr, "%s: %.1f s, %zu stacks\n", all[i]->what->name.c_str(), end.seconds,
                     all[i]->watch.stacks().size());
      });
  for (const auto& b : all) {
    report.baseline = b->failure;
    if (!report.baseline.empty()) return report;
  }
  std::ranges::sort(all, {}, [](const auto& b) { return b->seconds; });

  std::vector<call_site> sites = find_call_sites(which.under);
  for (call_site& s : indirect_sites(all, which.under)) {
    const auto same = std::ranges::find_if(sites, [&](const call_site& o) {
      return o.path == s.path && o.line == s.line && o.call == s.call;
    });
    if (same == sites.end())
      sites.push_back(std::move(s));
    else
      same->returns.insert(same->returns.end(), s.returns.begin(), s.returns.end());
  }
  if (const char* only = std::getenv("CHAINRING_SITES"); only != nullptr)
    std::erase_if(sites,
                  [&](const call_site& s) { return s.name().find(only) == std::string::npos; });
  for (call_site& s : sites)
    std::ranges::sort(s.returns);
  std::ranges::sort(sites, [](const call_site& a, const call_site& b) {
    return std::tie(a.path, a.line, a.call) < std::tie(b.path, b.line, b.call);
  });

  std::map<footprint, std::vector<std::size_t>> equal;
  for (std::size_t i = 0; i < sites.size(); ++i) {
    report.mutants.push_back({sites[i], fate::unreached, {}});
    equal[footprint_of(sites[i], all)].push_back(i);
  }
  equal.erase(footprint{});
  if (std::getenv("CHAINRING_LIST_SITES") != nullptr) {
    for (const auto& [stacks, members] : equal)
      for (const std::size_t i : members)
        std::printf("reached    %s\n", sites[i].name().c_str());
    report.baseline =
        "CHAINRING_LIST_SITES is set: the sites that are reached are listed, and none is tried";
    return report;
  }
  // In the order of the source, as neighbours are often killed by one scenario.
  std::vector<const std::pair<const footprint, std::vector<std::size_t>>*> order;
  for (const auto& e : equal)
    order.push_back(&e);
  std::ranges::sort(order, {}, [](const auto* e) { return e->second.front(); });
  report.runs = order.size();

  // Calls that are kept for a reason are not tried: what is shown is that the others are needed.
  std::erase_if(order, [&](const auto* e) {
    if (!std::ranges::all_of(e->second, [&](std::size_t i) { return proof_of(sites[i], which); }))
      return false;
    for (const std::size_t i : e->second) {
      report.mutants[i].result = fate::stays;
      report.mutants[i].by = *proof_of(sites[i], which);
    }
    return true;
  });
  std::string last; // that killed
  const auto run = [&](std::size_t n) {
    std::vector<const mutation_trial*> reaching;
    for (std::size_t t = 0; t < all.size(); ++t)
      if (std::ranges::any_of(order[n]->first, [&](const auto& x) { return x.first == t; }))
        reaching.push_back(all[t]->what);
    const auto quickest = std::ranges::find(reaching, last, &mutation_trial::name);
    if (quickest != reaching.end()) std::rotate(reaching.begin(), quickest, quickest + 1);
    return run_mutant(reaching, sites[order[n]->second.front()]);
  };
  const auto judge = [&](std::size_t n, const child_end& end) {
    const std::vector<std::size_t>& members = order[n]->second;
    const bool killed = end.forked && (!end.returned() || !end.said.empty());
    const std::string by = end.returned() ? end.said : end.wrong();
    if (killed) last = by;
    std::fprintf(stderr, "%s off: %s, after %.1f s\n", sites[members.front()].name().c_str(),
                 killed ? by.c_str() : "nothing fails", end.seconds);
    for (const std::size_t i : members) {
      const std::string* const proof = proof_of(sites[i], which);
      report.mutants[i].result = killed              ? fate::killed
                                 : proof != nullptr  ? fate::stays
                                 : is_open(sites[i]) ? fate::open
                                                     : fate::survived;
      report.mutants[i].by = !killed && proof != nullptr ? *proof : by;
      report.mutants[i].seconds = i == members.front() ? end.seconds : 0;
    }
  };
  in_children(order.size(), which.hang_seconds, run, judge);
  for (mutation_report::mutant& m : report.mutants) {
    if (m.result != fate::unreached) continue;
    const std::string* proof = proof_of(m.where, which);
    if (proof == nullptr) continue;
    m.result = fate::stays;
    m.by = *proof;
  }
  report.seconds = seconds_since(start);
  return report;
}

std::vector<mutation_trial> trials_of(const std::vector<scenario>& scenarios,
                                      const explorer_options& options) {
  std::vector<mutation_trial> trials;
  for (const scenario& s : scenarios) {
    // What held with nothing switched off holds in a mutant, too: the same bytes are recovered.
    auto known = std::make_shared<std::unordered_set<std::uint64_t>>();
    trials.push_back({s.name,
                      [s, options, known](call_watch& watch) {
                        site_filter filter(watch);
                        explorer_options o = options;
                        o.print = false;
                        o.minimal = false;
                        o.observer = &filter;
                        o.known = known.get();
                        return explore(s, o).failure;
                      },
                      known});
  }
  return trials;
}

mutation_report mutate(const std::vector<scenario>& scenarios, const explorer_options& options,
                       const mutation_options& which) {
  return mutate(trials_of(scenarios, options), which);
}

std::size_t mutation_report::count(fate f) const {
  return static_cast<std::size_t>(std::count_if(mutants.begin(), mutants.end(),
                                                [&](const mutant& m) { return m.result == f; }));
}

std::vector<std::string> mutation_report::names(fate f) const {
  std::vector<std::string> out;
  for (const mutant& m : mutants)
    if (m.result == f) out.push_back(m.where.name());
  return out;
}

std::string mutation_report::text() const {
  if (!baseline.empty()) return "mutation: a scenario fails with nothing switched off\n" + baseline;
  std::string out;
  for (const mutant& m : mutants) {
    char time[32] = "";
    if (m.seconds > 0) std::snprintf(time, sizeof time, " (%.1f s)", m.seconds);
    out += (m.result == fate::killed     ? "killed     "
            : m.result == fate::stays    ? "stays      "
            : m.result == fate::open     ? "open       "
            : m.result == fate::survived ? "SURVIVED   "
                                         : "unreached  ") +
           m.where.name() + (m.by.empty() ? "" : "  by: " + m.by) + time + "\n";
  }
  char total[200];
  std::snprintf(
      total, sizeof total,
      "mutation: %zu killed of %zu reached; %zu stay, %zu open, %zu survived, %zu unreached; "
      "%zu mutants differ; %.1f s\n",
      count(fate::killed), mutants.size() - count(fate::unreached), count(fate::stays),
      count(fate::open), count(fate::survived), count(fate::unreached), runs, seconds);
  return out + total;
}

} // namespace chainring::test
