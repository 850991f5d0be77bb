// SPDX-License-Identifier: BSD-3-Clause
// Crash windows:
//   [V2, in pieces] some repairs are drained before others are stored.
//      Crash between: the next recovery finds the rest and repairs it; repairs do not depend on
//      each other. The driver in lib/region/recovery.cc drains whatever is flushed last.
#include "media/recovery_part.h"

#include <algorithm>

#include "base/assert.h"

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
  if (report_.problems.size() < recovery_report::problems_max || first_fatal)
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
  CHAINRING_ASSERT(!checking_);
  const std::uint64_t most = covered_bytes();
  auto at = reinterpret_cast<std::uintptr_t>(from) / cacheline_size * cacheline_size;
  const auto end = reinterpret_cast<std::uintptr_t>(from) + n;
  while (at < end) {
    if (undrained_bytes_ == most) {
      media_.drain(); // [V2, in pieces] between two repairs, which do not depend on each other
      undrained_bytes_ = 0;
    }
    const std::uint64_t now = std::min(most - undrained_bytes_, align_up(end - at, cacheline_size));
    media_.flush(reinterpret_cast<const void*>(at), now); // [V2]
    undrained_bytes_ += now;
    at += now;
  }
}

} // namespace chainring
