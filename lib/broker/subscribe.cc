// SPDX-License-Identifier: BSD-3-Clause
// Subscriptions.
//
// A subscription is one record in the map. The record is stored and flushed with the burst. After
// the burst's drain the filter enters the index and the call is settled. An unsubscribe first takes
// the filter out of the index and then erases the record. So after a crash the index matches
// filters that were settled, or filters whose request was not answered.
//
// Its ordering label [incarnation-read] is described in sessions.cc.
#include "broker/worker_state.h"

namespace chainring {

void broker_worker::state::subscribe(std::uint32_t n, std::string_view filter,
                                     const subscribe_options& options, std::uint64_t token,
                                     bool remove) noexcept {
  session& s = at(n);
  ++(remove ? count.unsubscribes : count.subscribes);
  if (filter.size() > config.topic_size_max) {
    ++count.subscribes_refused;
    return answer_with(s.server, token, outcome::too_long);
  }
  const std::uint32_t word = options.qos | std::uint32_t{options.front_end_bits}
                                               << subscription_option::front_end_shift;
  subscriptions.push_back(
      {.by = s.server,
       .token = token,
       .session = n,
       .incarnation = s.incarnation.load(std::memory_order_relaxed), // [incarnation-read]
       .filter_at = static_cast<std::uint32_t>(filter_text.size()),
       .filter_size = static_cast<std::uint32_t>(filter.size()),
       .options = word,
       .identifier = options.identifier,
       .remove = remove,
       .applied = false,
       .result = outcome::accepted});
  filter_text.append(filter);
}

void broker_worker::state::apply_subscriptions(durable_map::batch& batch) noexcept {
  for (staged_subscription& p : subscriptions) {
    const std::string_view filter(filter_text.data() + p.filter_at, p.filter_size);
    if (p.by == nullptr) { // the subscription belongs to an incarnation that has ended
      store::erase_subscription(batch, p.session, p.incarnation, filter);
      continue;
    }
    const std::uint32_t now =
        at(p.session).incarnation.load(std::memory_order_relaxed); // [incarnation-read]
    if (now != p.incarnation) { // the session has ended meanwhile
      p.result = outcome::congestion;
      continue;
    }
    if (p.remove) {
      bool was = common.filters->remove(filter, p.session);
      // A subscription that this burst adds is not in the index yet.
      for (staged_subscription* q = subscriptions.data(); q != &p; ++q)
        if (q->applied && q->session == p.session &&
            filter == std::string_view(filter_text.data() + q->filter_at, q->filter_size)) {
          q->applied = false;
          was = true;
        }
      if (was) store::erase_subscription(batch, p.session, p.incarnation, filter);
      p.result = was ? outcome::accepted : outcome::not_found;
      continue;
    }
    if (common.filters->count_of(p.session) >= config.subscriptions_per_session_max) {
      p.result = outcome::congestion;
      continue;
    }
    p.applied = store::put_subscription(batch, p.session, p.incarnation, filter, p.options,
                                        p.identifier) == map_status::done;
    if (!p.applied) p.result = outcome::congestion;
  }
}

// Settles the subscriptions of the burst. Call it after the burst's drain.
void broker_worker::state::finish_subscriptions() noexcept {
  bool undone = false;
  for (staged_subscription& p : subscriptions) {
    const std::string_view filter(filter_text.data() + p.filter_at, p.filter_size);
    if (!p.applied) continue;
    const auto added = common.filters->add(filter, p.session, p.options);
    if (filter_index::accepted(added)) continue;
    // A filter with too many levels is refused finally.
    p.result = added == filter_index::status::full ? outcome::congestion : outcome::too_long;
    undone = true;
  }
  if (undone) {
    durable_map::batch batch(durable.subscriptions());
    for (const staged_subscription& p : subscriptions)
      if (p.applied && p.result != outcome::accepted)
        store::erase_subscription(batch, p.session, p.incarnation,
                                  {filter_text.data() + p.filter_at, p.filter_size});
  }
  for (const staged_subscription& p : subscriptions) {
    if (p.by == nullptr) continue;
    if (p.result == outcome::congestion || p.result == outcome::too_long)
      ++count.subscribes_refused;
    answer_with(p.by, p.token, p.result);
  }
  subscriptions.clear();
  filter_text.clear();
}

} // namespace chainring
