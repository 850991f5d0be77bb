// SPDX-License-Identifier: BSD-3-Clause
/// The topic names one worker lcore knows, and which topic id stands for which name in each of its
/// sessions.
///
/// MQTT-SN topic ids belong to a client: they are given out 1, 2, 3 ... per session and forgotten
/// when its connection ends. A name is kept once per worker, with the subscribers it matched last,
/// so that a publish by id costs two array look-ups.
///
/// Not thread-safe: one object a worker. Everything is allocated by the constructor.
#pragma once
#include <cstdint>
#include <span>
#include <string_view>
#include <vector>

#include "filter_index.h"

namespace chainring {

/// Longest topic name and filter the broker takes, octets.
inline constexpr std::size_t topic_length_max = 255;

class topic_table {
 public:
  static constexpr std::uint32_t none = 0xffffffff;

  topic_table(std::uint32_t topics_max, std::uint32_t registrations_max, std::uint32_t fan_out_max);

  // --- names ------------------------------------------------------------------------------------

  /// The topic of that name, made if need be; none when the table is full. A topic that nothing
  /// holds on to is reused when room is needed.
  std::uint32_t intern(std::string_view name) noexcept;
  [[nodiscard]] std::string_view name(std::uint32_t topic) const noexcept;

  /// The sessions the topic goes to, each once, with its highest QoS. Good until the next call.
  std::span<const subscriber> subscribers(std::uint32_t topic, filter_index& filters,
                                          unsigned reader) noexcept;

  // --- registrations ----------------------------------------------------------------------------

  struct registration {
    std::uint32_t topic = none;
    std::uint32_t session = none;
    std::uint32_t next_of_session = none;
    std::uint32_t next_by_id = none, next_by_topic = none;
    std::uint16_t id = 0;
    bool known = false; ///< the client has been told, and has said so
  };

  /// The registration of a topic in a session, made with the next free id if need be; none when
  /// a table is full or the session has used up its ids. `list` is the session's own list.
  std::uint32_t register_topic(std::uint32_t session, std::uint32_t& list,
                               std::uint32_t topic) noexcept;
  [[nodiscard]] std::uint32_t find_by_topic(std::uint32_t session,
                                            std::uint32_t topic) const noexcept;
  [[nodiscard]] std::uint32_t find_by_id(std::uint32_t session, std::uint16_t id) const noexcept;
  registration& at(std::uint32_t r) noexcept { return registrations_[r]; }
  /// Forgets one registration, or all of a session's.
  void forget(std::uint32_t& list, std::uint32_t registration) noexcept;
  void forget_all(std::uint32_t& list) noexcept;

  [[nodiscard]] std::uint32_t topic_count() const noexcept { return topics_used_; }
  [[nodiscard]] std::uint32_t registration_count() const noexcept { return registrations_used_; }

 private:
  struct topic_entry {
    std::uint32_t hash = 0;
    std::uint32_t next_in_bucket = none;
    std::uint32_t references = 0; // registrations
    std::uint32_t match_first = 0, match_count = 0;
    std::uint64_t match_version = 0, match_epoch = 0;
    std::uint8_t length = 0;
    bool used = false;
    char name[topic_length_max];
  };
  bool reclaim() noexcept;
  std::uint32_t id_bucket(std::uint32_t session, std::uint16_t id) const noexcept;
  std::uint32_t topic_bucket(std::uint32_t session, std::uint32_t topic) const noexcept;
  void remove_topic(std::uint32_t topic) noexcept;

  std::vector<topic_entry> topics_;
  std::vector<registration> registrations_;
  std::vector<std::uint32_t> name_buckets_, id_buckets_, topic_buckets_;
  std::vector<std::uint32_t> free_topics_, free_registrations_;
  std::vector<subscriber> fan_out_; // matches kept, one behind the other, emptied when full
  std::vector<subscriber> scratch_;
  std::uint64_t fan_out_epoch_ = 1;
  std::size_t fan_out_used_ = 0;
  std::uint32_t hand_ = 0; // where reclaim() goes on looking
  std::uint32_t topics_used_ = 0, registrations_used_ = 0;
};

} // namespace chainring
