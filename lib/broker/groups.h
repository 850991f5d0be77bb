// SPDX-License-Identifier: BSD-3-Clause
/// The groups of shared subscriptions and their members, as the workers of one broker see them
/// while they run. Internal to the broker.
///
/// A group is one filter that several sessions share under one name: `$share/<group>/<filter>`.
/// Each message that matches the filter goes to one member. A group has a record of the same form
/// as a session's (broker_media.h), with `<group>/<filter>` as its identity, and a queue for
/// several consumers. Group numbers and session numbers are apart. In the index of filters a group
/// is a subscriber whose number is that of the group plus the most sessions that there can be.
///
/// A member is a subscription record of its session. In DRAM it has a *place* in its group. Groups
/// and places are rebuilt from the records at every open.
///
/// **Who waits.** A member that looked at the group's queue, found nothing and could have taken
/// something is *waiting*. A worker that makes an entry available takes one waiting member in turn
/// and wakes its session. Every present member that is not waiting either cannot take anything, or
/// will look at the queue before it waits. A member that was woken and leaves something behind
/// wakes the next. So no message stays while a member could take it, and a member without credit
/// holds nobody up.
///
/// **Thread-safety:** any thread may call these functions, except for those that say "home".
/// Joining and leaving take one lock for all groups. Publishing and delivering take none.
#pragma once
#include <array>
#include <atomic>
#include <cstdint>
#include <memory>
#include <string_view>
#include <vector>

#include "base/hook.h"
#include "base/lazy_array.h"
#include "base/spin_lock.h"
#include "broker/broker_media.h"
#include "broker/identity_key.h"
#include "broker/session.h"
#include "broker/session_table.h"
#include "map/seq_map.h"
#include "topic/filter_index.h"

namespace chainring {

enum class group_state : std::uint8_t {
  none = 0,
  making, ///< a worker stores its record
  used,
  ending, ///< its last member has left, and a worker ends its record and empties its queue
};

/// A place of a group's members. All zero is a free place.
struct group_member {
  /// Session in bits 0..31, QoS in 32..33, the front end's bits in 34..35, and the flags below.
  std::atomic<std::uint64_t> who;
  std::atomic<bool> waiting;
  // These members belong to the session's home.
  std::uint32_t next_plus_1;   ///< the next place of the same session; 0: none
  std::uint32_t before_plus_1; ///< the place before it
  std::uint64_t from_tsc;      ///< the member takes nothing from the group before this time

  static constexpr std::uint64_t taken = std::uint64_t{1} << 40; ///< nobody else may take the place
  static constexpr std::uint64_t active = std::uint64_t{1} << 41; ///< the subscription was settled
  [[nodiscard]] static constexpr std::uint64_t pack(std::uint32_t session, std::uint8_t qos,
                                                    std::uint8_t bits) noexcept {
    return session | std::uint64_t{qos} << 32 | std::uint64_t{bits} << 34 | taken | active;
  }
  [[nodiscard]] static constexpr std::uint8_t qos_of(std::uint64_t who) noexcept {
    return static_cast<std::uint8_t>(who >> 32 & 3);
  }
  [[nodiscard]] static constexpr std::uint8_t bits_of(std::uint64_t who) noexcept {
    return static_cast<std::uint8_t>(who >> 34 & 3);
  }
};

/// One group. All zero is a group that does not exist.
struct shared_group {
  std::atomic<group_state> state;
  std::atomic<std::uint32_t> incarnation;
  std::atomic<std::uint32_t> places;      ///< no place from this one on was ever taken
  std::atomic<std::uint32_t> waiting;     ///< members that wait; a hint that saves the search
  std::atomic<std::uint32_t> next;        ///< the place at which the next search begins
  std::atomic<std::uint32_t> leased;      ///< shown to operators
  std::atomic<std::uint64_t> pressed_tsc; ///< when its queue was found full last; 0: never
  std::atomic<std::uint64_t> refused;     ///< shown: messages that its full queue refused
  std::atomic<std::uint64_t> high_water;  ///< shown: the most messages that its queue held
  std::uint32_t members;                  ///< places that are taken; guarded by the lock
};

class group_directory {
 public:
  static constexpr std::uint32_t none = 0xffffffff;

  /// Allocates everything. Returns false when there is not enough memory.
  [[nodiscard]] bool make(session_table& records, filter_index& filters, std::uint32_t first_number,
                          std::uint32_t groups_limit, std::uint32_t members_max);

  /// True for a subscriber of the index that is a group.
  [[nodiscard]] bool is_group(std::uint32_t subscriber) const noexcept {
    return subscriber >= first_number_;
  }
  [[nodiscard]] std::uint32_t group_of_subscriber(std::uint32_t subscriber) const noexcept {
    return subscriber - first_number_;
  }
  [[nodiscard]] std::uint32_t group_of(std::uint32_t place) const noexcept {
    return place / members_max_;
  }
  [[nodiscard]] std::uint32_t limit() const noexcept { return limit_; }
  [[nodiscard]] shared_group& at(std::uint32_t group) const noexcept { return groups_[group]; }
  [[nodiscard]] group_member& member(std::uint32_t place) const noexcept { return members_[place]; }
  [[nodiscard]] std::uint32_t member_count() const noexcept;
  [[nodiscard]] std::uint32_t group_count() const noexcept;

  // --- numbers, during an open or a growth ------------------------------------------------------

  void add_free(std::uint32_t group);
  [[nodiscard]] std::size_t free_count() noexcept;
  /// Adds a group that an open found. False: another long identity has the same hashes.
  [[nodiscard]] bool add_found(std::uint32_t group, const identity_key& key);

