// SPDX-License-Identifier: BSD-3-Clause
/// The recovery driver: after an open it recovers everything that lies in a region, in one order.
///
/// Each structure makes one `recovery_part` (lib/media/recovery_part.h). The owner of the region
/// adds all parts to one flat table. The driver runs each phase over all parts before the next
/// phase begins: validate, persist_as_read, drain, repair, drain, rebuild.
///
/// The first drain is needed because a store that was visible when the last process died need not
/// have been durable. If recovery acted on such a store, a power cut could take the store back and
/// leave what recovery did because of it. The second drain is needed because nothing may be given
/// out again while objects that recovery voided could come back. The driver may also drain between
/// any two repairs, so a repair must be idempotent and its stores must not depend on other repairs.
///
/// **When to use:** once for each region, right after region::open(), with the parts of every
/// component in it.
/// **Thread-safety:** none. One thread uses it.
/// **Durability:** when run() returns, all repairs are durable in the sense of media::drain(). A
/// packet that leaves the machine because of them waits for a mark, as always.
/// **Checking:** check() runs `validate` and `repair` of the same parts without a store or a flush,
/// so it finds what an open would find.
/// **Errors:** damage is reported and not returned as an error, because the intact objects are
/// served. A problem reported as `fatal` ends run() after the phase that found it; if validate
/// found it, nothing has been stored.
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
  /// Adds a part. In every phase the parts run in the order in which they were added.
  void add(recovery_part part);
  /// Runs all phases. Returns the report, or an error that names the first fatal problem, or an
  /// error because the region is read-only.
  [[nodiscard]] result<recovery_report> run(region& target, const recovery_listener& listener = {});
  /// As above, for structures that lie on a medium without a region.
  [[nodiscard]] result<recovery_report> run(media& target, const recovery_listener& listener = {});
  /// Runs the phases that judge, without a store or a flush. It is for a region opened read-only,
  /// or for any quiet time. A fatal problem ends it after the phase that found it.
  [[nodiscard]] recovery_report check(region& target, const recovery_listener& listener = {});
  [[nodiscard]] recovery_report check(media& target, const recovery_listener& listener = {});

 private:
  void run_phase(recovery_context& c, recovery_phase phase,
                 recovery_part::step recovery_part::*step);

  std::vector<recovery_part> parts_;
};

} // namespace chainring
