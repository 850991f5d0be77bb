// SPDX-License-Identifier: BSD-3-Clause
/// Operation ids: after a crash a caller learns whether an operation of his took effect.
///
/// A call that may have been cut short by a crash leaves its caller in doubt: to repeat it could
/// make a change twice, and not to repeat it could lose the change. An operation with an id is
/// *detectable*: the structure makes the id durable by the commit of the operation itself, so that
/// resolve(id) has a definite answer after a crash at any point, and a repetition with the same id
/// takes effect only where the operation did not.
///
/// **When to use:** operations whose repetition would do harm, such as orders, payments and
/// counters, by callers that keep the number of their last operation. **When not:** operations that
/// may be repeated as they are, such as an upsert of one value by one caller; and callers that
/// cannot name themselves again after a crash.
///
/// **What is remembered:** of each client the sequence number of the last operation that took
/// effect, for each structure by itself, and as long as the structure exists. A client begins an
/// operation when it knows the outcome of the one before, and gives it a greater number. So there
/// is an answer for the last operation of each client, and `superseded` for those before it.
/// **Memory:** that of one client, which durable_queue.h and durable_map.h name; numbers of clients
/// are given by the program and not by strangers, and a number that is free again may go to the
/// next client, which goes on from last_operation().
///
/// **Sources:** Friedman et al., "A Persistent Lock-Free Queue for Non-Volatile Memory" (PPoPP
/// 2018), for detectable execution; Li and Golab, "Detectable Sequential Specifications for
/// Recoverable Shared Objects" (DISC 2021), for resolve(); Cho et al., "Memento" (PLDI 2023).
///
///     operation_id id{.client = 7, .sequence = orders.last_operation(7) + 1};
///     write_down(id);                            // where the caller finds it after a crash
///     orders.enqueue(id, order);
///     ...                                        // behind a crash
///     if (orders.resolve(id) == operation_outcome::no_effect) orders.enqueue(id, order);
#pragma once
#include <cstdint>

namespace chainring {

struct operation_id {
  std::uint32_t client = 0;   ///< any number, which one client has at a time
  std::uint64_t sequence = 0; ///< 1 to sequence_max, and greater than that of the operation before
  static constexpr std::uint64_t sequence_max = (std::uint64_t{1} << 48) - 1;
  [[nodiscard]] constexpr bool valid() const noexcept {
    return sequence != 0 && sequence <= sequence_max;
  }
  friend bool operator==(const operation_id&, const operation_id&) = default;
};

enum class operation_outcome : std::uint8_t {
  took_effect, ///< durably, and a repetition changes nothing
  no_effect,   ///< neither now nor later, unless it is repeated
  superseded,  ///< a later operation of the client took effect, and this one is not remembered
};

/// Returns the outcome of an operation of a client whose last one that took effect is `last`; 0
/// stands for none.
[[nodiscard]] constexpr operation_outcome outcome_of(operation_id id, std::uint64_t last) noexcept {
  if (id.sequence > last) return operation_outcome::no_effect;
  return id.sequence == last ? operation_outcome::took_effect : operation_outcome::superseded;
}

} // namespace chainring
