// SPDX-License-Identifier: BSD-3-Clause
/// The broker's durable state: what its region holds, opened and recovered as one. Internal to the
/// broker.
///
/// Thread-safety: the tables it owns say their own.
#pragma once
#include <cstdint>
#include <functional>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "block/block_store.h"
#include "broker/broker.h"
#include "broker/broker_media.h"
#include "broker/session_table.h"
#include "map/durable_map.h"
#include "message/message.h"
#include "region/recovery.h"
#include "region/region.h"
#include "ring/ring.h"

namespace chainring {

class store {
 public:
  [[nodiscard]] static std::vector<area_spec>
  areas(const store_layout& layout, std::uint64_t region_size, std::uint32_t block_size);

  /// Opens and recovers (design: read, make durable what was read, void, drain, rebuild, serve).
  [[nodiscard]] static result<std::unique_ptr<store>> open(region& on, const broker_config& config,
                                                           const broker::progress& told,
                                                           open_summary& summary);
  /// What is wrong with the region's contents, in sentences; nothing is changed.
  [[nodiscard]] static result<std::vector<std::string>> check(region& on);
  ~store();

  [[nodiscard]] block_store& blocks() noexcept { return *blocks_; }
  [[nodiscard]] message_table& messages() noexcept { return *messages_; }
  [[nodiscard]] queue_table& queues() noexcept { return *queues_; }
  [[nodiscard]] session_table& sessions() noexcept { return *sessions_; }
  [[nodiscard]] durable_map& subscriptions() noexcept { return *subscriptions_; }
  [[nodiscard]] media& medium() noexcept { return media_; }
  /// The region at least `size` bytes long, its new blocks free. One thread; workers go on.
  [[nodiscard]] result<void> grow(std::uint64_t size);
  /// See broker::grow_tables().
  [[nodiscard]] result<unsigned> grow_tables(std::uint32_t sessions_free);
  [[nodiscard]] std::uint32_t sessions_max() const noexcept { return sessions_->count(); }
  [[nodiscard]] std::uint64_t subscriptions_max() const noexcept {
    return subscriptions_->capacity();
  }

  /// A change of a subscription in a batch of the map: durable after the batch's flush() and the
  /// next drain.
  static map_status put_subscription(durable_map::batch& in, std::uint32_t session,
                                     std::uint32_t incarnation, std::string_view filter,
                                     std::uint32_t options, std::uint32_t identifier) noexcept;
  static map_status erase_subscription(durable_map::batch& in, std::uint32_t session,
                                       std::uint32_t incarnation, std::string_view filter) noexcept;
  /// Calls fn(session, filter, options) for each that is whole; notes the others. At open.
  void for_each_subscription(
      const std::function<void(std::uint32_t, std::string_view, std::uint32_t)>& fn,
      std::vector<std::string>& notes);

  [[nodiscard]] static std::uint64_t now_ns() noexcept;

 private:
  explicit store(region& on) : region_(on), media_(on.medium()) {}
  [[nodiscard]] result<void> attach(const broker_config& config);
  [[nodiscard]] result<void> recover(const broker_config& config, const broker::progress& told,
                                     open_summary& summary);
  [[nodiscard]] result<void> refuse_later_contents() const;
  void tolerate_loss() noexcept;
  void void_sessions(recovery_context& c, const broker_config& config, open_summary& summary);
  [[nodiscard]] bool wanted(std::span<const std::byte> subscription_key) const noexcept;
  [[nodiscard]] bool has_queue(std::uint32_t number, std::uint32_t incarnation) const noexcept;

  region& region_;
  media& media_;
  std::unique_ptr<session_table> sessions_;
  std::vector<table_segment> queue_segments_;
  std::unique_ptr<block_store> blocks_;
  std::unique_ptr<message_table> messages_;
  std::unique_ptr<queue_table> queues_;
  std::unique_ptr<durable_map> subscriptions_;
};

} // namespace chainring
