// SPDX-License-Identifier: BSD-3-Clause
/// Mutation: every flush and drain call site of the source, switched off one at a time at run time
/// while the scenarios are explored. A scenario must fail for each, or the call was redundant and
/// goes. Each mutant runs in a child process, since a mutant may abort or hang.
///
///     mutation_options m;
///     m.under = {"lib/ring/"};
///     const mutation_report r = mutate({single_ring, fan_out}, {}, m);
///     std::printf("%s", r.text().c_str());
///     EXPECT_TRUE(r.baseline.empty()) << r.baseline;
///     EXPECT_EQ(r.survivors(), std::vector<std::string>{});
///
/// Seen are the calls made in recorded lives (run, continue_after, and with no continue_after the
/// recovery). A site no scenario reached is *unreached*: it counts as neither killed nor survivor,
/// and a component's test should not leave any of its own unreached.
#pragma once
#include <cstdint>
#include <map>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "support/explorer.h"

namespace chainring::test {

/// One call of flush, flush_read or drain in the source.
struct call_site {
  std::string path;       ///< below the source root
  unsigned line = 0;      ///< where the call's name stands
  unsigned line_last = 0; ///< where its statement ends
  std::string call;       ///< "flush", "flush_read", "drain"
  std::string label;      ///< `[R4]`, from the call's comment; empty without one

  [[nodiscard]] std::string name() const; ///< "lib/ring/ring.cc:120 drain [R4]"
};

/// Calls of the seam in the .h and .cc files below the folders. Comments and strings are skipped,
/// and calls that pass on a site `s` of their caller's.
[[nodiscard]] std::vector<call_site> find_call_sites(const std::vector<std::string>& under);

/// Switches one call site off and notes which are reached.
class site_filter final : public persist_observer {
 public:
  explicit site_filter(const std::vector<call_site>& sites);
  /// Index of the site whose calls are suppressed; -1: none.
  void disable(int site) { disabled_ = site; }
  [[nodiscard]] bool reached(std::size_t site) const { return reached_[site]; }
  /// Flushes and drains made at places that are not in the list, by name.
  [[nodiscard]] const std::set<std::string>& unknown() const { return unknown_; }

  void on_store(const std::uint64_t*, std::uint64_t, const site&) noexcept override {}
  void on_write(const void*, const void*, std::size_t, const site&) noexcept override {}
  bool on_flush(const void* from, std::size_t n, const site& s) noexcept override;
  bool on_drain(const site& s) noexcept override;

 private:
  bool allowed(const site& s) noexcept;
  [[nodiscard]] const std::vector<int>& at(const site& s);

  const std::vector<call_site>& sites_;
  int disabled_ = -1;
  std::vector<bool> reached_;
  /// By file name, as the compiler wrote it down, and line: the sites there.
  std::map<std::pair<const char*, unsigned>, std::vector<int>> at_;
  std::set<std::string> unknown_;
};

/// `stays`: nothing fails without it, and mutation_options says why it is there all the same.
enum class fate : std::uint8_t { killed, stays, survived, unreached };

struct mutation_options {
  /// Folders or files below the source root whose call sites are tried.
  std::vector<std::string> under = {"lib/", "drivers/"};
  /// Labels of call sites that may survive, each with the proof of why it stays.
  std::vector<std::pair<std::string, std::string>> stay = {};
  /// A mutant that runs longer has hung, which counts as killed.
  unsigned hang_seconds = 300;
};

struct mutation_report {
  struct mutant {
    call_site where;
    fate result{};
    std::string by; ///< scenario that failed, how the process ended, or why it stays
  };
  std::vector<mutant> mutants;
  std::string baseline; ///< failure of a scenario with nothing switched off: then nothing was tried
  double seconds = 0;

  [[nodiscard]] std::size_t count(fate f) const;
  /// Names of the sites that survived, and that no scenario reached.
  [[nodiscard]] std::vector<std::string> survivors() const { return names(fate::survived); }
  [[nodiscard]] std::vector<std::string> unreached() const { return names(fate::unreached); }
  [[nodiscard]] std::vector<std::string> names(fate f) const;
  /// A line a mutant and a line of totals: what tests/prove counts.
  [[nodiscard]] std::string text() const;
};

/// Explores the scenarios with each call site off in turn: those that reach it, quickest first,
/// until one fails. options.observer is taken.
[[nodiscard]] mutation_report mutate(const std::vector<scenario>& scenarios,
                                     const explorer_options& options,
                                     const mutation_options& which);

} // namespace chainring::test
