// SPDX-License-Identifier: BSD-3-Clause
/// The recovery driver: brings everything that lies in a region back after an open, in one order.
///
/// What is recovered together is added as parts; the driver runs each phase over all parts before
/// the next phase begins:
///
/// | phase             | a part                                                        | then  |
/// |-------------------|---------------------------------------------------------------|-------|
/// | `validate`        | reads, reports what is wrong, changes nothing                 |       |
/// | `persist_as_read` | media::flush_read() of all metadata it read                   | drain |
/// | `repair`          | voids, durably, what must not count; counts what refers to it | drain |
/// | `rebuild`         | what is kept in DRAM; from here on it may be served           |       |
///
/// The first drain is there because what was visible when the last process died need not have been
/// durable: acting on it before it is would let a power cut take the reason back and leave the
/// consequence. The second, because nothing may be given out again while what recovery voided could
/// come back. A repair must be idempotent, and its stores independent of each other: the driver may
/// drain between any two.
///
/// **When to use:** once for each region, right after region::open(), with every component of it.
/// **Thread-safety:** none; one thread.
/// **Durability:** when run() returns, all repairs are durable in the sense of media::drain(); what
/// leaves the machine because of them waits for a mark, as always.
/// **Errors:** damage is reported, not returned: intact things are served. A problem reported as
/// `fatal` ends run() after the phase it was found in; found by validate, nothing has been stored.
///
/// Example:
/// ```
/// chainring::recovery all;
/// all.add({.name = "sessions", .items = sessions,
///          .validate = [&](chainring::recovery_context& c) {
///            for (std::uint32_t n = 0; n < sessions; ++n, c.advance())
///              if (!well_formed(n)) c.report({"session " + std::to_string(n), "it is torn"});
///          },
///          .persist_as_read = [&](auto& c) { c.region().medium().flush_read(table, bytes); },
///          .repair = [&](auto& c) { ...store...; c.flush_repair(record, 64); }});
/// auto report = all.run(*r, [](const chainring::recovery_progress& p) { ... });
/// ```
#pragma once
#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "../base/error.h"
#include "region.h"

namespace chainring {

enum class severity : std::uint8_t {
  note,   ///< unusual, and no harm: something a crash leaves
  damage, ///< an object that cannot be as it is; it is left out, the rest is served
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
  std::uint64_t done = 0; ///< items of all parts, this phase
  std::uint64_t total = 0;
};
/// Called at the start of each phase, at the end of each part, and about a hundred times in
/// between. For slow opens.
using recovery_listener = std::function<void(const recovery_progress&)>;

struct recovery_report {
  std::vector<problem> problems; ///< in the order found; about recovery::problems_max at most
  std::uint64_t notes = 0;       ///< counts include those not kept
  std::uint64_t damage = 0;
  std::uint64_t fatal = 0;
  [[nodiscard]] bool clean() const noexcept { return damage == 0 && fatal == 0; }
};

/// What a part works with during a phase.
class recovery_context {
 public:
  [[nodiscard]] chainring::region& region() noexcept { return region_; }
  [[nodiscard]] recovery_phase phase() const noexcept { return phase_; }
  /// True under check(): nothing follows validate.
  [[nodiscard]] bool checking() const noexcept { return checking_; }

  void report(problem p);
  /// `items` more of this part's are done.
  void advance(std::uint64_t items = 1);
  /// In `repair`: media::flush(), drained by the driver; before that where one drain of the medium
  /// could not cover all that recovery repairs.
  void flush_repair(const void* from, std::size_t n) noexcept;

 private:
  friend class recovery;
  recovery_context(chainring::region& on, recovery_report& report, const recovery_listener& listener,
                   bool checking)
      : region_(on), report_(report), listener_(listener), checking_(checking),
        undrained_bytes_(covered_bytes()) {} // parts may have flushed something without it
  void say() const;
  /// What one drain is to cover at most: half, as a part may flush something of its own besides.
  [[nodiscard]] std::uint64_t covered_bytes() const noexcept {
    return region_.medium().drain_bytes_max() / 2 / cacheline_size * cacheline_size;
  }

  chainring::region& region_;
  recovery_report& report_;
  const recovery_listener& listener_;
  recovery_phase phase_{};
  bool checking_;
  const std::string* part_ = nullptr;
  std::uint64_t done_ = 0, total_ = 0, said_ = 0;
  std::uint64_t undrained_bytes_;
};

/// One component's share. Any function may be empty.
struct recovery_part {
  using step = std::function<void(recovery_context&)>;
  std::string name;
  std::uint64_t items = 1; ///< it looks at in a phase, for progress
  step validate = {};
  step persist_as_read = {};
  step repair = {};
  step rebuild = {};
};

class recovery {
 public:
  /// Sentences kept in a report; further ones are counted.
  static constexpr std::size_t problems_max = 1000;

  /// Parts run in the order in which they were added, in every phase.
  void add(recovery_part part);
  /// All phases. The report, or an error that names the first fatal problem, or that the region is
  /// read-only.
  [[nodiscard]] result<recovery_report> run(region& on, const recovery_listener& listener = {});
  /// Only validate; for a region opened read-only, or at any quiet time.
  [[nodiscard]] recovery_report check(region& on, const recovery_listener& listener = {});

 private:
  void run_phase(recovery_context& c, recovery_phase phase,
                 recovery_part::step recovery_part::*step);

  std::vector<recovery_part> parts_;
};

} // namespace chainring
