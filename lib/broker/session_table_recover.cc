// SPDX-License-Identifier: BSD-3-Clause
// Recovery and check of session records.
//
// Its ordering labels [session-read], [session-commit] and [table-seen] are described in
// session_table.cc.
//
// Ordering labels:
//   [session-voided]  Records that recovery voids are drained before a session number is given
//     out.
//   [will-cleared]  A will that names no message is cleared and drained before its descriptor is
//     given out.
#include <algorithm>
#include <cstring>
#include <functional>
#include <utility>

#include "broker/session_table.h"

namespace chainring {

namespace {

std::uint64_t load(const std::uint64_t& word) noexcept {
  return std::atomic_ref(const_cast<std::uint64_t&>(word))
      .load(std::memory_order_acquire); // [session-read]
}

} // namespace

void session_table::persist_as_read() noexcept {
  for (std::uint32_t i = 0; i < extent_count_.load(std::memory_order_relaxed); ++i) // [table-seen]
    media_.flush_read(extents_[i].records, std::uint64_t{extents_[i].count} *
                                               sizeof(session_record)); // [session-voided]

  // A long identity was drained before its record was stored, so it needs no flush.
}

const char* session_table::examine(std::uint32_t number) const noexcept {
  const session_record& r = record(number);
  const std::uint64_t word = load(r.state); // [session-read]
  if (!session_word0::well_formed(number, word)) return "the commit word of its record is damaged";
  if (session_word0::unpack(word).state == session_state::free) return nullptr;
  const session_word1 w = session_word1::unpack(r.attributes);
  if (w.pack() != r.attributes || w.identity_size == 0) return "its attributes are damaged";
  if (r.check != session_check(number, r)) return "its checksum is wrong";
  if (w.identity_size <= identity_inline_max) {
    char id[identity_inline_max];
    std::memcpy(id, r.identity, sizeof id);
    for (std::size_t i = w.identity_size; i < sizeof id; ++i)
      if (id[i] != 0) return "its identity is damaged";
    return nullptr;
  }
  const chain c = long_identity(r);
  if (r.identity[2] != 0) return "its identity is damaged";
  if (!blocks_.valid(c) || c.blocks != blocks_.blocks_for(w.identity_size))
    return "its identity lies outside the region";
  if (long_identity_hash(identity(number)) != r.identity[0]) return "its identity is damaged";
  return nullptr;
}

std::vector<std::uint32_t> session_table::doubled() const {
  std::vector<std::pair<std::size_t, std::uint32_t>> known;
  for (std::uint32_t n = 0; n < count(); ++n)
    if (word0(n).state == session_state::used && examine(n) == nullptr)
      known.emplace_back(std::hash<std::string_view>()(identity(n)), n);
  std::ranges::sort(known);
  std::vector<std::uint32_t> found;
  for (std::size_t i = 0; i < known.size(); ++i)
    for (std::size_t j = i; j-- > 0 && known[j].first == known[i].first;)
      if (identity(known[j].second) == identity(known[i].second)) {
        found.push_back(known[i].second);
        break;
      }
  std::ranges::sort(found);
  return found;
}

bool session_table::expired(std::uint32_t number, const session_rules& rules) const noexcept {
  const session_settings s = settings(number);
  const std::uint64_t expiry_s = s.expiry_s != 0 ? s.expiry_s : rules.expiry_s;
  // A clock that was set back makes no session expire early.
  return expiry_s != 0 && s.disconnected_ns != 0 && rules.now_ns > s.disconnected_ns &&
         rules.now_ns - s.disconnected_ns >= expiry_s * 1'000'000'000;
}

bool session_table::mark_live(std::uint32_t number) noexcept {
  const session_record& r = record(number);
  if (session_word1::unpack(r.attributes).identity_size <= identity_inline_max) return true;
  return static_cast<bool>(blocks_.mark_required(long_identity(r)));
}

void session_table::void_record(std::uint32_t number, std::uint32_t taken,
                                recovery_context& c) noexcept {
  session_record& r = record(number);
  std::uint32_t next = session_word0::unpack(r.state).incarnation + 1;
  if (next == taken) ++next; // possible only when the incarnation itself is damaged
  // [session-voided] Crash between: recovery finds the same record again.
  media_.store_release(&r.state, session_word0{session_state::free, 0, next}.pack(number));
  c.flush_repair(&r.state, sizeof r.state); // [session-voided]
}

void session_table::void_at_open(std::uint32_t number, std::uint32_t taken,
                                 recovery_context& c) noexcept {
  const session_record& r = record(number);
  if (session_word1::unpack(r.attributes).identity_size > identity_inline_max)
    blocks_.unmark_required(long_identity(r));
  void_record(number, taken, c);
}

void session_table::settle_will(std::uint32_t number, const session_rules& rules,
                                recovery_context& c) {
  session_settings s = settings(number);
  if (s.will == 0 || rules.will(s.will, true) != session_rules::will_state::bad) return;
  c.report({std::string(noun_) + " " + std::to_string(number),
            "its will names no valid message; the will is deleted"});
  if (c.checking()) return;
  s.will = 0;
  const session_record& r = record(number);
  // [will-cleared] Crash between: recovery finds the same will again.
  settings_start(number, s);
  c.flush_repair(&r.settings, cacheline_size); // [will-cleared]
}

void session_table::repair(recovery_context& c, const session_rules& rules,
                           session_recovery& found) {
  const std::vector<std::uint32_t> twice = doubled();
  const auto has_queue = [&](std::uint32_t n, std::uint32_t incarnation) {
    return rules.has_queue && rules.has_queue(n, incarnation);
  };
  for (std::uint32_t n = 0; n < count(); ++n, c.advance()) {
    const char* wrong = examine(n);
    const session_word0 w = word0(n);
    const bool used = wrong == nullptr && w.state == session_state::used;
    if (used && std::ranges::binary_search(twice, n)) wrong = "another record has its identity";
    bool gone =
        used && wrong == nullptr && ((w.flags & session_flag_clean) != 0 || expired(n, rules));
    if (gone)
      if (const std::uint64_t will = settings(n).will;
          will != 0 && (will >> 48 & will_flag_resting) == 0 && rules.will)
        gone = rules.will(will, false) != session_rules::will_state::unsent;
    if (used && wrong == nullptr && !gone && !mark_live(n))
      wrong = "the blocks of its identity belong to something else, or their memory is lost";
    // The queue of a free number may have an empty ring, which a publisher left that had matched
    // the last session. The ring does not belong to the next session.
    const bool unowned = wrong == nullptr && !used && has_queue(n, w.incarnation);
    if (unowned && w.incarnation == 0) wrong = "it has a queue and was never used";
    if (wrong != nullptr)
      c.report(
          {std::string(noun_) + " " + std::to_string(n), std::string(wrong) + "; it is deleted"});
    if (wrong == nullptr && !unowned && !gone) {
      found.used += used;
      continue;
    }
    ++found.voided;
    found.expired += gone && (w.flags & session_flag_clean) == 0;
    if (c.checking()) continue;
    void_record(n, has_queue(n, w.incarnation + 1) ? w.incarnation + 1 : UINT32_MAX, c);
  }
}

recovery_part session_table::part(std::string name, session_rules rules, session_recovery* found) {
  return {.name = std::move(name),
          .items = count(),
          .persist_as_read =
              [this](recovery_context& c) {
                persist_as_read();
                c.advance(count());
              },
          .repair =
              [this, rules = std::move(rules), found](recovery_context& c) {
                session_recovery results;
                repair(c, rules, results);
                if (found != nullptr) *found = results;
              }};
}

recovery_part session_table::wills_part(std::string name, session_rules rules) {
  return {.name = std::move(name),
          .items = count(),
          .repair = [this, rules = std::move(rules)](recovery_context& c) {
            for (std::uint32_t n = 0; n < count(); ++n, c.advance())
              if (examine(n) == nullptr && word0(n).state == session_state::used)
                settle_will(n, rules, c);
          }};
}

} // namespace chainring
