// SPDX-License-Identifier: BSD-3-Clause
/// A durable set of pairs of byte strings that are found by their first half, or by either half.
/// multimap.h has typed views of it: several values under one key, and relations in two directions.
///
/// **When to use:** facts of the kind "this client has that topic", of which one key has several,
/// and which must survive a crash. **When not:** one value for each key (durable_map.h); pairs that
/// can be rebuilt.
///
/// **On media** each pair is one entry of a durable_map, which holds nothing else: the key is the
/// size of the first half (4 bytes, little endian), the first half and the second half, and the
/// value is empty. So each change of a pair is one commit word, for both directions, and
/// everything that durable_map.h says about crashes and damaged cells holds for pairs. What finds
/// the pairs of a half lies in DRAM, and rebuild() makes it anew.
///
/// **Durability:** a call returns when its change is durable, or the changes of a batch are durable
/// after commit(). No listing ever has a pair, or misses one, that a crash would take back. A batch
/// is atomic for each pair, not as a whole. A medium that has failed keeps nothing more, as
/// durable_map.h says.
///
/// **Thread-safety:** any thread may make any call, except create, rebuild and destruction. A
/// listing takes no lock, unless writers have interfered sixteen times; it never waits for a drain.
/// Keys share 256 stripes, and writers and listings of one stripe may meet. A thread has at most
/// one batch open, and makes no other change of the pairs meanwhile. Callbacks of for_each_with()
/// run when the listing is complete, and may make any call; that of for_each() must not change
/// pairs.
///
/// **Consistency:** a listing is what one key had at one moment, and a pair appears in both
/// directions at the same moment. Listings may know of a change an instant before contains() and
/// for_each() do, while the call that makes the change still runs.
///
/// **Complexity:** insert and erase are O(1) on average, and contains is O(1); a listing is O(pairs
/// of its key) on average. Each time the number of pairs doubles, one insert of that time moves the
/// pairs of a key that has very many, and whoever comes to its stripe meanwhile waits.
/// **Memory:** 64 bytes of media for each pair, and blocks for one with more than 20 bytes in its
/// halves; 32 bytes of DRAM for each pair and 4 for each direction, beside those of the map.
/// Listings allocate room for what they find.
///
///     auto pairs = durable_pairs::create(map, true).value();   // then rebuild(), after recovery
///     pairs->insert(bytes_of("client"), bytes_of("topic"));
///     pairs->for_each_with(pair_half::second, bytes_of("topic"), [](auto client) { ... });
#pragma once
#include <array>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <span>

#include "durable_map.h"

namespace chainring {

enum class pair_half : std::uint8_t { first, second };

class durable_pairs {
 public:
  using byte_span = std::span<const std::byte>;
  class batch;

  /// The most bytes that both halves of a pair have together.
  static constexpr std::size_t bytes_max = map_key_max - 4;

  /// `records` outlives the object, is changed through it only, and holds pairs only. `by_second`
  /// says that pairs are found by their second half, too. There is not enough memory: no_space.
  [[nodiscard]] static result<std::unique_ptr<durable_pairs>> create(durable_map& records,
                                                                     bool by_second);
  /// No batch is open and no call is running.
  ~durable_pairs();
  durable_pairs(const durable_pairs&) = delete;
  durable_pairs& operator=(const durable_pairs&) = delete;

  /// Finds the pairs of the map. One thread calls it, once, after the map has recovered.
  void rebuild();

  [[nodiscard]] durable_map& records() const noexcept;
  [[nodiscard]] bool contains(byte_span first, byte_span second) const;
  /// Calls fn with the other half of each pair whose half `by` is `key`. `by` is `first`, unless
  /// the pairs are found by their second half, too. fn may throw; nothing is held while it runs.
  void for_each_with(pair_half by, byte_span key, const std::function<void(byte_span)>& fn) const;
  /// The number of these pairs, in O(that number).
  [[nodiscard]] std::uint64_t count_with(pair_half by, byte_span key) const;
  /// Counts the entries of the map that are no pair with halves of so many bytes; 0 stands for any
  /// number. It takes O(len()).
  [[nodiscard]] std::uint64_t misfits(std::size_t first_bytes, std::size_t second_bytes) const;
  /// Calls fn(first, second) for each pair while other threads write. fn must not change pairs. It
  /// may throw.
  void for_each(const std::function<void(byte_span, byte_span)>& fn) const;
  /// The number of pairs.
  [[nodiscard]] std::uint64_t len() const noexcept;
  [[nodiscard]] std::uint64_t capacity() const noexcept;

  /// Returns done, exists, full or too_long.
  map_status insert(byte_span first, byte_span second);
  /// Returns done, missing or too_long.
  map_status erase(byte_span first, byte_span second);
  /// Erases each pair whose half `by` is `key`, as many with one drain as a batch takes. Returns
  /// how many.
  std::uint64_t erase_with(pair_half by, byte_span key);

 private:
  struct state;
  explicit durable_pairs(std::unique_ptr<state> s);
  std::unique_ptr<state> state_;
};

/// The changes of one thread that share a drain. A change is seen after commit(), or the
/// destruction. A change past changes_max commits those before it; so does one that has to wait
/// for another thread, and a second change of a pair.
class durable_pairs::batch {
 public:
  static constexpr std::size_t changes_max = 64;

  explicit batch(durable_pairs& pairs) noexcept : state_(*pairs.state_) {}
  /// Commits the batch.
  ~batch() { commit(); }
  batch(const batch&) = delete;
  batch& operator=(const batch&) = delete;

  /// Returns done, exists, full or too_long.
  map_status insert(byte_span first, byte_span second) { return stage(first, second, true); }
  /// Returns done, missing or too_long.
  map_status erase(byte_span first, byte_span second) { return stage(first, second, false); }
  void commit() noexcept;

 private:
  struct open_change {
    map_change change;
    std::array<std::uint32_t, 2> tags; ///< of both halves
    bool inserts;
  };
  map_status stage(byte_span first, byte_span second, bool inserts);

  state& state_;
  std::size_t size_ = 0;
  std::array<open_change, changes_max> changes_; // the first size_ of them are changes
};

} // namespace chainring
