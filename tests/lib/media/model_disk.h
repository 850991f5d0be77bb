// SPDX-License-Identifier: BSD-3-Clause
/// A file whose page cache and disk are kept apart, for crashes and failures of the journal.
#pragma once
#include <array>
#include <cerrno>
#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <vector>

#include "media/block_file.h"
#include "media/file/file_media.h"

namespace chainring::test {

using file_bytes = std::vector<std::byte>;

/// Writes reach the page cache at once, and the disk sector by sector. After a power cut each
/// sector of 512 bytes holds what the last sync put there or any of its versions since,
/// independently of all other sectors. A failed sync leaves the page cache clean and the disk
/// without the writes, as Linux does, and no later sync writes them. Single-threaded.
class model_disk {
 public:
  enum class fault : std::uint8_t { none, eio, enospc, short_then_eio, nothing_moves };

  explicit model_disk(file_bytes content = {}) : visible_(content), durable_(std::move(content)) {}

  /// Opens a description of the file. The disk must outlive it.
  [[nodiscard]] std::unique_ptr<block_file> open();

  [[nodiscard]] const file_bytes& visible() const { return visible_; }
  /// Calls `check` with what a power cut may leave now. If there are at most `exhaustive_max`
  /// combinations it tries all of them; otherwise none, all, all but one, one alone, and `random`
  /// seeded choices.
  void each_crash(std::uint64_t seed, std::size_t exhaustive_max, std::size_t random,
                  const std::function<void(const file_bytes&)>& check) const;

  /// Asked before each write, sync and allocation: after `false` it succeeds and does nothing.
  std::function<bool()> allows;
  /// Called before each sync takes effect.
  std::function<void()> before_sync;
  /// Called when a durable write has written and not synced yet.
  std::function<void()> after_journal_write;

  // --- faults -----------------------------------------------------------------------------------
  /// Writes, syncs and allocations so far. Reads are not counted.
  std::uint64_t changes = 0;
  /// The number of the change that fails, from 0, and the way in which it fails.
  std::uint64_t fail_at = UINT64_MAX;
  fault how = fault::none;
  /// If true, reads fail from now on.
  bool fail_reads = false;

 private:
  static constexpr std::uint64_t sector_size = 512;
  using sector = std::array<std::byte, sector_size>;
  struct view;

  bool fails() { return changes++ == fail_at; }
  void put(std::uint64_t offset, const void* from, std::size_t n);
  void resize(std::uint64_t from, std::uint64_t to);
  void remember(std::uint64_t sector_index);
  void settle();
  void harden(std::uint64_t sector_index, const sector& content);
  /// `choice[i]` is 0 for the durable content of the i-th pending sector, and n for its n-th
  /// version.
  [[nodiscard]] file_bytes state(const std::vector<std::size_t>& choice) const;

  file_bytes visible_, durable_;
  std::map<std::uint64_t, std::vector<sector>> pending_;
};

/// The parts of a file_media that a test drives by hand.
inline file_parts parts_on(model_disk& disk) {
  static std::uint64_t salts = 0;
  file_parts p;
  p.journal = disk.open();
  p.image = disk.open();
  p.file_bytes = disk.visible().size();
  p.draw_salt = [] { return ++salts; };
  p.threads = false;
  return p;
}

} // namespace chainring::test
