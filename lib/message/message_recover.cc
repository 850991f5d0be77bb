// SPDX-License-Identifier: BSD-3-Clause
//
// Recovery of the message table. Nothing on media is written; what is live is what a place names.
//
// Cases, for a place (slot, retained cell, will, open identifier) that names {index, generation};
// each pattern of index and word 0 matches exactly one:
//
//   case                                           verdict           the place
//   [K1] index beyond the table                    out_of_range      damage: void it
//   [K2] word 0 not well formed                    damaged           damage: void it
//   [K3] another generation                        stale_generation  it landed and its descriptor
//                                                                    did not: void it
//   [K4] free or staged, or held for a place that  not_published     a burst cut off before its
//        only names published ones                                   commit: void it
//   [K5] published (held), fields, seal or extents damaged           damage: void it
//        not valid
//   [K6] published (held) and valid; a block of    damaged           damage: void it
//        its is live for another, and its content
//        fails its CRC, or the other's does not
//   [K7] published (held) and valid; each block    ok                it counts
//        of its is live for nobody, or for
//        messages whose content fails their CRC
//
// [K7] takes the blocks from those others. Their places were answered `ok` and count as before,
// until they are consumed; view() says `not_published` to whoever reads by them.
//
//   edge                                                        breaks without it
//   [V1] flush_read of the table, drained by the caller         a message seen as published after
//        before it acts                                         process death is delivered, then
//                                                               gone after a power cut
//   [V2] first reference: count 0 -> marking, acquires; [V3]    two recovering threads mark one
//        releases the verdict; a second reference waits for     message's chains, and one takes
//        [V3] and acquires it by [V4]                           it for damaged
//   [V5] a message that lost its blocks says `staged` before    its chains are followed into
//        anything is given out; it need not be durable, since    blocks that are another's by then
//        the next open judges again
//
// Extent lists need no flush_read: their drain came before word 0 was stored (message.cc,
// [P1 < P2]), so a list that word 0 makes valid is durable in every state a crash leaves.
#include <algorithm>
#include <mutex>
#include <string>

#include "base/assert.h"
#include "base/hook.h"
#include "base/idle.h"
#include "message/message.h"
#include "message/message_state.h"

