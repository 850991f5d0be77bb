// SPDX-License-Identifier: BSD-3-Clause
/// What the sources of durable_map share. This header is not installed. Its ordering labels are
/// described in durable_map.cc.
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

// What a program is told that may not make a call.
inline constexpr const char* second_batch =
    "a second batch of this thread for one map; end the first one by its destruction, or add to it";
inline constexpr const char* staged_open =
    "a change of a key whose staged change this thread has open, for which it would wait for ever; "
    "call change_flush(), drain and change_finish() first";
inline constexpr const char* not_recovered =
    "a change of a map whose cells hold entries that it does not know; run its recovery first, by "
    "recover() or part(), or give create() cells that are zero";

/// Stands between the bytes of a chain and the words of the cell that will name it. ThreadSanitizer
/// does not follow fences, so it is told about this one.
inline void before_words(const map_cell& cell) noexcept {
  // [cell-words] Without it a lookup could take words of two different changes for one entry, or
  // read a chain before its bytes are written.
  std::atomic_thread_fence(std::memory_order_release); // [cell-words]
#ifdef CHAINRING_MAP_TSAN
  __tsan_release(const_cast<map_cell*>(&cell));
#else
  (void)cell;
#endif
}
/// Stands between the words of a cell and the chain they name, which may belong to the next change.
inline void behind_words(const map_cell& cell) noexcept {
  std::atomic_thread_fence(std::memory_order_acquire); // [cell-words]
#ifdef CHAINRING_MAP_TSAN
  __tsan_acquire(const_cast<map_cell*>(&cell));
#else
  (void)cell;
#endif
}

/// Loads a word of a cell. The acquire fence of the index entry that named the cell follows.
inline std::uint64_t load_word(const std::uint64_t& word) noexcept {
  return std::atomic_ref(const_cast<std::uint64_t&>(word))
      .load(std::memory_order_relaxed); // [cell-words]
}

/// The hash of a long key that is kept on media. It is the same in every process.
inline std::uint64_t media_hash(std::span<const std::byte> key) noexcept {
  return hash_bytes(key, 0);
}

inline std::uint64_t pack(chain c) noexcept {
  return std::uint64_t{c.first} | std::uint64_t{c.blocks} << 32;
}
inline chain unpack_chain(std::uint64_t word) noexcept {
  return {static_cast<std::uint32_t>(word), static_cast<std::uint32_t>(word >> 32)};
}

/// Chains that entries have given up, kept until no lookup can be reading them (base/grace.h).
/// Lookups of long keys and values are inside a section while they read; other lookups touch no
/// chain. Sections of one thread may lie within each other, because the callback of a walk may look
/// keys up.
///
/// The end of a grace period takes a system call. So chains gather until `reclaim_chains` of them
/// or `reclaim_blocks` blocks wait, or until an allocation needs them.
class retired_chains {
 public:
  explicit retired_chains(block_store& blocks) noexcept : blocks_(blocks) {}
  /// False: there is not enough memory.
  [[nodiscard]] bool make() noexcept { return periods_.make(); }
  /// How deep a thread is inside sections of this map.
  struct nesting {
    unsigned sections;
    std::atomic<std::uint64_t>* inside;
  };
  /// Begins a section. Returns what leave() is given: the thread's own state, or `other` for a
  /// thread that has none, whose sections then know nothing of each other.
  nesting& enter(nesting& other) noexcept {
    unsigned row = 0;
    if (!own_row(row)) [[unlikely]] {
      other.sections = 1;
      other.inside = &periods_.enter();
      return other;
    }
    nesting& own = depth_[row];
    if (own.sections++ == 0) own.inside = &periods_.enter();
    return own;
  }
  static void leave(nesting& own) noexcept {
    if (--own.sections == 0) grace_periods::leave(*own.inside);
  }
  /// Adds a chain that nothing a lookup can find names any more.
  void add(chain c) noexcept;
  /// Gives back the chains that no lookup can be reading. False: no chain was waiting.
  bool reclaim() noexcept;

 private:
  static constexpr std::size_t waiting_max = 1024;     ///< chains
  static constexpr std::size_t reclaim_chains = 64;    ///< chains
  static constexpr std::uint64_t reclaim_blocks = 256; ///< blocks
  struct retired_chain {
    chain blocks;
    std::uint64_t stamp;
  };
  struct alignas(cacheline_size) row : nesting {};

  block_store& blocks_;
  std::array<row, max_thread_slots> depth_{}; ///< each used by the thread of the row only
  grace_periods periods_;
  alignas(cacheline_size) spin_lock lock_; ///< guards the members below
  std::size_t first_ = 0, count_ = 0;
  std::uint64_t blocks_waiting_ = 0;
  std::array<retired_chain, waiting_max> ring_;
};

} // namespace detail

/// What the last atomic_batch has left to do, and what the next one needs.
struct durable_map::batch_log {
  spin_lock turn;                     ///< held by the thread that commits or settles
  bool there = false;                 ///< a cell names a log, and the claims of its keys are parked
  std::uint32_t cell = 0;             ///< that one
  map_word0 word;                     ///< its word 0
  chain entries{};                    ///< the log
  std::vector<std::uint32_t> cells;   ///< those that the batch has changed, to be flushed
  std::vector<std::uint32_t> erased;  ///< those of them that are free afterwards
  std::vector<std::uint32_t> stripes; ///< the parked claims
  std::vector<map_log_entry> next;    ///< the log that is being made
  chain made{};                       ///< where that one lies
};

/// A key in the form in which cells hold it.
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
  /// As accepted(), for a change by the caller. Returns done, too_long or reserved.
  [[nodiscard]] static map_status may_change(byte_span key, byte_span value) noexcept {
    if (!accepted(key, value)) return map_status::too_long;
    return is_client_key(key) ? map_status::reserved : map_status::done;
  }
};

/// While an object of this class lives, chains that lookups may find are not reused.
class durable_map::reading {
 public:
  explicit reading(const durable_map& map) noexcept : own_(map.retired_->enter(other_)) {}
  ~reading() { detail::retired_chains::leave(own_); }
  reading(const reading&) = delete;
  reading& operator=(const reading&) = delete;

 private:
  detail::retired_chains::nesting other_; // set only for a thread without a row
  detail::retired_chains::nesting& own_;
};

/// An entry and its cell as a walk copied them at one moment. The chains that they name stay valid
/// while the walk's section lasts.
struct durable_map::copied {
  payload entry;
  std::uint64_t key[3];
  std::uint64_t value[2];
};

/// Calls fn(copied) for each key. The thread is inside a section during the calls for a home where
/// one of the keys has a chain.
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

/// True when the key of the entry equals `key`.
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
  // The cell may be in reuse while the lookup reads it, and then names anything. The lookup notices
  // that when it looks at its index entry again.
  return whole(where, w.key_size) &&
         std::memcmp(blocks_.address(where), key.bytes.data(), w.key_size) == 0;
}

} // namespace chainring
