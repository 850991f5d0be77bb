// SPDX-License-Identifier: BSD-3-Clause
/// What queues look like on media: one-line queue records, and rings of 16-byte slots.
///
/// Queue record:
// clang-format off
/// ```
/// byte   0                   4      5      6     7     8
///        +-------------------+------+------+-----+-----+
///   0    | head: the last ticket released        |check|  word 0
///        +-------------------+------------+------+-----+
///   8    | incarnation       |first, count|    check   |  word 1, the commit word
///        |                   |and mode    |            |
///        +-------------------+------------+------+-----+
///  16    | base ticket                           | log2|  entry 0: slots, a power of two
///  24    | first block       | seal of the entry       |           its chain in the block store
///        +-------------------+-------------------------+
///  32    | entry 1                                     |
///  48    | entry 2                                     |
///        +---------------------------------------------+
/// ```
// clang-format on
/// Every word and every entry carries a check that also covers the queue's number: a record that is
/// damaged, or another queue's in this place, is recognised and not acted upon.
///
/// The queue's rings are entries first, first + 1, ... (modulo 3), `count` of them, oldest first.
///
/// A ring is one chain: 384 bytes of `rte_ring` header (scratch: rebuilt at open, never read by
/// recovery), then the slots. Slot:
/// ```
/// byte   0                   4         6         7     8
///        +-------------------+---------+---------------+
///   0    | descriptor        | generat.| delivery      |  ref (a value queue: 8 bytes of value)
///        +-------------------+---------+---------+-----+
///   8    | ticket                                |s,chk|  tag, stored last: state and check
///        +---------------------------------------+-----+
/// ```
#pragma once
#include <cstddef>
#include <cstdint>

#include "../base/cacheline.h"
#include "../base/crc32c.h"

namespace chainring {

/// Tickets number what was placed in a queue, from 1; 0 is none. They never wrap.
inline constexpr std::uint64_t ticket_max = (std::uint64_t{1} << 56) - 1;

/// Bytes of a ring's chain before its first slot: what `struct rte_ring` takes.
inline constexpr std::size_t ring_header_size = 384;

/// Most rings of one queue.
inline constexpr unsigned queue_rings_max = 3;

/// Slots of a ring: 2^ring_log2_min to 2^ring_log2_max. (Four slots are one line.)
inline constexpr unsigned ring_log2_min = 2;
inline constexpr unsigned ring_log2_max = 24;

enum class slot_state : std::uint8_t {
  none = 0,    ///< cleared: never placed
  queued = 1,  ///< placed
  acked = 2,   ///< acknowledged before an older entry was
  pubrec = 3,  ///< QoS 2: PUBREC received, PUBREL may leave
  moved = 4,   ///< lives on in another queue
  dropped = 5, ///< given up by policy
  voided = 6,  ///< placed for a message that was never published
};
inline constexpr std::uint8_t slot_state_last = 6;

/// Check bits for a word that has `bits` of them to spare: what the word and the queue's number
/// lack to a multiple of 2^bits - 2. They are never all zeros or all ones, so that erased memory
/// does not pass, and no change of one bit goes unseen, for no power of two is such a multiple.
template <unsigned bits>
[[nodiscard]] constexpr std::uint64_t word_check(std::uint64_t word, std::uint32_t queue) noexcept {
  constexpr std::uint64_t modulus = (std::uint64_t{1} << bits) - 2;
  return modulus - (word % modulus + queue) % modulus;
}

enum class queue_mode : std::uint8_t {
  mpsc = 0, ///< many producers, one consumer: a session
  mpmc = 1, ///< many producers, many consumers: a shared group
};
inline constexpr std::uint8_t queue_mode_last = 1;

/// One place in a ring. Valid if and only if, in a ring of `size` slots with base `base` of a queue
/// with head `head`: max(head, base) < ticket <= max(head, base) + size, not past the base of the
/// ring that follows if there is one; (ticket - 1 - base) % size is the slot's index; the state is
/// queued or pubrec; and, but for a value queue, the descriptor is published with that generation.
struct ring_slot {
  std::uint64_t ref; ///< slot_ref
  std::uint64_t tag; ///< slot_tag
};
static_assert(sizeof(ring_slot) == 16);
static_assert(offsetof(ring_slot, ref) == 0);
static_assert(offsetof(ring_slot, tag) == 8);

/// Tag: ticket in bits 0..55, state in 56..58, their check in 59..63.
struct slot_tag {
  std::uint64_t ticket = 0;
  slot_state state = slot_state::none;

