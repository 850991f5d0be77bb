// SPDX-License-Identifier: BSD-3-Clause
/// Internal to lib/message: the state that the source files of the compactor share.
///
/// The compactor works in cycles: look for what is to be moved, move it, and wait until nobody
/// reads the old places. There are four kinds of cycles.
///   pack   Segments are chosen as victims, where moving the fewest blocks joins the most free
///   ones.
///          Their messages move to holes elsewhere, or to the reserve, one long run. A victim that
///          is empty is the next reserve.
///   roll   When packing improves nothing any more and there are still messages of several chains,
///          the longest free run is rolled through the store like a gap: what lies beside it moves
///          to its far end. The gap takes up every hole on its way, so behind a whole pass all free
///          blocks are one run, but for what cannot be moved. Chains of a message move one by one.
///   join   At the end of each pass, messages of several chains get one in the gap, and the next
///          pass goes the other way.
///   vacate The end of the store is the only victim, and its free blocks are set aside. What lies
///          there moves to the run in front of it that fits best, or is split over several.
#pragma once
#include <algorithm>
#include <atomic>
#include <cstdint>
#include <span>
#include <vector>

#include "../base/lazy_array.h"
#include "compactor.h"
#include "message_state.h"

namespace chainring {

namespace detail {

/// Chains that one move may leave: those of a message of most extents, and its list.
inline constexpr std::size_t old_of_a_move = message_table::extents_max + 1;

[[nodiscard]] inline bool meet(const chain& a, const chain& b) noexcept {
  return a.first < b.first + b.blocks && b.first < a.first + a.blocks;
}
/// Adds to a counter that only the calling thread writes.
inline void add(std::atomic<std::uint64_t>& count, std::uint64_t n = 1) noexcept {
  // [compactor-counts]
  count.store(count.load(std::memory_order_relaxed) + n, std::memory_order_relaxed);
}

} // namespace detail

struct message_compactor::state {
  enum class phase : std::uint8_t { begin, count, choose, move, settle };
  enum class kind : std::uint8_t { pack, roll, join, vacate };

  /// A part of the store that is to be emptied.
  struct victim {
    chain part;
    std::uint32_t whole = 0; ///< blocks of the messages that touch it
    double score = 0;
  };
  /// A move whose copies are made and not named yet.
  struct move {
    message_ref ref;
    message_word1 from, to;
    std::uint32_t from_list_crc = 0, to_list_crc = 0;
    std::uint32_t blocks = 0; ///< that were copied
  };
  /// A chain that its message does not name any more.
  struct old_chain {
    std::uint32_t index = 0;
    bool required = false; ///< an extent list
    chain place;
  };
  /// What can be moved out of a segment.
  struct content {
    std::uint32_t blocks; ///< of messages
    std::uint32_t whole;  ///< of the same messages, with what they have in other segments
    std::uint32_t split;  ///< those of messages that have several chains
  };

  message_table& table;
  block_store& blocks;
  compactor_options options;

  phase now = phase::begin;
  kind cycle;
  std::uint64_t at = 0;                ///< the next descriptor or segment of this phase
  detail::lazy_array<content> movable; ///< by segment
  std::vector<victim> victims;
  std::vector<chain> held;   ///< free runs of the victims
  chain reserve{};           ///< set aside for moves; between cycles too
  std::vector<move> batch;   ///< of this step
  std::uint64_t leaving = 0; ///< chains that the batch will leave
  std::vector<old_chain> old;
  std::vector<chain> extents;  ///< of a new list
  std::uint64_t undrained = 0; ///< bytes of copies that were flushed since the last drain
  std::uint64_t room = 0;      ///< blocks that the messages of all victims may need
  std::uint32_t longest = 0;   ///< blocks of the longest chain of a message
  std::uint64_t lists = 0;     ///< messages of several chains, as counted
  bool gate_shut = false;
  bool grace_begun = false;
  std::uint64_t stamp = 0;
  chain run{}; ///< the free run to which the reserve belongs
  // Of a pass of the gap.
  bool upward = true;
  bool edge_known = false;
  std::uint32_t edge = 0; ///< all between the gap and this block has made way
  unsigned vain = 0;      ///< passes in a row after which nothing could be joined
  // What a cycle is measured by.
  std::uint64_t runs_before = 0, refusals_before = 0, moved_before = 0, joined_before = 0;

  std::atomic<std::uint64_t> cycles{0}, moved{0}, moved_blocks{0}, joined{0}, no_room{0}, pinned{0},
      unsound{0}, gave_way{0}, reserved{0}, split{0};

  state(message_table& t, const compactor_options& o) noexcept
      : table(t), blocks(t.blocks_), options(o),
        cycle(o.ceiling_block != 0 ? kind::vacate : kind::pack) {}
  ~state();

