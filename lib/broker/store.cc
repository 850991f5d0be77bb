// SPDX-License-Identifier: BSD-3-Clause
// The broker's durable state.
//
// Crash windows:
//   [store-read] everything read is drained before recovery stores anything because of it.
//      Crash between: nothing has changed.
//   [store-voided] what recovery voids is drained before a block or descriptor is given out.
//      Crash between: recovery finds the same again.
//
// Edges: [queue-commit-read] acquire of a queue's commit word, with the release that stored it.
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

constexpr const char* sessions_area = "broker.sessions";
constexpr const char* queues_area = "broker.queues";
constexpr const char* subscriptions_area = "broker.subscriptions";
constexpr const char* messages_area = "broker.messages";
constexpr const char* groups_area = "broker.groups";
constexpr const char* group_queues_area = "broker.group_queues";
constexpr const char* retained_area = "broker.retained";
/// Of all areas: version 3, with everything the broker will keep.
constexpr std::uint32_t area_version = 3;

/// Subscriptions the index has room for to begin with; it grows while it is used.
constexpr std::uint64_t subscriptions_first = 4096;

constexpr std::size_t subscription_key_max = subscription_key_prefix + 65'535;

/// The key of a subscription, in memory of the calling thread.
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
  return error{errc::no_space, "a region of more than " + std::to_string(block_store::blocks_max) +
                                   " blocks of " + std::to_string(block_size) +
                                   " bytes: create one with larger blocks"};
}

} // namespace

std::vector<area_spec> store::areas(const store_layout& layout, std::uint64_t region_size,
                                    std::uint32_t block_size) {
  const std::uint64_t messages = layout.messages_max != 0
                                     ? layout.messages_max
                                     : std::max<std::uint64_t>(region_size / (2 * block_size), 64);
  return {
      {sessions_area, std::uint64_t{layout.sessions_max} * sizeof(session_record), area_version},
      {queues_area, queue_table::bytes_for(layout.sessions_max), area_version},
      {subscriptions_area, std::uint64_t{layout.subscriptions_max} * cacheline_size, area_version},
      {messages_area, messages * sizeof(message_descriptor), area_version},
      {groups_area, std::uint64_t{layout.groups_max} * sizeof(session_record), area_version},
      {group_queues_area, queue_table::bytes_for(layout.groups_max), area_version},
      {retained_area, std::uint64_t{layout.retained_max} * cacheline_size, area_version}};
}

store::~store() = default;

