// SPDX-License-Identifier: BSD-3-Clause
/// The broker's durable state: what its region holds, opened and recovered as one. Internal to the
/// broker, and what `chainring-region check` looks at.
///
/// Thread-safety: the tables it owns say their own; create_session(), end_incarnation() and the
/// subscription calls of one session from its home worker only.
/// Durability: each call that changes a session or subscription has drained when it returns.
#pragma once
#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "broker/broker.h"
#include "broker/broker_media.h"
#include "topic/filter_index.h"
#include "block/block_store.h"
#include "message/message.h"
#include "map/durable_map.h"
#include "region/recovery.h"
#include "region/region.h"
#include "ring/ring.h"
#include "ring/ring_media.h"

namespace chainring {

class store {
 public:
  [[nodiscard]] static std::vector<area_spec>
  areas(const store_layout& layout, std::uint64_t region_size, std::uint32_t block_size);

  /// Opens and recovers (design: read, make durable what was read, void, drain, rebuild, serve).
  [[nodiscard]] static result<std::unique_ptr<store>> open(region& on, const broker_config& config,
                                                           const broker::progress& told,
                                                           open_summary& summary);
  ~store();

  [[nodiscard]] block_store& blocks() noexcept { return *blocks_; }
  [[nodiscard]] message_table& messages() noexcept { return *messages_; }
  [[nodiscard]] queue_table& queues() noexcept { return *queues_; }
  [[nodiscard]] const block_store& blocks() const noexcept { return *blocks_; }
  [[nodiscard]] const message_table& messages() const noexcept { return *messages_; }
  [[nodiscard]] const queue_table& queues() const noexcept { return *queues_; }
  [[nodiscard]] media& medium() noexcept { return media_; }
  /// The region at least `size` bytes long, its new blocks free. One thread; workers go on.
  [[nodiscard]] result<void> grow(std::uint64_t size);
  [[nodiscard]] std::uint32_t sessions_max() const noexcept { return sessions_max_; }
  [[nodiscard]] std::uint64_t subscriptions_max() const noexcept { return subscriptions_max_; }

  // --- sessions ---------------------------------------------------------------------------------

  [[nodiscard]] session_word0 session_state_of(std::uint32_t number) const noexcept;
  [[nodiscard]] std::uint32_t session_incarnation(std::uint32_t number) const noexcept {
    return session_state_of(number).incarnation;
  }
  /// From any thread, as of some moment.
  [[nodiscard]] std::string client_id_seen(std::uint32_t n) const;
  [[nodiscard]] std::string_view client_id(std::uint32_t number) const noexcept;
  [[nodiscard]] std::uint16_t keep_alive_s(std::uint32_t number) const noexcept;
  /// A free record becomes the client's. One drain.
  void create_session(std::uint32_t number, std::string_view client_id, std::uint8_t flags,
                      std::uint16_t keep_alive_s) noexcept;
  /// Clean start (keep) or deletion: the next incarnation, with an empty queue and no
  /// subscriptions. `filters` has given them up before. Waits for placements that are open.
  void end_incarnation(std::uint32_t number, bool keep, std::uint8_t flags,
                       filter_index& filters) noexcept;

  // --- subscriptions ----------------------------------------------------------------------------

  /// Adds or replaces. False: a table is full. One drain.
  [[nodiscard]] bool add_subscription(std::uint32_t session, std::string_view filter,
                                      std::uint8_t bits) noexcept;
  void remove_subscription(std::uint32_t session, std::string_view filter) noexcept;
  /// Calls fn(session, filter, bits) for each that is whole; notes the others. At open.
  void for_each_subscription(
      const std::function<void(std::uint32_t, std::string_view, std::uint8_t)>& fn,
      std::vector<std::string>& notes);

  [[nodiscard]] static std::uint64_t now_ns() noexcept;

  /// What is wrong with the region's contents, in sentences; nothing is changed.
  [[nodiscard]] static result<std::vector<std::string>> check(region& on);

 private:
  store(region& on) : region_(on), media_(on.medium()) {}
  [[nodiscard]] result<void> attach(const broker_config& config);
  [[nodiscard]] result<void> recover(const broker::progress& told, open_summary& summary);
  /// What an open and a check run, in one table.
  [[nodiscard]] recovery parts(open_summary& summary);
  void tolerate_loss() noexcept;
  [[nodiscard]] const char* examine(std::uint32_t number) const noexcept;
  void void_sessions(recovery_context& c, open_summary& summary);
  [[nodiscard]] bool wanted(std::span<const std::byte> subscription_key) const noexcept;
  void commit_session(std::uint32_t number, session_word0 word) noexcept;
  using key_bytes = std::array<std::byte, subscription_key_prefix + 256>;
  [[nodiscard]] static std::span<const std::byte> key_of(std::uint32_t session,
                                                         std::uint32_t incarnation,
                                                         std::string_view filter,
                                                         key_bytes& key) noexcept;

  region& region_;
  media& media_;
  session_record* sessions_ = nullptr;
  const queue_record* queue_records_ = nullptr;
  std::uint32_t sessions_max_ = 0;
  std::uint64_t subscriptions_max_ = 0;
  std::unique_ptr<block_store> blocks_;
  std::unique_ptr<message_table> messages_;
  std::unique_ptr<queue_table> queues_;
  std::unique_ptr<durable_map> subscriptions_;
};

} // namespace chainring
