// SPDX-License-Identifier: BSD-3-Clause
/// Regions: everything durable lies in a region, a medium with superblocks, named areas and a block
/// area.
///
/// **Durability:** every call that changes the region is durable when it returns without an error.
/// create() leaves a region or nothing that can be opened. open() changes nothing until it has read
/// and validated the metadata and made durable what it read. grow() changes the superblock after
/// the file has grown and is synced. add_root() and add_range() are one commit each.
/// **Thread-safety:** at(), offset_of() and the marks may be used from any thread. All other calls
/// come from one thread, while no other thread reads the geometry or the roots.
/// **Errors:** sentences that name the file, the object and the remedy. A region that is refused
/// stays untouched. notes() lists damage that does not prevent the region from being served.
///
/// Example:
/// ```
/// chainring::region_options o;
/// o.media.path = "/var/lib/app/region";
/// o.media.size = 1ull << 30;
/// o.areas = {{"app.counters", 4096, 1}};
/// auto r = chainring::region::create(o);
/// auto counters = (*r)->root("app.counters");       // {name, offset, size, version}
/// auto* first = reinterpret_cast<std::uint64_t*>((*r)->at(counters->offset));
/// (*r)->medium().store(first, 1);
/// (*r)->medium().flush(first, 8);
/// (*r)->medium().drain();
/// (*r)->wait((*r)->mark());                          // now it survives
/// ```
#pragma once
#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "../base/error.h"
#include "../media/media.h"
#include "region_media.h"

namespace chainring {

/// An area that create() lays out. It is zeroed, and its size is rounded up to whole lines.
struct area_spec {
  std::string name; ///< 1 to 31 characters
  std::uint64_t size = 0;
  std::uint32_t version = 1; ///< version of the content, which its owner defines
};

struct region_options {
  media_options media;
  std::uint32_t block_size = 256; ///< 64 to 4096, a power of two
  std::vector<area_spec> areas;
  /// Nothing opens the region until the one that made it has called close(). For what is a region
  /// only when it is complete, such as a copy.
  bool unfinished = false;
};

/// A named range of a region.
struct region_root {
  std::string name;
  std::uint64_t offset = 0;
  std::uint64_t size = 0; ///< bytes
  std::uint32_t version = 0;
  root_kind kind = root_kind::area;
};

struct region_geometry {
  std::uint64_t size = 0; ///< bytes
  std::uint32_t block_size = 0;
  std::uint64_t block_offset = 0; ///< a multiple of 4096
  std::uint64_t block_count = 0;
};

class region {
 public:
  /// Returns the size of a region with these areas and blocks of `block_bytes` bytes in all.
  [[nodiscard]] static std::uint64_t bytes_for(std::span<const area_spec> areas,
                                               std::uint32_t block_size,
                                               std::uint64_t block_bytes) noexcept;
  /// Makes a file and a region in it. Refuses a path that exists. A failure leaves no file behind.
  [[nodiscard]] static result<std::unique_ptr<region>> create(const region_options& options);
  /// Opens a region. If options.size is larger than the region, the region grows; a smaller size is
  /// ignored, because a region never shrinks. With options.read_only nothing is stored, and a
  /// damaged root directory is noted and not refused.
  [[nodiscard]] static result<std::unique_ptr<region>> open(const media_options& options);
  /// Attaches to a region for a look, whether or not another process has it open: beside a running
  /// owner, or from a DPDK secondary process.
  ///
  /// **When to use:** to inspect what a running program keeps, with lib/inspect. **When not:** to
  /// judge damage, or to copy a region: that needs an open(), whose lock keeps owners away.
  ///
  /// Nothing is written, no lock is taken, and the owner does not notice. In class `file` the look
  /// is a private copy of what the file held at one moment, which some drain() left; the last
  /// drains before it may not be durable yet. In every other class it is the owner's memory, mapped
  /// for reading only. Any byte may change while it is read, also between two readings of the same
  /// word, and what is seen may not be durable. So it is a look and no snapshot, unless nobody has
  /// the region open. Copy what you judge (lib/inspect does), bound it, and use none of the
  /// library's structures on the region: they trust that nobody else stores.
  ///
  /// Geometry, roots and was_clean() are those of the moment of the call; attach again to see a
  /// growth. options.size is ignored. Errors: those of a read-only open(), and errc::busy where the
  /// file changes faster than it can be copied.
  /// **Thread-safety:** as for open(); any number of threads and processes may be attached.
  [[nodiscard]] static result<std::unique_ptr<region>> attach(const media_options& options);
  /// As create() and open(), over a medium that exists already. create_on() refuses a medium that
  /// holds a region, and clears other content where it could be taken for metadata.
  [[nodiscard]] static result<std::unique_ptr<region>> create_on(std::unique_ptr<media> backing,
                                                                 const region_options& options);
  [[nodiscard]] static result<std::unique_ptr<region>> open_on(std::unique_ptr<media> backing,
                                                               bool read_only);
  /// As attach(), over a medium to which an owner may be storing. The medium must be as long as the
  /// region is.
  [[nodiscard]] static result<std::unique_ptr<region>> attach_on(std::unique_ptr<media> backing);
  /// A destruction without close() has the effect of a crash: the next open finds the region not
  /// clean.
  ~region();
  region(const region&) = delete;
  region& operator=(const region&) = delete;

