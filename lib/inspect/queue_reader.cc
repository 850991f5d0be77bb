// SPDX-License-Identifier: BSD-3-Clause
// Queues: a record, the rings that it names, and their slots.
#include <algorithm>

#include "inspect/record_reader.h"
#include "ring/ring.h"
#include "ring/slot_delivery.h"

namespace chainring::detail {

namespace {

const queue_ring& ring_of(const queue_record& q, unsigned k) noexcept {
  return q.rings[(queue_commit::unpack(q.commit).first + k) % queue_rings_max];
}

bool waits(slot_state s) noexcept {
  return s == slot_state::queued || s == slot_state::pubrec || s == slot_state::taken;
}

/// What a descriptor's first word says about a slot that names it.
enum class named { published, not_published, damaged };

named look_up(const record_table& messages, message_ref ref) noexcept {
  const std::byte* at = messages.at(ref.index);
  if (at == nullptr) return named::damaged;
  std::uint64_t line[cacheline_size / sizeof(std::uint64_t)];
  (void)copy_line(line, at);
  if (!message_word0::well_formed(line[0])) return named::damaged;
  const message_word0 w = message_word0::unpack(line[0]);
  return w.state == message_state::published && w.generation == ref.generation
             ? named::published
             : named::not_published;
}

} // namespace

const char* record_reader::judge_queue(const queue_record& q, std::uint32_t number) const {
  if (!queue_head::well_formed(q.head, number)) return "its head fails its check";
  if (!queue_commit::well_formed(q.commit, number)) return "its commit word fails its check";
  const std::uint64_t head = queue_head::unpack(q.head).ticket;
  std::uint64_t before = 0, reach = ticket_max;
  for (unsigned k = 0; k < queue_commit::unpack(q.commit).count; ++k) {
    const queue_ring& r = ring_of(q, k);
    const queue_base b = queue_base::unpack(r.base);
    if (b.log2_slots < ring_log2_min || b.log2_slots > ring_log2_max || b.ticket < before ||
        b.ticket > reach)
      return "one of its rings has an impossible size or base";
    const std::uint64_t blocks =
        blocks_for(ring_header_size + (std::uint64_t{sizeof(ring_slot)} << b.log2_slots));
    if (!r.whole(number, blocks) || chain(r.first_block(), blocks) == nullptr)
      return "one of its rings fails its check, or lies outside the region";
    before = b.ticket;
    reach = std::max(head, b.ticket) + (std::uint64_t{1} << b.log2_slots) - 1;
  }
  return nullptr;
}

bool record_reader::slots(const queue_record& q, const queue_place& of, queue_reading& out) const {
  const queue_commit commit = queue_commit::unpack(q.commit);
  const std::uint64_t head = queue_head::unpack(q.head).ticket;
  queue_look& look = out.look;
  look = {};
  look.number = of.number;
  look.incarnation = commit.incarnation;
  look.several_consumers = commit.mode == queue_mode::mpmc;
  look.rings = commit.count;
  look.newest = look.head = head;
  out.entries.clear();
  out.damaged.clear();
  bool fits = true;
  for (unsigned k = 0; k < commit.count; ++k) {
    const queue_ring& ring = ring_of(q, k);
    const queue_base b = queue_base::unpack(ring.base);
    const std::uint64_t size = std::uint64_t{1} << b.log2_slots, from = std::max(head, b.ticket),
                        end = k + 1 < commit.count
                                  ? queue_base::unpack(ring_of(q, k + 1).base).ticket
                                  : ticket_max;
    const auto* first = reinterpret_cast<const ring_slot*>(
        region_.at(geometry_.block_offset +
                   std::uint64_t{ring.first_block()} * geometry_.block_size) +
        ring_header_size);
    look.slots += size;
    look.newest = std::max(look.newest, b.ticket);
    constexpr std::uint64_t a_line = cacheline_size / sizeof(ring_slot);
    for (std::uint64_t line = 0; line < size / a_line; ++line) {
      ring_slot copy[a_line];
      (void)copy_line(copy, first + line * a_line);
      for (std::uint64_t i = 0; i < a_line; ++i) {
        if (copy[i].tag == 0) continue;
        const slot_tag tag = slot_tag::unpack(copy[i].tag);
        if (!slot_tag::well_formed(copy[i].tag, of.number) || tag.ticket <= b.ticket ||
            (tag.ticket - 1 - b.ticket) % size != line * a_line + i) {
          out.damaged.push_back(&first[line * a_line + i]);
          continue;
        }
        if (tag.ticket <= from) continue; // released
        if (tag.ticket - from >= size || tag.ticket > end) {
          out.damaged.push_back(&first[line * a_line + i]);
          fits = false;
          continue;
        }
        ++look.slots_read.whole;
        look.newest = std::max(look.newest, tag.ticket);
        if (!waits(tag.state)) continue;
        if (of.sealed && !slot_delivery::whole(of.sealed_for, copy[i].ref)) {
          out.damaged.push_back(&first[line * a_line + i]);
          continue;
        }
        const slot_ref ref(copy[i].ref);
        const named what =
            of.messages == nullptr ? named::published : look_up(*of.messages, ref.message());
        if (what == named::damaged) {
          out.damaged.push_back(&first[line * a_line + i]);
        } else if (what == named::not_published) {
          ++look.unpublished;
        } else {
          out.entries.push_back({{.ticket = tag.ticket,
                                  .receiving = tag.state == slot_state::pubrec,
                                  .moving = tag.state == slot_state::taken,
                                  .value = copy[i].ref,
                                  .message = ref.message().index,
                                  .generation = ref.message().generation,
                                  .delivery = ref.delivery()},
                                 first + line * a_line + i});
        }
      }
    }
  }
  return fits;
}

reading record_reader::queue(const queue_place& of, queue_reading& out, const char*& why) const {
  queue_record now, behind{};
  idle_policy wait;
  for (unsigned attempt = 0; attempt < attempts_max; ++attempt) {
    if (attempt != 0) wait.idle();
    const reading r = read(of.record, now, why,
                           [&](const queue_record& q, bool&) { return judge_queue(q, of.number); });
    if (r != reading::done) return r;
    const bool fits = slots(now, of, out);
    hook_point("inspect.slots_read");
    (void)copy_line(&behind, of.record);
    // Where the rings are others, the slots may have been read from blocks of something else.
    if (behind.commit != now.commit ||
        std::memcmp(behind.rings, now.rings, sizeof now.rings) != 0 ||
        !queue_head::well_formed(behind.head, of.number))
      continue;
    if (!fits && behind.head != now.head) continue;
    if (seeded_bug("inspect.head_of_before")) behind.head = now.head;
    const std::uint64_t head = out.look.head = queue_head::unpack(behind.head).ticket;
    std::erase_if(out.entries, [&](const auto& e) { return e.look.ticket <= head; });
    std::ranges::sort(out.entries, {}, [](const auto& e) { return e.look.ticket; });
    out.look.waiting = out.entries.size();
    out.look.slots_read.damaged = out.damaged.size();
    for (const auto& e : out.entries)
      out.look.receiving += e.look.receiving;
    out.look.newest = std::max(out.look.newest, head);
    return reading::done;
  }
  return reading::changing;
}

bool record_reader::still_there(const queue_place& of, const queue_reading::entry& e) const {
  if (seeded_bug("inspect.entry_not_sought")) return true;
  queue_record q;
  std::byte line[cacheline_size];
  (void)copy_line(&q, of.record);
  if (queue_head::unpack(q.head).ticket >= e.look.ticket) return false;
  const auto at = reinterpret_cast<std::uintptr_t>(e.slot);
  const std::uintptr_t in_line = at % cacheline_size;
  (void)copy_line(line, reinterpret_cast<const void*>(at - in_line));
  ring_slot slot;
  std::memcpy(&slot, line + in_line, sizeof slot);
  const slot_tag tag = slot_tag::unpack(slot.tag);
  return tag.ticket == e.look.ticket && waits(tag.state) && slot.ref == e.look.value;
}

} // namespace chainring::detail
