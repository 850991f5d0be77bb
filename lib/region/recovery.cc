// SPDX-License-Identifier: BSD-3-Clause
// Crash windows:
//   [V1 < V2] what was read is drained before the first repair is stored.
//      Crash between: nothing was changed.
//   [V2 < V3] repairs are drained before anything is rebuilt, and so before anything is served.
//      Crash between: the next recovery finds the same and does the same again.
#include "region/recovery.h"

#include <algorithm>

#include "base/hook.h"

namespace chainring {

const char* to_string(severity s) noexcept {
  switch (s) {
  case severity::note:
    return "note";
  case severity::damage:
    return "damage";
  case severity::fatal:
    return "fatal";
  }
  return "?";
}

const char* to_string(recovery_phase p) noexcept {
  switch (p) {
  case recovery_phase::validate:
    return "validating";
  case recovery_phase::persist_as_read:
    return "persisting what was read";
  case recovery_phase::repair:
    return "repairing";
  case recovery_phase::rebuild:
    return "rebuilding";
  }
  return "?";
}

void recovery_context::report(problem p) {
  ++(p.level == severity::note     ? report_.notes
     : p.level == severity::damage ? report_.damage
                                   : report_.fatal);
  // The first fatal problem is what run() names: it is kept whatever came before.
  const bool first_fatal = p.level == severity::fatal && report_.fatal == 1;
  if (report_.problems.size() < recovery::problems_max || first_fatal)
    report_.problems.push_back(std::move(p));
}

void recovery_context::say() const {
  if (listener_) listener_({phase_, *part_, done_, total_});
}

void recovery_context::advance(std::uint64_t items) {
  done_ += items;
  if (done_ - said_ < total_ / 100 + 1) return;
  said_ = done_;
  say();
}

void recovery_context::flush_repair(const void* from, std::size_t n) noexcept {
  media& m = region_.medium();
  const std::uint64_t most = covered_bytes();
  auto at = reinterpret_cast<std::uintptr_t>(from) / cacheline_size * cacheline_size;
  const auto end = reinterpret_cast<std::uintptr_t>(from) + n;
  while (at < end) {
    if (undrained_bytes_ == most) {
      m.drain(); // [V2, in pieces] between two repairs, which do not depend on each other
      undrained_bytes_ = 0;
    }
    const std::uint64_t now = std::min(most - undrained_bytes_, align_up(end - at, cacheline_size));
    m.flush(reinterpret_cast<const void*>(at), now); // [V2]
    undrained_bytes_ += now;
    at += now;
  }
}

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
    c.done_ = c.said_ = done; // whatever it said of itself
    c.say();
  }
}

recovery_report recovery::check(region& on, const recovery_listener& listener) {
  recovery_report report;
  recovery_context c(on, report, listener, true);
  run_phase(c, recovery_phase::validate, &recovery_part::validate);
  return report;
}

result<recovery_report> recovery::run(region& on, const recovery_listener& listener) {
  const std::string name = "region " + on.medium().path() + ": ";
  if (on.read_only())
    return error{errc::read_only, name + "it is open for reading only, and cannot be recovered"};
  recovery_report report;
  recovery_context c(on, report, listener, false);
  const auto fatal = [&]() -> error {
    for (const problem& p : report.problems)
      if (p.level == severity::fatal) return {errc::corrupt, name + p.text()};
    return {errc::corrupt, name + "it cannot be recovered"};
  };
  media& m = on.medium();
  run_phase(c, recovery_phase::validate, &recovery_part::validate);
  if (report.fatal != 0) return fatal();
  run_phase(c, recovery_phase::persist_as_read, &recovery_part::persist_as_read);
  if (!seeded_bug("recovery.read_not_drained")) m.drain(); // [V1 < V2]
  hook_point("recovery.read");
  if (report.fatal != 0) return fatal();
  if (m.failed()) return error{errc::io, on.why_failed()};
  run_phase(c, recovery_phase::repair, &recovery_part::repair);
  if (!seeded_bug("recovery.repair_not_drained")) m.drain(); // [V2 < V3]
  hook_point("recovery.repaired");
  if (report.fatal != 0) return fatal();
  run_phase(c, recovery_phase::rebuild, &recovery_part::rebuild);
  if (report.fatal != 0) return fatal();
  if (m.failed()) return error{errc::io, on.why_failed()};
  return report;
}

} // namespace chainring
