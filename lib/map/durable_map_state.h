// SPDX-License-Identifier: BSD-3-Clause
/// What the sources of durable_map share. Not installed. Edges: durable_map.cc.
#pragma once
#include <algorithm>
#include <cstring>
#include <optional>
#include <vector>

#include "base/crc32c.h"
#include "base/grace.h"
#include "base/spin_lock.h"
#include "map/durable_map.h"

#if defined(__SANITIZE_THREAD__)
#define CHAINRING_MAP_TSAN 1
#elif defined(__has_feature)
#if __has_feature(thread_sanitizer)
#define CHAINRING_MAP_TSAN 1
#endif
#endif
#ifdef CHAINRING_MAP_TSAN
extern "C" {
void __tsan_acquire(void* address);
void __tsan_release(void* address);
}
#endif

namespace chainring {

namespace detail {

/// Between what a chain holds and the words of the cell that will name it. (ThreadSanitizer does
/// not follow fences, so it is told.)
inline void before_words(const map_cell& cell) noexcept {
  std::atomic_thread_fence(std::memory_order_release); // [M1] pairs with [M4]
#ifdef CHAINRING_MAP_TSAN
  __tsan_release(const_cast<map_cell*>(&cell));
#else
  (void)cell;
#endif
}
/// Between the words of a cell and the chain they name, which may be that of its next use.
inline void behind_words(const map_cell& cell) noexcept {
  std::atomic_thread_fence(std::memory_order_acquire); // [M4] pairs with [M1]
#ifdef CHAINRING_MAP_TSAN
  __tsan_acquire(const_cast<map_cell*>(&cell));
#else
  (void)cell;
#endif
}

inline std::uint64_t load_word(const std::uint64_t& word) noexcept {
  // [M4] before the acquire fence of the index entry that named the cell.
  return std::atomic_ref(const_cast<std::uint64_t&>(word)).load(std::memory_order_relaxed);
}

/// Of a long key, kept on media: one that does not change with the process.
inline std::uint64_t media_hash(std::span<const std::byte> key) noexcept {
  return hash_bytes(key, 0);
}

inline std::uint64_t pack(chain c) noexcept {
  return std::uint64_t{c.first} | std::uint64_t{c.blocks} << 32;
}
inline chain unpack_chain(std::uint64_t word) noexcept {
  return {static_cast<std::uint32_t>(word), static_cast<std::uint32_t>(word >> 32)};
}

/// Chains that entries have given up, until no lookup can be reading them (base/grace.h). Lookups
/// of long keys and values are inside while they read; the others touch no chain. Sections of one
/// thread may lie within each other: a walk's callback may look things up.
///
/// A grace period costs a system call, so chains gather until `enough` of them wait, or until
/// somebody needs what they hold.
class map_graveyard {
 public:
  explicit map_graveyard(block_store& blocks) noexcept : blocks_(blocks) {}
  /// False: no memory.
  [[nodiscard]] bool make() noexcept { return periods_.make(); }
  void enter(unsigned thread) noexcept {
    nesting& mine = depth_[thread];
    if (mine.sections++ == 0) mine.inside = &periods_.enter();
  }
  void leave(unsigned thread) noexcept {
    nesting& mine = depth_[thread];
    if (--mine.sections == 0) grace_periods::leave(*mine.inside);
  }
  /// The chain is no longer named by anything a lookup can find.
  void bury(chain c) noexcept;
  /// Gives back what no lookup is reading. False: nothing was waiting.
  bool collect() noexcept;

 private:
  static constexpr std::size_t graves = 1024;
  static constexpr std::size_t enough = 64;      ///< chains
  static constexpr std::uint64_t too_much = 256; ///< blocks
  struct grave {
    chain what;
    std::uint64_t stamp;
  };
  struct alignas(cacheline_size) nesting {
    unsigned sections = 0;
    std::atomic<std::uint64_t>* inside = nullptr;
  };

  block_store& blocks_;
  std::array<nesting, max_thread_slots> depth_; ///< each thread's own
  grace_periods periods_;
  alignas(cacheline_size) spin_lock lock_; ///< over what follows
  std::size_t first_ = 0, count_ = 0;
  std::uint64_t blocks_waiting_ = 0;
  std::array<grave, graves> ring_;
};

} // namespace detail

/// A key as the cells hold it.
struct durable_map::wanted_key {
  byte_span bytes;
  std::uint64_t words[3] = {};

  explicit wanted_key(byte_span key) noexcept : bytes(key) {
    if (key.size() > map_key_inline)
      words[0] = detail::media_hash(key);
    else
      std::memcpy(words, key.data(), key.size());
  }
  [[nodiscard]] bool is_long() const noexcept { return bytes.size() > map_key_inline; }
  [[nodiscard]] static bool accepted(byte_span key, byte_span value) noexcept {
    return !key.empty() && key.size() <= map_key_max && value.size() <= map_value_max;
  }
};

/// While it lives, chains that lookups may find are not reused.
class durable_map::reading {
 public:
  explicit reading(const durable_map& map) noexcept : map_(map), thread_(detail::my_slot()) {
    map_.graveyard_->enter(thread_);
  }
  ~reading() { map_.graveyard_->leave(thread_); }
  reading(const reading&) = delete;
  reading& operator=(const reading&) = delete;

 private:
  const durable_map& map_;
  unsigned thread_;
};

/// An entry and its cell as a walk copied them, all of one moment. Chains are there while the
/// walk's section lasts.
struct durable_map::copied {
  payload entry;
  std::uint64_t key[3];
  std::uint64_t value[2];
};

/// Calls fn(copied) for each key. Where it calls it the thread is on line if the home has a chain.
template <class Fn> void durable_map::walk(Fn&& fn) const {
  index_type::walk<copied> homes(index_);
  std::vector<copied> keys;
  const auto copy = [this](const payload& p) {
    const map_cell& c = cell_of(p);
    const map_word0 w = map_word0::unpack(p[1]);
    copied one{p, {}, {}};
    for (int i = 0; i < 3; ++i)
      one.key[i] = detail::load_word(c.key[i]);
    for (int i = 0; i < 2; ++i)
      one.value[i] = detail::load_word(c.value[w.half][i]);
    return one;
  };
  for (bool more = true; more;) {
    std::optional<reading> section(std::in_place, *this);
    more = homes.next(keys, copy);
    if (!more) return;
    const bool chains = std::ranges::any_of(keys, [](const copied& k) {
      const map_word0 w = map_word0::unpack(k.entry[1]);
      return w.long_key() || w.long_value();
    });
    if (!chains) section.reset();
    for (const copied& k : keys)
      fn(k);
  }
}

/// The key's bytes differ from those of the entry by nothing.
inline bool durable_map::has_key(const payload& p, const wanted_key& key) const noexcept {
  const map_word0 w = map_word0::unpack(p[1]);
  if (w.key_size != key.bytes.size()) return false;
  const map_cell& c = cell_of(p);
  if (!key.is_long())
    return ((detail::load_word(c.key[0]) ^ key.words[0]) |
            (detail::load_word(c.key[1]) ^ key.words[1]) |
            (detail::load_word(c.key[2]) ^ key.words[2])) == 0;
  if (detail::load_word(c.key[0]) != key.words[0]) return false;
  const chain where = detail::unpack_chain(detail::load_word(c.key[1]));
  detail::behind_words(c);
  // A cell that is being reused under a lookup may name anything: then it is asked again.
  return whole(where, w.key_size) &&
         std::memcmp(blocks_.address(where), key.bytes.data(), w.key_size) == 0;
}

} // namespace chainring
