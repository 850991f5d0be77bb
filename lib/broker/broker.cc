// SPDX-License-Identifier: BSD-3-Clause
// The broker's core: its set-up and its statistics.
//
// Its ordering labels are described in sessions.cc, inbox.cc and operator_view.h.
#include "broker/broker.h"

#include <algorithm>
#include <array>
#include <bit>
#include <chrono>
#include <mutex>
#include <new>
#include <rte_cycles.h>
#include <rte_ring.h>

#include "broker/worker_state.h"
#include "topic/topic.h"

namespace chainring {

unsigned broker::common_state::home_of(std::string_view identity) const noexcept {
  return broker::home_of(identity, home_seed, config.workers);
}

// Makes a session a member of its group again, during an open.
bool broker::common_state::add_member(std::uint32_t session, std::string_view filter,
                                      std::uint32_t options) {
  const std::string_view identity = split_shared_filter(filter)->both;
  const auto got = groups.join(key_of(identity), identity);
  if (got.how != group_directory::joined::status::joined) return false;
  const auto listed = groups.activate(got.place, session, options);
  // A place that is not served stays the session's, so that the group goes on with its record, and
  // both end with the subscription.
  groups.link(got.place, sessions[session]);
  return filter_index::accepted(listed);
}

std::vector<area_spec> broker::areas(const store_layout& layout, std::uint64_t region_size,
                                     std::uint32_t block_size) {
  return store::areas(layout, region_size, block_size);
}

result<std::vector<std::string>> broker::check(chainring::region& region) {
  return store::check(region);
}

broker::broker(std::unique_ptr<common_state> s) : common_(std::move(s)) {}

broker::~broker() {
  common_->workers.clear(); // the workers refer to the other members
}

result<std::unique_ptr<broker>> broker::open(std::unique_ptr<chainring::region> region,
                                             const broker_config& config,
                                             const progress& report_progress) {
  if (config.workers == 0 || config.workers > 64)
    return error{errc::invalid_argument,
                 "workers " + std::to_string(config.workers) + ": expected 1 to 64"};
  const auto began = std::chrono::steady_clock::now();
  auto s = std::make_unique<common_state>();
  s->config = config;
  s->session_expiry_s.store(config.session_expiry_s,
                            std::memory_order_relaxed); // [run-time-setting]
  s->opened_region = std::move(region);
  auto state = store::open(*s->opened_region, config, report_progress, s->opened);
  if (!state) return state.error();
  s->state = std::move(state).value();
  const std::uint32_t count = s->state->sessions_max();
  s->sessions_limit = s->state->sessions_limit();
  s->home_seed = config.home_seed != 0 ? config.home_seed : random_seed();
  s->identity_seeds = {random_seed(), random_seed()};

  filter_index_options fo;
  fo.subscriptions_max = static_cast<std::uint32_t>(s->state->subscriptions_max());
  fo.filters_max = fo.subscriptions_max;
  fo.levels_max = fo.subscriptions_max;
  // A group is a subscriber whose number follows those of sessions.
  const std::uint32_t groups_limit = s->state->groups_limit();
  fo.sessions_max = s->sessions_limit + groups_limit;
  fo.subscriptions_ceiling = s->state->subscriptions_limit();
  fo.readers = config.workers;
  s->filters = std::make_unique<filter_index>(fo);
  auto identities = seq_map<identity_key, std::uint32_t>::create(
      s->sessions_limit, map_hash<identity_key>{random_seed()}, count);
  if (!identities) return identities.error();
  s->identities = std::move(identities).value();
  if (config.sessions_per_source_max != 0) {
    auto sources = seq_map<std::uint64_t, std::uint32_t>::create(
        s->sessions_limit, map_hash<std::uint64_t>{random_seed()}, count);
    if (!sources) return sources.error();
    s->sources = std::move(sources).value();
  }
  if (!s->sessions.make(s->sessions_limit))
    return error{errc::no_space,
                 "there is no memory for " + std::to_string(s->sessions_limit) + " sessions"};
  s->free_sessions.reserve(s->sessions_limit); // so that workers never allocate when they add to it
  session_table& records = s->state->sessions();
  std::vector<std::uint32_t> of_worker(config.workers);
  for (std::uint32_t i = count; i-- > 0;) {
    session& one = *new (&s->sessions[i]) session;
    one.incarnation.store(records.incarnation(i),
                          std::memory_order_relaxed); // [incarnation-set]
    if (records.word0(i).state == session_state::free) {
      s->free_sessions.push_back(i);
      continue;
    }
    const std::string_view identity = records.identity(i);
    one.ends_with_connection = (records.word0(i).flags & session_flag_clean) != 0;
    const unsigned home = s->home_of(identity);
    ++of_worker[home];
    one.home.store(static_cast<std::uint8_t>(home),
                   std::memory_order_relaxed);                            // [home-set]
    one.state.store(connection::disconnected, std::memory_order_relaxed); // [home-set]
    if (s->identities->insert(s->key_of(identity), i) != map_status::done)
      s->opened.notes.push_back(
          "session " + std::to_string(i) +
          ": another identity has the same hashes; the session is not served");
  }
  const std::uint32_t share = s->sessions_limit / config.workers;
  s->sessions_per_worker = std::max(std::min(s->sessions_limit, share + share / 2 + 1024),
                                    *std::ranges::max_element(of_worker));
  std::vector<std::string>& notes = s->opened.notes;
  if (!s->groups.make(s->state->groups(), *s->filters, s->sessions_limit, groups_limit,
                      config.group_members_max) ||
      !s->declined.make(config.group_members_max))
    return error{errc::no_space, "there is no memory for " + std::to_string(groups_limit) +
                                     " groups of " + std::to_string(config.group_members_max) +
                                     " members"};
  session_table& groups = s->state->groups();
  for (std::uint32_t g = groups.count(); g-- > 0;)
    if (groups.word0(g).state == session_state::free)
      s->groups.add_free(g);
    else if (!s->groups.add_found(g, s->key_of(groups.identity(g))))
      notes.push_back("group " + std::to_string(g) +
                      ": another identity has the same hashes; the group is not served");
  s->state->for_each_subscription(
      [&](std::uint32_t n, std::string_view filter, std::uint32_t options,
          std::uint32_t identifier) {
        s->sessions[n].has_identifiers |= identifier != 0;
        if (asks_to_share(filter)) {
          if (!s->add_member(n, filter, options))
            notes.push_back("subscription of session " + std::to_string(n) +
                            ": its group has too many members or levels, or the index is full; the "
                            "subscription is not served");
          return;
        }
        if (!filter_index::accepted(s->filters->add(filter, n, options)))
          notes.push_back("subscription of session " + std::to_string(n) +
                          ": the filter has too many levels or the index is full; the "
                          "subscription is not served");
      });
  const std::uint64_t blocks = s->opened_region->geometry().block_count;
  const std::uint32_t block_size = s->opened_region->geometry().block_size;
  s->retained = std::make_unique<retained_table>(retained_table::options{
      .topics = static_cast<std::uint32_t>(s->state->retained().capacity()),
      .topics_ceiling = s->state->retained_limit(),
      .messages_max = config.retained_messages_max,
      .bytes_max =
          config.retained_bytes_max != 0 ? config.retained_bytes_max : blocks / 4 * block_size,
      .name_bytes_max =
          std::min(s->state->retained_limit() * std::bit_ceil(std::uint64_t{config.topic_size_max}),
                   detail::name_arena::bytes_limit),
      .block_size = block_size});
  s->state->for_each_retained(
      [&](std::string_view topic, const retained_message& now, const retained_message* before) {
        if (!s->retained->add(topic, now, before))
          notes.push_back("retained message: there is no memory for its topic; it is not served");
      });
  s->volatiles = std::make_unique<volatile_pool>(config.volatile_messages_max,
                                                 config.topic_size_max, config.content_size_max);
  for (unsigned w = 0; w < config.workers; ++w) {
    auto inbox = std::make_unique<worker_inbox>();
    inbox->parcels = value_ring(config.volatile_messages_max, sizeof(volatile_parcel),
                                RING_F_MP_HTS_ENQ | RING_F_SC_DEQ);
    s->inboxes.push_back(std::move(inbox));
  }
  for (unsigned w = 0; w < config.workers; ++w)
    s->workers.push_back(std::unique_ptr<broker_worker>(
        new broker_worker(std::make_unique<broker_worker::state>(*s, w))));
  for (unsigned w = 0; w < config.workers; ++w)
    s->workers[w]->state_->own_sessions = of_worker[w];
  adopt_identifiers(*s);
  for (std::uint32_t i = 0; i < count; ++i)
    if (s->sessions[i].state.load(std::memory_order_relaxed) != connection::none) // [home-read]
      s->workers[s->sessions[i].home.load(std::memory_order_relaxed)]             // [home-read]
          ->state_->schedule_will_after_open(i);
  s->opened.seconds =
      std::chrono::duration<double>(std::chrono::steady_clock::now() - began).count();
  return std::unique_ptr<broker>(new broker(std::move(s)));
}

// Gives the identifiers that recovery found open to the homes of their sessions. There may be more
// of them than a worker may have, because the workers of the last process had other homes.
void broker::adopt_identifiers(common_state& s) {
  for (const open_identifier& i : s.state->take_identifiers()) {
    session& of = s.sessions[i.session];
    broker_worker::state& home =
        *s.workers[of.home.load(std::memory_order_relaxed)]->state_; // [home-read]
    if (home.identifiers.full()) home.identifiers.reserve_more(1);
    if (home.identifiers.find(of.identifiers, i.packet_id) == nullptr &&
        home.identifiers.add(of.identifiers, i.packet_id, i.message, true))
      continue;
    // Only damage leaves two of them. The first burst closes the second one.
    s.opened.notes.push_back("message " + std::to_string(i.message.index) + ": session " +
                             std::to_string(i.session) + " has another message with packet id " +
                             std::to_string(i.packet_id) + "; this one is closed");
    home.closings.push_back({i.message, nullptr, 0});
  }
}

broker_worker::state::state(broker::common_state& s, unsigned n)
    : common(s), config(s.config), durable(*s.state), medium(s.state->medium()), number(n),
      names({.topics_max = s.config.topics_max,
             .fan_out_max = s.sessions_limit + s.groups.limit(),
             .name_bytes_max = std::max<std::uint64_t>(64u << 20, s.config.topic_size_max)}),
      tsc_hz(rte_get_tsc_hz()), queues_grow(config.queue_slots_first != 0 &&
                                            config.queue_slots_first < config.queue_slots_most()),
      drops_oldest(config.overflow == overflow_policy::drop_oldest ||
                   config.overflow_clean == overflow_policy::drop_oldest),
      slots_differ(config.queue_slots_clean != 0 && config.queue_slots_clean != config.queue_slots),
      drain_bytes_max(medium.drain_bytes_max() / 2), in_place(durable.messages(), count),
      planned(1024), identifiers(s.config.identifiers_max), nodes(s.config.volatile_messages_max),
      flights(s.config.in_flight_max),
      lease_tsc(std::uint64_t{s.config.group_lease_ms} * tsc_hz / 1000),
      pressed_lease_tsc(std::uint64_t{s.config.group_lease_pressed_ms} * tsc_hz / 1000),
      skipped_tsc(std::max<std::uint64_t>(s.config.group_lease_skipped_ms, 1) * tsc_hz / 1000),
      leases_max(std::min(s.config.group_leases_max, group_leases_most)),
      expires_ns(s.groups.limit()), own_members(s.groups.limit()), group_is_dirty(s.groups.limit()),
      name_buffer(s.config.topic_size_max), will_topic(s.config.topic_size_max),
      will_content(s.config.content_size_max), scans(s.config.retained_scans_max),
      content_buffer(s.config.content_size_max), properties_buffer(s.config.content_size_max),
      will_properties(s.config.content_size_max) {
  if (!leases.make(leases_max)) throw std::bad_alloc();
  const std::uint32_t sessions_there = durable.sessions().count();
  for (std::uint32_t i = 0; i < sessions_there && s.groups.member_count() != 0; ++i)
    if (at(i).membership_count() != 0 &&
        at(i).home.load(std::memory_order_relaxed) == n) // [home-read]
      for (std::uint32_t p = at(i).first_place; p != 0; p = s.groups.member(p - 1).next_plus_1)
        add_own_member(s.groups.group_of(p - 1));
  // These sizes suffice for a usual burst. A wider fan-out makes the vectors grow once.
  constexpr std::size_t burst_max = 1024;
  staged.reserve(burst_max);
  targets.reserve(16 * burst_max);
  targets_sorted.reserve(16 * burst_max);
  staged_done.reserve(burst_max);
  targets_done.reserve(16 * burst_max);
  groups_done.reserve(16 * burst_max);
  volatile_targets.reserve(16 * burst_max);
  without_newest.reserve(burst_max);
  beyond_bytes.reserve(burst_max);
  groups.reserve(16 * burst_max);
  refs.reserve(16 * burst_max);
  answers.reserve(16 * burst_max);
  settled_now.reserve(16 * burst_max);
  subscriptions.reserve(burst_max);
  filter_text.reserve(64 * burst_max);
  records.reserve(burst_max);
  closings.reserve(burst_max);
  receipts.reserve(burst_max);
  moves.reserve(burst_max);
  resting.reserve(burst_max);
  rested.reserve(burst_max);
  endings.reserve(burst_max);
  aside.reserve(config.aside_max);
  for (std::uint32_t i = s.config.retained_scans_max; i-- > 0;) {
    scans[i].filter.reserve(s.config.topic_size_max);
    free_scans.push_back(i);
  }
  running_scans.reserve(s.config.retained_scans_max);
  tidy.reserve(burst_max);
  will_changes.reserve(config.wills_changing_max);
  wills_now.reserve(s.sessions_per_worker);
  wills_later.reserve(s.sessions_per_worker);
  former_wills.reserve(burst_max);
  ready.reserve(s.sessions_per_worker);
  ready_next.reserve(s.sessions_per_worker);
  backlog.reserve(2 * std::size_t{s.sessions_per_worker}); // with those that have had their turn
  dirty.reserve(s.sessions_per_worker);
  for (std::uint32_t i = static_cast<std::uint32_t>(nodes.size()); i-- > 0;)
    free_nodes.push_back(i);
  for (std::uint32_t i = static_cast<std::uint32_t>(flights.size()); i-- > 0;)
    free_flights.push_back(i);
}

broker_worker& broker::worker(unsigned number) noexcept {
  return *common_->workers[number];
}
unsigned broker::workers() const noexcept {
  return common_->config.workers;
}
unsigned broker::home_of(std::string_view identity, std::uint64_t seed, unsigned workers) noexcept {
  const std::uint64_t hash =
      hash_bytes(std::as_bytes(std::span(identity.data(), identity.size())), seed);
  return static_cast<unsigned>((hash >> 32) * workers >> 32);
}
unsigned broker::home_of(std::string_view identity) const noexcept {
  return common_->home_of(identity);
}
void broker::observe(broker_observer observer, void* context) noexcept {
  common_->observer = observer;
  common_->observer_context = context;
}
const broker_config& broker::config() const noexcept {
  return common_->config;
}
const open_summary& broker::opened() const noexcept {
  return common_->opened;
}
region& broker::region() noexcept {
  return *common_->opened_region;
}
block_store& broker::blocks() noexcept {
  return common_->state->blocks();
}
media& broker::medium() noexcept {
  return common_->state->medium();
}

broker_counters broker::counters(unsigned worker) const {
  broker_counters sum{};
  add_counters(sum, common_->workers[worker]->state_->count);
  return sum;
}

broker_counters broker::counters() const {
  broker_counters sum{};
  for (const auto& w : common_->workers)
    add_counters(sum, w->state_->count);
  return sum;
}

block_store_statistics broker::block_statistics() const noexcept {
  return common_->state->blocks().statistics();
}
message_table_statistics broker::message_statistics() const noexcept {
  return common_->state->messages().statistics();
}
queue_table_statistics broker::queue_statistics() const noexcept {
  return common_->state->queues().statistics();
}
std::uint32_t broker::sessions_limit() const noexcept {
  return common_->sessions_limit;
}
std::uint32_t broker::sessions_per_worker() const noexcept {
  return common_->sessions_per_worker;
}
std::uint32_t broker::sessions_capacity() const noexcept {
  return common_->state->sessions_max();
}
std::uint64_t broker::subscriptions_capacity() const noexcept {
  return common_->state->subscriptions_max();
}

std::uint32_t broker::groups(std::uint32_t first, std::size_t max,
                             std::vector<group_info>& out) const {
  session_table& records = common_->state->groups();
  const std::uint32_t all = records.count();
  std::uint32_t g = first;
  for (; g < all && out.size() < max; ++g) {
    const shared_group& group = common_->groups.at(g);
    if (group.state.load(std::memory_order_acquire) != group_state::used) continue; // [home-read]
    const std::string identity = records.identity_seen(g);
    const std::size_t end = identity.find('/');
    if (end == std::string::npos) continue; // it ended meanwhile
    group_info i;
    i.number = g;
    i.name = identity.substr(0, end);
    i.filter = identity.substr(end + 1);
    i.members = common_->groups.active_count(g);
    const chainring::queue_statistics q = common_->state->group_queues().statistics(g);
    i.queue_depth = q.depth;
    i.queue_limit = common_->config.queue_slots;
    i.queue_high_water = std::max<std::uint64_t>(
        q.high_water, group.high_water.load(std::memory_order_relaxed)); // [shown-only]
    i.leased = group.leased.load(std::memory_order_relaxed);             // [shown-only]
    i.refused = group.refused.load(std::memory_order_relaxed);           // [shown-only]
    out.push_back(std::move(i));
  }
  return g < all ? g : 0;
}

std::uint32_t broker::group_count() const noexcept {
  return common_->groups.group_count();
}
std::uint32_t broker::group_member_count() const noexcept {
  return common_->groups.member_count();
}
std::uint32_t broker::groups_capacity() const noexcept {
  return common_->state->groups().count();
}
queue_table_statistics broker::group_queue_statistics() const noexcept {
  return common_->state->group_queues().statistics();
}

std::uint32_t broker::retained(std::uint32_t first, std::size_t max,
                               std::vector<retained_info>& out) const {
  std::uint32_t n = first;
  retained_message m;
  for (; n < common_->retained->size() && out.size() < max; ++n) {
    retained_info i;
    if (!common_->retained->show(n, i.topic, m)) continue;
    i.size = m.payload_size;
    i.qos = m.qos;
    i.published_ns = m.published_ns;
    out.push_back(std::move(i));
  }
  return n < common_->retained->size() ? n : 0;
}

retained_statistics broker::retained_counts() const noexcept {
  const retained_table::statistics s = common_->retained->count();
  return {s.messages, s.bytes, s.messages_max, s.bytes_max};
}

std::uint32_t broker::session_count() const noexcept {
  return static_cast<std::uint32_t>(common_->identities->len());
}
std::uint32_t broker::subscription_count() const noexcept {
  // The index counts a group once, whatever the number of its members.
  return common_->filters->subscription_count() - common_->groups.group_count() +
         common_->groups.member_count();
}

result<void> broker::grow(std::uint64_t size) {
  return common_->state->grow(size);
}

result<void> broker::close() {
  common_->compactor.reset();
  common_->workers.clear();
  return common_->opened_region->close();
}

} // namespace chainring
