// SPDX-License-Identifier: BSD-3-Clause
/// Which topic id stands for which topic in each session of one worker.
///
/// MQTT-SN topic ids belong to a client (MQTT-SN 1.2 section 6.10). The ids of a session are given
/// out 1, 2, 3 ... and an id that was forgotten is not given out again before the others, so that a
/// late packet with an old id seldom meets a new topic. Each registration holds its topic, so the
/// topic's number stays valid.
///
/// A session may have two lists of registrations, each of at most per_session_max, so that one
/// client cannot take the worker's topics from the others. Each call costs the same whatever is
/// registered, except forget_all(), which costs the session's own registrations. Memory: address
/// space is reserved by the constructor and memory is taken as registrations come. Not thread-safe:
/// one object a worker.
#pragma once
#include <cstdint>

#include "../base/keyed_hash.h"
#include "../topic/hash_chains.h"
#include "../topic/topic_names.h"

namespace chainring::mqttsn {

class registrations {
 public:
  static constexpr std::uint32_t none = 0xffffffff;

  struct options {
    std::uint32_t entries_max = 131072;   ///< 1 to 2^30, of all sessions
    std::uint32_t per_session_max = 1024; ///< 1 to 16,383, of each list
    std::uint64_t seed = 0; ///< of the hashes; 0: a secret of this process, as outside of tests
  };

  struct entry {
    std::uint32_t topic = none;
    std::uint32_t session = none;
    std::uint16_t id = 0;
    bool known = false; ///< the client has been told, and has said so

   private:
    friend class registrations;
    std::uint32_t list = none;                                  // of the session
    [[maybe_unused]] std::uint32_t before = none, after = none; // in it, newest first
    detail::hash_link by_id, by_topic;
  };

  enum class refusal : std::uint8_t {
    nothing,      ///< no call was refused yet
    table_full,   ///< entries_max registrations exist
    session_limit ///< the list has per_session_max registrations
  };

  /// Throws std::invalid_argument for an option out of range, std::bad_alloc without memory.
  registrations(topic_names& names, const options& o);

  /// The registration of a topic in a session, in whichever of its lists, made in `list` with a
  /// free id if need be; none when the table or the list is full, and last_refusal() says which. A
  /// list is none at first, kept by the caller with the session, and none again after forget_all().
  std::uint32_t add(std::uint32_t session, std::uint32_t& list, std::uint32_t topic) noexcept;
  [[nodiscard]] std::uint32_t find_by_topic(std::uint32_t session,
                                            std::uint32_t topic) const noexcept;
  [[nodiscard]] std::uint32_t find_by_id(std::uint32_t session, std::uint16_t id) const noexcept;
  [[nodiscard]] entry& at(std::uint32_t r) noexcept { return entries_[r]; }
  [[nodiscard]] const entry& at(std::uint32_t r) const noexcept { return entries_[r]; }

  /// The registration of that list that was made first; none when there is none.
  [[nodiscard]] std::uint32_t oldest(std::uint32_t list) const noexcept;
  /// Forgets one registration, or all of a list.
  void forget(std::uint32_t r) noexcept;
  /// Puts a registration into another list of its session, where that has room.
  void move(std::uint32_t& list, std::uint32_t r) noexcept;
  void forget_all(std::uint32_t& list) noexcept;

  [[nodiscard]] refusal last_refusal() const noexcept { return last_refusal_; }
  [[nodiscard]] std::uint32_t count() const noexcept { return entries_.used(); }
  /// Registrations in that list.
  [[nodiscard]] std::uint32_t count_of(std::uint32_t list) const noexcept;

 private:
  struct list_entry {
    detail::hash_link link;                  // of the free list
    std::uint32_t first = none, last = none; // newest and oldest
    std::uint32_t count = 0;
    std::uint16_t last_id = 0; // given out last
  };
  [[nodiscard]] bool has_room(std::uint32_t& list) noexcept;
  void link(std::uint32_t list, std::uint32_t r) noexcept;
  void unlink(std::uint32_t r) noexcept;
  std::uint32_t id_hash(std::uint32_t session, std::uint16_t id) const noexcept;
  std::uint32_t topic_hash(std::uint32_t session, std::uint32_t topic) const noexcept;
  std::uint16_t free_id(std::uint32_t session, std::uint16_t last) const noexcept;

  topic_names& names_;
  const hash_key key_;
  const std::uint32_t per_session_max_;
  detail::entry_table<entry, &entry::by_id> entries_;
  detail::entry_table<list_entry, &list_entry::link> lists_;
  detail::hash_chains<entry, &entry::by_id> ids_;
  detail::hash_chains<entry, &entry::by_topic> topics_;
  refusal last_refusal_ = refusal::nothing;
};

} // namespace chainring::mqttsn
