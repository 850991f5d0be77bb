// SPDX-License-Identifier: BSD-3-Clause
// The cycles of the compactor: what is moved, in which order, and when old places are free.
// compactor_state.h says what kinds of cycles there are.
//
// Ordering labels:
//   [pins-looked-up]  The pins of a message are loaded with acquire, behind the end of the readings
//     that were there when its new chain was named; pairs with [pin-dropped].
//   [compactor-alone]  A compactor gives its table back with release, and the next one takes the
//     table with acquire; pairs with [compactor-alone].
//   [compactor-counts]  Counters for statistics are written by one thread and read at any moment;
//     the access orders nothing.
#include "message/compactor.h"

#include <algorithm>
#include <mutex>
#include <string>

#include "base/hook.h"
#include "base/idle.h"
#include "message/compactor_state.h"

namespace chainring {

using detail::add;
using detail::meet;
using detail::old_of_a_move;

namespace {

constexpr std::uint32_t victims_most = 64;
/// Passes of the gap in a row after which nothing could be joined, until it is given up.
constexpr unsigned vain_most = 2;
constexpr std::uint32_t segment_bytes = 2u << 20;
/// Segments that cost as much to look at as one descriptor.
constexpr std::uint32_t descriptors_per_segment = 64;
/// Messages that one step may move: their references are held until its drains.
constexpr std::size_t batch_most = 256;
/// Chains that messages may leave in one cycle that empties the end of the store.
constexpr std::uint64_t old_chains_of_the_end = 1u << 20;

} // namespace

// --- a cycle -------------------------------------------------------------------------------------

void message_compactor::state::begin() noexcept {
  // What lies in the caches of threads merges now, and is not taken for live.
  blocks.flush_caches();
  runs_before = blocks.free_runs();
  refusals_before = blocks.refusals();
  moved_before = moved.load(std::memory_order_relaxed);   // [compactor-counts]
  joined_before = joined.load(std::memory_order_relaxed); // [compactor-counts]
  return_room();
  take_reserve();
  victims.clear();
  at = 0;
  lists = 0;
  shut_gate();
  if (cycle == kind::pack) {
    std::fill_n(movable.data(), segments(), content{});
    longest = 0;
    now = phase::count;
    return;
  }
  if (cycle == kind::roll) choose_beside_gap();
  if (cycle == kind::vacate) {
    const auto all = static_cast<std::uint32_t>(blocks.block_count());
    victims.push_back({{options.ceiling_block, all - options.ceiling_block}, 0, 0});
    held.reserve(runs_before + batch_most + 2); // all that is free there is set aside
  }
  hold_victims();
  now = phase::move;
}

void message_compactor::state::count(std::uint32_t descriptors) noexcept {
  const std::uint64_t end = std::min<std::uint64_t>(at + descriptors, table.count());
  for (; at < end; ++at) {
    const auto index = static_cast<std::uint32_t>(at);
    const auto& e = shared().entries[index];
    const auto seen = message_word1::unpack(e.word1());
    const std::uint32_t n = e.references.load(std::memory_order_relaxed); // [compactor-counts]
    if (n == 0 || n >= message_table::state::damaged || seen.count == 0) continue;
    if (!seen.list) {
      count_chain({seen.first, seen.count}, seen.count, false);
    } else if (take_reference(index)) { // only a holder may read a list
      ++lists;
      std::uint32_t all = 0; // the message need not be staged yet, so its words say nothing
      const auto word1 = message_word1::unpack(e.word1());
      for_each_chain(word1, [&](const chain& c) { all += c.blocks; });
      for_each_chain(word1, [&](const chain& c) { count_chain(c, all, true); });
      table.drop_reference(index);
    }
  }
  if (at != table.count()) return;
  now = phase::choose;
  at = 0;
  // Holes count as room where they are long enough for every message.
  const auto store = blocks.statistics();
  const std::uint64_t in_index = store.free_blocks - store.cached_blocks;
  room = reserve.blocks +
         (in_index / std::max<std::uint64_t>(1, store.free_runs) >= longest ? in_index / 2 : 0);
}

// `all` are the blocks of the message to which the chain belongs.
void message_compactor::state::count_chain(const chain& c, std::uint32_t all, bool split) noexcept {
  if (!blocks.valid(c)) return;
  longest = std::max(longest, c.blocks);
  for_each_segment_of(c, [&](std::uint32_t s, std::uint32_t part) {
    movable[s].blocks += part;
    movable[s].whole += all;
    if (split) movable[s].split += part;
  });
}

// The gain is what emptying the segment would join: free blocks, as far as what lives there can be
// moved, and blocks of messages that have several chains. The cost is the blocks to be moved.
void message_compactor::state::consider(const chain& part, const content& c,
                                        const block_store_room& inside) noexcept {
  const std::uint32_t live = part.blocks - inside.free;
  const std::uint32_t moving = std::min(live, c.blocks);
  const std::uint32_t split = std::min(moving, c.split);
  if (moving == 0 || inside.free - inside.longest + split == 0) return;
  // A segment that contains a part of the reserve would be moved into itself.
  if (reserve.blocks != 0 && meet(part, reserve)) return;
  // To begin to empty a segment and not to finish it would break the reserve into pieces, unless it
  // is none yet.
  if (c.whole > room && reserve.blocks >= options.reserve_blocks / 2) return;
  const double gain = static_cast<double>(inside.free - inside.longest) * moving / live + split;
  const victim v{part, c.whole, gain / c.whole};
  const auto worse =
      std::find_if(victims.begin(), victims.end(), [&](auto& o) { return o.score < v.score; });
  if (worse == victims.end() && victims.size() == options.victims) return;
  victims.insert(worse, v);
  if (victims.size() > options.victims) victims.pop_back();
}

void message_compactor::state::choose(std::uint32_t descriptors) noexcept {
  const std::uint64_t end = std::min<std::uint64_t>(
      at + std::max<std::uint32_t>(1, descriptors / descriptors_per_segment), segments());
  for (; at < end; ++at) {
    const chain s = segment(at);
    consider(s, movable[at], blocks.room_inside(s.first, s.blocks));
  }
  if (at != segments()) return;
  // To begin to empty several segments and to finish none would join nothing.
  std::uint64_t moving = 0;
  std::size_t kept = 0;
  while (kept < victims.size() && (kept == 0 || moving + victims[kept].whole <= room))
    moving += victims[kept++].whole;
  victims.resize(kept);
  hold_victims();
  now = phase::move;
  at = 0;
}

// The part of the store beside the gap, as much as surely finds room in it. What cannot be moved
// may part the gap from the edge; then the edge goes on without it.
void message_compactor::state::choose_beside_gap() noexcept {
  const std::uint32_t low = run.first, high = run.first + run.blocks;
  if (!edge_known || (low <= edge && edge <= high)) edge = upward ? high : low;
  edge_known = true;
  const auto all = static_cast<std::uint32_t>(blocks.block_count());
  const std::uint32_t surely =
      reserve.blocks > longest ? reserve.blocks - longest : reserve.blocks / 2;
  // A gap that has become short does not make a pass endless: each pass has a bounded number of
  // cycles.
  const std::uint32_t least = std::max(1u, options.segment_blocks / 8);
  const std::uint32_t size = std::min(std::max(surely, least), upward ? all - edge : edge);
  const std::uint32_t first = upward ? edge : edge - size;
  edge = upward ? edge + size : first;
  if (size != 0) victims.push_back({{first, size}, 0, 0});
}

void message_compactor::state::hold_victims() noexcept {
  std::sort(victims.begin(), victims.end(),
            [](auto& a, auto& b) { return a.part.first < b.part.first; });
  held.clear();
  for (const victim& v : victims) {
    const std::size_t before = held.size();
    held.resize(held.capacity() - 1); // one place is kept for the reserve
    held.resize(before + blocks.allocate_inside(v.part.first, v.part.blocks,
                                                std::span(held).subspan(before)));
  }
}

void message_compactor::state::shut_gate() noexcept {
  const std::lock_guard guard(shared().judge);
  shared().gate.revoke();
  for (unsigned slot = 0, slots = detail::slots_in_use(); slot < slots; ++slot)
    detail::revocable::wait_out(shared().markers[slot].busy);
  gate_shut = true;
}

void message_compactor::state::open_gate() noexcept {
  if (!gate_shut) return;
  const std::lock_guard guard(shared().judge);
  shared().gate.restore();
  gate_shut = false;
}

void message_compactor::state::sweep(const compaction_budget& budget) noexcept {
  // A request that was refused comes before all that is set aside.
  if (blocks.refusals() != refusals_before && at != table.count()) {
    add(gave_way);
    at = table.count();
  }
  const std::uint64_t end = std::min<std::uint64_t>(at + budget.descriptors, table.count());
  std::uint64_t copied = 0;
  // Any move may leave a list and all that it names.
  const auto fits = [&] { return old.size() + leaving + old_of_a_move <= old.capacity(); };
  while (at < end && copied < budget.blocks && batch.size() < batch_most && fits())
    copied += copy(static_cast<std::uint32_t>(at++));
  const bool full = batch.empty() && !fits();
  name_copies();
  if (at != table.count() && !full) return;
  open_gate();
  now = phase::settle;
  grace_begun = false;
}

// Gives back the old places that nobody reads any more. False: some are still read.
bool message_compactor::state::settle() noexcept {
  if (old.empty()) return true;
  auto& readers = shared().readers;
  if (!grace_begun) {
    stamp = readers.stamp();
    readers.begin();
    grace_begun = true;
  }
  if (!seeded_bug("compactor.grace_not_kept") && !readers.over(stamp)) return false;
  std::size_t kept = 0;
  for (const old_chain& c : old) {
    // [pins-looked-up] Without it blocks could be reused while a device still reads them. A pin
    // that was taken inside a reading of the old place is visible by now.
    if (shared().entries[c.index].pins.load(std::memory_order_acquire) != 0) {
      old[kept++] = c;
      continue;
    }
    if (c.required) table.media_.unrequire(blocks.address(c.place), blocks.size_of(c.place));
    blocks.release_to_index(std::span(&c.place, 1));
  }
  old.resize(kept);
  return true;
}

void message_compactor::state::return_room() noexcept {
  if (reserve.blocks != 0) held.push_back(reserve);
  std::erase_if(held, [](const chain& c) { return c.blocks == 0; });
  blocks.release_to_index(held);
  held.clear();
  reserve = {};
}

// Sets the longest free run aside, as far as it is wanted: the end of it to which the next messages
// go.
void message_compactor::state::take_reserve() noexcept {
  if (cycle == kind::vacate) return; // every run in front of the end is used as it is
  run = {};
  const auto length = static_cast<std::uint32_t>(blocks.statistics().largest_run);
  if (length != 0 && blocks.allocate_from_index(length, std::span(&run, 1)) == 1) {
    const std::uint32_t wanted =
        std::min(run.blocks, std::max(options.reserve_blocks, 4 * longest));
    const bool high = cycle != kind::roll || !upward; // otherwise the low end stays for others
    reserve = {high ? run.first + run.blocks - wanted : run.first, wanted};
    const chain rest{high ? run.first : run.first + wanted, run.blocks - wanted};
    if (rest.blocks != 0) blocks.release_to_index(std::span(&rest, 1));
  }
  reserved.store(reserve.blocks, std::memory_order_relaxed); // [compactor-counts]
}

// Ends the cycle. Returns true if another one may improve something.
bool message_compactor::state::finish() noexcept {
  return_room();
  const std::uint64_t runs = blocks.free_runs();
  take_reserve();
  add(cycles);
  now = phase::begin;
  const std::uint64_t moves =
      moved.load(std::memory_order_relaxed) - moved_before; // [compactor-counts]
  const std::uint64_t joins =
      joined.load(std::memory_order_relaxed) - joined_before; // [compactor-counts]
  if (blocks.refusals() == refusals_before && goes_on(moves, joins, runs)) return true;
  if (cycle != kind::vacate) cycle = kind::pack;
  return false;
}

bool message_compactor::state::goes_on(std::uint64_t moves, std::uint64_t joins,
                                       std::uint64_t runs) noexcept {
  switch (cycle) {
  case kind::pack:
    if (moves != 0 && (joins != 0 || runs < runs_before)) return true;
    // A gap that is shorter than a chain passes over it and joins nothing.
    if (lists == 0 || reserve.blocks < longest) return false;
    cycle = kind::roll;
    edge_known = false;
    vain = 0;
    return true;
  case kind::roll:
    if (edge == (upward ? blocks.block_count() : 0)) cycle = kind::join;
    return true;
  case kind::join:
    vain = joins == 0 ? vain + 1 : 0;
    if (lists == joins || vain == vain_most) return false;
    cycle = kind::roll;
    upward = !upward;
    edge_known = false;
    return true;
  case kind::vacate:
    return moves != 0; // what has moved may have left room for what had none
  }
  return false;
}

// --- public --------------------------------------------------------------------------------------

message_compactor::message_compactor(std::unique_ptr<state> s) noexcept : state_(std::move(s)) {}

result<std::unique_ptr<message_compactor>> message_compactor::create(message_table& table,
                                                                     compactor_options options) {
  const auto refuse = [](const char* what, std::uint64_t value, const std::string& expected) {
    return error{errc::invalid_argument,
                 std::string(what) + " " + std::to_string(value) + ": expected " + expected};
  };
  const block_store& blocks = table.blocks();
  const std::uint64_t all = blocks.block_count();
  if (options.segment_blocks == 0)
    options.segment_blocks = static_cast<std::uint32_t>(
        std::clamp<std::uint64_t>(all / 64, 16, segment_bytes / blocks.block_size()));
  if (options.segment_blocks < 16 || options.segment_blocks > block_store::blocks_max / 2)
    return refuse("segment_blocks", options.segment_blocks,
                  "16 to " + std::to_string(block_store::blocks_max / 2));
  if (options.victims == 0 || options.victims > victims_most)
    return refuse("victims", options.victims, "1 to " + std::to_string(victims_most));
  if (options.reserve_blocks == 0)
    options.reserve_blocks = static_cast<std::uint32_t>(
        std::min<std::uint64_t>(2 * std::uint64_t{options.segment_blocks}, all / 32));
  if (options.reserve_blocks > all / 2)
    return refuse("reserve_blocks", options.reserve_blocks,
                  "at most half of the store's " + std::to_string(all));
  if (options.ceiling_block >= all)
    return refuse("ceiling_block", options.ceiling_block,
                  "fewer than the store's " + std::to_string(all));
  if (table.state_->has_compactor.exchange(true, std::memory_order_acquire)) // [compactor-alone]
    return error{errc::busy, "the message table has a compactor already; destroy it before another "
                             "one is made"};
  auto s = std::make_unique<state>(table, options);
  if (!s->movable.make(blocks.block_count_max() / options.segment_blocks + 1))
    return error{errc::no_space, "compactor: there is no memory for its segments"};
  const auto part = static_cast<std::size_t>(
      options.ceiling_block != 0
          ? std::min<std::uint64_t>(all - options.ceiling_block, old_chains_of_the_end)
          : std::min(all, std::max(std::uint64_t{options.segment_blocks} * options.victims,
                                   std::uint64_t{4} * options.reserve_blocks)));
  s->victims.reserve(options.victims + 1);
  s->held.reserve(part / 2 + batch_most + 2);
  s->batch.reserve(batch_most);
  s->extents.reserve(message_table::extents_max + 1);
  s->old.reserve(part + 2 * old_of_a_move);
  s->take_reserve();
  return std::unique_ptr<message_compactor>(new message_compactor(std::move(s)));
}

message_compactor::~message_compactor() {
  state& s = *state_;
  s.open_gate();
  s.grace_begun = false; // also for places that were left after the last grace period began
  idle_policy wait;
  while (!s.settle() || !s.old.empty())
    wait.idle();
  s.return_room();
}

message_compactor::state::~state() {
  // [compactor-alone] Without it the next compactor could miss what this one has moved.
  shared().has_compactor.store(false, std::memory_order_release);
}

compaction message_compactor::step(compaction_budget budget) noexcept {
  state& s = *state_;
  budget.descriptors = std::max<std::uint32_t>(1, budget.descriptors);
  budget.blocks = std::max<std::uint32_t>(1, budget.blocks);
  // Where memory is lost, a chain that looks free may not be usable.
  if (s.now == state::phase::begin && s.table.media_.losses() != 0) return compaction::idle;
  if (!s.table.media_.has_room()) return compaction::waiting;
  switch (s.now) {
  case state::phase::begin:
    s.begin();
    break;
  case state::phase::count:
    s.count(budget.descriptors);
    break;
  case state::phase::choose:
    s.choose(budget.descriptors);
    break;
  case state::phase::move:
    s.sweep(budget);
    break;
  case state::phase::settle:
    if (!s.settle()) return compaction::waiting;
    if (!s.finish()) return compaction::idle;
    break;
  }
  return compaction::working;
}

compactor_statistics message_compactor::statistics() const noexcept {
  const state& s = *state_;
  const auto get = [](const std::atomic<std::uint64_t>& a) {
    return a.load(std::memory_order_relaxed); // [compactor-counts]
  };
  return {get(s.cycles),  get(s.moved),  get(s.moved_blocks), get(s.joined),   get(s.split),
          get(s.no_room), get(s.pinned), get(s.unsound),      get(s.gave_way), get(s.reserved)};
}

} // namespace chainring