result<void> store::attach(const broker_config& config) {
  const region_geometry& g = region_.geometry();
  enum { sessions, queues, subscriptions, messages, groups, group_queues, retained };
  std::array<region_root, 7> roots;
  const char* const names[] = {sessions_area, queues_area,       subscriptions_area, messages_area,
                               groups_area,   group_queues_area, retained_area};
  for (std::size_t i = 0; i < roots.size(); ++i) {
    auto root = region_.root(names[i]);
    if (!root)
      return error{root.error().code, root.error().message +
                                          ": it was not made for a broker; create another with "
                                          "dpdk-chainring"};
    if (root->version != area_version)
      return error{errc::version,
                   std::string("root '") + names[i] + "' has version " +
                       std::to_string(root->version) + ", this build knows " +
                       std::to_string(area_version) +
                       ": drain it with the version that made it, and create another"};
    roots[i] = *root;
  }
  const std::uint64_t session_count = roots[sessions].size / sizeof(session_record);
  if (roots[queues].size < queue_table::bytes_for(static_cast<std::uint32_t>(session_count)))
    return error{errc::corrupt, "root 'broker.queues' has fewer records than there are sessions"};
  queue_segments_ = {{roots[queues].offset, session_count}};

  // Media reserve addresses for four times the size, unless told otherwise: as far as the region
  // can grow while it is open.
  const std::uint64_t most =
      std::min<std::uint64_t>(4 * (g.size / g.block_size), block_store::blocks_max);
  if (g.block_count > block_store::blocks_max) return too_many_blocks(g.block_size);
  auto blocks = block_store::create(media_, g.block_offset, g.block_size, g.block_count,
                                    {.block_count_max = static_cast<std::uint32_t>(most)});
  if (!blocks) return blocks.error();
  blocks_ = std::move(blocks).value();
  sessions_ = std::make_unique<session_table>(media_, *blocks_, "session");
  if (auto added = sessions_->add_segment({roots[sessions].offset, session_count}); !added)
    return added;
  auto table = message_table::create(
      media_, roots[messages].offset,
      static_cast<std::uint32_t>(roots[messages].size / sizeof(message_descriptor)), *blocks_);
  if (!table) return table.error();
  messages_ = std::move(table).value();
  queue_table_options qo;
  qo.capacity_max = config.queue_slots;
  qo.capacity = config.queue_slots_first == 0
                    ? config.queue_slots
                    : std::min(config.queue_slots_first, config.queue_slots);
  qo.overflow = config.overflow;
  // Rings in stock are at most a sixteenth of the region, the rest is for messages; and no more
  // than there are queues.
  const std::uint64_t stock = std::uint64_t{g.block_count} * g.block_size / 16 /
                              (std::bit_ceil(qo.capacity + 1ull) * sizeof(ring_slot));
  qo.stock = static_cast<std::uint32_t>(
      std::clamp<std::uint64_t>(stock, 1, std::min(qo.stock, sessions_->count())));
  auto made = queue_table::create(media_, roots[queues].offset, sessions_->count(), *blocks_,
                                  messages_.get(), qo);
  if (!made) return made.error();
  queues_ = std::move(made).value();
  const std::uint64_t cells = roots[subscriptions].size / cacheline_size;
  auto map = durable_map::create(media_, roots[subscriptions].offset, cells, *blocks_,
                                 std::min(cells, subscriptions_first));
  if (!map) return map.error();
  subscriptions_ = std::move(map).value();
  return refuse_later_contents();
}

// Groups and retained messages have their place in version 3, and no code here yet: a region that
// holds some must not be served as if it held none, which would free what they name.
result<void> store::refuse_later_contents() const {
  for (const char* name : {groups_area, group_queues_area, retained_area}) {
    auto root = region_.root(name);
    if (!root) return root.error();
    const std::byte* at = region_.at(root->offset);
    const bool unused =
        std::all_of(at, at + root->size, [](std::byte b) { return b == std::byte{}; });
    if (!unused)
      return error{errc::version, std::string("root '") + name +
                                      "' holds what this build does not know: open the region with "
                                      "the version that wrote it"};
  }
  return {};
}

result<std::unique_ptr<store>> store::open(region& on, const broker_config& config,
                                           const broker::progress& told, open_summary& summary) {
  std::unique_ptr<store> s(new store(on));
  if (auto attached = s->attach(config); !attached) return attached.error();
  if (auto recovered = s->recover(config, told, summary); !recovered) return recovered.error();
  return s;
}

bool store::has_queue(std::uint32_t n, std::uint32_t incarnation) const noexcept {
  for (const table_segment& s : queue_segments_) {
    if (n >= s.count) {
      n -= static_cast<std::uint32_t>(s.count);
      continue;
    }
    const auto& record = reinterpret_cast<const queue_record*>(region_.at(s.offset))[n];
    // [queue-commit-read] acquire: alone at open.
    const queue_commit queue = queue_commit::unpack(
        std::atomic_ref(const_cast<std::uint64_t&>(record.commit)).load(std::memory_order_acquire));
    return queue.count != 0 && queue.incarnation == incarnation;
  }
  return false;
}