  static constexpr unsigned check_shift = 59, check_bits = 5;
  static constexpr std::uint64_t checked_mask = (std::uint64_t{1} << check_shift) - 1;

  [[nodiscard]] constexpr std::uint64_t pack(std::uint32_t queue) const noexcept {
    const std::uint64_t word = ticket | std::uint64_t{static_cast<std::uint8_t>(state)} << 56;
    return word | word_check<check_bits>(word, queue) << check_shift;
  }
  [[nodiscard]] static constexpr slot_tag unpack(std::uint64_t w) noexcept {
    return {w & ticket_max, static_cast<slot_state>(w >> 56 & 7)};
  }
  /// Zero (cleared), or a ticket and a state as pack() makes them in that queue.
  [[nodiscard]] static constexpr bool well_formed(std::uint64_t w, std::uint32_t queue) noexcept {
    const slot_tag t = unpack(w);
    return w == 0 || (t.ticket != 0 && t.state != slot_state::none &&
                      static_cast<std::uint8_t>(t.state) <= slot_state_last && w == t.pack(queue));
  }
};

/// The tags of consecutive tickets in one state, as slot_tag::pack() makes them: the next ticket is
/// one more, so its check is one less, and begins again where it would be zero.
class slot_tag_run {
 public:
  constexpr slot_tag_run(std::uint32_t queue, std::uint64_t ticket, slot_state state) noexcept
      : word_(ticket | std::uint64_t{static_cast<std::uint8_t>(state)} << 56),
        check_(word_check<slot_tag::check_bits>(word_, queue)) {}
  [[nodiscard]] constexpr std::uint64_t tag() const noexcept {
    return word_ | check_ << slot_tag::check_shift;
  }
  constexpr void next() noexcept {
    ++word_;
    check_ = check_ == 1 ? check_max : check_ - 1;
  }

 private:
  static constexpr std::uint64_t check_max = (std::uint64_t{1} << slot_tag::check_bits) - 2;
  std::uint64_t word_, check_;
};

/// One ring of a queue. Valid if and only if: the seal is that of the entry; base is at most
/// ticket_max and not below the entry before it; log2 is ring_log2_min to ring_log2_max; the chain,
/// as many blocks as the header and that many slots need, lies in the block store and overlaps no
/// other live one. Recovery stores 0 as the chain of a counted ring that is not: it stays damaged
/// until restart_start().
struct queue_ring {
  std::uint64_t base;  ///< queue_base
  std::uint64_t chain; ///< first block in bits 0..31, the entry's seal in 32..63

  [[nodiscard]] std::uint32_t first_block() const noexcept {
    return static_cast<std::uint32_t>(chain);
  }
  /// CRC-32C of the base word, the first block, the blocks and the queue's number; never zero.
  [[nodiscard]] static std::uint32_t seal_of(std::uint32_t queue, std::uint64_t base,
                                             std::uint32_t first_block,
                                             std::uint32_t blocks) noexcept {
    const std::uint64_t covered[] = {base, std::uint64_t{first_block} | std::uint64_t{blocks} << 32,
                                     queue};
    const std::uint32_t crc = crc32c(0, covered, sizeof covered);
    return crc == 0 ? 1 : crc;
  }
  [[nodiscard]] static queue_ring sealed(std::uint32_t queue, std::uint64_t base,
                                         std::uint32_t first_block, std::uint32_t blocks) noexcept {
    return {base, std::uint64_t{first_block} |
                      std::uint64_t{seal_of(queue, base, first_block, blocks)} << 32};
  }
  /// Whether the seal goes with the rest, in an entry of that queue whose ring takes `blocks`.
  [[nodiscard]] bool whole(std::uint32_t queue, std::uint64_t blocks) const noexcept {
    return chain >> 32 == seal_of(queue, base, first_block(), static_cast<std::uint32_t>(blocks));
  }
};
static_assert(sizeof(queue_ring) == 16);
static_assert(offsetof(queue_ring, base) == 0);
static_assert(offsetof(queue_ring, chain) == 8);

/// First word of an entry: the ticket before the ring's first in bits 0..55, log2 of its slots in
/// 56..63.
struct queue_base {
  std::uint64_t ticket = 0;
  std::uint8_t log2_slots = 0;

