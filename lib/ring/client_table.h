// SPDX-License-Identifier: BSD-3-Clause
/// The clients of a durable queue whose enqueues have ids: which operation of each took effect
/// last, and the message that says so on media. Not installed.
///
/// A place is claimed by one thread at a time, from before it compares sequence numbers until the
/// operation is durable or given up. Places are never removed, so a place stays where it is.
///
/// Ordering labels:
///   [client-placed]  A place gets its client by a compare-and-swap with release, and is found with
///     acquire; pairs with [client-placed].
///   [client-claimed]  A place is claimed by an exchange with acquire, and given back by a store
///     with release; pairs with [client-claimed].
///   [client-last]  The last operation is stored with release behind the drain that made it
///     durable, and loaded with acquire; pairs with [client-last].
///   [clients-counted]  The number of clients only grows, and bounds them; it orders nothing.
#pragma once
#include <algorithm>
#include <atomic>
#include <bit>
#include <cstdint>
#include <memory>

#include "message/message.h"

namespace chainring::detail {

class client_table {
 public:
  class place {
   public:
    /// False: another thread has the place, or this one.
    [[nodiscard]] bool try_claim() noexcept {
      // [client-claimed] Without it a thread could take an operation that took effect for a new
      // one, or drop a message twice.
      return !claimed_.exchange(true, std::memory_order_acquire);
    }
    void give_back() noexcept {
      claimed_.store(false, std::memory_order_release); // [client-claimed]
    }
    /// The sequence number of the last operation that took effect; 0: none.
    [[nodiscard]] std::uint64_t last() const noexcept {
      return last_.load(std::memory_order_acquire); // [client-last]
    }
    /// Follows the drain of `message`, which has a reference for this place. Returns the message
    /// that the place had before, or nothing in `had`. The place is claimed.
    message_ref take_effect(std::uint64_t sequence, message_ref message, bool& had) noexcept {
      had = last() != 0;
      const message_ref before = message_;
      message_ = message;
      // [client-last] Without it a thread could learn that an operation took effect and miss its
      // entry.
      last_.store(sequence, std::memory_order_release); // [client-last]
      return before;
    }
    [[nodiscard]] message_ref message() const noexcept { return message_; }

   private:
    friend class client_table;
    std::atomic<std::uint64_t> client_{0}; ///< its number, plus one; 0: the place is free
    std::atomic<std::uint64_t> last_{0};
    std::atomic<bool> claimed_{false};
    message_ref message_; ///< changed by the thread that has claimed the place
  };

  explicit client_table(std::uint32_t clients_max)
      : clients_max_(clients_max), mask_(std::bit_ceil(2 * std::uint64_t{clients_max}) - 1),
        places_(std::make_unique<place[]>(mask_ + 1)) {}

  [[nodiscard]] std::uint32_t clients_max() const noexcept { return clients_max_; }
  /// The place of the client; null: it has none.
  [[nodiscard]] place* find(std::uint32_t client) const noexcept {
    return probe(client, [](place&) { return false; });
  }
  /// The place of the client, which it gets where it has none; null: clients_max clients have one.
  [[nodiscard]] place* find_or_add(std::uint32_t client) noexcept {
    return probe(client, [&](place& p) {
      if (count_.fetch_add(1, std::memory_order_relaxed) < clients_max_) { // [clients-counted]
        std::uint64_t none = 0;
        // [client-placed] Without it another thread could use the place before it is whole.
        if (p.client_.compare_exchange_strong(none, client + std::uint64_t{1},
                                              std::memory_order_acq_rel,
                                              std::memory_order_acquire)) // [client-placed]
          return true;
      }
      count_.fetch_sub(1, std::memory_order_relaxed); // [clients-counted]
      return false;
    });
  }

 private:
  // Calls fill(place) for the first free place behind those that the client could have. At least
  // half of the places are free.
  template <class Fill> place* probe(std::uint32_t client, Fill&& fill) const noexcept {
    for (std::uint64_t i = client * std::uint64_t{0x9e37'79b9'7f4a'7c15} >> 32;; ++i) {
      place& p = places_[i & mask_];
      for (;;) {
        const std::uint64_t has = p.client_.load(std::memory_order_acquire); // [client-placed]
        if (has == client + std::uint64_t{1}) return &p;
        if (has != 0) break;
        if (fill(p)) return &p;
        if (p.client_.load(std::memory_order_acquire) == 0) return nullptr; // [client-placed]
      }
    }
  }

  const std::uint32_t clients_max_;
  const std::uint64_t mask_; ///< places, minus one
  std::unique_ptr<place[]> places_;
  std::atomic<std::uint64_t> count_{0};
};

} // namespace chainring::detail
