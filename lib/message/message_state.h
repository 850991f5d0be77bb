// SPDX-License-Identifier: BSD-3-Clause
/// Internal to lib/message: the state that its source files share.
#pragma once
#include <array>
#include <atomic>
#include <cstdint>
#include <map>

#include "../base/crc32c.h"
#include "../base/grace.h"
#include "../base/hook.h"
#include "../base/spin_lock.h"
#include "block/index_pool.h"
#include "block/thread_cache.h"
#include "message.h"

namespace chainring {

namespace detail {
// What a program is told that may not make a call.
inline constexpr const char* message_recovery_open =
    "reserve() during a recovery; call finish_recovery() of the message table first";
inline constexpr const char* reference_dropped_twice =
    "a reference is dropped that nobody has; call drop_reference() once for each that was added";
} // namespace detail

struct message_table::state {
  /// Values of a count of references: recovery is examining the descriptor, or found it damaged.
  static constexpr std::uint32_t marking = 0xffff'ffff;
  static constexpr std::uint32_t damaged = 0xffff'fffe;

  struct entry {
    std::atomic<std::uint32_t> references;
    /// Reasons to leave the bytes where they are: message_table::pin().
    std::atomic<std::uint16_t> pins;
    /// That of the message to which the references belong.
    std::atomic<std::uint16_t> generation;
    /// Word 1 of a descriptor in use. Media has it only once the message is staged, and is not
    /// trusted a second time. During recovery it is not 0 exactly if the chains are marked live for
    /// this descriptor.
    std::atomic<std::uint64_t> chains;

    /// The reader holds a reference, or was the last that did.
    [[nodiscard]] std::uint64_t word1() const noexcept {
      return chains.load(std::memory_order_relaxed); // [chains-known]
    }
    void set_word1(std::uint64_t word) noexcept {
      chains.store(word, std::memory_order_relaxed); // [chains-known]
    }
  };
  static_assert(sizeof(entry) == 16);
  detail::lazy_array<entry> entries; ///< by descriptor number
  detail::index_pool pool;
  /// The extents of a request, by row of a thread, before they are a list on media.
  struct scratch {
    chain extents[extents_max];
  };
  detail::lazy_array<scratch> scratches;
  std::map<unsigned, scratch> further; ///< by thread_slot() of threads without a row
  spin_lock further_lock;              ///< guards the map, not its values
  std::uint32_t descriptors_max = 0;
  std::uint64_t damaged_count = 0;
  /// messages whose blocks recovery found to belong to another message
  std::uint64_t robbed_count = 0;

  std::atomic<bool> has_compactor{false};
  /// Threads that read messages: message_table::reading.
  detail::grace_periods readers;

  // Recovery by several threads: a thread marks chains while it is inside `gate`, and the thread
  // that judges two claims revokes it. Afterwards a thread counts references without locked
  // instructions while it is inside, and a compactor, which counts references to messages that it
  // has from nobody, revokes it.
  struct alignas(cacheline_size) marker {
    std::atomic<std::uint32_t> busy;
  };
  bool recovering = false;                ///< between begin_recovery() and finish_recovery()
  bool recoverers = false;                ///< several threads recover
  bool checking = false;                  ///< nothing is stored on media
  std::array<std::uint32_t, 64> robbed{}; ///< the first messages that lost their blocks
  detail::revocable gate;
  detail::lazy_array<marker> markers; ///< by row of a thread
  spin_lock judge;
  std::atomic<std::uint64_t> refused_descriptors{0}, refused_blocks{0};
};

namespace detail {

/// The chain that an entry of an extent list names.
inline chain unpack_extent(std::uint64_t w) noexcept {
  return {static_cast<std::uint32_t>(w), static_cast<std::uint32_t>(w >> 32)};
}

inline std::uint64_t load_state(const message_descriptor& d) noexcept {
  // [message-state-read] Without it a reader could see `published` and not what the word makes
  // valid.
  return std::atomic_ref(const_cast<std::uint64_t&>(d.state)).load(std::memory_order_acquire);
}

/// Words 2 to 6 of a descriptor; in word 3 the half for the CRC is 0.
struct fixed_words {
  std::uint64_t sizes, check, expires_ns, published_ns, publisher;
};

constexpr fixed_words pack_fields(const message_fields& f) noexcept {
  return {std::uint64_t{f.payload_size} | std::uint64_t{f.topic_size} << 32 |
              std::uint64_t{f.properties_size} << 48,
          std::uint64_t{f.packet_id} << 32 | std::uint64_t{f.qos} << 48 |
              std::uint64_t{f.flags} << 50 | std::uint64_t{f.properties_size >> 16} << 56,
          f.expires_ns, f.published_ns,
          std::uint64_t{f.publisher_session} | std::uint64_t{f.publisher_incarnation} << 32};
}

/// The CRC of a message whose content has the CRC `content`: it goes on over the five words, and
/// the index and the generation of the descriptor as one word.
inline std::uint32_t seal(std::uint32_t content, const fixed_words& f, message_ref ref) noexcept {
  std::uint64_t state = crc32c_begin(content);
  state = crc32c_word(state, f.sizes);
  state = crc32c_word(state, f.check);
  state = crc32c_word(state, f.expires_ns);
  state = crc32c_word(state, f.published_ns);
  state = crc32c_word(state, f.publisher);
  state = crc32c_word(state, std::uint64_t{ref.generation} << 32 | ref.index);
  return crc32c_end(state);
}

} // namespace detail

// Gives a message that descriptor, in the next generation, and its publisher's reference.
[[gnu::always_inline]] inline message_ref message_table::own(std::uint32_t index,
                                                             message_word1 chains) noexcept {
  auto generation = message_word0::unpack(detail::load_state(descriptor_of(index))).generation;
  if (!seeded_bug("chain.same_generation")) ++generation;
  state::entry& e = state_->entries[index];
  e.set_word1(chains.pack());
  e.generation.store(generation, std::memory_order_relaxed); // [chains-known]
  // [reference-owned] Without it a compactor could count a reference to this message and take it
  // for the one that the descriptor held before.
  e.references.store(1, std::memory_order_release);
  return {index, generation};
}

} // namespace chainring
