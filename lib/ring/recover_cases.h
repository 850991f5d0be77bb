// SPDX-License-Identifier: BSD-3-Clause
/// Inside lib/ring: what recovery can find, as two tables of cases. Every record and every slot
/// matches exactly one case; the tests try all patterns. The functions only judge and change
/// nothing.
#pragma once
#include <cstdint>
#include <optional>
#include <span>

#include "block/block_store.h"
#include "message/message.h"
#include "ring/ring_media.h"

namespace chainring::detail {

/// The facts that decide the case of a record.
struct record_facts {
  std::uint32_t queue = 0;
  queue_record record;                   ///< the record as it was read
  std::optional<std::uint32_t> expected; ///< the incarnation it should have, where that is known
  const block_store* blocks = nullptr;

  /// The entry number `k` of those that the commit word counts, from the oldest.
  [[nodiscard]] const queue_ring& ring(unsigned k) const noexcept;
  [[nodiscard]] queue_commit commit() const noexcept { return queue_commit::unpack(record.commit); }
  [[nodiscard]] std::uint64_t head() const noexcept {
    return queue_head::unpack(record.head).ticket;
  }
};

enum class record_case : std::uint8_t {
  head_damaged,
  commit_damaged,
  other_incarnation,
  empty,
  ring_damaged,
  one_ring,
  several_rings,
};

struct record_row {
  record_case kind;
  const char* text; ///< for notes: "queue 7: <text>"
  bool (*matches)(const record_facts&) noexcept;
};
[[nodiscard]] std::span<const record_row> record_cases() noexcept;
[[nodiscard]] const record_row& judge(const record_facts& f) noexcept;

/// The tickets that a ring may hold: from < ticket <= from + size, and not past `end`.
struct ring_window {
  std::uint64_t base = 0;
  std::uint64_t from = 0;         ///< max(head, base)
  std::uint64_t end = ticket_max; ///< the base of the ring that follows
  unsigned log2_slots = 0;
  [[nodiscard]] std::uint64_t size() const noexcept { return std::uint64_t{1} << log2_slots; }
  [[nodiscard]] std::uint32_t index_of(std::uint64_t ticket) const noexcept {
    return static_cast<std::uint32_t>((ticket - 1 - base) & (size() - 1));
  }
};
[[nodiscard]] ring_window window_of(const record_facts& f, unsigned k) noexcept;

/// What a slot that is `taken` finds in the queue that its message came from.
enum class slot_source : std::uint8_t {
  gone,    ///< its slot there holds the message no more
  holding, ///< it is queued there still
  unnamed, ///< the slot that would name the queue was not stored
};

/// The facts that decide the case of a slot.
struct slot_facts {
  std::uint32_t queue = 0;
  std::uint64_t tag = 0;
  std::uint32_t index = 0;
  ring_window window;
  message_status message = message_status::ok; ///< of the message it names; in a value queue: ok
  slot_source source = slot_source::gone;      ///< for a slot that is `taken`
  [[nodiscard]] slot_tag as_tag() const noexcept { return slot_tag::unpack(tag); }
};

enum class slot_case : std::uint8_t {
  cleared,
  malformed,
  elsewhere,
  released,
  ahead,
  overfull,
  settled,
  deliverable,
  not_moved,
  unpublished,
  bad_message,
};

struct slot_row {
  slot_case kind;
  const char* text; ///< for notes: "queue 7: the slot of ticket 9 <text>"
  bool damage;      ///< the slot is damaged, and recovery notes it
  bool in_window;   ///< the slot's ticket was given, so the counter is not below it
  bool (*matches)(const slot_facts&) noexcept;
};
[[nodiscard]] std::span<const slot_row> slot_cases() noexcept;
[[nodiscard]] const slot_row& judge(const slot_facts& f) noexcept;

} // namespace chainring::detail
