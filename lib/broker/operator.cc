// SPDX-License-Identifier: BSD-3-Clause
// What operators see of the broker, and what they ask of it.
//
// Its ordering labels are described in sessions.cc, inbox.cc and operator_view.h.
#include <algorithm>
#include <mutex>

#include "broker/broker.h"
#include "broker/worker_state.h"
#include "topic/topic.h"

namespace chainring {

namespace {

std::shared_ptr<const operator_reply> ask(worker_inbox& home, operator_request::kind what,
                                          std::string_view identity) {
  auto reply = std::make_shared<operator_reply>();
  const std::lock_guard guard(home.requests_lock);
  home.requests.push_back({what, std::string(identity), reply});
  home.asked.store(true, std::memory_order_release); // [asked-set]
  return reply;
}

} // namespace

std::optional<session_info> broker::common_state::info_of(std::uint32_t n) const {
  const session& s = sessions[n];
  const connection c = s.state.load(std::memory_order_acquire); // [home-read]
  if (c == connection::none) return std::nullopt;
  session_info i;
  i.number = n;
  i.identity = state->sessions().identity_seen(n);
  i.connected = c == connection::active;
  if (i.connected) i.address = s.address.read();
  i.ends_with_connection = (state->sessions().word0(n).flags & session_flag_clean) != 0;
  i.home = s.home.load(std::memory_order_relaxed);                 // [home-read]
  i.keep_alive_s = s.keep_alive_s.load(std::memory_order_relaxed); // [shown-only]
  const session_settings settings = state->sessions().settings(n);
  i.expiry_s = settings.expiry_s;
  i.disconnected_ns = i.connected ? 0 : settings.disconnected_ns;
  i.subscriptions = filters->count_of(n) + s.membership_count();
  i.over_bytes = s.over_bytes.load(std::memory_order_relaxed); // [shown-only]
  i.refused = s.refused.load(std::memory_order_relaxed);       // [shown-only]
  i.published = s.published.value();
  i.delivered = s.delivered.value();
  i.dropped_qos0 = s.dropped_qos0.value();
  i.expired_messages = s.expired_messages.value();
  i.oldest_published_ns = s.oldest_published_ns.load(std::memory_order_relaxed); // [shown-only]
  const chainring::queue_statistics q = state->queues().statistics(n);
  i.queue_depth = q.depth;
  i.queue_bytes = state->queues().content_bytes(n);
  i.queue_capacity = q.capacity;
  i.queue_limit = i.ends_with_connection && config.queue_slots_clean != 0 ? config.queue_slots_clean
                                                                          : config.queue_slots;
  i.queue_high_water = std::max<std::uint64_t>(
      q.high_water, s.high_water.load(std::memory_order_relaxed)); // [shown-only]
  i.dropped_newest = q.dropped_newest;
  i.dropped_oldest = q.dropped_oldest;
  if (q.depth == 0) i.oldest_published_ns = 0;
  return i;
}

std::uint32_t broker::sessions(std::uint32_t first, std::size_t max,
                               std::vector<session_info>& out) const {
  const std::uint32_t all = common_->state->sessions_max();
  std::uint32_t n = first;
  for (; n < all && out.size() < max; ++n)
    if (auto one = common_->info_of(n)) out.push_back(std::move(*one));
  return n < all ? n : 0;
}

std::optional<session_info> broker::session_of(std::string_view identity) const {
  const auto n = common_->identities->get(common_->key_of(identity));
  if (!n) return std::nullopt;
  auto found = common_->info_of(*n);
  // The number may belong to another session meanwhile, and two long identities may have one key.
  if (!found || found->identity != identity) return std::nullopt;
  return found;
}

std::uint32_t broker::topics(std::uint32_t first, std::size_t max,
                             std::vector<topic_info>& out) const {
  return common_->filters->for_each(first, max,
                                    [&](std::string_view filter, std::uint32_t subscriptions) {
                                      out.push_back({std::string(filter), subscriptions});
                                    });
}

std::vector<topic_info> broker::topics(std::size_t max) const {
  std::vector<topic_info> list;
  std::uint32_t first = 0;
  do
    first = topics(first, max - list.size(), list);
  while (first != 0 && list.size() < max);
  return list;
}

std::vector<subscription_info> broker::subscriptions_of(std::uint32_t n, std::uint32_t skip,
                                                        std::size_t max) const {
  std::vector<subscription_info> list;
  const auto identifier_of = [&](std::string_view filter) {
    // The session may end meanwhile, and then this finds nothing.
    return common_->state->identifier_of(n, common_->state->sessions().incarnation(n), filter);
  };
  constexpr std::size_t at_once = 256; // other sessions wait to subscribe while these are read
  std::uint32_t position = 0, passed = 0;
  do {
    position = common_->filters->for_each_of(
        n, position, at_once, [&](std::string_view filter, std::uint32_t options) {
          if (passed++ < skip || list.size() >= max) return;
          list.push_back({std::string(filter), subscription_option::qos_of(options)});
        });
  } while (position != 0 && list.size() < max);
  // Shared subscriptions stand behind the others.
  std::uint32_t at = common_->filters->count_of(n);
  common_->groups.for_each_of(
      n, common_->sessions[n].membership_count(), [&](std::uint32_t group, std::uint8_t qos) {
        if (at++ >= skip && list.size() < max)
          list.push_back(
              {std::string(shared_prefix) + common_->state->groups().identity_seen(group), qos});
      });
  for (subscription_info& s : list)
    s.identifier = identifier_of(s.filter);
  return list;
}

std::shared_ptr<const operator_reply> broker::kick(std::string_view identity) {
  if (!common_->identities->get(common_->key_of(identity))) return nullptr;
  return ask(*common_->inboxes[home_of(identity)], operator_request::kind::kick, identity);
}

std::shared_ptr<const operator_reply> broker::clear_queue(std::string_view identity) {
  if (!common_->identities->get(common_->key_of(identity))) return nullptr;
  return ask(*common_->inboxes[home_of(identity)], operator_request::kind::clear_queue, identity);
}

std::shared_ptr<const operator_reply> broker::clear_retained(std::string_view topic) {
  if (common_->retained->find(topic) == retained_table::none) return nullptr;
  return ask(*common_->inboxes[0], operator_request::kind::clear_retained, topic);
}

void broker::set_draining(bool on) noexcept {
  common_->draining.store(on, std::memory_order_relaxed); // [run-time-setting]
}
bool broker::draining() const noexcept {
  return common_->draining.load(std::memory_order_relaxed); // [run-time-setting]
}
void broker::set_session_expiry(std::uint32_t seconds) noexcept {
  common_->session_expiry_s.store(seconds, std::memory_order_relaxed); // [run-time-setting]
}
std::uint32_t broker::session_expiry() const noexcept {
  return common_->session_expiry_s.load(std::memory_order_relaxed); // [run-time-setting]
}

} // namespace chainring
