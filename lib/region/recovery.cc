// SPDX-License-Identifier: BSD-3-Clause
// The recovery driver: one phase after the other, over all parts.
//
// Ordering labels:
//   [reading-before-repairs]  What the parts read is drained before the first repair is stored.
//   [repair-before-service]  Repairs are drained before anything is rebuilt, and so before anything
//     is served.
#include "region/recovery.h"

#include <algorithm>

#include "base/hook.h"

namespace chainring {

void recovery::add(recovery_part part) {
  parts_.push_back(std::move(part));
}

void recovery::run_phase(recovery_context& c, recovery_phase phase,
                         recovery_part::step recovery_part::*step) {
  c.phase_ = phase;
  c.done_ = c.said_ = c.total_ = 0;
  for (const recovery_part& p : parts_)
    if (p.*step) c.total_ += p.items;
  bool first = true;
  std::uint64_t done = 0;
  for (const recovery_part& p : parts_) {
    if (!(p.*step)) continue;
    c.part_ = &p.name;
    if (first) c.say();
    first = false;
    (p.*step)(c);
    done += p.items;
    if (c.said_ == done && c.done_ == done) continue;
    c.done_ = c.said_ = done; // count whole items, whatever the part itself said
    c.say();
  }
}

recovery_report recovery::check(media& m, const recovery_listener& listener) {
  recovery_report report;
  recovery_context c(m, report, listener, true);
  run_phase(c, recovery_phase::validate, &recovery_part::validate);
  if (report.fatal == 0) run_phase(c, recovery_phase::repair, &recovery_part::repair);
  return report;
}

recovery_report recovery::check(region& target, const recovery_listener& listener) {
  return check(target.medium(), listener);
}

result<recovery_report> recovery::run(media& m, const recovery_listener& listener) {
  const std::string name = "region " + m.path() + ": ";
  recovery_report report;
  recovery_context c(m, report, listener, false);
  const auto fatal = [&]() -> error {
    for (const problem& p : report.problems)
      if (p.level == severity::fatal) return {errc::corrupt, name + p.text()};
    return {errc::corrupt, name + "it cannot be recovered"};
  };
  const auto failed = [&]() -> error {
    if (auto status = m.status(); !status) return status.error();
    return {errc::io, name +
                          "its medium failed during recovery, and nothing after that is durable; "
                          "see to the disk and open it again"};
  };
  run_phase(c, recovery_phase::validate, &recovery_part::validate);
  if (report.fatal != 0) return fatal();
  run_phase(c, recovery_phase::persist_as_read, &recovery_part::persist_as_read);
  // [reading-before-repairs] Crash between: nothing was changed.
  if (!seeded_bug("recovery.read_not_drained")) m.drain();
  hook_point("recovery.read");
  if (report.fatal != 0) return fatal();
  if (m.failed()) return failed();
  run_phase(c, recovery_phase::repair, &recovery_part::repair);
  // [repair-before-service] Crash between: the next recovery finds the same and repairs it again.
  if (!seeded_bug("recovery.repair_not_drained")) m.drain();
  hook_point("recovery.repaired");
  if (report.fatal != 0) return fatal();
  run_phase(c, recovery_phase::rebuild, &recovery_part::rebuild);
  if (report.fatal != 0) return fatal();
  if (m.failed()) return failed();
  return report;
}

result<recovery_report> recovery::run(region& target, const recovery_listener& listener) {
  if (target.read_only())
    return error{errc::read_only, "region " + target.medium().path() +
                                      ": it is open for reading only, and cannot be recovered"};
  auto report = run(target.medium(), listener);
  // The region knows which object lay where memory was lost, so it gives the better sentence.
  if (!report && target.failed()) return error{report.error().code, target.why_failed()};
  return report;
}

} // namespace chainring
