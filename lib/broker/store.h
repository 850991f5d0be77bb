// SPDX-License-Identifier: BSD-3-Clause
/// The broker's durable state: the tables of its region, which are opened and recovered together.
/// Internal to the broker.
///
/// Thread-safety: each table states its own.
#pragma once
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "block/block_store.h"
#include "broker/broker.h"
#include "broker/broker_media.h"
#include "broker/identifiers.h"
#include "broker/retained.h"
#include "broker/session_table.h"
#include "map/durable_map.h"
#include "message/message.h"
#include "region/recovery.h"
#include "region/region.h"
#include "ring/ring.h"

namespace chainring {

/// The roots of a broker's region. Each names the first of the ranges with that name.
namespace store_area {
inline constexpr const char* sessions = "broker.sessions";
inline constexpr const char* queues = "broker.queues";
inline constexpr const char* subscriptions = "broker.subscriptions";
inline constexpr const char* messages = "broker.messages";
inline constexpr const char* groups = "broker.groups";
inline constexpr const char* group_queues = "broker.group_queues";
inline constexpr const char* retained = "broker.retained";
/// The version of all areas. Version 3 has an area for everything that the broker will keep.
inline constexpr std::uint32_t version = 3;
} // namespace store_area

class store {
 public:
  [[nodiscard]] static std::vector<area_spec>
  areas(const store_layout& layout, std::uint64_t region_size, std::uint32_t block_size);

  /// Opens and recovers the tables: it reads, makes durable what it read, voids, drains, rebuilds,
  /// and then serves.
  [[nodiscard]] static result<std::unique_ptr<store>> open(region& opened_region,
                                                           const broker_config& config,
                                                           const broker::progress& report_progress,
                                                           open_summary& summary);
  /// Returns sentences about what is wrong with the region's contents. It changes nothing.
  [[nodiscard]] static result<std::vector<std::string>> check(region& opened_region);
  ~store();

  [[nodiscard]] block_store& blocks() noexcept { return *blocks_; }
  [[nodiscard]] message_table& messages() noexcept { return *messages_; }
  [[nodiscard]] queue_table& queues() noexcept { return *queues_; }
  [[nodiscard]] session_table& sessions() noexcept { return *sessions_; }
  [[nodiscard]] session_table& groups() noexcept { return *groups_; }
  [[nodiscard]] queue_table& group_queues() noexcept { return *group_queues_; }
  [[nodiscard]] durable_map& subscriptions() noexcept { return *subscriptions_; }
  [[nodiscard]] durable_map& retained() noexcept { return *retained_; }
  [[nodiscard]] media& medium() noexcept { return media_; }
  /// Makes the region at least `size` bytes long, with its new blocks free. One thread at a time
  /// may call it, while workers run.
  [[nodiscard]] result<void> grow(std::uint64_t size);
  /// The tables that can grow while they are used.
  enum class table : std::uint8_t { sessions, groups, subscriptions, messages, retained };
  /// Adds one more segment to the table, as large as the table or up to its limit. Returns how many
  /// places the table has more. It has none when the table is at its limit, or when no run of
  /// blocks is long enough or would leave fewer than half of the free blocks. The growth is durable
  /// when the function returns; it drains. One thread at a time may call it, while workers run.
  [[nodiscard]] result<std::uint32_t> grow_table(table which);
  /// True when fewer than an eighth of the table's places are free. It is false for sessions
  /// and groups, whose free numbers the broker keeps.
  [[nodiscard]] bool nearly_full(table which) const noexcept;
  /// How many sessions, groups and subscriptions the tables can grow to while the store is open.
  [[nodiscard]] std::uint32_t sessions_limit() const noexcept { return sessions_limit_; }
  [[nodiscard]] std::uint32_t groups_limit() const noexcept { return groups_limit_; }
  [[nodiscard]] std::uint32_t subscriptions_limit() const noexcept { return subscriptions_limit_; }
  [[nodiscard]] std::uint32_t retained_limit() const noexcept { return retained_limit_; }
  [[nodiscard]] std::uint32_t sessions_max() const noexcept { return sessions_->count(); }
  [[nodiscard]] std::uint64_t subscriptions_max() const noexcept {
    return subscriptions_->capacity();
  }

  /// Stages a change of a subscription in a batch of the map. It is durable after the batch's
  /// flush_changes() and the next drain.
  static map_status put_subscription(durable_map::batch& in, std::uint32_t session,
                                     std::uint32_t incarnation, std::string_view filter,
                                     std::uint32_t options, std::uint32_t identifier) noexcept;
  static map_status erase_subscription(durable_map::batch& in, std::uint32_t session,
                                       std::uint32_t incarnation, std::string_view filter) noexcept;
  /// The identifier of a subscription, or 0. Any thread may call it.
  [[nodiscard]] std::uint32_t identifier_of(std::uint32_t session, std::uint32_t incarnation,
                                            std::string_view filter) const noexcept;
  /// Calls fn(session, filter, options, identifier) for each subscription, during an open.
  void for_each_subscription(
      const std::function<void(std::uint32_t, std::string_view, std::uint32_t, std::uint32_t)>& fn);