namespace chainring {

void message_table::begin_recovery(bool several, bool checking) noexcept {
  state_->recoverers = several;
  state_->checking = checking;
  state_->pool.clear();
  const std::uint32_t descriptors = count();
  state_->damaged_count = state_->robbed_count = 0;
  for (std::uint32_t i = 0; i < descriptors; ++i) {
    state::entry& e = state_->entries[i];
    // Stored only where it changes something: most of a large array was never touched.
    if (e.references.load(std::memory_order_relaxed) != 0) // [V2] nobody else works
      e.references.store(0, std::memory_order_relaxed);    // [V2] nobody else works
    if (e.chains != 0) e.chains = 0;
  }
}

message_check message_table::check() const noexcept {
  message_check found;
  auto bad = [&](std::uint32_t index, const char* reason) {
    if (found.malformed++ == 0) {
      found.first_malformed = index;
      found.first_reason = reason;
    }
  };
  const std::uint32_t descriptors = count();
  message_view v;
  for (std::uint32_t i = 0; i < descriptors; ++i) {
    const std::uint64_t state = descriptor_of(i).state;
    if (!message_word0::well_formed(state)) {
      bad(i, "its state word is not well formed");
      continue;
    }
    const auto word = message_word0::unpack(state);
    switch (word.state) {
    case message_state::free:
      ++found.free;
      continue;
    case message_state::staged:
      ++found.staged;
      continue;
    case message_state::held:
      ++found.held;
      break;
    case message_state::published:
      ++found.published;
      break;
    }
    found.identifiers_open += word.identifier_open;
    // The content of one that nothing names may be anybody's by now; its extent list, too.
    if (const char* reason = examine(i, v); reason != nullptr) bad(i, reason);
  }
  return found;
}

void message_table::persist_as_read() noexcept {
  for (std::uint32_t n = 0; n < segments(); ++n)
    media_.flush_read(segments_[n].table,
                      std::uint64_t{segments_[n].count} * sizeof(message_descriptor)); // [V1]
}

// Calls fn(chain, required) for the list, if there is one, and then for each chain of content,
// until fn returns false. The extent was found valid.
template <class F> bool message_table::for_each_chain(message_word1 extent, F&& fn) const noexcept {
  if (extent.count == 0) return true;
  if (!extent.list) return fn(chain{extent.first, extent.count}, false);
  const std::uint64_t bytes = std::uint64_t{extent.count} * sizeof(message_extent);
  const chain list{extent.first, static_cast<std::uint32_t>(blocks_.blocks_for(bytes))};
  if (!fn(list, true)) return false;
  const auto* extents = reinterpret_cast<const message_extent*>(blocks_.address(list));
  for (std::uint32_t i = 0; i < extent.count; ++i)
    if (!fn(chain{extents[i].first, extents[i].blocks}, false)) return false;
  return true;
}

bool message_table::mark_chains(std::uint32_t index, message_word1 extent) noexcept {
  if (!extent.list) { // nearly every message
    if (extent.count != 0 && !blocks_.try_mark_live({extent.first, extent.count})) return false;
    state_->entries[index].chains = extent.pack();
    return true;
  }
  std::uint32_t marked = 0;
  const auto mark = [&](const chain& c, bool required) {
    const bool ok = required ? blocks_.mark_required(c).ok() : blocks_.try_mark_live(c);
    marked += ok;
    return ok;
  };
  if (for_each_chain(extent, mark)) {
    state_->entries[index].chains = extent.pack();
    return true;
  }
  for_each_chain(extent, [&](const chain& c, bool required) {
    if (marked == 0) return false;
    --marked;
    if (required)
      blocks_.unmark_required(c);
    else
      blocks_.unmark_live(c);
    return true;
  });
  return false;
}

// --- two claimants of a block
// ---------------------------------------------------------------------

bool message_table::meets(message_word1 a, message_word1 b) const noexcept {
  return !for_each_chain(a, [&](const chain& x, bool) {
    return for_each_chain(b, [&](const chain& y, bool) {
      return std::uint64_t{x.first} + x.blocks <= y.first ||
             std::uint64_t{y.first} + y.blocks <= x.first;
    });
  });
}

// Takes the blocks away from a descriptor that has references. Its word 0 says `staged` from here
// on, so that nobody follows its chains; where that is not durable the next open judges again.
void message_table::rob(std::uint32_t index) noexcept {
  state::entry& e = state_->entries[index];
  for_each_chain(message_word1::unpack(e.chains), [&](const chain& c, bool required) {
    if (required)
      blocks_.unmark_required(c);
    else
      blocks_.unmark_live(c);
    return true;
  });
  e.chains = 0;
  if (state_->robbed_count < state_->robbed.size()) state_->robbed[state_->robbed_count] = index;
  ++state_->robbed_count;
  if (state_->checking) return;
  message_descriptor& d = descriptor_of(index);
  auto word = message_word0::unpack(d.state);
  word.state = message_state::staged;
  media_.store(&d.state, word.pack()); // [V5]
}

// Blocks of this valid descriptor are live already. Nobody else marks meanwhile.
bool message_table::judge(message_ref ref, message_word1 extent) noexcept {
  if (seeded_bug("message.first_claim_wins")) return false;
  const std::uint32_t descriptors = count();
  message_view mine, theirs;
  if (examine(ref, mine) != nullptr || !verify(mine)) return false;
  for (std::uint32_t i = 0; i < descriptors; ++i) {
    const auto other = message_word1::unpack(state_->entries[i].chains);
    if (other.count == 0 || !meets(extent, other)) continue;
    // Two whole ones cannot be told apart; the blocks stay where they are.
    if (examine(i, theirs) == nullptr && verify(theirs)) return false;
    rob(i); // [K7]
  }
  return mark_chains(ref.index, extent);
}

bool message_table::claim(message_ref ref, message_word1 extent) noexcept {
  if (!state_->recoverers) return mark_chains(ref.index, extent) || judge(ref, extent);
  auto& busy = state_->markers[detail::my_slot()].busy;
  if (state_->gate.enter(busy)) {
    const bool marked = mark_chains(ref.index, extent);
    state_->gate.leave(busy);
    if (marked) return true;
  }
  // What was in the way may be a claim that its thread takes back: so once more, alone.
  const std::lock_guard guard(state_->judge);
  state_->gate.revoke();
  for (unsigned slot = 0, slots = detail::slots_in_use(); slot < slots; ++slot)
    detail::revocable::wait_out(state_->markers[slot].busy);
  const bool claimed = mark_chains(ref.index, extent) || judge(ref, extent);
  state_->gate.restore();
  return claimed;
}

void message_table::prefetch_blocks(std::uint32_t index) const noexcept {
  if (index < count())
    blocks_.prefetch_live(message_word1::unpack(descriptor_of(index).extent).first);
}

message_status message_table::first_reference(message_ref ref, message_status seen) noexcept {
  // [K2], [K5], [K6]: out of use, so that what it says can be looked into until the next open.
  const words w = words_of(ref.index);
  const bool whole =
      seen == message_status::ok && invalid(ref, w) == nullptr && claim(ref, w.extent);
  state_->entries[ref.index].references.store(whole ? 1 : state::damaged,
                                              std::memory_order_release); // [V3] pairs with [V4]
  return whole ? message_status::ok : message_status::damaged;
}

// The first reference looks into the descriptor and marks its chains; the others count.
message_status message_table::recover(message_ref ref, bool held_counts) noexcept {
  message_word0 word;
  const message_status seen = look_at_state(ref, held_counts, word);
  if (seen != message_status::ok && seen != message_status::damaged) return seen;
  auto& count = state_->entries[ref.index].references;
  idle_policy wait;
  std::uint32_t n = count.load(std::memory_order_acquire); // [V4] pairs with [V3]
  if (!state_->recoverers) { // nobody else is at work: plain loads and stores will do
    if (n == state::damaged) return message_status::damaged;
    if (n == 0) return first_reference(ref, seen);
    count.store(n + 1, std::memory_order_relaxed); // [V4] alone
    return message_status::ok;
  }
  for (;;) {
    if (n == state::damaged) return message_status::damaged;
    if (n == state::marking) {
      wait.idle();
      n = count.load(std::memory_order_acquire); // [V4] pairs with [V3]
    } else if (n != 0) {
      if (count.compare_exchange_weak(n, n + 1, std::memory_order_acq_rel, // [V4]
                                      std::memory_order_acquire))          // [V4] pairs with [V3]
        return message_status::ok;
    } else if (count.compare_exchange_weak(n, state::marking, std::memory_order_acq_rel, // [V2]
                                           std::memory_order_acquire)) { // [V4] pairs with [V3]
      return first_reference(ref, seen);
    }
  }
}

message_status message_table::recover_reference(message_ref ref) noexcept {
  return recover(ref, false);
}

message_status message_table::recover_held(message_ref ref) noexcept {
  return recover(ref, true);
}

bool message_table::next_open_identifier(std::uint64_t from, message_view& out) const noexcept {
  for (; from < count(); ++from) {
    const auto index = static_cast<std::uint32_t>(from);
    const auto word = message_word0::unpack(descriptor_of(index).state);
    if (word.identifier_open && look({index, word.generation}, false, out) == message_status::ok)
      return true;
  }
  return false;
}

void message_table::finish_recovery() noexcept {
  for (std::uint32_t i = count(); i-- > 0;) {
    const std::uint32_t n =
        state_->entries[i].references.load(std::memory_order_relaxed); // [V4] callers joined
    CHAINRING_ASSERT(n != state::marking);
    if (n == 0) state_->pool.add(i);
    if (n == state::damaged) ++state_->damaged_count;
  }
}

recovery_part message_table::part() {
  return {.name = "messages",
          .items = count(),
          .persist_as_read = [this](recovery_context&) { persist_as_read(); },
          .repair =
              [this](recovery_context& c) {
                begin_recovery(false, c.checking());
                c.advance(count());
                if (!c.checking()) return; // an open judges each message when it is referred to
                const message_check found = check();
                if (found.malformed != 0)
                  c.report({"message " + std::to_string(found.first_malformed),
                            std::string(found.first_reason) + " (and " +
                                std::to_string(found.malformed - 1) + " more)"});
              },
          .rebuild =
              [this](recovery_context& c) {
                finish_recovery();
                report_robbed(c);
                c.advance(count());
              }};
}

void message_table::report_robbed(recovery_context& c) const {
  const std::uint64_t known = std::min<std::uint64_t>(state_->robbed_count, state_->robbed.size());
  for (std::uint64_t i = 0; i < known; ++i)
    c.report(
        {"message " + std::to_string(state_->robbed[i]),
         "it claims blocks of a message whose content is whole, and its own content is not; it "
         "is not delivered"});
  if (state_->robbed_count != known)
    c.report({"messages", std::to_string(state_->robbed_count - known) +
                              " more claim blocks of others; they are not delivered"});
}

error message_table::describe(message_ref ref, message_status status) const {
  const std::string name = "message " + std::to_string(ref.index) + " generation " +
                           std::to_string(ref.generation) + ": ";
  if (status == message_status::out_of_range)
    return {errc::corrupt, name + "there are " + std::to_string(count()) + " descriptors"};
  if (status != message_status::damaged) return {errc::not_found, name + to_string(status)};
  if (!message_word0::well_formed(descriptor_of(ref.index).state))
    return {errc::corrupt, name + "its state word is not well formed"};
  message_view v;
  const char* reason = examine(ref, v);
  return {errc::corrupt,
          name + (reason != nullptr
                      ? reason
                      : "a block of its is another's, or its content fails its CRC32C")};
}

} // namespace chainring
