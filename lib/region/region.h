// SPDX-License-Identifier: BSD-3-Clause
/// Regions: a media with superblocks, named areas and a block area; what everything durable lies
/// in.
///
/// **Durability:** create() leaves a region or nothing; open() changes the superblock only once it
/// has read and validated everything, and has made durable what it read. grow() changes the
/// superblock after the file has grown and is synced. Each is one superblock, written with its CRC
/// into the older of two places.
/// **Thread-safety:** marks and at() from any thread; the rest from one.
/// **Errors:** sentences that name file and object. A region refused is left untouched.
///
/// Example:
/// ```
/// chainring::region_options o;
/// o.media.path = "/var/lib/app/region";
/// o.media.size = 1ull << 30;
/// o.areas = {{"app.counters", 4096, 1}};
/// auto r = chainring::region::create(o);
/// auto counters = (*r)->root("app.counters");       // {offset, size}
/// ```
#pragma once
#include <array>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "../base/error.h"
#include "../media/media.h"

namespace chainring {

/// An area to lay out at create: zeroed, a multiple of lines.
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
  std::uint64_t size = 0;
  std::uint32_t version = 0;
};

struct region_geometry {
  std::uint64_t size = 0; ///< bytes
  std::uint32_t block_size = 0;
  std::uint64_t block_offset = 0; ///< a multiple of 4096
  std::uint64_t block_count = 0;
};

class region {
 public:
  [[nodiscard]] static result<std::unique_ptr<region>> create(const region_options& options);
  /// Opens; with options.size larger than the region, grows it.
  [[nodiscard]] static result<std::unique_ptr<region>> open(const media_options& options);
  /// The same over a media that is there already. `read_only`: nothing is stored.
  [[nodiscard]] static result<std::unique_ptr<region>> create_on(std::unique_ptr<media> on,
                                                                 const region_options& options);
  [[nodiscard]] static result<std::unique_ptr<region>> open_on(std::unique_ptr<media> on,
                                                               bool read_only);
  ~region();
  region(const region&) = delete;
  region& operator=(const region&) = delete;

  [[nodiscard]] media& on() noexcept { return *media_; }
  [[nodiscard]] std::byte* at(std::uint64_t offset) noexcept { return media_->base() + offset; }
  [[nodiscard]] const region_geometry& geometry() const noexcept { return geometry_; }
  [[nodiscard]] std::string uuid() const;
  /// Times the region was opened or created.
  [[nodiscard]] std::uint64_t incarnation() const noexcept { return incarnation_; }
  /// Whether the life before this one ended with close().
  [[nodiscard]] bool was_clean() const noexcept { return was_clean_; }
  /// Damage that was found and could be lived with, in sentences.
  [[nodiscard]] const std::vector<std::string>& notes() const noexcept { return notes_; }

  [[nodiscard]] result<region_root> root(std::string_view name) const;
  [[nodiscard]] std::span<const region_root> roots() const noexcept { return roots_; }

  [[nodiscard]] mark_t mark() noexcept { return media_->mark(); }
  [[nodiscard]] bool durable(mark_t m) noexcept { return media_->durable(m); }

  /// Grows to `size` bytes, rounded down to whole blocks; the blocks come behind those there are.
  [[nodiscard]] result<void> grow(std::uint64_t size);
  /// Everything durable, the superblock marked clean.
  [[nodiscard]] result<void> close();

 private:
  region() = default;
  struct loaded;
  void store_superblock(bool clean) noexcept;
  [[nodiscard]] result<void> load_roots();

  std::unique_ptr<media> media_;
  region_geometry geometry_;
  std::vector<region_root> roots_;
  std::vector<std::string> notes_;
  std::array<std::uint64_t, 2> uuid_{};
  std::uint64_t sequence_ = 0;
  std::uint64_t incarnation_ = 0;
  bool was_clean_ = true;
  bool read_only_ = false;
  bool closed_ = false;
};

} // namespace chainring
