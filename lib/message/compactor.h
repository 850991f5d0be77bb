// SPDX-License-Identifier: BSD-3-Clause
/// Compactor: moves messages together, so that the free blocks of a store form long runs again.
///
/// A store that has served messages of many sizes for long may have a lot of free blocks and no
/// long run of them. Requests are then met by many short chains, which cost a list and several
/// copies each, or not at all. The compactor looks at the store in *segments* of equal length,
/// chooses those where moving the fewest blocks joins the most free ones, and moves the messages of
/// these segments into holes elsewhere. It also gives one chain to messages that have several: if
/// that cannot be had so, it rolls a gap through the store until all holes have joined it.
///
/// **When to use:** in a store from which messages of different sizes come and go, when
/// block_store_statistics::fragmentation is high. **When not:** where all messages have one size:
/// every hole fits.
///
/// One thread calls step() as often as it likes, such as an rte_service or the loop of a control
/// thread. A step does a bounded amount of work and never waits: where other threads must first be
/// done with old places, a later step looks again. All other threads may use the table and the
/// store meanwhile. They have two duties: bytes of messages are used inside a
/// message_table::reading, or pinned; and the blocks of a message are found by view(), and not
/// remembered.
///
/// **Durability:** a message stays whole, under its name, at every moment. The copy is drained
/// before the message names it, and the old blocks are free only when the new name is drained and
/// nobody reads them any more. A crash leaves the message at one of the two places, and the other
/// is free after recovery; so repeated crashes leave no copies behind. A step that moves something
/// costs two drains.
///
/// **Room:** the compactor needs no free room beside the holes. It sets a small reserve aside as
/// soon as it can (compactor_options::reserve_blocks), with which it goes on where no hole is large
/// enough. While a cycle lasts, the free blocks of its victims and the old places of messages are
/// set aside as well; when a request of somebody else is refused, the cycle ends early and gives
/// them back.
///
/// **What it leaves where it is:** messages that are pinned, whose content fails its CRC32C, or
/// that are not published; chains of other owners, such as rings and values of maps. A store that
/// has lost memory (media::losses()) is not compacted.
///
/// **The end of a store** can be emptied instead, before the store becomes shorter
/// (compactor_options::ceiling_block).
///
/// **Complexity:** a cycle looks at every descriptor at most twice and at a bit of every block. A
/// pass of the gap copies each message once.
/// **Memory:** 12 bytes for each segment, and 20 for each block of the victims of one cycle.
/// **Thread-safety:** one thread at a time; statistics() from any thread.
///
///     auto compactor = chainring::message_compactor::create(table).value();
///     while (compactor->step({}) != chainring::compaction::idle) ...   // or now and then
#pragma once
#include <atomic>
#include <cstdint>
#include <memory>

#include "../base/error.h"
#include "message.h"

namespace chainring {

struct compactor_options {
  /// Blocks of a segment, from 16; 0 stands for 2 MiB of them, at most 1/64 of the store.
  std::uint32_t segment_blocks = 0;
  /// Most segments that one cycle empties, 1 to 64.
  std::uint32_t victims = 8;
  /// Blocks that are set aside for moves; 0 stands for two segments, at most 1/32 of the store.
  /// They count as live in the statistics of the store.
  std::uint32_t reserve_blocks = 0;
  /// 0: messages are moved together. Otherwise the end of the store is emptied, and nothing else:
  /// messages that have a block from this one on move to blocks in front of it, and one for which
  /// no run is long enough is split over several. Then `segment_blocks`, `victims` and
  /// `reserve_blocks` mean nothing. step() is idle where nothing more can be moved. The compactor
  /// keeps free blocks of the end aside only while a cycle lasts.
  std::uint32_t ceiling_block = 0;
};

/// How much one step may do. What exceeds a budget by a part of an item is still done.
struct compaction_budget {
  std::uint32_t descriptors = 4096; ///< looked at
  std::uint32_t blocks = 1024;      ///< copied
};

/// What a step has found.
enum class compaction : std::uint8_t {
  idle,    ///< there is nothing to improve: the next step begins to look from the start
  working, ///< there is more to do
  waiting, ///< other threads still read old places, or the medium has no room (has_room())
};

struct compactor_statistics {
  std::uint64_t cycles = 0;
  std::uint64_t moved = 0;        ///< messages
  std::uint64_t moved_blocks = 0; ///< of content
  std::uint64_t joined = 0;       ///< messages that had several chains and have one now
  std::uint64_t split = 0;        ///< messages that were moved to several chains each
  std::uint64_t no_room = 0;      ///< moves for which no run was long enough
  std::uint64_t pinned = 0;       ///< moves that a pin forbade
  std::uint64_t unsound = 0;      ///< moves not made because the content fails its CRC32C
  std::uint64_t gave_way = 0;     ///< cycles that ended early because a request was refused
  std::uint64_t reserve = 0;      ///< blocks set aside at present, between cycles

  /// What two compactors did, of which `b` is the later one. The reserve is that of `b`.
  [[nodiscard]] friend compactor_statistics operator+(const compactor_statistics& a,
                                                      const compactor_statistics& b) noexcept {
    return {a.cycles + b.cycles,
            a.moved + b.moved,
            a.moved_blocks + b.moved_blocks,
            a.joined + b.joined,
            a.split + b.split,
            a.no_room + b.no_room,
            a.pinned + b.pinned,
            a.unsound + b.unsound,
            a.gave_way + b.gave_way,
            b.reserve};
  }
};

class message_compactor {
 public:
  /// Makes the compactor of a table that is not being recovered. Table and store must outlive it.
  /// An error names the option; a table that has a compactor already gives errc::busy.
  static result<std::unique_ptr<message_compactor>> create(message_table& table,
                                                           compactor_options options = {});
  /// Waits until no thread reads an old place, and gives back all that was set aside. No message
  /// is pinned then.
  ~message_compactor();
  message_compactor(const message_compactor&) = delete;
  message_compactor& operator=(const message_compactor&) = delete;

  /// Does some work, and says whether there is more. A cycle that improves nothing is the last one:
  /// a caller that steps until `idle` always comes to an end, if the other threads rest.
  compaction step(compaction_budget budget) noexcept;
  [[nodiscard]] compactor_statistics statistics() const noexcept;

 private:
  struct state;
  explicit message_compactor(std::unique_ptr<state> s) noexcept;
  std::unique_ptr<state> state_;
};

} // namespace chainring
