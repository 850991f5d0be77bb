// SPDX-License-Identifier: BSD-3-Clause
// clang-format off
/// How queues are laid out on media: queue records of one line each, and rings of 16-byte slots.
///
/// Queue record:
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
/// Every word and every entry carries a check that also covers the queue's number. So a damaged
/// record, and the record of another queue in this place, are recognised and not acted upon.
///
/// The queue's rings are entries first, first + 1, ... (modulo 3), `count` of them, oldest first.
///
/// A ring is one chain: 384 bytes of `rte_ring` header, then the slots. The header is scratch: it
/// is rebuilt at every open, and recovery never reads it. Slot:
/// ```
/// byte   0                   4         6         7     8
///        +-------------------+---------+---------------+
///   0    | descriptor        | generat.| delivery      |  ref (a value queue: 8 bytes of value)
///        +-------------------+---------+---------+-----+
///   8    | ticket                                |s,chk|  tag, stored last: state and check
///        +---------------------------------------+-----+
/// ```
/// The entry of a message that was moved from another queue takes two slots. The second one is
/// void, and its first word is a slot_origin, which names the slot that the message came from.
// clang-format on
#pragma once
#include <array>
#include <cstddef>
#include <cstdint>

#include "../base/cacheline.h"
#include "../base/crc32c.h"

namespace chainring {

/// Tickets number the slots placed in a queue, from 1. 0 means no ticket. Tickets never wrap.
inline constexpr std::uint64_t ticket_max = (std::uint64_t{1} << 56) - 1;

/// Bytes of a ring's chain before its first slot: the size of `struct rte_ring`.
inline constexpr std::size_t ring_header_size = 384;

/// The most rings of one queue.
inline constexpr unsigned queue_rings_max = 3;

/// A ring has 2^ring_log2_min to 2^ring_log2_max slots. Four slots are one line.
inline constexpr unsigned ring_log2_min = 2;
inline constexpr unsigned ring_log2_max = 24;

enum class slot_state : std::uint8_t {
  none = 0,    ///< the slot is cleared and was never placed
  queued = 1,  ///< the slot is placed
  acked = 2,   ///< acknowledged while an older entry was not
  pubrec = 3,  ///< QoS 2: PUBREC was received, PUBREL may leave
  moved = 4,   ///< the entry was moved to another queue
  dropped = 5, ///< the overflow policy gave the entry up
  voided = 6,  ///< placed for a message that was never published, or a slot_origin
  taken = 7,   ///< placed for a message of another queue, which the next slot names
};
inline constexpr std::uint8_t slot_state_last = 7;

/// Check bits for a word that has `bits` of them to spare. The check makes the sum of the word, the
/// queue's number and itself a multiple of 2^bits - 2. It is never all zeros or all ones, so erased
/// memory does not pass. It detects every change of one bit, because no power of two is such a
/// multiple.
template <unsigned bits>
[[nodiscard]] constexpr std::uint64_t word_check(std::uint64_t word, std::uint32_t queue) noexcept {
  constexpr std::uint64_t modulus = (std::uint64_t{1} << bits) - 2;
  return modulus - (word + queue) % modulus; // the word has bits to spare, so the sum has room
}

enum class queue_mode : std::uint8_t {
  mpsc = 0, ///< many producers and one consumer: a session
  mpmc = 1, ///< many producers and many consumers: a shared group
};
inline constexpr std::uint8_t queue_mode_last = 1;

/// One place in a ring. Valid if and only if, in a ring of `size` slots with base `base` of a queue
/// with head `head`: max(head, base) < ticket <= max(head, base) + size; the ticket is not past the
/// base of the ring that follows, if there is one; (ticket - 1 - base) % size is the slot's index;
/// the state is queued, pubrec or taken; and, except in a value queue, the descriptor is published
/// with that generation. In the state taken the slot of the next ticket is void besides, and the
/// slot that its origin names does not hold the same message as queued.
struct ring_slot {
  std::uint64_t ref; ///< slot_ref
  std::uint64_t tag; ///< slot_tag
};
static_assert(sizeof(ring_slot) == 16);
static_assert(offsetof(ring_slot, ref) == 0);
static_assert(offsetof(ring_slot, tag) == 8);

/// The tag word: ticket in bits 0..55, state in bits 56..58, their check in bits 59..63.
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
  /// True for zero (a cleared slot), and for a ticket and a state as pack() makes them in that
  /// queue.
  [[nodiscard]] static constexpr bool well_formed(std::uint64_t w, std::uint32_t queue) noexcept {
    const slot_tag t = unpack(w);
    return w == 0 || (t.ticket != 0 && t.state != slot_state::none &&
                      static_cast<std::uint8_t>(t.state) <= slot_state_last && w == t.pack(queue));
  }
};

/// The first word of the slot behind one that is `taken`: the number of the queue that the message
/// came from in bits 0..27, the low 28 bits of its ticket there in bits 28..55, and the check of
/// these in bits 56..63. The tickets in a queue at one time span fewer than 2^28.
struct slot_origin {
  std::uint32_t queue = 0;
  std::uint32_t ticket_low = 0;

