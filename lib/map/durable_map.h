// SPDX-License-Identifier: BSD-3-Clause
/// Durable map: byte-string keys to values of up to 16 bytes, in a table of one-line cells.
///
/// **Durability:** insert, update and erase are one commit word each, drained before the call
/// returns (with a drain more before it where the key is longer than 24 bytes) and before any
/// reader sees the change: no lookup returns a value that a crash would take back.
/// **Thread-safety:** get() from any thread, without a lock: it reads the index, whose entries are
/// under seqlocks of their own (seq_map.h). Changes from any thread, one at a time.
/// **Memory:** 64 bytes on media and about 60 in DRAM a cell; keys over 24 bytes take a chain.
/// **Media is untrusted:** recover() leaves out, and names, cells that are not valid.
///
///     auto map = durable_map::create(media, offset, 1024, blocks);
///     (*map)->upsert(as_bytes(key), as_bytes(value));     // done, or full
#pragma once
#include <array>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <mutex>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "../base/error.h"
#include "../chain/block_store.h"
#include "../media/media.h"
#include "map_media.h"
#include "map_status.h"
#include "seq_map.h"

namespace chainring {

struct map_recovery {
  std::uint64_t entries = 0; ///< cells that are served
  std::uint64_t voided = 0;  ///< erased because the filter did not want them
  std::uint64_t damaged = 0;
  std::vector<std::string> notes; ///< damage, in sentences that name the cell; the first 100
};

struct map_value {
  std::array<std::byte, map_value_max> bytes{};
  std::size_t size = 0;
};

class durable_map {
 public:
  using key_span = std::span<const std::byte>;

  /// Over `cells` cells from `offset` (a multiple of 64) of the media, zero when the region was
  /// made. `blocks` and the media outlive the map. Empty so far: recover() comes next, or start().
  static result<std::unique_ptr<durable_map>> create(media& on, std::uint64_t offset,
                                                     std::uint64_t cells, block_store& blocks);

  map_status insert(key_span key, std::span<const std::byte> value) noexcept;
  map_status update(key_span key, std::span<const std::byte> value) noexcept;
  map_status upsert(key_span key, std::span<const std::byte> value) noexcept;
  map_status erase(key_span key) noexcept;
  [[nodiscard]] std::optional<map_value> get(key_span key) const noexcept;
  [[nodiscard]] bool contains(key_span key) const noexcept { return get(key).has_value(); }
  /// Calls fn(key, value) for each entry; changes wait meanwhile.
  void for_each(const std::function<void(key_span, std::span<const std::byte>)>& fn) const;
  [[nodiscard]] std::uint64_t len() const noexcept { return index_->len(); }
  [[nodiscard]] std::uint64_t capacity() const noexcept { return count_; }

  /// Makes durable what recovery will read; the caller drains.
  void persist_as_read() noexcept;
  /// Rebuilds the index, erasing each record that wanted(key) is false for; between the block
  /// store's begin_recovery() and finish_recovery(). Flushes; the caller drains before anything is
  /// allocated.
  map_recovery recover(const std::function<bool(key_span)>& wanted = {});
  /// Changes nothing: the notes recover() would give.
  [[nodiscard]] map_recovery check() const;

 private:
  struct entry {
    std::uint32_t cell = 0;
    std::uint32_t value_size = 0;
    std::array<std::byte, map_value_max> value{};
  };
  durable_map(media& on, map_cell* cells, std::uint64_t count, block_store& blocks);
  [[nodiscard]] std::uint64_t hash(key_span key) const noexcept;
  [[nodiscard]] bool same_key(std::uint32_t cell, key_span key) const noexcept;
  [[nodiscard]] const char* examine(std::uint64_t cell) const noexcept;
  [[nodiscard]] key_span key_at(std::uint64_t cell,
                                std::array<std::byte, map_key_inline>& copy) const noexcept;
  map_status put(key_span key, std::span<const std::byte> value, bool may_insert,
                 bool may_update) noexcept;
  map_status store_new(std::uint64_t hashed, key_span key,
                       std::span<const std::byte> value) noexcept;

  media& media_;
  map_cell* cells_;
  std::uint64_t count_;
  block_store& blocks_;
  std::uint64_t seed_;
  std::unique_ptr<seq_map<std::uint64_t, entry>> index_;
  mutable std::mutex writer_;
  std::vector<std::uint32_t> free_;
};

} // namespace chainring