  [[nodiscard]] message_table::state& shared() const noexcept { return *table.state_; }
  [[nodiscard]] std::uint64_t segments() const noexcept {
    return (blocks.block_count() + options.segment_blocks - 1) / options.segment_blocks;
  }
  /// The blocks of a segment; the last one may be shorter.
  [[nodiscard]] chain segment(std::uint64_t n) const noexcept {
    const std::uint64_t first = n * options.segment_blocks;
    return {static_cast<std::uint32_t>(first),
            static_cast<std::uint32_t>(
                std::min<std::uint64_t>(options.segment_blocks, blocks.block_count() - first))};
  }
  template <class F> void for_each_segment_of(const chain& c, F&& fn) const {
    const std::uint32_t size = options.segment_blocks;
    for (std::uint32_t first = c.first, end = c.first + c.blocks; first < end;) {
      const std::uint32_t n = first / size;
      const std::uint32_t part = std::min(end - first, (n + 1) * size - first);
      fn(n, part);
      first += part;
    }
  }
  /// Calls fn(chain) for each chain of a message. The caller has a reference if it has a list.
  template <class F> void for_each_chain(message_word1 word1, F&& fn) const {
    if (!word1.list) return fn(chain{word1.first, word1.count});
    const std::uint64_t bytes = std::uint64_t{word1.count} * sizeof(message_extent);
    fn(chain{word1.first, static_cast<std::uint32_t>(blocks.blocks_for(bytes))});
    const auto* extents = reinterpret_cast<const message_extent*>(blocks.address({word1.first, 1}));
    for (std::uint32_t i = 0; i < word1.count; ++i)
      fn(chain{extents[i].first, extents[i].blocks});
  }
  /// Calls fn(chain, required) for each chain that a message has left: those of `from` that `to`
  /// has not.
  template <class F> void for_each_old_chain(message_word1 from, message_word1 to, F&& fn) const {
    if (!from.list) return fn(chain{from.first, from.count}, false);
    const auto* now_named = reinterpret_cast<const message_extent*>(blocks.address({to.first, 1}));
    std::uint32_t n = 0;
    for_each_chain(from, [&](const chain& c) {
      const bool list = n++ == 0;
      // A list that was changed has an entry for each of the old one. Where a message was split
      // anew, no chain of the new list is one of the old.
      if (list || !to.list || n - 2 >= to.count || now_named[n - 2].first != c.first) fn(c, list);
    });
  }
  [[nodiscard]] bool in_victim(const chain& c) const noexcept {
    return std::any_of(victims.begin(), victims.end(),
                       [&](const victim& v) { return detail::meet(c, v.part); });
  }
  [[nodiscard]] bool in_victim(message_word1 word1) const noexcept {
    bool found = false;
    for_each_chain(word1, [&](const chain& c) { found = found || in_victim(c); });
    return found;
  }

  void begin() noexcept;
  void count(std::uint32_t descriptors) noexcept;
  void count_chain(const chain& c, std::uint32_t all, bool split) noexcept;
  void choose(std::uint32_t descriptors) noexcept;
  void consider(const chain& part, const content& c, const block_store_room& inside) noexcept;
  void choose_beside_gap() noexcept;
  void hold_victims() noexcept;
  void shut_gate() noexcept;
  void open_gate() noexcept;
  void sweep(const compaction_budget& budget) noexcept;
  [[nodiscard]] bool take_reference(std::uint32_t index) const noexcept;
  [[nodiscard]] std::uint32_t copy(std::uint32_t index) noexcept;
  [[nodiscard]] bool copy_to_one(const message_view& v, move& m) noexcept;
  [[nodiscard]] bool copy_some(const message_view& v, move& m) noexcept;
  [[nodiscard]] bool copy_below(const message_view& v, move& m) noexcept;
  [[nodiscard]] unsigned take_below(std::uint32_t wanted, std::span<chain> out) noexcept;
  [[nodiscard]] bool find_room(std::uint32_t wanted, message_word1 from, chain& out) noexcept;
  [[nodiscard]] bool take_of(chain& from, std::uint32_t wanted, chain& out) const noexcept;
  [[nodiscard]] bool fill(const message_view& v, std::span<const chain> to) noexcept;
  void flush_copy(const std::byte* from, std::uint64_t n) noexcept;
  void keep(const chain& c) noexcept;
  void keep(std::span<const chain> chains) noexcept;
  void name_copies() noexcept;
  [[nodiscard]] bool settle() noexcept;
  [[nodiscard]] bool finish() noexcept;
  [[nodiscard]] bool goes_on(std::uint64_t moves, std::uint64_t joins, std::uint64_t runs) noexcept;
  void return_room() noexcept;
  void take_reserve() noexcept;
};

} // namespace chainring