  static constexpr unsigned bits = 28;
  static constexpr std::uint64_t mask = (std::uint64_t{1} << bits) - 1;
  static_assert(queue_rings_max < 4 && ring_log2_max + 2 < bits);

  [[nodiscard]] static constexpr slot_origin of(std::uint32_t queue,
                                                std::uint64_t ticket) noexcept {
    return {queue, static_cast<std::uint32_t>(ticket & mask)};
  }
  /// `in` is the queue that the origin lies in.
  [[nodiscard]] constexpr std::uint64_t pack(std::uint32_t in) const noexcept {
    const std::uint64_t word = queue | std::uint64_t{ticket_low} << bits;
    return word | word_check<8>(word, in) << 56;
  }
  [[nodiscard]] static constexpr slot_origin unpack(std::uint64_t w) noexcept {
    return {static_cast<std::uint32_t>(w & mask), static_cast<std::uint32_t>(w >> bits & mask)};
  }
  [[nodiscard]] static constexpr bool well_formed(std::uint64_t w, std::uint32_t in) noexcept {
    return w == unpack(w).pack(in);
  }
};

/// The tags of consecutive tickets in one state, as slot_tag::pack() makes them, in parts of up to
/// `part` tickets. The next ticket is one more, so its check is one less, and restarts at the
/// maximum instead of becoming zero: the checks of a part are neighbours in a table.
class slot_tag_run {
 public:
  static constexpr std::uint32_t part = 32;

  constexpr slot_tag_run(std::uint32_t queue, std::uint64_t ticket, slot_state state) noexcept
      : word_(ticket | std::uint64_t{static_cast<std::uint8_t>(state)} << 56),
        at_(static_cast<std::uint32_t>(check_max -
                                       word_check<slot_tag::check_bits>(word_, queue))) {}
  /// The word of the part's first ticket, without its check.
  [[nodiscard]] constexpr std::uint64_t word() const noexcept { return word_; }
  /// The tag of ticket i of the part is (word() + i) | checks()[i].
  [[nodiscard]] constexpr const std::uint64_t* checks() const noexcept { return &table[at_]; }
  [[nodiscard]] constexpr std::uint64_t tag() const noexcept { return word_ | table[at_]; }
  /// Goes on by `n` tickets.
  constexpr void skip(std::uint32_t n) noexcept {
    word_ += n;
    at_ = (at_ + n) % check_max;
  }
  constexpr void next() noexcept { skip(1); }

 private:
  static constexpr std::uint32_t check_max = (1u << slot_tag::check_bits) - 2;
  static constexpr auto table = [] {
    std::array<std::uint64_t, check_max + part> t{};
    for (std::uint32_t i = 0; i < t.size(); ++i)
      t[i] = std::uint64_t{check_max - i % check_max} << slot_tag::check_shift;
    return t;
  }();

  std::uint64_t word_;
  std::uint32_t at_;
};

/// One ring of a queue. Valid if and only if: the seal is that of the entry; base is at most
/// ticket_max and not below the base of the entry before; log2 is ring_log2_min to ring_log2_max;
/// and the chain, of as many blocks as the header and that many slots need, lies in the block store
/// and overlaps no other live chain. When a ring that the commit word counts is not valid, recovery
/// stores 0 as its chain, so that the queue stays damaged until restart_start().
struct queue_ring {
  std::uint64_t base;  ///< queue_base
  std::uint64_t chain; ///< first block in bits 0..31, the entry's seal in 32..63

  [[nodiscard]] std::uint32_t first_block() const noexcept {
    return static_cast<std::uint32_t>(chain);
  }
  /// CRC-32C of the base word, the first block, the number of blocks and the queue's number. Never
  /// 0.
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
  /// True when the seal fits the rest of the entry, in that queue, for a ring that takes `blocks`.
  [[nodiscard]] bool whole(std::uint32_t queue, std::uint64_t blocks) const noexcept {
    return chain >> 32 == seal_of(queue, base, first_block(), static_cast<std::uint32_t>(blocks));
  }
};
static_assert(sizeof(queue_ring) == 16);
static_assert(offsetof(queue_ring, base) == 0);
static_assert(offsetof(queue_ring, chain) == 8);

/// The first word of an entry: the ticket before the ring's first one in bits 0..55, and log2 of
/// its number of slots in bits 56..63.
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

/// The head word: the last ticket released in bits 0..55, its check in bits 56..63. 0: none yet.
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

/// The commit word: incarnation in bits 0..31, first in bits 32..33, count in bits 34..35, mode in
/// bits 36..39, 0 in bits 40..47, and the check of all these in bits 48..63. 0 means incarnation 0,
/// no ring, mpsc.
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

/// The record of a queue. All zero: an empty queue of incarnation 0. Valid if and only if the head
/// and the commit word are well formed, and the `count` entries from `first` are valid with bases
/// that rise. Entries outside that range mean nothing. The head never falls. Only the commit word
/// says which entries count, and an entry is stored before the commit word that counts it.
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
