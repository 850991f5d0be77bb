// SPDX-License-Identifier: BSD-3-Clause
/// Compaction of a region that nobody serves: of a broker, or of named objects.
///
/// **When to use:** where `chainring-region info` or a broker's statistics show many free blocks
/// and no long run of them, and the region is not in use; and before a region becomes shorter
/// (salvage.h). **When not:** while a program serves the region: a broker compacts its own
/// (broker::compact()).
///
/// **How it works.** The region is opened as its owner opens it, and recovered, so that every live
/// block is known. Then message_compactor works until it finds nothing to do, on one table of
/// messages after the other. Rings, tables and values of maps stay where they are.
///
/// **Durability:** each message is whole, under its name, at every moment (message/compactor.h). A
/// crash at any point leaves a region that an open recovers; what was moved until then stays moved.
/// When a call returns without an error the region is closed, and everything is durable.
/// **What it leaves out:** what every open leaves out: sessions that end with their connection, and
/// expired ones. A damaged region is refused, because an open would give up what is damaged, and so
/// is one with objects of a type that this build does not know.
/// **Thread-safety:** one thread. The lock of region::open() keeps owners away.
/// **Complexity:** an open, and at most a few copies of each message.
#pragma once
#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "../base/error.h"
#include "../media/media.h"
#include "../message/compactor.h"
#include "../region/region.h"

namespace chainring {

/// What a region's blocks look like.
struct block_figures {
  std::uint64_t blocks = 0, free_blocks = 0;
  std::uint64_t free_runs = 0, longest_run = 0; ///< of free blocks
  std::uint64_t messages = 0, chains = 0;
  /// Chains a message; 1 where there is no message.
  [[nodiscard]] double chains_each() const noexcept {
    return messages == 0 ? 1 : static_cast<double>(chains) / static_cast<double>(messages);
  }
};

struct compaction_report {
  block_figures before, after;
  compactor_statistics done;      ///< over all tables of messages
  std::vector<std::string> notes; ///< of the recovery
};

/// Is told after each step what was done so far.
using compaction_listener = std::function<void(const compactor_statistics&)>;

/// Compacts the region at of.path. Of `of`, the path, the class and the driver count. Errors: those
/// of region::open(), corrupt, unsupported, and io where the medium fails meanwhile.
[[nodiscard]] result<compaction_report> compact_region(const media_options& of,
                                                       const compaction_listener& listener = {});
/// The same with a region that is open for writing, and whose damage an open may give up.
[[nodiscard]] result<compaction_report> compact_region(std::unique_ptr<region> in,
                                                       const compaction_listener& listener = {});

/// Moves messages away from the end of the region at of.path, so that nothing lies behind the first
/// `size` bytes, and shrink() can make it so short. Nothing else moves, unless the free blocks in
/// front must be joined. Does nothing where nothing lies there. Errors: as above; no_space where
/// something that cannot move lies there, or there is not enough room in front: the sentence names
/// it, and the size that is possible.
[[nodiscard]] result<compaction_report> empty_end(const media_options& of, std::uint64_t size,
                                                  const compaction_listener& listener = {});
[[nodiscard]] result<compaction_report> empty_end(std::unique_ptr<region> in, std::uint64_t size,
                                                  const compaction_listener& listener = {});

} // namespace chainring