  [[nodiscard]] constexpr std::uint64_t pack() const noexcept {
    return ticket | std::uint64_t{log2_slots} << 56;
  }
  [[nodiscard]] static constexpr queue_base unpack(std::uint64_t w) noexcept {
    return {w & ticket_max, static_cast<std::uint8_t>(w >> 56)};
  }
};

/// The head word: the last ticket released in bits 0..55, its check in 56..63. 0: nothing released.
struct queue_head {
  std::uint64_t ticket = 0;

  [[nodiscard]] constexpr std::uint64_t pack(std::uint32_t queue) const noexcept {
    return ticket | word_check<8>(ticket, queue) << 56;
  }
  [[nodiscard]] static constexpr queue_head unpack(std::uint64_t w) noexcept {
    return {w & ticket_max};
  }
  [[nodiscard]] static constexpr bool well_formed(std::uint64_t w, std::uint32_t queue) noexcept {
    return w == 0 || w == unpack(w).pack(queue);
  }
};

/// The commit word: incarnation in bits 0..31, first in 32..33, count in 34..35, mode in 36..39,
/// 0 in 40..47, the check of all these in 48..63. 0: incarnation 0, no ring, mpsc.
struct queue_commit {
  std::uint32_t incarnation = 0;
  std::uint8_t first = 0;
  std::uint8_t count = 0;
  queue_mode mode = queue_mode::mpsc;

  [[nodiscard]] constexpr std::uint64_t pack(std::uint32_t queue) const noexcept {
    const std::uint64_t word = std::uint64_t{incarnation} | std::uint64_t{first} << 32 |
                               std::uint64_t{count} << 34 |
                               std::uint64_t{static_cast<std::uint8_t>(mode)} << 36;
    return word | word_check<16>(word, queue) << 48;
  }
  [[nodiscard]] static constexpr queue_commit unpack(std::uint64_t w) noexcept {
    return {static_cast<std::uint32_t>(w), static_cast<std::uint8_t>(w >> 32 & 3),
            static_cast<std::uint8_t>(w >> 34 & 3), static_cast<queue_mode>(w >> 36 & 15)};
  }
  [[nodiscard]] static constexpr bool well_formed(std::uint64_t w, std::uint32_t queue) noexcept {
    const queue_commit c = unpack(w);
    return w == 0 || (w == c.pack(queue) && c.first < queue_rings_max &&
                      static_cast<std::uint8_t>(c.mode) <= queue_mode_last);
  }
};

/// A queue. All zero: an empty queue of incarnation 0. Valid if and only if: the head and the
/// commit word are well formed; and the `count` entries from `first` are valid with bases that
/// rise. Entries outside that range mean nothing. Head never falls; only the commit word says which
/// entries count, and an entry is stored before the commit word that counts it.
struct queue_record {
  std::uint64_t head;   ///< queue_head
  std::uint64_t commit; ///< queue_commit
  queue_ring rings[queue_rings_max];
};
static_assert(sizeof(queue_record) == cacheline_size);
static_assert(offsetof(queue_record, head) == 0);
static_assert(offsetof(queue_record, commit) == 8);
static_assert(offsetof(queue_record, rings) == 16);

} // namespace chainring
