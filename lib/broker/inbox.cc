// SPDX-License-Identifier: BSD-3-Clause
// What other workers, operators and the clock ask of a worker.
//
// Its ordering label [home-read] is described in sessions.cc.
//
// Ordering labels:
//   [woken-set]  wake() sets a session's `woken` by an acq_rel exchange; pairs with
//     [woken-cleared].
//   [woken-cleared]  The home clears `woken` by an acq_rel exchange before it looks at the
//     session; pairs with [woken-set].
//   [woken-pushed]  wake() stores the first session of the home's list with release; pairs with
//     [woken-taken].
//   [woken-taken]  The home takes the whole list with acquire; pairs with [woken-pushed].
//   [asked-set]  An operator's thread stores `asked` under requests_lock, which orders the
//     requests; the access orders nothing.
//   [asked-seen]  The worker loads `asked` to skip the lock while there is no request;
//     requests_lock orders the requests, so the access orders nothing.
#include <mutex>

#include "broker/worker_state.h"
#include "ring/consumer.h"

namespace chainring {

namespace {
constexpr std::uint32_t sweep_pieces = 256; ///< sessions that are checked in one visit
/// Expired messages that one visit drops from a queue, and retained messages that it looks at.
constexpr std::uint32_t expired_each_queue = 64, retained_pieces = 64;
} // namespace

void broker::common_state::wake(std::uint32_t n) noexcept {
  session& s = sessions[n];
  // [home-read]
  if (s.state.load(std::memory_order_acquire) == connection::none) return;
  // [woken-set] Without it the home could clear the flag and miss a message that was made ready
  // before the flag was set.
  if (s.woken.exchange(true, std::memory_order_acq_rel)) return;
  std::atomic<std::uint32_t>& first =
      inboxes[s.home.load(std::memory_order_relaxed)]->woken; // [home-read]
  std::uint32_t next = first.load(std::memory_order_relaxed); // [woken-pushed]
  do {
    // The release below orders this store. [woken-pushed]
    s.next_woken.store(next, std::memory_order_relaxed);
    // [woken-pushed] Without it the home could read an old next_woken and lose the rest of the
    // list.
  } while (!first.compare_exchange_weak(next, n, std::memory_order_release,
                                        std::memory_order_relaxed)); // [woken-pushed]
}

// Puts a session into the list of its home's sessions that may have deliveries.
void broker_worker::state::wake(std::uint32_t n) noexcept {
  session& s = at(n);
  // [home-read]
  if (s.state.load(std::memory_order_acquire) == connection::none) return;
  if (s.home.load(std::memory_order_relaxed) == number) return make_ready(s, n); // [home-read]
  common.wake(n);
}

bool broker_worker::state::take_woken() noexcept {
  std::atomic<std::uint32_t>& first = common.inboxes[number]->woken;
  if (first.load(std::memory_order_relaxed) == none) return false; // [woken-taken]
  // [woken-taken] Without it the home could read an old next_woken of a session in the list.
  std::uint32_t n = first.exchange(none, std::memory_order_acquire);
  while (n != none) {
    session& s = at(n);
    const std::uint32_t next = s.next_woken.load(std::memory_order_relaxed); // [woken-taken]
    // [woken-cleared] Without it the home could look at the queue before it clears the flag, and
    // miss a message whose wake() then finds the flag still set.
    s.woken.exchange(false, std::memory_order_acq_rel);
    // The number may belong to another session meanwhile, and the wake-up may be for its new home.
    // [home-read]
    if (s.home.load(std::memory_order_relaxed) != number)
      common.wake(n);
    else if (s.state.load(std::memory_order_relaxed) != connection::none) // [home-read]
      make_ready(s, n);
    n = next;
  }
  return true;
}

bool broker_worker::state::take_parcels() noexcept {
  bool any = false;
  volatile_parcel p{};
  while (common.inboxes[number]->parcels.pop(&p)) {
    any = true;
    session& s = at(p.session);
    if (own(p.session) &&
        s.incarnation.load(std::memory_order_relaxed) == p.incarnation) // [incarnation-read]
      keep_volatile(s, p.session, p.message, static_cast<std::uint8_t>(p.bits));
    else
      common.volatiles->drop(p.message);
  }
  return any;
}

// Handles the requests of operators. A request names the identity, because the session's number may
// belong to another session by now.
void broker_worker::state::take_requests() noexcept {
  worker_inbox& inbox = *common.inboxes[number];
  // [asked-seen]
  if (!inbox.asked.load(std::memory_order_acquire)) [[likely]]
    return;
  {
    const std::lock_guard guard(inbox.requests_lock);
    // The lock orders this store and the requests. [asked-seen]
    inbox.asked.store(false, std::memory_order_relaxed);
    requests.swap(inbox.requests);
  }
  for (const operator_request& r : requests) {
    if (r.what == operator_request::kind::clear_retained) {
      clears.push_back(r);
      continue;
    }
    answer_request(r);
    r.reply->finish();
  }
  requests.clear();
}

void broker_worker::state::answer_request(const operator_request& r) noexcept {
  const auto n = common.identities->get(common.key_of(r.identity));
  if (!n) return;
  session& s = at(*n);
  // A request comes to the home of its identity, which is this worker. [home-read]
  if (s.home.load(std::memory_order_acquire) != number) return;
  r.reply->found = true;
  // [home-read]
  r.reply->connected = s.state.load(std::memory_order_relaxed) == connection::active;
  if (r.what == operator_request::kind::kick) {
    r.reply->subscriptions = common.filters->count_of(*n) + s.membership_count();
    r.reply->messages = durable.queues().statistics(*n).depth;
    ++count.kicked;
    end_session(*n, broker_event::kind::kicked);
    return;
  }
  const std::uint32_t dropped = durable.queues().drop_oldest(*n, UINT32_MAX);
  r.reply->messages = dropped;
  count.cleared += dropped;
  forget_dropped(s, *n);
  make_dirty(s, *n);
}

// Drops the oldest messages of a queue that have expired. Those behind a message that has not wait
// for their delivery.
void broker_worker::state::drop_expired(session& s, std::uint32_t n,
                                        std::uint64_t now_ns) noexcept {
  const std::uint32_t dropped =
      queue_consumer(durable.queues()).drop_expired(n, now_ns, expired_each_queue);
  count.expired_messages += dropped;
  s.expired_messages += dropped;
}

// Looks at some topics at each visit, and erases the cells of those whose message has expired.
void broker_worker::state::clear_expired_retained() noexcept {
  const std::uint32_t all = common.retained->size();
  if (all == 0) return;
  const std::uint64_t now_ns = store::now_ns();
  for (std::uint32_t i = 0; i < retained_pieces; ++i) {
    if (retained_from >= all) {
      retained_from = 0;
      return;
    }
    retained_table::claim c;
    if (!common.retained->take_expired(retained_from++, now_ns, c)) continue;
    staged_publish p;
    p.retained = c.entry;
    p.retained_before = c.before;
    p.erases = true;
    staged.push_back(p);
    ++count.retained_expired;
  }
}

// Checks a few sessions at each visit: it ends expired ones, and marks the queues of the others
// dirty. Slots of refused publishes and rings that were left are freed with the next release, and
// without an acknowledgement nothing else would ask for one.
void broker_worker::state::check_sessions() noexcept {
  const std::uint32_t all = durable.sessions_max();
  const std::uint64_t now_ns = store::now_ns();
  for (std::uint32_t i = 0; i < sweep_pieces; ++i) {
    const std::uint32_t n = sweep_from;
    sweep_from = n + 1 < all ? n + 1 : 0;
    session& s = at(n);
    // [home-read]
    const connection now = s.state.load(std::memory_order_acquire);
    if (now != connection::none &&
        s.home.load(std::memory_order_relaxed) == number) { // [home-read]
      if (now == connection::disconnected && !s.ends_after_will && expired(s, n)) {
        ++count.expired;
        end_session(n, broker_event::kind::expired);
      } else {
        if (now == connection::disconnected) drop_expired(s, n, now_ns);
        make_dirty(s, n);
        s.oldest_published_ns.store(queue_consumer(durable.queues()).oldest_published_ns(n),
                                    std::memory_order_relaxed); // [shown-only]
        // A member that was silent gets messages from its groups again after a while.
        if (s.groups_from_tsc != 0 && now_tsc >= s.groups_from_tsc) {
          s.groups_from_tsc = 0;
          make_ready(s, n);
        }
      }
    }
    if (sweep_from == 0) break;
  }
}

void broker_worker::state::notify_observer(broker_event::kind what, std::uint32_t n,
                                           std::uint64_t held, std::uint64_t more) noexcept {
  if (common.observer == nullptr) return;
  // A full queue may belong to another worker's session, so its identity is read by
  // identity_seen().
  if (what == broker_event::kind::group_full) {
    const std::string identity = durable.groups().identity_seen(n);
    return common.observer(common.observer_context, {what, no_session, identity, held, more});
  }
  if (what == broker_event::kind::queue_full) {
    const std::string identity = durable.sessions().identity_seen(n);
    return common.observer(common.observer_context, {what, n, identity, held, more});
  }
  common.observer(common.observer_context, {what, n, durable.sessions().identity(n), held, more});
}

} // namespace chainring
