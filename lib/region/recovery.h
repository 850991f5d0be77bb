// SPDX-License-Identifier: BSD-3-Clause
/// The recovery driver: brings everything that lies in a region back after an open, in one order.
///
/// Each structure hands out one `recovery_part` (lib/media/recovery_part.h); the owner of the region
/// adds them to one flat table, and the driver runs each phase over all parts before the next phase
/// begins: validate, persist_as_read, drain, repair, drain, rebuild.
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
/// **Checking:** check() runs `validate` and `repair` of the same parts without a store or a flush,
/// so that a check finds what an open would find.
/// **Errors:** damage is reported, not returned: intact things are served. A problem reported as
/// `fatal` ends run() after the phase it was found in; found by validate, nothing has been stored.
///
/// Example:
/// ```
/// chainring::recovery all;
/// all.add(queues->part());
/// all.add({.name = "sessions", .items = sessions,
///          .validate = [&](chainring::recovery_context& c) {
///            for (std::uint32_t n = 0; n < sessions; ++n, c.advance())
///              if (!well_formed(n)) c.report({"session " + std::to_string(n), "it is torn"});
///          },
///          .persist_as_read = [&](auto& c) { c.medium().flush_read(table, bytes); },
///          .repair = [&](auto& c) {
///            if (c.checking()) return;
///            ...store...
///            c.flush_repair(record, 64);
///          }});
/// auto report = all.run(*r, [](const chainring::recovery_progress& p) { ... });
/// ```
#pragma once
#include <vector>

#include "../base/error.h"
#include "../media/recovery_part.h"
#include "region.h"

namespace chainring {

class recovery {
 public:
  /// Parts run in the order in which they were added, in every phase.
  void add(recovery_part part);
  /// All phases. The report, or an error that names the first fatal problem, or that the region is
  /// read-only.
  [[nodiscard]] result<recovery_report> run(region& on, const recovery_listener& listener = {});
  /// The same for structures that lie on a medium without a region.
  [[nodiscard]] result<recovery_report> run(media& on, const recovery_listener& listener = {});
  /// The phases that judge, without a store or a flush; for a region opened read-only, or at any
  /// quiet time. A fatal problem ends it after the phase it was found in.
  [[nodiscard]] recovery_report check(region& on, const recovery_listener& listener = {});
  [[nodiscard]] recovery_report check(media& on, const recovery_listener& listener = {});

 private:
  void run_phase(recovery_context& c, recovery_phase phase,
                 recovery_part::step recovery_part::*step);

  std::vector<recovery_part> parts_;
};

} // namespace chainring
