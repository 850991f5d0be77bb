// SPDX-License-Identifier: BSD-3-Clause
// Recovery of the message table. Recovery writes nothing on media, except that
// [robbed-before-reuse] may void a message. A message is live if a place names it.
//
// A place (slot, retained cell, will, open identifier) names an index and a generation. Every
// pattern of index and word 0 matches exactly one case.
//
// Recovery cases:
//   [index-beyond-table]  The index lies beyond the table: `out_of_range`. The place is damaged and
//     is voided.
//   [state-malformed]  Word 0 is not well formed: `damaged`. The place is voided.
//   [other-generation]  Word 0 has another generation: `stale_generation`. The place became durable
//     and its descriptor did not; the place is voided.
//   [message-unpublished]  The message is free or staged, or it is held and the place only names
//     published ones: `not_published`. A crash interrupted the burst before its commit; the place
//     is voided.
//   [fields-invalid]  The message is published (or held), and its fields, seal or extents are not
//     valid: `damaged`. The place is voided.
//   [blocks-claimed]  The message is published (or held) and valid, another message has one of its
//     blocks, and its own content fails its CRC or the other's does not: `damaged`. The place is
//     voided.
//   [message-whole]  The message is published (or held) and valid, and each of its blocks belongs
//     to nobody or to messages whose content fails their CRC: `ok`. The place counts, and the
//     message gets the blocks of those others. Their places were answered `ok` and count until they
//     are consumed; view() finds those messages not published.
//
// Ordering labels:
//   [table-read-before-use]  The table is flushed as it was read, and the caller drains before it
//     acts on what was read.
//   [first-reference]  The thread that counts the first reference exchanges the count from 0 to
//     `marking`; pairs with [verdict-stored].
//   [verdict-stored]  That thread stores the verdict in the count with release; pairs with
//     [first-reference] and [verdict-read].
//   [verdict-read]  A thread that counts a further reference waits for the verdict and loads it
//     with acquire; pairs with [verdict-stored].
//   [robbed-before-reuse]  A message that lost its blocks says `staged` before anything is given
//     out.
//   [recoverer-alone]  One thread recovers, or its helpers have joined it; the access orders
//     nothing.
//
// Extent lists need no flush_read(). They were drained before word 0 was stored
// ([extents-before-publish]), so a list that word 0 makes valid is durable in every state a crash
// leaves.
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
  state_->recovering = true;
  state_->recoverers = several;
  state_->checking = checking;
  state_->pool.clear();
  const std::uint32_t descriptors = count();
  state_->damaged_count = state_->robbed_count = 0;
  for (std::uint32_t i = 0; i < descriptors; ++i) {
    state::entry& e = state_->entries[i];
    // Store only if it changes something: most of a large array was never touched.
    if (e.references.load(std::memory_order_relaxed) != 0) // [recoverer-alone]
      e.references.store(0, std::memory_order_relaxed);    // [recoverer-alone]
    if (e.word1() != 0) e.set_word1(0);
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
    // If no place names this message, its extent list may lie in blocks of another message by now.
    // Whoever names it judges the list; here only the descriptor's own line can be judged.
    if (const char* reason = invalid({i, word.generation}, words_of(i), false); reason != nullptr)
      bad(i, reason);
  }
  return found;
}

void message_table::persist_as_read() noexcept {
  for (std::uint32_t n = 0; n < segments(); ++n)
    // [table-read-before-use] Without it a message that was seen as published could be delivered,
    // and be gone after a power cut.
    media_.flush_read(segments_[n].table,
                      std::uint64_t{segments_[n].count} * sizeof(message_descriptor));
}

// Calls fn(chain, required) for the extent list, if there is one, and then for each chain of
// content, until fn returns false. The extent must have been found valid.
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

message_chains message_table::chains() const noexcept {
  message_chains all;
  for (std::uint32_t i = 0, descriptors = count(); i < descriptors; ++i) {
    const state::entry& e = state_->entries[i];
    const std::uint32_t n = e.references.load(std::memory_order_relaxed); // [recoverer-alone]
    const auto extent = message_word1::unpack(e.word1());
    if (n == 0 || n >= state::damaged || extent.count == 0) continue;
    ++all.messages;
    for_each_chain(extent, [&](const chain& c, bool list) {
      all.chains += !list;
      all.blocks += c.blocks;
      all.end = std::max(all.end, std::uint64_t{c.first} + c.blocks);
      return true;
    });
  }
  return all;
}

