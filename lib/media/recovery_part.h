// SPDX-License-Identifier: BSD-3-Clause
/// A `recovery_part` is what a durable structure gives to the driver that recovers it: a name and
/// up to four steps. Structures (block store, message table, queue table, map) describe their
/// recovery as parts and know nothing of regions. chainring::recovery (lib/region/recovery.h) runs
/// a flat table of parts, phase by phase:
///
/// | phase             | a part                                                        | check() |
/// |-------------------|---------------------------------------------------------------|---------|
/// | `validate`        | reads, reports what is wrong, changes nothing                 | runs    |
/// | `persist_as_read` | flushes, by media::flush_read(), all metadata it read         | skips   |
/// | `repair`          | durably voids what must not count; counts references          | runs    |
/// | `rebuild`         | builds the tables in DRAM; the part may be served afterwards  | skips   |
///
/// **Two kinds of run.** An open runs all four phases. A check, which `chainring-region check`
/// makes of a region opened read-only, runs `validate` and `repair` of the same parts with
/// checking() true. A repair step then judges and reports exactly as it does at an open, but
/// neither stores nor flushes anything, because the memory may be mapped for reading only. It may
/// still fill tables in DRAM.
///
/// **Thread-safety:** none. One thread runs all steps.
/// **Durability:** the driver drains after `persist_as_read` and after `repair`. It may also drain
/// between any two repairs, so a repair must be idempotent and its stores must not depend on other
/// repairs.
///
/// Example:
/// ```
/// recovery_part session_table::part() {
///   return {.name = "sessions", .items = count_,
///           .persist_as_read = [this](recovery_context& c) { c.medium().flush_read(table_,
///           bytes_); }, .repair = [this](recovery_context& c) {
///             for (std::uint32_t n = 0; n < count_; ++n, c.advance()) {
///               if (well_formed(n)) continue;
///               c.report({"session " + std::to_string(n), "its check fails; it is deleted"});
///               if (c.checking()) continue;
///               ...store the void record...
///               c.flush_repair(&table_[n], 64);
///             }
///           }};
/// }
/// ```
#pragma once
#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "media.h"

namespace chainring {

enum class severity : std::uint8_t {
  note,   ///< something unusual that a crash may leave and that does no harm
  damage, ///< an object that is not valid; it is left out, and everything else is served
  fatal,  ///< nothing of the region can be served
};
[[nodiscard]] const char* to_string(severity s) noexcept;

struct problem {
  std::string object;   ///< "session 7"
  std::string sentence; ///< what is wrong with it
  severity level = severity::damage;

  [[nodiscard]] std::string text() const { return object + ": " + sentence; }
};

enum class recovery_phase : std::uint8_t { validate, persist_as_read, repair, rebuild };
[[nodiscard]] const char* to_string(recovery_phase p) noexcept;

struct recovery_progress {
  recovery_phase phase{};
  const std::string& part;
  std::uint64_t done = 0; ///< items of all parts done in this phase
  std::uint64_t total = 0;
};
/// Called at the start of each phase, at the end of each part, and about a hundred times in
/// between, so that an operator can watch a slow open.
using recovery_listener = std::function<void(const recovery_progress&)>;

struct recovery_report {
  /// Number of problems kept in a report. Further ones are only counted.
  static constexpr std::size_t problems_max = 1000;

  std::vector<problem> problems; ///< in the order found; about problems_max at most
  std::uint64_t notes = 0;       ///< this and the next counts include problems that were not kept
  std::uint64_t damage = 0;
  std::uint64_t fatal = 0;
  [[nodiscard]] bool clean() const noexcept { return damage == 0 && fatal == 0; }
};

/// What a part works with during a phase.
class recovery_context {
 public:
  [[nodiscard]] media& medium() noexcept { return media_; }
  [[nodiscard]] recovery_phase phase() const noexcept { return phase_; }
  /// True during a check: a step judges and reports, but neither stores nor flushes.
  [[nodiscard]] bool checking() const noexcept { return checking_; }

  void report(problem p);
  /// Says that `items` more items of this part are done.
  void advance(std::uint64_t items = 1);
  /// Flushes a repair, in phase `repair`. The driver drains it, and drains earlier if one drain of
  /// the medium cannot cover all repairs. Must not be called while checking().
  void flush_repair(const void* from, std::size_t n) noexcept;

 private:
  friend class recovery;
  recovery_context(media& medium, recovery_report& report, const recovery_listener& listener,
                   bool checking)
      : media_(medium), report_(report), listener_(listener), checking_(checking),
        // parts may have flushed something without this context
        undrained_bytes_(covered_bytes()) {}
  void say() const;
  /// Most bytes that one drain shall cover. It is half of what it can, because a part may flush
  /// something by itself too.
  [[nodiscard]] std::uint64_t covered_bytes() const noexcept {
    return media_.drain_bytes_max() / 2 / cacheline_size * cacheline_size;
  }

  media& media_;
  recovery_report& report_;
  const recovery_listener& listener_;
  recovery_phase phase_{};
  bool checking_;
  const std::string* part_ = nullptr;
  std::uint64_t done_ = 0, total_ = 0, said_ = 0;
  std::uint64_t undrained_bytes_;
};

/// The part that one structure has in a recovery. Any step may be empty.
struct recovery_part {
  using step = std::function<void(recovery_context&)>;
  std::string name;
  std::uint64_t items = 1; ///< the items that a phase looks at, for progress
  step validate = {};
  step persist_as_read = {};
  step repair = {};
  step rebuild = {};
};

} // namespace chainring
