// SPDX-License-Identifier: BSD-3-Clause
/// Mutation: every call site of the persist seam (call_sites.h) is switched off, one at a time,
/// while the scenarios are explored. A scenario must fail for each, or the call was redundant and
/// goes. Each mutant runs in a child process, since a mutant may abort or hang; as many run side by
/// side as there are CPUs.
///
///     mutation_options m;
///     m.under = {"lib/ring/"};
///     const mutation_report r = mutate({single_ring, fan_out}, {}, m);
///     std::printf("%s", r.text().c_str());
///     EXPECT_EQ(r.baseline, "");
///     EXPECT_EQ(r.survivors(), std::vector<std::string>{});
///
/// Only the calls of recorded lives are seen (run, continue_after, and the recovery where there is
/// no continue_after). A site that no scenario reached is *unreached*: it counts as neither killed
/// nor survivor.
///
/// Sites are *equal* where every primitive that one reaches in the scenarios is also reached by the
/// other, as along a chain of functions that each have one caller. Equal sites are one mutant,
/// which runs once.
#pragma once
#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <unordered_set>
#include <utility>
#include <vector>

#include "support/call_sites.h"

namespace chainring::test {

struct explorer_options;
struct scenario;

/// `stays`: nothing fails without it, and mutation_options says why it is there all the same.
/// `open`: nothing fails without it, and tests/support/open_call_sites lists it: a scenario is
/// missing.
enum class fate : std::uint8_t { killed, stays, open, survived, unreached };

struct mutation_options {
  /// Folders or files below the source root whose call sites are tried.
  std::vector<std::string> under = {"lib/", "drivers/media/file/"};
  /// Call sites that may survive or stay unreached, each with the proof of why it stays: by label,
  /// or by a part of the source line on which the call stands, or by the line before it, " | ",
  /// and that line, both without the spaces around them.
  std::vector<std::pair<std::string, std::string>> stay = {};
  /// A mutant that runs longer has hung, which counts as killed.
  unsigned hang_seconds = 300;
};

/// What a mutant is tried on. `run` says what went wrong, and nothing when all held.
struct mutation_trial {
  std::string name;
  std::function<std::string(call_watch&)> run;
  /// What `run` has shown to hold, by hash, where it notes that. Runs are made in child processes,
  /// from which this is brought back.
  std::shared_ptr<std::unordered_set<std::uint64_t>> known = {};
};

struct mutation_report {
  struct mutant {
    call_site where;
    fate result{};
    std::string by; ///< scenario that failed, how the process ended, or why it stays
    double seconds = 0;
  };
  std::vector<mutant> mutants;
  std::size_t runs = 0; ///< mutants that differ
  std::string baseline; ///< failure of a scenario with nothing switched off: then nothing was tried
  double seconds = 0;

  [[nodiscard]] std::size_t count(fate f) const;
  /// Names of the sites that survived, and that no scenario reached.
  [[nodiscard]] std::vector<std::string> survivors() const { return names(fate::survived); }
  [[nodiscard]] std::vector<std::string> unreached() const { return names(fate::unreached); }
  [[nodiscard]] std::vector<std::string> names(fate f) const;
  /// A line a site and a line of totals: what tests/prove counts.
  [[nodiscard]] std::string text() const;
};

/// Tries each call site on the trials that reach it, the one that killed last first and then the
/// quickest, until one fails.
[[nodiscard]] mutation_report mutate(const std::vector<mutation_trial>& trials,
                                     const mutation_options& which);
/// A trial for each of these scenarios of the crash explorer. options.observer and options.known
/// are taken.
[[nodiscard]] std::vector<mutation_trial> trials_of(const std::vector<scenario>& scenarios,
                                                    const explorer_options& options);
/// The same with scenarios that are all explored with the same options.
[[nodiscard]] mutation_report mutate(const std::vector<scenario>& scenarios,
                                     const explorer_options& options,
                                     const mutation_options& which);

} // namespace chainring::test
