// SPDX-License-Identifier: BSD-3-Clause
/// Salvage: copies what is intact out of a damaged region into a new one, and names what was lost.
///
/// **When to use:** where an open refuses a region, or `chainring-region check` finds damage, and
/// what is left is to be served from a region without damage. **When not:** for a backup of an
/// intact region, which is a copy of its file.
///
/// **How it works.** The new region has the same size, blocks and areas as the damaged one, so
/// every record keeps its place, its number and its blocks, and with them its checks. Everything is
/// copied; then each record is judged as in inspect.h, and what is not valid is made free. At last
/// the ordinary recovery of an open runs over the new region. It decides what belongs together: it
/// ends what only a damaged record kept, and leaves out what an open leaves out anyway, such as
/// sessions that end with their connection. What was lost is found by a look before and a look
/// after.
///
/// **What it covers.** One superblock may be damaged, and any records. Of a broker: sessions,
/// groups, their queues, subscriptions, retained messages and messages. A damaged entry of the root
/// directory that names one of a broker's areas is restored from its neighbours' places, where no
/// two of them adjoin. Named objects: maps, multimaps, bimaps and queues. The content of areas that
/// are not a broker's, and of objects of a type that this build does not know, is copied as it is.
/// **What it does not cover.** A region without a valid superblock, a container of class `file`
/// without a valid header, and a file that was cut short: an open refuses them, and so does this.
/// An object whose header or whose entry of the directory is damaged is lost, and so are table
/// segments behind a lost one. The entries of a queue whose record is damaged are lost, because
/// nothing says which of them its consumer had already.
///
/// **The source** is only read. **The target** is new; it appears under its name when it is
/// complete and durable, and closed. A process that dies before that leaves `PATH.partial`, which
/// nothing opens, because its superblocks say that it is unfinished; remove it.
/// **Thread-safety:** one thread; the source must be quiet, which the lock of open() ensures.
#pragma once
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "../media/media.h"
#include "../region/region.h"

namespace chainring {

/// What became of one kind of record.
struct salvaged_kind {
  std::string of;            ///< "sessions", "entries of object 'jobs'"
  std::uint64_t arrived = 0; ///< valid in the new region
  std::uint64_t lost = 0;    ///< damaged, or valid in the source and not in the new region
};

struct salvage_report {
  std::vector<salvaged_kind> kinds;
  std::vector<std::string> lost;  ///< sentences that name what was lost
  std::vector<std::string> notes; ///< about what was restored, or copied without being judged
  /// True if everything that the source named arrived.
  [[nodiscard]] bool complete() const noexcept;
};

/// Salvages `from`, which was opened for reading only, into a new region at to.path. Of `to`, the
/// path, the class, the driver and the journal's size count. Errors: exists, no_space, and those of
/// create(); then there is no new region.
[[nodiscard]] result<salvage_report> salvage(const region& from, const media_options& to);
/// The same into a medium that reads as zero. What names a block behind its end is lost.
[[nodiscard]] result<salvage_report> salvage_on(const region& from, std::unique_ptr<media> to);

/// Makes a region shorter: salvages `from`, a file that was opened for reading only, into a new
/// file of `size` bytes, and puts that in the place of the old one by one rename. Nothing moves, so
/// this is possible where everything lies in front of the new end, as empty_end() (compact.h) makes
/// it; areas and tables keep their size. If anything would be lost, also by damage, the old file
/// stays and the error is no_space. At any crash the path names the old file or the new one, whole
/// and durable. `from` still reads the old file afterwards, and its lock keeps owners away until it
/// is closed.
[[nodiscard]] result<salvage_report> shrink(const region& from, std::uint64_t size);

} // namespace chainring
