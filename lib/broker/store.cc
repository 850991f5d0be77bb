// SPDX-License-Identifier: BSD-3-Clause
// The broker's durable state: its areas, and the tables made from them.
#include "broker/store.h"

#include <algorithm>
#include <array>
#include <bit>
#include <cstring>
#include <ctime>

#include "base/crc32c.h"
#include "ring/ring_media.h"
#include "topic/topic.h"

namespace chainring {

namespace {

/// How far a table of `count` places can grow while it is open: to sixteen times its size, so that
/// the DRAM kept for each place stays in proportion, but at least to a small number and at most to
/// `most`.
std::uint64_t limit_of(std::uint64_t count, std::uint64_t most) noexcept {
  constexpr std::uint64_t least = 1024;
  return std::max(count, std::min(most, std::max(16 * count, least)));
}
constexpr std::uint64_t sessions_most = 1u << 20;
constexpr std::uint64_t groups_most = 1u << 16;
constexpr std::uint64_t subscriptions_most = 1u << 24;
constexpr std::uint64_t messages_most = 1u << 31;
constexpr std::uint64_t retained_most = 1u << 24;

/// The number of subscriptions that the index has room for at first; it grows while it is used.
constexpr std::uint64_t subscriptions_first = 4096;
/// The same of retained messages.
constexpr std::uint64_t retained_first = 1024;

constexpr std::size_t subscription_key_max = subscription_key_prefix + 65'535;

/// Makes the key of a subscription in memory of the calling thread.
std::span<const std::byte> key_of(std::uint32_t session, std::uint32_t incarnation,
                                  std::string_view filter) noexcept {
  thread_local std::array<std::byte, subscription_key_max> key;
  const std::uint32_t words[2] = {session, incarnation};
  std::memcpy(key.data(), words, sizeof words);
  std::memcpy(key.data() + subscription_key_prefix, filter.data(), filter.size());
  return std::span(key.data(), subscription_key_prefix + filter.size());
}

std::array<std::byte, subscription_value_size>
subscription_value(std::span<const std::byte> key, std::uint32_t options,
                   std::uint32_t identifier) noexcept {
  std::uint32_t words[subscription_value_size / 4] = {options, identifier, 0, 0};
  constexpr std::size_t covered = subscription_value_size - sizeof(std::uint32_t);
  words[3] = crc32c(crc32c(0, key.data(), key.size()), words, covered);
  std::array<std::byte, subscription_value_size> value;
  std::memcpy(value.data(), words, sizeof words);
  return value;
}

error too_many_blocks(std::uint32_t block_size) {
  return error{errc::no_space, "the region would have more than " +
                                   std::to_string(block_store::blocks_max) + " blocks of " +
                                   std::to_string(block_size) +
                                   " bytes; create a region with larger blocks"};
}

} // namespace

std::vector<area_spec> store::areas(const store_layout& layout, std::uint64_t region_size,
                                    std::uint32_t block_size) {
  const std::uint64_t messages = layout.messages_max != 0
                                     ? layout.messages_max
                                     : std::max<std::uint64_t>(region_size / (2 * block_size), 64);
  return {
      {store_area::sessions, std::uint64_t{layout.sessions_max} * sizeof(session_record),
       store_area::version},
      {store_area::queues, queue_table::bytes_for(layout.sessions_max), store_area::version},
      {store_area::subscriptions, std::uint64_t{layout.subscriptions_max} * cacheline_size,
       store_area::version},
      {store_area::messages, messages * sizeof(message_descriptor), store_area::version},
      {store_area::groups, std::uint64_t{layout.groups_max} * sizeof(session_record),
       store_area::version},
      {store_area::group_queues, queue_table::bytes_for(layout.groups_max), store_area::version},
      {store_area::retained, std::uint64_t{layout.retained_max} * cacheline_size,
       store_area::version}};
}

store::~store() = default;

result<std::vector<region_root>> store::ranges(const char* name) const {
  if (auto root = region_.root(name); !root)
    return error{root.error().code,
                 root.error().message +
                     ": the region was not made for a broker; create another one with "
                     "dpdk-chainring"};
  std::vector<region_root> found = region_.ranges(name);
  for (const region_root& root : found)
    if (root.version != store_area::version)
      return error{errc::version,
                   "root '" + root.name + "' has version " + std::to_string(root.version) +
                       ", but this build knows " + std::to_string(store_area::version) +
                       "; drain it with the version that made it, and create another"};
  return found;
}

result<void> store::attach(const broker_config& config) {
  const region_geometry& g = region_.geometry();
  // Unless told otherwise, media reserve addresses for four times the size of the region, which is
  // how far it can grow while it is open.
  const std::uint64_t most =
      std::min<std::uint64_t>(4 * (g.size / g.block_size), block_store::blocks_max);
  if (g.block_count > block_store::blocks_max) return too_many_blocks(g.block_size);
  auto blocks = block_store::create(media_, g.block_offset, g.block_size, g.block_count,
                                    {.block_count_max = static_cast<std::uint32_t>(most)});
  if (!blocks) return blocks.error();
  blocks_ = std::move(blocks).value();

  auto roots = ranges(store_area::sessions);
  if (!roots) return roots.error();
  sessions_ = std::make_unique<session_table>(media_, *blocks_, "session");
  for (const region_root& root : *roots)
    if (auto added = sessions_->add_segment({root.offset, root.size / sizeof(session_record)});
        !added)
      return added;
  sessions_limit_ = static_cast<std::uint32_t>(limit_of(sessions_->count(), sessions_most));

  roots = ranges(store_area::messages);
  if (!roots) return roots.error();
  std::vector<message_segment> descriptors;
  std::uint64_t count = 0;
  for (const region_root& root : *roots) {
    descriptors.push_back(
        {root.offset, static_cast<std::uint32_t>(root.size / sizeof(message_descriptor))});
    count += descriptors.back().count;
  }
  // Every message has at least one block.
  messages_limit_ =
      static_cast<std::uint32_t>(limit_of(count, std::min<std::uint64_t>(most, messages_most)));
  auto table =
      message_table::create(media_, descriptors, *blocks_, {.descriptors_max = messages_limit_});
  if (!table) return table.error();
  messages_ = std::move(table).value();

  roots = ranges(store_area::queues);
  if (!roots) return roots.error();
  std::vector<queue_segment> records;
  count = 0;
  for (const region_root& root : *roots) {
    records.push_back({root.offset, static_cast<std::uint32_t>(root.size / sizeof(queue_record))});
    queue_segments_.push_back({root.offset, records.back().count});
    count += records.back().count;
  }
  if (count < sessions_->count())
    return error{errc::corrupt,
                 "root 'broker.queues' has fewer queue records than there are sessions"};
  queue_table_options qo;
  qo.queues_max = std::max(sessions_limit_, static_cast<std::uint32_t>(count));
  const auto limit_to = [&](std::uint32_t slots) {
    qo.capacity_max = slots;
    qo.capacity = config.queue_slots_first == 0 ? slots : std::min(config.queue_slots_first, slots);
  };
  limit_to(config.queue_slots_most());
  qo.count_bytes = config.queue_bytes != 0;
  qo.lease_span = packet_id_count; // each lease of a session has a packet id of its own
  // The rings in stock take at most a sixteenth of the region, which leaves the rest to messages,
  // and there are not more of them than queues.
  const std::uint64_t stock = std::uint64_t{g.block_count} * g.block_size / 16 /
                              (std::bit_ceil(qo.capacity + 1ull) * sizeof(ring_slot));
  qo.stock = static_cast<std::uint32_t>(
      std::clamp<std::uint64_t>(stock, 1, std::min(qo.stock, sessions_->count())));
  auto made = queue_table::create(media_, records, *blocks_, messages_.get(), qo);
  if (!made) return made.error();
  queues_ = std::move(made).value();
  limit_to(config.queue_slots);
  if (auto attached = attach_groups(qo); !attached) return attached;

  roots = ranges(store_area::subscriptions);
  if (!roots) return roots.error();
  std::vector<map_segment> cells;
  count = 0;
  for (const region_root& root : *roots) {
    cells.push_back({root.offset, root.size / cacheline_size});
    count += cells.back().cells;
  }
  subscriptions_limit_ = static_cast<std::uint32_t>(limit_of(count, subscriptions_most));
  auto map = durable_map::create(media_, cells, *blocks_, std::min(count, subscriptions_first),
                                 subscriptions_limit_);
  if (!map) return map.error();
  subscriptions_ = std::move(map).value();

  roots = ranges(store_area::retained);
  if (!roots) return roots.error();
  cells.clear();
  count = 0;
  for (const region_root& root : *roots) {
    cells.push_back({root.offset, root.size / cacheline_size});
    count += cells.back().cells;
  }
  retained_limit_ = static_cast<std::uint32_t>(limit_of(count, retained_most));
  map = durable_map::create(media_, cells, *blocks_, std::min(count, retained_first),
                            retained_limit_);
  if (!map) return map.error();
  retained_ = std::move(map).value();
  return {};
}

// Attaches the records and queues of groups. Their queues are like those of sessions, but have
// several consumers, and no rings in stock: there are few groups, and they live long.
result<void> store::attach_groups(const queue_table_options& like) {
  auto roots = ranges(store_area::groups);
  if (!roots) return roots.error();
  groups_ = std::make_unique<session_table>(media_, *blocks_, "group");
  for (const region_root& root : *roots)
    if (auto added = groups_->add_segment({root.offset, root.size / sizeof(session_record)});
        !added)
      return added;
  groups_limit_ = static_cast<std::uint32_t>(limit_of(groups_->count(), groups_most));
  roots = ranges(store_area::group_queues);
  if (!roots) return roots.error();
  std::vector<queue_segment> records;
  std::uint64_t count = 0;
  for (const region_root& root : *roots) {
    records.push_back({root.offset, static_cast<std::uint32_t>(root.size / sizeof(queue_record))});
    group_queue_segments_.push_back({root.offset, records.back().count});
    count += records.back().count;
  }
  if (count < groups_->count())
    return error{errc::corrupt,
                 "root 'broker.group_queues' has fewer queue records than there are groups"};
  queue_table_options options = like;
  options.queues_max = std::max(groups_limit_, static_cast<std::uint32_t>(count));
  options.mode = queue_mode::mpmc;
  options.stock = 0;
  auto made = queue_table::create(media_, records, *blocks_, messages_.get(), options);
  if (!made) return made.error();
  group_queues_ = std::move(made).value();
  return {};
}

result<std::unique_ptr<store>> store::open(region& opened_region, const broker_config& config,
                                           const broker::progress& report_progress,
                                           open_summary& summary) {
  std::unique_ptr<store> s(new store(opened_region));
  if (auto attached = s->attach(config); !attached) return attached.error();
  if (auto recovered = s->recover(config, report_progress, summary); !recovered)
    return recovered.error();
  return s;
}

map_status store::put_subscription(durable_map::batch& in, std::uint32_t session,
                                   std::uint32_t incarnation, std::string_view filter,
                                   std::uint32_t options, std::uint32_t identifier) noexcept {
  const auto key = key_of(session, incarnation, filter);
  return in.upsert(key, subscription_value(key, options, identifier));
}

map_status store::erase_subscription(durable_map::batch& in, std::uint32_t session,
                                     std::uint32_t incarnation, std::string_view filter) noexcept {
  return in.erase(key_of(session, incarnation, filter));
}

const char* store::examine(std::span<const std::byte> key, std::span<const std::byte> value,
                           subscription& out) noexcept {
  if (key.size() <= subscription_key_prefix)
    return "its key is malformed; the subscription is not served";
  std::memcpy(&out.session, key.data(), sizeof out.session);
  std::uint32_t words[2] = {};
  if (value.size() == subscription_value_size) std::memcpy(words, value.data(), sizeof words);
  if (!std::ranges::equal(value, subscription_value(key, words[0], words[1])))
    return "its checksum is wrong; the subscription is not served";
  out.options = words[0];
  out.identifier = words[1];
  out.filter = {reinterpret_cast<const char*>(key.data()) + subscription_key_prefix,
                key.size() - subscription_key_prefix};
  if (!valid_topic_filter(out.filter) ||
      (asks_to_share(out.filter) && !split_shared_filter(out.filter)) ||
      (words[0] & ~subscription_option::defined) != 0)
    return "its filter or its options are malformed; the subscription is not served";
  return nullptr;
}

std::uint32_t store::identifier_of(std::uint32_t session, std::uint32_t incarnation,
                                   std::string_view filter) const noexcept {
  const auto key = key_of(session, incarnation, filter);
  std::array<std::byte, subscription_value_size> value{};
  std::size_t size = 0;
  subscription s;
  if (subscriptions_->get(key, value, size) != map_status::done || size != value.size() ||
      examine(key, value, s) != nullptr)
    return 0;
  return s.identifier;
}

void store::for_each_subscription(
    const std::function<void(std::uint32_t, std::string_view, std::uint32_t, std::uint32_t)>& fn) {
  subscriptions_->for_each([&](std::span<const std::byte> key, std::span<const std::byte> value) {
    subscription s;
    if (examine(key, value, s) == nullptr) fn(s.session, s.filter, s.options, s.identifier);
  });
}

std::uint64_t store::now_ns() noexcept {
  timespec t{};
  clock_gettime(CLOCK_REALTIME, &t);
  return static_cast<std::uint64_t>(t.tv_sec) * 1'000'000'000u +
         static_cast<std::uint64_t>(t.tv_nsec);
}

result<void> store::grow(std::uint64_t size) {
  // The size is checked before the region grows, because it cannot become smaller again.
  const region_geometry& g = region_.geometry();
  if (size > g.block_offset && (size - g.block_offset) / g.block_size > block_store::blocks_max)
    return too_many_blocks(g.block_size);
  if (auto grown = region_.grow(size); !grown) return grown;
  tolerate_loss();
  return blocks_->extend(region_.geometry().block_count);
}

// The block area holds the content of messages, which has a checksum that delivery checks. It also
// holds rings, long keys and extent lists, each of which is required on its own.
void store::tolerate_loss() noexcept {
  const region_geometry& g = region_.geometry();
  media_.tolerate_loss(region_.at(g.block_offset), g.block_count * g.block_size);
}

} // namespace chainring