  /// Takes the QoS 2 identifiers that the open found. Each has a reference to its message.
  [[nodiscard]] std::vector<open_identifier> take_identifiers() noexcept {
    return std::exchange(identifiers_, {});
  }
  /// Calls fn(topic, message, the message that the cell names beside it or nullptr) for each cell
  /// of the retained map, during an open.
  void for_each_retained(const std::function<void(std::string_view, const retained_message&,
                                                  const retained_message*)>& fn);

  [[nodiscard]] static std::uint64_t now_ns() noexcept;

 private:
  explicit store(region& opened_region) : region_(opened_region), media_(opened_region.medium()) {}
  struct subscription {
    std::uint32_t session = 0, options = 0, identifier = 0;
    std::string_view filter;
  };
  /// Says what is wrong with an entry of the map. Returns nullptr when nothing is, and fills `out`.
  [[nodiscard]] static const char* examine(std::span<const std::byte> key,
                                           std::span<const std::byte> value,
                                           subscription& out) noexcept;
  struct found {
    session_recovery sessions, groups;
    queue_recovery queues, group_queues;
    map_recovery subscriptions, retained;
    std::vector<problem> wrong; ///< problems of subscriptions and of retained messages
    std::vector<open_identifier> identifiers;
  };
  [[nodiscard]] result<void> attach(const broker_config& config);
  [[nodiscard]] result<void> attach_groups(const queue_table_options& like);
  /// Returns the segments of one table.
  [[nodiscard]] result<std::vector<region_root>> ranges(const char* name) const;
  /// The parts that an open recovers and a check judges, in the order in which they need each
  /// other.
  [[nodiscard]] recovery parts(const broker_config& config, found& out);
  [[nodiscard]] recovery_part segments_part();
  [[nodiscard]] recovery_part identifiers_part(found& out);
  [[nodiscard]] recovery_part group_names_part();
  [[nodiscard]] recovery_part group_members_part(session_recovery& out);
  [[nodiscard]] result<void> recover(const broker_config& config,
                                     const broker::progress& report_progress,
                                     open_summary& summary);
  void tolerate_loss() noexcept;
  [[nodiscard]] bool wanted(std::span<const std::byte> key, std::span<const std::byte> value,
                            std::vector<problem>& wrong);
  /// Tells whether a cell of the retained map is to stay: whether its topic has a message.
  [[nodiscard]] bool retained_wanted(std::span<const std::byte> key,
                                     std::span<const std::byte> value,
                                     std::vector<problem>& wrong) const;
  [[nodiscard]] recovery_part retained_part();
  void recover_retained(recovery_context& c);
  [[nodiscard]] retained_message retained_of(std::uint64_t word) const noexcept;
  [[nodiscard]] session_rules::will_state will_state(std::uint64_t will, bool count) noexcept;
  [[nodiscard]] bool has_queue(const std::vector<table_segment>& segments, std::uint32_t number,
                               std::uint32_t incarnation) const noexcept;
  [[nodiscard]] static std::uint32_t expected_incarnation(const session_table& of,
                                                          std::uint32_t queue) noexcept;
  /// Makes a cleared, durable and named range of `count` records. The result is empty when there is
  /// no room.
  [[nodiscard]] result<std::optional<std::uint64_t>>
  add_range(const char* name, std::uint64_t count, std::uint64_t record_size);

  region& region_;
  media& media_;
  std::unique_ptr<session_table> sessions_;
  std::unique_ptr<session_table> groups_;
  std::vector<table_segment> queue_segments_, group_queue_segments_;
  std::unique_ptr<block_store> blocks_;
  std::unique_ptr<message_table> messages_;
  std::unique_ptr<queue_table> queues_, group_queues_;
  std::unique_ptr<durable_map> subscriptions_, retained_;
  std::vector<std::string> dead_topics_; ///< topics whose cells recovery has left empty
  std::vector<open_identifier> identifiers_;
  std::uint32_t sessions_limit_ = 0, groups_limit_ = 0, subscriptions_limit_ = 0,
                messages_limit_ = 0;
  std::uint32_t retained_limit_ = 0;
  // Only during a recovery: the number of each group, and how many members it has.
  std::unordered_map<std::string_view, std::uint32_t> group_names_;
  std::vector<std::uint32_t> group_members_;
};

} // namespace chainring
