// SPDX-License-Identifier: BSD-3-Clause
// Subscriptions.
//
// A subscription is one record in the map. The record is stored and flushed with the burst. After
// the burst's drain the filter enters the index and the call is settled. An unsubscribe first takes
// the filter out of the index and then erases the record. So after a crash the index matches
// filters that were settled, or filters whose request was not answered. Shared subscriptions join a
// group (sharing.cc) instead of entering the index.
//
// Its ordering labels are described in sessions.cc and, for [indexed-before-scan], in scan.cc.
#include "base/hook.h"
#include "broker/worker_state.h"
#include "topic/topic.h"

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
  if (!remove && options.retain_handling != retain_handling::never && needs_scan(filter)) {
    // A SUBSCRIBE that will be refused ends no scan of another client.
    if (has_its_share_of_scans(s, n, filter) || !may_scan(!is_at_subscription_limit(n))) {
      ++count.subscribes_refused;
      ++count.retained_scans_refused;
      return answer_with(s.server, token, outcome::congestion);
    }
    ++scans_promised;
    ++s.scans_promised;
  }
  s.has_identifiers |= options.identifier != 0 && !remove;
  const std::uint32_t word =
      options.qos | std::uint32_t{options.front_end_bits} << subscription_option::front_end_shift |
      (options.no_local ? subscription_option::no_local : 0) |
      (options.retain_as_published ? subscription_option::retain_as_published : 0) |
      static_cast<std::uint32_t>(options.retain_handling)
          << subscription_option::retain_handling_shift;
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
       .scans = false,
       .undone = false,
       .result = outcome::accepted});
  filter_text.append(filter);
}

bool broker_worker::state::is_at_subscription_limit(std::uint32_t n) noexcept {
  return common.filters->count_of(n) + at(n).membership_count() + at(n).joining >=
         config.subscriptions_per_session_max;
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
    if (asks_to_share(filter)) {
      apply_shared(p, filter, batch);
      continue;
    }
    if (p.remove) {
      bool was = common.filters->remove(filter, p.session);
      end_scans_of(p.session, filter);
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
    if (is_at_subscription_limit(p.session)) {
      p.result = outcome::congestion;
      continue;
    }
    p.applied = store::put_subscription(batch, p.session, p.incarnation, filter, p.options,
                                        p.identifier) == map_status::done;
    if (!p.applied) p.result = outcome::congestion;
  }
}

// Gives a subscription up whose session has ended behind apply_subscriptions(), for example because
// its will was sent. Returns false for every other one. The record may replace an earlier one of
// the incarnation, so it is erased where all records of an ended incarnation are: in the next
// burst, behind the drain of the end.
bool broker_worker::state::give_up_ended(staged_subscription& p) noexcept {
  if (p.by == nullptr || (!p.applied && !p.joins) ||
      at(p.session).incarnation.load(std::memory_order_relaxed) == // [incarnation-read]
          p.incarnation)
    return false;
  if (p.joins) {
    --at(p.session).joining;
    free_place(p.place - 1);
  }
  p.ended = p.applied;
  p.result = outcome::congestion;
  return true;
}

// Settles the subscriptions of the burst. Call it after the burst's drain.
void broker_worker::state::finish_subscriptions() noexcept {
  bool undone = false;
  scans_promised = 0;
  // A number whose session has ended may be another worker's by now.
  for (const staged_subscription& p : subscriptions)
    if (p.by != nullptr &&
        at(p.session).incarnation.load(std::memory_order_relaxed) == // [incarnation-read]
            p.incarnation)
      at(p.session).scans_promised = 0;
  for (staged_subscription& p : subscriptions) {
    const std::string_view filter(filter_text.data() + p.filter_at, p.filter_size);
    if (p.deferred || give_up_ended(p)) continue;
    if (p.by != nullptr && asks_to_share(filter)) {
      finish_shared(p);
      p.undone = p.applied && p.result != outcome::accepted;
      undone |= p.undone;
      continue;
    }
    if (!p.applied) continue;
    end_scans_of(p.session, filter);
    const bool early = seeded_bug("broker.scan_before_index");
    if (early) p.scans = begin_scan(p, filter);
    const auto added = common.filters->add(filter, p.session, p.options);
    hook_point("broker.subscription.indexed");
    if (filter_index::accepted(added)) {
      const auto handling =
          static_cast<retain_handling>(p.options >> subscription_option::retain_handling_shift & 3);
      const bool wanted =
          handling == retain_handling::always ||
          (handling == retain_handling::if_new && added == filter_index::status::added);
      if (wanted && !early) {
        // [indexed-before-scan] Without it a publisher could miss the subscription, and the scan
        // its claim.
        std::atomic_thread_fence(std::memory_order_seq_cst); // [indexed-before-scan]
        p.scans = begin_scan(p, filter);
        // The session keeps the subscription, and its client asks again.
        const bool full =
            free_scans.empty() || at(p.session).scans >= config.retained_scans_per_session_max;
        if (!p.scans && full && needs_scan(filter)) {
          p.result = outcome::congestion;
          ++count.retained_scans_refused;
        }
      }
      continue;
    }
    // A filter with too many levels is refused finally.
    p.result = added == filter_index::status::full ? outcome::congestion : outcome::too_long;
    p.undone = undone = true;
  }
  if (undone) {
    durable_map::batch batch(durable.subscriptions());
    for (const staged_subscription& p : subscriptions)
      if (p.undone)
        store::erase_subscription(batch, p.session, p.incarnation,
                                  {filter_text.data() + p.filter_at, p.filter_size});
  }
  finish_leaving();
  std::size_t kept = 0; // requests, and records to erase, that wait for the next burst
  const auto keep = [&](staged_subscription& p) {
    const std::string_view filter(filter_text.data() + p.filter_at, p.filter_size);
    p.filter_at = static_cast<std::uint32_t>(deferred_text.size());
    deferred_text.append(filter);
    subscriptions[kept++] = p;
  };
  for (staged_subscription& p : subscriptions) {
    if (p.by == nullptr || p.scans) continue; // a scan settles its subscription itself
    if (p.deferred) {
      p.deferred = false;
      p.result = outcome::accepted;
      keep(p);
      continue;
    }
    if (p.result == outcome::congestion || p.result == outcome::too_long)
      ++count.subscribes_refused;
    answer_with(p.by, p.token, p.result);
    if (!p.ended) continue;
    p.by = nullptr;
    p.remove = true;
    p.applied = p.joins = false;
    keep(p);
  }
  subscriptions.resize(kept);
  filter_text.swap(deferred_text);
  deferred_text.clear();
}

} // namespace chainring
