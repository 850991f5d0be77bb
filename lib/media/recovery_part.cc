// SPDX-License-Identifier: BSD-3-Clause
// What recovery parts report, and how their repairs become durable.
//
// Ordering labels:
//   [repairs-in-pieces]  flush_repair() drains some repairs before other repairs are stored, if one
//     drain cannot cover them all.
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
  // run() names the first fatal problem, so it is kept even if the report is full.
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
  CHAINRING_EXPECTS(!checking_,
                    "a repair during a check, which changes nothing; ask checking() first");
  const std::uint64_t most = covered_bytes();
  auto at = reinterpret_cast<std::uintptr_t>(from) / cacheline_size * cacheline_size;
  const auto end = reinterpret_cast<std::uintptr_t>(from) + n;
  while (at < end) {
    if (undrained_bytes_ == most) {
      // [repairs-in-pieces] Crash between: the next recovery finds the other repairs and makes
      // them. Repairs do not depend on each other.
      media_.drain();
      undrained_bytes_ = 0;
    }
    const std::uint64_t now = std::min(most - undrained_bytes_, align_up(end - at, cacheline_size));
    media_.flush(reinterpret_cast<const void*>(at), now); // [repair-before-service]
    undrained_bytes_ += now;
    at += now;
  }
}

} // namespace chainring