bool message_table::mark_chains(std::uint32_t index, message_word1 extent) noexcept {
  if (!extent.list) { // nearly every message has one chain
    if (extent.count != 0 && !blocks_.try_mark_live({extent.first, extent.count})) return false;
    state_->entries[index].set_word1(extent.pack());
    return true;
  }
  std::uint32_t marked = 0;
  const auto mark = [&](const chain& c, bool required) {
    const bool ok = required ? blocks_.mark_required(c).ok() : blocks_.try_mark_live(c);
    marked += ok;
    return ok;
  };
  if (for_each_chain(extent, mark)) {
    state_->entries[index].set_word1(extent.pack());
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

// --- two messages that claim a block -------------------------------------------------------------

bool message_table::meets(message_word1 a, message_word1 b) const noexcept {
  return !for_each_chain(a, [&](const chain& x, bool) {
    return for_each_chain(b, [&](const chain& y, bool) {
      return std::uint64_t{x.first} + x.blocks <= y.first ||
             std::uint64_t{y.first} + y.blocks <= x.first;
    });
  });
}

// Takes the blocks from a descriptor that has references. Its word 0 says `staged` from then on, so
// no thread follows its chains.
void message_table::rob(std::uint32_t index) noexcept {
  state::entry& e = state_->entries[index];
  for_each_chain(message_word1::unpack(e.word1()), [&](const chain& c, bool required) {
    if (required)
      blocks_.unmark_required(c);
    else
      blocks_.unmark_live(c);
    return true;
  });
  e.set_word1(0);
  if (state_->robbed_count < state_->robbed.size()) state_->robbed[state_->robbed_count] = index;
  ++state_->robbed_count;
  if (state_->checking) return;
  message_descriptor& d = descriptor_of(index);
  auto word = message_word0::unpack(d.state);
  word.state = message_state::staged;
  // [robbed-before-reuse] Without it a thread could follow its chains into blocks of another
  // message. The store need not be durable, because the next open judges again.
  media_.store(&d.state, word.pack());
}

// Judges a valid descriptor of which some blocks are live already. No other thread marks meanwhile.
bool message_table::judge(message_ref ref, message_word1 extent) noexcept {
  if (seeded_bug("message.first_claim_wins")) return false;
  const std::uint32_t descriptors = count();
  message_view mine, theirs;
  if (examine(ref, mine) != nullptr || !verify(mine)) return false;
  for (std::uint32_t i = 0; i < descriptors; ++i) {
    const auto other = message_word1::unpack(state_->entries[i].word1());
    if (other.count == 0 || !meets(extent, other)) continue;
    // If both are whole, nothing shows whose blocks they are, so they stay where they are.
    if (examine(i, theirs) == nullptr && verify(theirs)) return false;
    rob(i); // [message-whole]
  }
  return mark_chains(ref.index, extent);
}

bool message_table::claim(message_ref ref, message_word1 extent) noexcept {
  if (!state_->recoverers) return mark_chains(ref.index, extent) || judge(ref, extent);
  if (unsigned row = 0; detail::own_row(row)) {
    auto& busy = state_->markers[row].busy;
    if (state_->gate.enter(busy)) {
      const bool marked = mark_chains(ref.index, extent);
      state_->gate.leave(busy);
      if (marked) return true;
    }
  }
  // The obstacle may be a claim that another thread is about to take back, so try once more, alone.
  // A thread without a marker of its own always comes here.
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
  // A damaged descriptor ([state-malformed], [fields-invalid], [blocks-claimed]) stays out of use,
  // so that an operator can examine it until the next open.
  const words w = words_of(ref.index);
  const bool whole =
      seen == message_status::ok && invalid(ref, w) == nullptr && claim(ref, w.extent);
  state_->entries[ref.index].generation.store(ref.generation,
                                              std::memory_order_relaxed); // [verdict-stored]
  // [verdict-stored] Without it another thread could count a reference before the chains are
  // marked.
  state_->entries[ref.index].references.store(whole ? 1 : state::damaged,
                                              std::memory_order_release);
  return whole ? message_status::ok : message_status::damaged;
}

// The first reference examines the descriptor and marks its chains. Further references only count.
message_status message_table::recover(message_ref ref, bool held_counts) noexcept {
  message_word0 word;
  const message_status seen = look_at_state(ref, held_counts, word);
  if (seen != message_status::ok && seen != message_status::damaged) return seen;
  auto& count = state_->entries[ref.index].references;
  idle_policy wait;
  // [verdict-read] Without it this thread could use a message whose chains are not marked yet.
  std::uint32_t n = count.load(std::memory_order_acquire);
  if (!state_->recoverers) { // one thread recovers, so plain loads and stores are enough
    if (n == state::damaged) return message_status::damaged;
    if (n == 0) return first_reference(ref, seen);
    count.store(n + 1, std::memory_order_relaxed); // [recoverer-alone]
    return message_status::ok;
  }
  for (;;) {
    if (n == state::damaged) return message_status::damaged;
    if (n == state::marking) {
      wait.idle();
      n = count.load(std::memory_order_acquire); // [verdict-read]
    } else if (n != 0) {
      if (count.compare_exchange_weak(n, n + 1, std::memory_order_acq_rel, // [verdict-read]
                                      std::memory_order_acquire))          // [verdict-read]
        return message_status::ok;
    } else if (
        // [first-reference] Without it two threads could mark the chains of one message, and one of
        // them would find it damaged.
        count.compare_exchange_weak(n, state::marking, std::memory_order_acq_rel,
                                    std::memory_order_acquire)) {
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
  CHAINRING_EXPECTS(state_->recovering, "finish_recovery() without begin_recovery() before it");
  state_->recovering = false;
  for (std::uint32_t i = count(); i-- > 0;) {
    const std::uint32_t n =
        state_->entries[i].references.load(std::memory_order_relaxed); // [recoverer-alone]
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
                if (!c.checking()) return; // an open judges each message when a place refers to it
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
  return {
      errc::corrupt,
      name +
          (reason != nullptr
               ? reason
               : "one of its blocks belongs to another message, or its content fails its CRC32C")};
}

} // namespace chainring
