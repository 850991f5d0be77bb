// SPDX-License-Identifier: BSD-3-Clause
/// Inside lib/ring: the run-time state of queues and rings, in DRAM, rebuilt at every open. Edges:
/// ring.cc.
#pragma once
#include <atomic>
#include <cstdint>
#include <mutex>
#include <rte_ring.h>
#include <rte_ring_elem.h>
// Behind rte_ring_elem.h: it does not compile alone.
#include <rte_ring_peek_zc.h>
#include <vector>

#include "base/assert.h"
#include "base/cacheline.h"
#include "base/idle.h"
#include "base/lazy_array.h"
#include "ring/ring.h"

namespace chainring::detail {

static_assert(sizeof(rte_ring) == ring_header_size);
static_assert(offsetof(rte_ring_headtail, tail) == offsetof(__rte_ring_hts_pos, pos.tail));

/// What a slot's mark says of the ticket it is for. Marks of other tickets mean `unready`, so that
/// nothing has to be cleared when a slot is used again, and what is late finds nothing to change.
enum class mark_state : std::uint32_t {
  unready = 0,  ///< being placed: consumers stop here
  ready = 1,    ///< durable and published; leased where the cursor has passed it
  done = 2,     ///< acknowledged, void or given up
  returned = 3, ///< leased and given back
  hole = 4,     ///< found by recovery with nothing to deliver: counts as no reference
};
inline constexpr unsigned mark_state_bits = 3;

/// The ticket's low 29 bits and the state. A slot's mark is stored at least once a lap, so 29 bits
/// tell its tickets apart.
constexpr std::uint32_t mark_of(std::uint64_t ticket, mark_state s) noexcept {
  return static_cast<std::uint32_t>(ticket << mark_state_bits) | static_cast<std::uint32_t>(s);
}
constexpr mark_state state_of(std::uint32_t mark, std::uint64_t ticket) noexcept {
  const std::uint32_t s = mark ^ mark_of(ticket, mark_state::unready);
  return s >> mark_state_bits == 0 ? static_cast<mark_state>(s) : mark_state::unready;
}
constexpr bool is_over(mark_state s) noexcept {
  return s == mark_state::done || s == mark_state::hole;
}

/// Queue and incarnation a ring serves: number in bits 32..63, incarnation in 0..31.
constexpr std::uint64_t owner_of(std::uint32_t queue, std::uint32_t incarnation) noexcept {
  return std::uint64_t{queue} << 32 | incarnation;
}
inline constexpr std::uint64_t owner_queue_mask = ~std::uint64_t{0} << 32;
inline constexpr std::uint64_t owner_none = ~std::uint64_t{0};

/// A ring. Its memory, here and in the region, stays a ring as long as the table lives: a producer
/// that still has the address of one that is no longer its queue's finds that out from `owner`.
struct alignas(cacheline_size) ring_state {
  // Constant while a queue has it.
  rte_ring* ring = nullptr;
  ring_slot* slots = nullptr;
  std::atomic<std::uint32_t>* marks = nullptr;
  std::uint64_t base = 0;   ///< the ticket before the one that slot 0 first had
  std::uint64_t origin = 0; ///< the ticket before the one at rte_ring's position 0, modulo 2^32
  std::uint32_t mask = 0;
  std::uint32_t capacity = 0;
  std::atomic<std::uint64_t> owner{owner_none};
  queue_mode mode = queue_mode::mpsc;

  // The producers', between rte_ring's start and finish.
  alignas(cacheline_size) std::atomic<std::uint64_t> next{0}; ///< last ticket given
  std::atomic<std::uint32_t> high_water{0};

  // The consumer's.
  alignas(cacheline_size) std::atomic<std::uint64_t> cursor{0}; ///< last ticket leased
  std::atomic<std::uint64_t> acked{0}; ///< all tickets to here are done with
  std::atomic<std::uint64_t> head{0};  ///< all tickets to here are released, durably
  std::uint64_t release_to = 0;        ///< what the releaser has stored
  std::uint64_t delivered = 0;         ///< tickets to here may have been delivered earlier
  std::atomic<std::uint32_t> returned{0};
  std::atomic<bool> releasing{false};
  chain blocks;

