// SPDX-License-Identifier: BSD-3-Clause
/// Regions: a medium with superblocks, named areas and a block area; what everything durable lies
/// in.
///
/// **Durability:** every call that changes the region is durable when it returns without an error.
/// create() leaves a region or nothing that opens. open() changes nothing until it has read,
/// validated and made durable what it read. grow() changes the superblock after the file has grown
/// and is synced. add_root() and add_range() are one commit each.
/// **Thread-safety:** at(), offset_of() and the marks from any thread; the rest from one, with
/// nobody reading the geometry or roots meanwhile.
/// **Errors:** sentences that name file, object and remedy. A region that is refused is untouched.
/// What is found damaged and can be lived with is told by notes().
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

/// An area to lay out at create: zeroed, rounded up to whole lines.
struct area_spec {
  std::string name; ///< 1 to 31 characters
  std::uint64_t size = 0;
  std::uint32_t version = 1; ///< of what lies in it, its owner's affair
};

struct region_options {
  media_options media;
  std::uint32_t block_size = 256; ///< 64 to 4096, a power of two
  std::vector<area_spec> areas;
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
  /// Makes a file and a region in it; refuses a path that exists. A failure leaves no file.
  [[nodiscard]] static result<std::unique_ptr<region>> create(const region_options& options);
  /// Opens. With options.size larger than the region, grows it; a smaller one is ignored, since a
  /// region never shrinks. With options.read_only nothing is stored, and a damaged root directory
  /// is noted, not refused.
  [[nodiscard]] static result<std::unique_ptr<region>> open(const media_options& options);
  /// The same over a medium that is there already. create_on() refuses one that holds a region, and
  /// clears what else it holds where that matters.
  [[nodiscard]] static result<std::unique_ptr<region>> create_on(std::unique_ptr<media> on,
                                                                 const region_options& options);
  [[nodiscard]] static result<std::unique_ptr<region>> open_on(std::unique_ptr<media> on,
                                                               bool read_only);
  /// Without close() this is what a crash is: the next open finds the region not clean.
  ~region();
  region(const region&) = delete;
  region& operator=(const region&) = delete;

  [[nodiscard]] media& medium() noexcept { return *media_; }
  [[nodiscard]] const media& medium() const noexcept { return *media_; }
  /// Unchecked: validate offsets read from media with contains().
  [[nodiscard]] std::byte* at(std::uint64_t offset) noexcept { return media_->base() + offset; }
  [[nodiscard]] const std::byte* at(std::uint64_t offset) const noexcept {
    return media_->base() + offset;
  }
  /// Of a pointer into the region.
  [[nodiscard]] std::uint64_t offset_of(const void* p) const noexcept {
    return static_cast<std::uint64_t>(static_cast<const std::byte*>(p) - media_->base());
  }
  /// Whether bytes [offset, offset + n) lie in the region; no pair of values overflows.
  [[nodiscard]] bool contains(std::uint64_t offset, std::uint64_t n) const noexcept {
    return offset <= geometry_.size && n <= geometry_.size - offset;
  }

  [[nodiscard]] const region_geometry& geometry() const noexcept { return geometry_; }
  [[nodiscard]] std::string uuid() const;
  /// Times the region was created or opened for writing, this one included.
  [[nodiscard]] std::uint64_t incarnation() const noexcept;
  /// Whether the life before this one ended with close().
  [[nodiscard]] bool was_clean() const noexcept { return was_clean_; }
  [[nodiscard]] bool read_only() const noexcept { return read_only_; }
  /// Damage that was found and could be lived with, in sentences.
  [[nodiscard]] const std::vector<std::string>& notes() const noexcept { return notes_; }

  [[nodiscard]] result<region_root> root(std::string_view name) const;
  /// All of them, areas first.
  [[nodiscard]] std::span<const region_root> roots() const noexcept { return roots_; }
  /// Names a range of the block area, such as a chain: it begins on a line and overlaps no other
  /// root. One commit; after a crash the root is there whole or not at all. `kind` is ignored.
  [[nodiscard]] result<void> add_root(const region_root& root);
  /// Names one more range of the block area for what `name` stands for, such as the next segment of
  /// a table that grows: the first is called `name`, further ones name#1, name#2 and so on. The
  /// caller has taken the blocks, and cleared and drained them, before; when this returns without an
  /// error the range is named durably, and before that a crash leaves the blocks free. At most
  /// root_directory_entries roots and a name of 31 characters with its number.
  [[nodiscard]] result<region_root> add_range(std::string_view name, std::uint32_t version,
                                              std::uint64_t offset, std::uint64_t size);
  /// All of them, in the order in which they were added; an area called `name` is the first.
  [[nodiscard]] std::vector<region_root> ranges(std::string_view name) const;

  [[nodiscard]] mark_t mark() noexcept { return media_->mark(); }
  [[nodiscard]] bool durable(mark_t m) noexcept { return media_->durable(m); }
  [[nodiscard]] bool wait(mark_t m) noexcept { return media_->wait(m); }
  [[nodiscard]] bool failed() const noexcept { return media_->failed(); }
  [[nodiscard]] bool has_room() const noexcept { return media_->has_room(); }
  /// Why it failed, in a sentence that names the file and, where memory was lost, the object that
  /// lay there; empty while it has not.
  [[nodiscard]] std::string why_failed() const;
  /// What became of the n-th page whose loss was tolerated (media::lost_page()), in such a
  /// sentence; empty: there is none, or it was not noted which.
  [[nodiscard]] std::string loss(std::uint64_t n) const;
  /// What lies at `offset`: "superblock A", "root 'sessions'", "block 7".
  [[nodiscard]] std::string object_at(std::uint64_t offset) const;

  /// Grows to `size` bytes at least; whole new blocks come behind those there are, and read as
  /// zero. Nothing to do where the region is that long already.
  [[nodiscard]] result<void> grow(std::uint64_t size);
  /// Everything durable, the superblocks marked clean, the medium closed: no pointer into it is
  /// good any more. What this process stored must be drained by then. Twice is harmless.
  [[nodiscard]] result<void> close();

 private:
  region();
  void take_geometry();
  void lay_out(const std::vector<region_root>& areas) noexcept;
  void store_root(std::uint32_t entry, const region_root& root) noexcept;
  void store_superblock(unsigned place) noexcept;
  bool commit() noexcept;
  [[nodiscard]] error write_failed() const;

  std::unique_ptr<media> media_;
  std::unique_ptr<superblock> super_; ///< what counts, with fields this build does not know
  unsigned place_ = 0;                ///< where it stands: 0 A, 1 B
  region_geometry geometry_;
  std::vector<region_root> roots_;
  std::vector<std::uint32_t> free_entries_; ///< of the directory, last first
  std::vector<std::string> notes_;
  bool was_clean_ = true;
  bool read_only_ = false;
  bool closed_ = false;
};

} // namespace chainring
