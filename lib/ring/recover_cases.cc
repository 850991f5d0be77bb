// SPDX-License-Identifier: BSD-3-Clause
#include "ring/recover_cases.h"

#include <algorithm>

#include "base/assert.h"
#include "ring/queue_state.h"

namespace chainring::detail {

const queue_ring& record_facts::ring(unsigned k) const noexcept {
  return record.rings[(commit().first + k) % queue_rings_max];
}

namespace {

bool head_ok(const record_facts& f) noexcept {
  return queue_head::well_formed(f.record.head, f.queue);
}
bool commit_ok(const record_facts& f) noexcept {
  return head_ok(f) && queue_commit::well_formed(f.record.commit, f.queue);
}
bool expected(const record_facts& f) noexcept {
  return commit_ok(f) && (!f.expected || *f.expected == f.commit().incarnation);
}
bool rings_ok(const record_facts& f) noexcept {
  std::uint64_t before = 0, reach = ticket_max;
  for (unsigned k = 0; k < f.commit().count; ++k) {
    const queue_base b = queue_base::unpack(f.ring(k).base);
    if (b.log2_slots < ring_log2_min || b.log2_slots > ring_log2_max || b.ticket < before ||
        b.ticket > reach || !f.ring(k).whole(f.queue, ring_blocks(*f.blocks, b.log2_slots)) ||
        !f.blocks->valid(chain_of(*f.blocks, f.ring(k))))
      return false;
    before = b.ticket;
    // A ring held the tickets before its successor's base: at most one fewer than it has slots.
    const std::uint64_t from = std::max(f.head(), b.ticket);
    reach = from + (std::uint64_t{1} << b.log2_slots) - 1;
  }
  return true;
}

// Head and commit word are judged first, because nothing else can be read without them. The
// incarnation comes next: the rings of an incarnation that has ended need not be valid.
constexpr record_row records[] = {
    {record_case::head_damaged, "its head fails its check",
     [](const record_facts& f) noexcept { return !head_ok(f); }},
    {record_case::commit_damaged, "its commit word fails its check",
     [](const record_facts& f) noexcept {
       return head_ok(f) && !queue_commit::well_formed(f.record.commit, f.queue);
     }},
    // The restart of the queue or of its session was lost. The entries of the queue are
    // unreachable.
    {record_case::other_incarnation, "its incarnation is not that of its session",
     [](const record_facts& f) noexcept { return commit_ok(f) && !expected(f); }},
    // Nothing was ever placed in the queue, or a restart was the last thing that happened to it.
    {record_case::empty, "it has no ring",
     [](const record_facts& f) noexcept { return expected(f) && f.commit().count == 0; }},
    {record_case::ring_damaged,
     "one of its rings fails its check, or has an impossible size, place or base",
     [](const record_facts& f) noexcept {
       return expected(f) && f.commit().count != 0 && !rings_ok(f);
     }},
    {record_case::one_ring, "it has a ring",
     [](const record_facts& f) noexcept {
       return expected(f) && f.commit().count == 1 && rings_ok(f);
     }},
    // An append came before the release that would have unlinked the older rings.
    {record_case::several_rings, "it has several rings",
     [](const record_facts& f) noexcept {
       return expected(f) && f.commit().count > 1 && rings_ok(f);
     }},
};

bool well_formed(const slot_facts& f) noexcept {
  return f.tag != 0 && slot_tag::well_formed(f.tag, f.queue);
}
bool in_its_slot(const slot_facts& f) noexcept {
  const std::uint64_t t = f.as_tag().ticket;
  return well_formed(f) && t > f.window.base && f.window.index_of(t) == f.index;
}
bool in_window(const slot_facts& f) noexcept {
  const std::uint64_t t = f.as_tag().ticket;
  return in_its_slot(f) && t > f.window.from && t - f.window.from <= f.window.size() &&
         t <= f.window.end;
}
bool overfull(const slot_facts& f) noexcept {
  return in_window(f) && f.as_tag().ticket - f.window.from == f.window.size();
}
bool live(const slot_facts& f) noexcept {
  return in_window(f) && !overfull(f) &&
         (f.as_tag().state == slot_state::queued || f.as_tag().state == slot_state::pubrec ||
          f.as_tag().state == slot_state::taken);
}
bool moved(const slot_facts& f) noexcept {
  return f.as_tag().state != slot_state::taken || f.source == slot_source::gone;
}

constexpr slot_row slots[] = {
    // The slot was never placed since the ring was cleared, or it was placed and lost.
    {slot_case::cleared, "is clear", false, false,
     [](const slot_facts& f) noexcept { return f.tag == 0; }},
    {slot_case::malformed, "has a tag that fails its check", true, false,
     [](const slot_facts& f) noexcept {
       return f.tag != 0 && !slot_tag::well_formed(f.tag, f.queue);
     }},
    {slot_case::elsewhere, "has a ticket that belongs in another slot", true, false,
     [](const slot_facts& f) noexcept { return well_formed(f) && !in_its_slot(f); }},
    // The head has passed the entry. If another entry was placed over it, that one was lost.
    {slot_case::released, "is released", false, false,
     [](const slot_facts& f) noexcept {
       return in_its_slot(f) && f.as_tag().ticket <= f.window.from;
     }},
    // A slot is used again only once the head that freed it is durable, so only damage makes this.
    {slot_case::ahead, "has a ticket that cannot have been given yet", true, false,
     [](const slot_facts& f) noexcept {
       return in_its_slot(f) && f.as_tag().ticket > f.window.from && !in_window(f);
     }},
    // A ring holds one entry fewer than it has slots.
    {slot_case::overfull, "has a ticket that the ring had no room for", true, true, overfull},
    // The entry was acknowledged out of order, moved or dropped, or it is void.
    {slot_case::settled, "is done", false, true,
     [](const slot_facts& f) noexcept { return in_window(f) && !overfull(f) && !live(f); }},
    {slot_case::deliverable, "is to be delivered", false, true,
     [](const slot_facts& f) noexcept {
       return live(f) && f.message == message_status::ok && moved(f);
     }},
    // A crash came before its other queue gave the message up, so that queue delivers it.
    {slot_case::not_moved, "is for a message that stayed in its other queue", false, true,
     [](const slot_facts& f) noexcept {
       return live(f) && f.message == message_status::ok && !moved(f);
     }},
    // The burst that placed the slot was cut off by the crash; its publisher was not acknowledged.
    {slot_case::unpublished, "names a message that was not published", false, true,
     [](const slot_facts& f) noexcept {
       return live(f) && (f.message == message_status::not_published ||
                          f.message == message_status::stale_generation);
     }},
    {slot_case::bad_message, "names a message that is damaged or does not exist", true, true,
     [](const slot_facts& f) noexcept {
       return live(f) &&
              (f.message == message_status::damaged || f.message == message_status::out_of_range);
     }},
};

template <class Row, class Facts>
const Row& first_match(std::span<const Row> rows, const Facts& f) noexcept {
  for (const Row& row : rows)
    if (row.matches(f)) return row;
  CHAINRING_ASSERT(!"every pattern matches a case");
  return rows.front();
}

} // namespace

std::span<const record_row> record_cases() noexcept {
  return records;
}
std::span<const slot_row> slot_cases() noexcept {
  return slots;
}
const record_row& judge(const record_facts& f) noexcept {
  return first_match(record_cases(), f);
}
const slot_row& judge(const slot_facts& f) noexcept {
  return first_match(slot_cases(), f);
}

ring_window window_of(const record_facts& f, unsigned k) noexcept {
  const queue_base b = queue_base::unpack(f.ring(k).base);
  ring_window w;
  w.base = b.ticket;
  w.from = std::max(f.head(), b.ticket);
  w.log2_slots = b.log2_slots;
  if (k + 1 < f.commit().count) w.end = queue_base::unpack(f.ring(k + 1).base).ticket;
  return w;
}

} // namespace chainring::detail