  [[nodiscard]] media& medium() noexcept { return *media_; }
  [[nodiscard]] const media& medium() const noexcept { return *media_; }
  /// The address of an offset. It is not checked: validate offsets read from media with contains().
  [[nodiscard]] std::byte* at(std::uint64_t offset) noexcept { return media_->base() + offset; }
  [[nodiscard]] const std::byte* at(std::uint64_t offset) const noexcept {
    return media_->base() + offset;
  }
  /// The offset of a pointer into the region.
  [[nodiscard]] std::uint64_t offset_of(const void* p) const noexcept {
    return static_cast<std::uint64_t>(static_cast<const std::byte*>(p) - media_->base());
  }
  /// True if the bytes [offset, offset + n) lie in the region. No pair of values overflows.
  [[nodiscard]] bool contains(std::uint64_t offset, std::uint64_t n) const noexcept {
    return offset <= geometry_.size && n <= geometry_.size - offset;
  }

  [[nodiscard]] const region_geometry& geometry() const noexcept { return geometry_; }
  [[nodiscard]] std::string uuid() const;
  /// How many times the region was created or opened for writing, this time included.
  [[nodiscard]] std::uint64_t incarnation() const noexcept;
  /// True if the last process that opened the region for writing ended with close().
  [[nodiscard]] bool was_clean() const noexcept { return was_clean_; }
  [[nodiscard]] bool read_only() const noexcept { return read_only_; }
  /// True if another process may be changing what lies in the region (attach()).
  [[nodiscard]] bool attached() const noexcept { return attached_; }
  /// Damage that was found and does not prevent the region from being served, in sentences.
  [[nodiscard]] const std::vector<std::string>& notes() const noexcept { return notes_; }

  [[nodiscard]] result<region_root> root(std::string_view name) const;
  /// All roots, areas first.
  [[nodiscard]] std::span<const region_root> roots() const noexcept { return roots_; }
  /// Names a range of the block area, such as a chain. The range begins on a line and overlaps no
  /// other root. This is one commit: after a crash the root is there whole or not at all. `kind` is
  /// ignored.
  [[nodiscard]] result<void> add_root(const region_root& root);
  /// Names one more range of the block area under `name`, such as the next segment of a table that
  /// grows. The first range is called `name`, further ones name#1, name#2 and so on. The caller
  /// must have taken the blocks, and cleared and drained them. When this returns without an error
  /// the range is named durably; a crash before that leaves the blocks free. There can be at most
  /// root_directory_entries roots, and a name with its number has at most 31 characters.
  [[nodiscard]] result<region_root> add_range(std::string_view name, std::uint32_t version,
                                              std::uint64_t offset, std::uint64_t size);
  /// All ranges of `name`, in the order in which they were added. An area called `name` is the
  /// first.
  [[nodiscard]] std::vector<region_root> ranges(std::string_view name) const;

  [[nodiscard]] mark_t mark() noexcept { return media_->mark(); }
  [[nodiscard]] bool durable(mark_t m) noexcept { return media_->durable(m); }
  [[nodiscard]] bool wait(mark_t m) noexcept { return media_->wait(m); }
  [[nodiscard]] bool failed() const noexcept { return media_->failed(); }
  [[nodiscard]] bool has_room() const noexcept { return media_->has_room(); }
  /// Says why the region failed, in a sentence that names the file and, if memory was lost, the
  /// object that lay there. Empty while the region has not failed.
  [[nodiscard]] std::string why_failed() const;
  /// Says in such a sentence what the loss of the n-th tolerated page means (media::lost_page()).
  /// Empty if there is no such page, or its place was not noted.
  [[nodiscard]] std::string loss(std::uint64_t n) const;
  /// Names what lies at `offset`: "superblock A", "root 'sessions'", "block 7".
  [[nodiscard]] std::string object_at(std::uint64_t offset) const;

  /// Grows the region to at least `size` bytes. The new whole blocks follow the existing ones and
  /// read as zero. Does nothing if the region is that long already.
  [[nodiscard]] result<void> grow(std::uint64_t size);
  /// Makes everything durable, marks the superblocks clean and closes the medium. Every pointer
  /// into the region is invalid afterwards. What this process stored must be drained before. A
  /// second call is harmless.
  [[nodiscard]] result<void> close();

 private:
  region();
  [[nodiscard]] static result<std::unique_ptr<region>> begin_open(std::unique_ptr<media> backing,
                                                                  bool read_only);
  [[nodiscard]] result<void> read_superblocks();
  [[nodiscard]] std::vector<std::string> read_directory();
  void note(const std::vector<std::string>& damage);
  void take_geometry();
  void lay_out(const std::vector<region_root>& areas) noexcept;
  void store_root(std::uint32_t entry, const region_root& root) noexcept;
  void store_superblock(unsigned place) noexcept;
  bool commit() noexcept;
  [[nodiscard]] error write_failed() const;

  std::unique_ptr<media> media_;
  /// the superblock that counts, including fields that this build does not know
  std::unique_ptr<superblock> super_;
  unsigned place_ = 0; ///< where it stands: 0 is A, 1 is B
  region_geometry geometry_;
  std::vector<region_root> roots_;
  std::vector<std::uint32_t> free_entries_; ///< of the directory, the lowest at the back
  std::vector<std::string> notes_;
  bool was_clean_ = true;
  bool read_only_ = false;
  bool attached_ = false;
  bool closed_ = false;
};

} // namespace chainring
