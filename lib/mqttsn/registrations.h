// SPDX-License-Identifier: BSD-3-Clause
/// The topic ids of the sessions of one worker, and the topic that each id stands for.
///
/// MQTT-SN topic ids belong to a client (MQTT-SN 1.2 section 6.10). The ids of a session are given
/// out in ascending order from first_id on. An id that was forgotten is not given out again before
/// the others, so that a late packet with an old id seldom meets a new topic. Each registration
/// holds its topic, so that the number of the topic stays valid.
///
/// A session may have two lists of registrations, each of at most per_session_max, so that one
/// client cannot take the worker's topics from the others. The cost of a call does not depend on
/// the number of registrations, except that forget_all() costs time for each registration of its
/// list. The constructor reserves address space, and memory is taken as registrations come. The
/// class is not thread-safe; each worker has its own object.
#pragma once
#include <cstdint>

#include "../base/keyed_hash.h"
#include "../topic/hash_chains.h"
#include "../topic/topic_names.h"

namespace chainring::mqttsn {

class registrations {
 public:
  static constexpr std::uint32_t none = 0xffffffff;
  /// The highest id. 0x0000 and 0xffff are reserved (MQTT-SN 1.2 section 5.3.11).
  static constexpr std::uint16_t id_max = 0xfffe;

  struct options {
    std::uint32_t entries_max = 131072;   ///< in all sessions, 1 to 2^30
    std::uint32_t per_session_max = 1024; ///< in each list, 1 to 16,383
    /// The lowest id that is given out, 1 to first_id_max(per_session_max). Ids below it are left
    /// to predefined topics, because some clients confuse the two kinds.
    std::uint16_t first_id = 1;
    std::uint64_t seed = 0; ///< of the hashes; 0 means a secret of this process
  };

  struct alignas(16) entry { // what a message touches lies in the first 16 octets, so in one line
    std::uint32_t topic = none;
    std::uint32_t session = none;
    std::uint16_t id = 0;
    bool known = false; ///< the client has acknowledged the id
    bool of_broker = false; ///< the topic is one at which only the broker publishes
    /// Whether the access rules allow the session to publish to the topic, and whether to receive
    /// from it: the number of the rules that decided, shifted by one, and the decision.
    std::uint32_t publish_judged = 0, deliver_judged = 0;

   private:
    friend class registrations;
    std::uint32_t list = none; // the list that holds the entry
    [[maybe_unused]] std::uint32_t before = none,
                                   after = none; // the neighbours in the list, newest first
    detail::hash_link by_id, by_topic;
  };

  enum class refusal : std::uint8_t {
    nothing,      ///< no call has been refused yet
    table_full,   ///< entries_max registrations exist
    session_limit ///< the list has per_session_max registrations
  };

  /// The greatest first_id. With two full lists half of the ids are still free, so a free one is
  /// found in two tries on average.
  [[nodiscard]] static constexpr std::uint16_t first_id_max(std::uint32_t per_session) noexcept {
    return static_cast<std::uint16_t>(id_max + 1 - 4 * per_session);
  }
  /// Throws std::invalid_argument for an option out of range, and std::bad_alloc without memory.
  registrations(topic_names& names, const options& o);

  /// Returns the registration of a topic in a session, from either of its lists. If there is none,
  /// it makes one in `list` with a free id. Returns none when the table or the list is full;
  /// last_refusal() says which. The caller keeps `list` with the session; it is none at first, and
  /// again after forget_all().
  std::uint32_t add(std::uint32_t session, std::uint32_t& list, std::uint32_t topic) noexcept;
  [[nodiscard]] std::uint32_t find_by_topic(std::uint32_t session,
                                            std::uint32_t topic) const noexcept;
  [[nodiscard]] std::uint32_t find_by_id(std::uint32_t session, std::uint16_t id) const noexcept;
  [[nodiscard]] entry& at(std::uint32_t r) noexcept { return entries_[r]; }
  [[nodiscard]] const entry& at(std::uint32_t r) const noexcept { return entries_[r]; }

  /// The registration of the list that was made first, or none when the list is empty.
  [[nodiscard]] std::uint32_t oldest(std::uint32_t list) const noexcept;
  /// Forgets one registration.
  void forget(std::uint32_t r) noexcept;
  /// Moves a registration into another list of its session, if that has room.
  void move(std::uint32_t& list, std::uint32_t r) noexcept;
  /// Forgets what the access rules decided about the registrations of a list.
  void forget_judgements(std::uint32_t list) noexcept;
  /// Forgets all registrations of a list.
  void forget_all(std::uint32_t& list) noexcept;

  [[nodiscard]] refusal last_refusal() const noexcept { return last_refusal_; }
  [[nodiscard]] std::uint32_t count() const noexcept { return entries_.used(); }
  /// The number of registrations in the list.
  [[nodiscard]] std::uint32_t count_of(std::uint32_t list) const noexcept;

 private:
  struct list_entry {
    detail::hash_link link;                  // the link of the free list
    std::uint32_t first = none, last = none; // the newest and the oldest entry
    std::uint32_t count = 0;
    std::uint16_t last_id = 0; // the id that was given out last
  };
  [[nodiscard]] bool has_room(std::uint32_t& list) noexcept;
  void link(std::uint32_t list, std::uint32_t r) noexcept;
  void unlink(std::uint32_t r) noexcept;
  std::uint32_t id_hash(std::uint32_t session, std::uint16_t id) const noexcept;
  std::uint32_t topic_hash(std::uint32_t session, std::uint32_t topic) const noexcept;
  [[nodiscard]] std::uint32_t ids_count() const noexcept { return id_max - first_id_ + 1u; }
  std::uint16_t free_id(std::uint32_t session, std::uint16_t last) const noexcept;

  topic_names& names_;
  const hash_key key_;
  const std::uint32_t per_session_max_;
  const std::uint16_t first_id_;
  detail::entry_table<entry, &entry::by_id> entries_;
  detail::entry_table<list_entry, &list_entry::link> lists_;
  detail::hash_chains<entry, &entry::by_id> ids_;
  detail::hash_chains<entry, &entry::by_topic> topics_;
  refusal last_refusal_ = refusal::nothing;
};

} // namespace chainring::mqttsn