  // --- members ----------------------------------------------------------------------------------

  struct joined {
    enum class status : std::uint8_t {
      joined,
      made,     ///< the caller stores the group's record, and then calls made()
      wait,     ///< the group is being made or ended; the caller tries again in a later burst
      no_group, ///< there is no free group
      no_place, ///< the group has the most members that it may have
    } how;
    std::uint32_t place;
  };
  /// Takes a place in the group of that identity, which is made when there is none.
  [[nodiscard]] joined join(const identity_key& key, std::string_view identity) noexcept;
  void made(std::uint32_t group, const identity_key& key, bool stored) noexcept;
  /// Put the place into the session's list of places, and take it out. For the session's home.
  void link(std::uint32_t place, session& s) noexcept;
  void unlink(std::uint32_t place, session& s) noexcept;
  /// Makes the place one of that session, and enters the filter into the index or changes its QoS.
  [[nodiscard]] filter_index::status activate(std::uint32_t place, std::uint32_t session,
                                              std::uint32_t options) noexcept;
  /// From now on nobody chooses this place. The filter of a group without members leaves the index.
  void deactivate(std::uint32_t place) noexcept;
  /// Frees a place that is not active. True: the group has no member now, and the caller ends it.
  [[nodiscard]] bool release(std::uint32_t place) noexcept;
  /// Frees the number of a group whose end is durable.
  void ended(std::uint32_t group, const identity_key& key) noexcept;

  // --- waiting and choosing ---------------------------------------------------------------------

  /// Says that a member waits, for its home. The caller then looks at the queue once more.
  void wait(std::uint32_t place) noexcept;
  /// Takes it back. False: another worker has woken the member meanwhile.
  bool stop_waiting(std::uint32_t place) noexcept;
  /// Takes a waiting member in turn, and returns its session, or none. The caller has made an entry
  /// of the queue available before.
  [[nodiscard]] std::uint32_t take_waiting(std::uint32_t group) noexcept;
  /// Returns the place of a member whose session is connected, in turn, or none. A member that
  /// sleeps is chosen only where no other is connected.
  [[nodiscard]] std::uint32_t choose_present(std::uint32_t group, const session* sessions) noexcept;
  [[nodiscard]] std::uint32_t active_count(std::uint32_t group) const noexcept;
  /// Says whether a member is connected and does not sleep, other than the one at the place
  /// `except` if it is not none.
  [[nodiscard]] bool another_is_awake(std::uint32_t group, std::uint32_t except,
                                      const session* sessions) const noexcept;
  /// Says whether the member at this place is connected and does not sleep.
  [[nodiscard]] bool is_awake(std::uint32_t place, const session* sessions) const noexcept;
  /// Returns how many places of the group were ever taken; they are the first ones.
  [[nodiscard]] std::uint32_t places_of(std::uint32_t group) const noexcept {
    return groups_[group].places.load(std::memory_order_acquire); // [group-seen]
  }
  [[nodiscard]] std::uint32_t place_at(std::uint32_t group, std::uint32_t i) const noexcept {
    return group * members_max_ + i;
  }
  /// Calls fn(group, qos) for each group of which the session is a member, for operators. It looks
  /// at the groups until it has found `count` of them, the number of the session's memberships. Any
  /// thread may call it.
  template <class F> void for_each_of(std::uint32_t session, std::uint32_t count, F&& fn) const {
    for (std::uint32_t g = 0; g < limit_ && count != 0; ++g) {
      hook_point("group.listed");
      if (groups_[g].state.load(std::memory_order_acquire) != group_state::used) // [group-seen]
        continue;
      const std::uint32_t places =
          groups_[g].places.load(std::memory_order_acquire); // [group-seen]
      for (std::uint32_t i = 0; i < places; ++i) {
        const std::uint64_t who =
            members_[g * members_max_ + i].who.load(std::memory_order_acquire); // [group-seen]
        if ((who & group_member::active) == 0 || static_cast<std::uint32_t>(who) != session)
          continue;
        fn(g, group_member::qos_of(who));
        --count;
        break; // a session has one place in a group
      }
    }
  }

 private:
  /// Whether the member at this place is connected.
  [[nodiscard]] bool is_present(std::uint32_t place, const session* sessions) const noexcept;
  [[nodiscard]] filter_index::status relist(std::uint32_t group) noexcept;

  session_table* records_ = nullptr;
  filter_index* filters_ = nullptr;
  std::uint32_t first_number_ = 0, limit_ = 0, members_max_ = 1;
  detail::lazy_array<shared_group> groups_;
  detail::lazy_array<group_member> members_;
  spin_lock lock_; ///< guards the members below, and who has which place
  std::unique_ptr<seq_map<identity_key, std::uint32_t>> identities_;
  std::vector<std::uint32_t> free_;
  std::atomic<std::uint32_t> used_{0}, taken_{0}; ///< shown to operators
};

/// The number for which the slots of a group's queue are sealed, with the group's own number. It is
/// no session's.
inline constexpr std::uint32_t group_seal = 1u << 31;

/// Tickets of messages that a member got from a group have bit 62 set. The other bits are the
/// number of a lease, and 15 bits from which its packet id follows. They mean nothing after a
/// crash.
inline constexpr std::uint64_t group_ticket_bit = std::uint64_t{1} << 62;
/// The most leases that a worker can have, because tickets have so much room for their numbers.
inline constexpr std::uint32_t group_leases_most = 1u << 24;

} // namespace chainring