// Sessions that end with the process or whose time is over, and records that cannot be.
void store::void_sessions(recovery_context& c, const broker_config& config, open_summary& summary) {
  const std::uint64_t now = now_ns();
  for (std::uint32_t n = 0; n < sessions_->count(); ++n, c.advance()) {
    const char* wrong = sessions_->examine(n);
    const session_word0 w = sessions_->word0(n);
    const bool used = wrong == nullptr && w.state == session_state::used;
    if (used && !sessions_->mark_live(n)) wrong = "its identity's blocks are another's";
    // A free number's queue may have a ring, left by a publisher that had matched the last session,
    // and nothing in it. It is not the next session's.
    const bool unowned = wrong == nullptr && !used && has_queue(n, w.incarnation);
    if (unowned && w.incarnation == 0) wrong = "it has a queue and was never used";
    bool expired = false;
    if (used && wrong == nullptr) {
      const session_settings s = sessions_->settings(n);
      const std::uint64_t expiry_s = s.expiry_s != 0 ? s.expiry_s : config.session_expiry_s;
      // A clock that was set back makes no session end early.
      expired = expiry_s != 0 && s.disconnected_ns != 0 && now > s.disconnected_ns &&
                now - s.disconnected_ns >= expiry_s * 1'000'000'000;
    }
    if (wrong != nullptr)
      c.report({"session " + std::to_string(n), std::string(wrong) + "; it is deleted"});
    if (wrong == nullptr && !unowned && !expired && (!used || (w.flags & session_flag_clean) == 0))
      continue;
    sessions_->void_record(n, has_queue(n, w.incarnation + 1) ? w.incarnation + 1 : UINT32_MAX, c);
    summary.expired += expired;
    ++summary.voided;
  }
}

// The subscriptions of sessions as they are now.
bool store::wanted(std::span<const std::byte> key) const noexcept {
  if (key.size() <= subscription_key_prefix) return false;
  std::uint32_t words[2];
  std::memcpy(words, key.data(), sizeof words);
  if (words[0] >= sessions_->count()) return false;
  const session_word0 w = sessions_->word0(words[0]);
  return w.state == session_state::used && w.incarnation == words[1];
}

