// SPDX-License-Identifier: BSD-3-Clause
/// The region in which the pools of the mempool driver lie, and the places of a pool's objects in
/// it.
///
/// A setting says which region it is. It is the value of CHAINRING_MEMPOOL_REGION:
///
/// | setting     | region                                                                      |
/// |-------------|-----------------------------------------------------------------------------|
/// | `PATH,SIZE` | the one at PATH; it is made if there is none, and grown if it is smaller     |
/// | `PATH`      | the one at PATH, which must exist                                           |
/// | `,SIZE`     | memory of this process                                                      |
/// | empty       | as `,1G`; the memory is taken as pools are made                              |
///
/// **Durability:** none is needed. Objects of pools are scratch: an open of the region finds all of
/// its blocks free. So the region must be the driver's own, and one that holds anything else is
/// refused.
/// **Thread-safety:** none but that of block_store; the driver holds a lock around it.
/// **Errors:** sentences that name the setting, the region and the remedy.
#pragma once
#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "base/error.h"
#include "block/block_store.h"
#include "region/region.h"

namespace chainring::mempool {

class pool_region {
 public:
  static constexpr std::uint32_t block_size = 4096;
  static constexpr std::uint64_t memory_size = std::uint64_t{1} << 30;

  /// Opens the region of a setting, or makes it.
  [[nodiscard]] static result<std::unique_ptr<pool_region>> open(const std::string& setting);
  /// Closes the region. Every pool_places must be gone.
  ~pool_region();
  pool_region(const pool_region&) = delete;
  pool_region& operator=(const pool_region&) = delete;

  [[nodiscard]] block_store& blocks() noexcept { return *blocks_; }
  [[nodiscard]] const std::string& path() const noexcept { return region_->medium().path(); }

 private:
  pool_region(std::unique_ptr<region> r, std::unique_ptr<block_store> b) noexcept
      : region_(std::move(r)), blocks_(std::move(b)) {}

  std::unique_ptr<region> region_;
  std::unique_ptr<block_store> blocks_;
};

/// Says whether one object may lie at [at, at + bytes): a device, for example, needs memory whose
/// bus addresses are contiguous.
using place_check = std::function<bool(const std::byte* at, std::size_t bytes)>;

/// The blocks of one pool, and where its objects begin.
class pool_places {
 public:
  /// Takes blocks for `count` objects of `bytes` bytes each, a multiple of 64, or takes nothing.
  /// The objects lie one behind another on as few and as long chains as there are. Where `usable`
  /// refuses a place, the object goes to the beginning of the next page.
  [[nodiscard]] static result<std::unique_ptr<pool_places>>
  take(pool_region& from, std::uint32_t count, std::size_t bytes, const place_check& usable = {});
  /// Gives the blocks back.
  ~pool_places();
  pool_places(const pool_places&) = delete;
  pool_places& operator=(const pool_places&) = delete;

  [[nodiscard]] const std::vector<std::byte*>& starts() const noexcept { return starts_; }

 private:
  explicit pool_places(block_store& blocks) noexcept : blocks_(blocks) {}
  [[nodiscard]] bool fill(std::uint32_t count, std::size_t bytes, const place_check& usable);

  block_store& blocks_;
  std::vector<chain> chains_;
  std::vector<std::byte*> starts_;
};

} // namespace chainring::mempool