  [[nodiscard]] std::uint32_t index_of(std::uint64_t ticket) const noexcept {
    return static_cast<std::uint32_t>(ticket - 1 - base) & mask;
  }
  [[nodiscard]] std::uint32_t size() const noexcept { return mask + 1; }
  /// The last ticket that producers have finished placing, seen from a consumer at `cursor`.
  [[nodiscard]] std::uint64_t tail(std::uint64_t at) const noexcept {
    // [R4] acquire: pairs with the release [R3] in rte_ring's finish.
    //      Without it a slot's mark could be read before the slot is placed.
    const std::uint32_t position = __atomic_load_n(&ring->prod.tail, __ATOMIC_ACQUIRE);
    return at + static_cast<std::uint32_t>(position - static_cast<std::uint32_t>(at - origin));
  }
};
static_assert(sizeof(ring_state) == 3 * cacheline_size);

enum class link_state : std::uint8_t {
  idle,
  linking,    ///< between prepare() and attached(), by one thread
  restarting, ///< between restart() and restarted()
};

struct alignas(cacheline_size) queue_state {
  std::atomic<ring_state*> ring{nullptr};
  ring_state* pending = nullptr; ///< linked, not yet attached
  std::uint64_t rest_ticket = 0; ///< where tickets go on when there is no ring
  std::atomic<link_state> link{link_state::idle};
  std::atomic<bool> damaged{false};
  queue_mode mode = queue_mode::mpsc;
  std::atomic<std::uint32_t> drop_requests{0};
  std::atomic<std::uint32_t> refused{0};
  std::atomic<std::uint32_t> dropped_newest{0}, dropped_oldest{0};
};
static_assert(sizeof(queue_state) == cacheline_size);

/// A counter that only informs.
template <class T> void tally(std::atomic<T>& counter, T n = 1) noexcept {
  counter.fetch_add(n, std::memory_order_relaxed);
}
template <class T> [[nodiscard]] T counted(const std::atomic<T>& counter) noexcept {
  return counter.load(std::memory_order_relaxed);
}

/// Guards the lists of rings: a few instructions, off the usual path.
class list_lock {
 public:
  void lock() noexcept {
    idle_policy wait;
    // [S1] acquire: pairs with the release [S2]. Without it a list is seen as it was before.
    while (taken_.exchange(true, std::memory_order_acquire))
      wait.idle();
  }
  void unlock() noexcept {
    taken_.store(false, std::memory_order_release); // [S2] release: pairs with [S1]
  }

 private:
  std::atomic<bool> taken_{false};
};

} // namespace chainring::detail

namespace chainring {

struct queue_table::state {
  queue_table_options options;
  unsigned log2_slots = 0;         ///< of a new ring
  std::uint32_t ring_capacity = 0; ///< of a new ring
  std::uint32_t ring_blocks = 0;

  detail::lazy_array<detail::queue_state> queues;
  detail::lazy_array<detail::ring_state> rings;
  detail::lazy_array<std::atomic<std::uint32_t>> marks; ///< (1 << log2_slots) a ring
  std::uint64_t rings_max = 0;
  std::vector<std::unique_ptr<std::atomic<std::uint32_t>[]>> odd_marks; ///< rings of other sizes

  std::uint64_t changed = 0; ///< bytes that recovery has flushed since its last drain

  detail::list_lock lock; ///< guards the three below
  std::uint64_t rings_used = 0;
  std::vector<detail::ring_state*> stock; ///< cleared and drained: ready to be linked
  std::vector<detail::ring_state*> dirty; ///< to be cleared

  std::atomic<std::uint64_t> refused_ring{0}, refused{0}, dropped_newest{0}, dropped_oldest{0},
      voided{0};
};

namespace detail {

/// Blocks of a ring's chain.
[[nodiscard]] inline std::uint64_t ring_blocks(const block_store& blocks, unsigned log2) noexcept {
  return blocks.blocks_for(ring_header_size + (std::uint64_t{sizeof(ring_slot)} << log2));
}
/// Points a ring state at its chain and makes the rte_ring in it anew, empty at position 0.
void make_ring(ring_state& r, media& on, const block_store& blocks, const chain& at, unsigned log2,
               std::uint32_t capacity, std::atomic<std::uint32_t>* marks) noexcept;
/// Moves an empty ring's position on by `n`, through rte_ring's own calls.
void move_positions(ring_state& r, std::uint32_t n) noexcept;
/// Sets an empty ring up for tickets behind `from`, in slots counted from `base`.
void set_base(ring_state& r, std::uint64_t base, std::uint64_t from, queue_mode mode) noexcept;
/// The prefix of what is done with grows as far as it goes.
void advance(ring_state& r) noexcept;

} // namespace detail
} // namespace chainring