// The driver drains after each phase: [store-read] what was visible when the last process died need
// not have been durable; [store-voided] nothing is given out while what is void could come back.
result<void> store::recover(const broker_config& config, const broker::progress& told,
                            open_summary& summary) {
  blocks_->begin_recovery();
  messages_->begin_recovery();
  const auto notes = [](recovery_context& c, const char* object,
                        const std::vector<std::string>& of) {
    for (const std::string& note : of)
      c.report({object, note});
  };
  const auto fatal = [](recovery_context& c, const char* object, const error& e) {
    c.report({object, e.message, severity::fatal});
  };
  recovery all;
  all.add({.name = "sessions",
           .items = sessions_->count(),
           .persist_as_read = [&](recovery_context&) { sessions_->persist_as_read(); },
           .repair = [&](recovery_context& c) { void_sessions(c, config, summary); }});
  all.add({.name = "messages",
           .persist_as_read = [&](recovery_context&) { messages_->persist_as_read(); }});
  all.add({.name = "queues",
           .persist_as_read = [&](recovery_context&) { queues_->persist_as_read(); },
           .repair =
               [&](recovery_context& c) {
                 auto found = queues_->recover(
                     [this](std::uint32_t n) { return sessions_->incarnation(n); });
                 if (!found) return fatal(c, "queues", found.error());
                 summary.queues = found->queues;
                 summary.voided += found->voided;
                 notes(c, "queues", found->notes);
               }});
  all.add({.name = "subscriptions",
           .persist_as_read = [&](recovery_context&) { subscriptions_->persist_as_read(); },
           .repair =
               [&](recovery_context& c) {
                 const auto found = subscriptions_->recover(
                     [this](std::span<const std::byte> key) { return wanted(key); });
                 summary.subscriptions = found.entries;
                 notes(c, "subscriptions", found.notes);
               }});
  all.add({.name = "free memory", .rebuild = [&](recovery_context& c) {
             messages_->finish_recovery();
             blocks_->finish_recovery();
             tolerate_loss(); // recovery has required by now whatever it follows
             if (auto served = queues_->finish_recovery(); !served)
               fatal(c, "queues", served.error());
           }});
  recovery_listener listener;
  if (told)
    listener = [&](const recovery_progress& p) {
      told(std::string(to_string(p.phase)) + " " + p.part, p.done, p.total);
    };
  auto report = all.run(region_, listener);
  if (!report) return report.error();
  for (const problem& p : report->problems)
    summary.notes.push_back(p.text());
  summary.messages = messages_->statistics().live;
  for (std::uint32_t n = 0; n < sessions_->count(); ++n)
    summary.sessions += sessions_->word0(n).state == session_state::used;
  summary.durability = media_.durability();
  return {};
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

void store::for_each_subscription(
    const std::function<void(std::uint32_t, std::string_view, std::uint32_t)>& fn,
    std::vector<std::string>& notes) {
  subscriptions_->for_each([&](std::span<const std::byte> key, std::span<const std::byte> value) {
    if (key.size() <= subscription_key_prefix) return;
    std::uint32_t session;
    std::memcpy(&session, key.data(), sizeof session);
    std::uint32_t words[2] = {};
    if (value.size() == subscription_value_size) std::memcpy(words, value.data(), sizeof words);
    if (!std::ranges::equal(value, subscription_value(key, words[0], words[1]))) {
      notes.push_back("subscription of session " + std::to_string(session) +
                      ": its checksum does not fit; it is not served");
      return;
    }
    const std::string_view filter(reinterpret_cast<const char*>(key.data()) +
                                      subscription_key_prefix,
                                  key.size() - subscription_key_prefix);
    if (!valid_topic_filter(filter) || (words[0] & ~subscription_option::defined) != 0) {
      notes.push_back("subscription of session " + std::to_string(session) +
                      ": its filter or its options are malformed; it is not served");
      return;
    }
    fn(session, filter, words[0]);
  });
}

std::uint64_t store::now_ns() noexcept {
  timespec t{};
  clock_gettime(CLOCK_REALTIME, &t);
  return static_cast<std::uint64_t>(t.tv_sec) * 1'000'000'000u +
         static_cast<std::uint64_t>(t.tv_nsec);
}

result<std::vector<std::string>> store::check(region& on) {
  store s(on);
  if (auto attached = s.attach(broker_config{}); !attached) return attached.error();
  std::vector<std::string> wrong;
  for (std::uint32_t n = 0; n < s.sessions_->count(); ++n)
    if (const char* why = s.sessions_->examine(n))
      wrong.push_back("session " + std::to_string(n) + ": " + why);
  const message_check messages = s.messages_->check();
  if (messages.malformed != 0)
    wrong.push_back("message " + std::to_string(messages.first_malformed) + ": " +
                    messages.first_reason + " (and " + std::to_string(messages.malformed - 1) +
                    " more)");
  const queue_recovery queues = s.queues_->check();
  wrong.insert(wrong.end(), queues.notes.begin(), queues.notes.end());
  const auto map = s.subscriptions_->check();
  wrong.insert(wrong.end(), map.notes.begin(), map.notes.end());
  return wrong;
}

result<void> store::grow(std::uint64_t size) {
  // Before the region is larger for good.
  const region_geometry& g = region_.geometry();
  if (size > g.block_offset && (size - g.block_offset) / g.block_size > block_store::blocks_max)
    return too_many_blocks(g.block_size);
  if (auto grown = region_.grow(size); !grown) return grown;
  tolerate_loss();
  return blocks_->extend(region_.geometry().block_count);
}

// The block area holds the content of messages, which has a checksum and is delivered by it; and
// rings, long keys and extent lists, which are required one by one.
void store::tolerate_loss() noexcept {
  const region_geometry& g = region_.geometry();
  media_.tolerate_loss(region_.at(g.block_offset), g.block_count * g.block_size);
}

} // namespace chainring
