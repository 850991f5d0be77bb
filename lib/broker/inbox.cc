// SPDX-License-Identifier: BSD-3-Clause
// What other workers, operators and the clock leave for a worker.
//
// Edges:
//   [home-read] as in sessions.cc
//   [woken-set] exchange of a session's `woken` <-> [woken-cleared] its clearing by the home
//   [woken-pushed] release of the list's first session -> [woken-taken] acquire of the whole list
//   [asked-set] release of `asked` behind a request -> [asked-seen] acquire
#include <mutex>

#include "broker/worker_state.h"

namespace chainring {

namespace {
constexpr std::uint32_t sweep_pieces = 256; ///< sessions at a visit
} // namespace

void broker::shared::wake(std::uint32_t n) noexcept {
  session& s = sessions[n];
  // [home-read] acquire: pairs with [home-set].
  if (s.state.load(std::memory_order_acquire) == connection::none) return;
  // [woken-set] acq_rel: pairs with [woken-cleared]. Without it the home could clear the flag and
  // miss what was made ready before it was set.
  if (s.woken.exchange(true, std::memory_order_acq_rel)) return;
  std::atomic<std::uint32_t>& first =
      inboxes[s.home.load(std::memory_order_relaxed)]->woken; // [home-read]
  std::uint32_t next = first.load(std::memory_order_relaxed); // [woken-pushed] the exchange decides
  do {
    s.next_woken.store(next, std::memory_order_relaxed); // [woken-pushed] before the release below
  } while (!first.compare_exchange_weak(next, n, std::memory_order_release,
                                        std::memory_order_relaxed)); // [woken-pushed]
}

// Tells a session's home that there is something to look at.
void broker_worker::state::wake(std::uint32_t n) noexcept {
  session& s = at(n);
  // [home-read] acquire: the home is set before the state that shows it.
  if (s.state.load(std::memory_order_acquire) == connection::none) return;
  if (s.home.load(std::memory_order_relaxed) == number) return make_ready(s, n); // [home-read]
  shared.wake(n);
}

bool broker_worker::state::take_woken() noexcept {
  std::atomic<std::uint32_t>& first = shared.inboxes[number]->woken;
  if (first.load(std::memory_order_relaxed) == none) return false; // [woken-taken] a hint
  // [woken-taken] acquire: pairs with [woken-pushed]: each session's next_woken is seen.
  std::uint32_t n = first.exchange(none, std::memory_order_acquire);
  while (n != none) {
    session& s = at(n);
    const std::uint32_t next = s.next_woken.load(std::memory_order_relaxed); // [woken-taken]
    s.woken.exchange(false, std::memory_order_acq_rel); // [woken-cleared] pairs with [woken-set]
    // [home-read] as seen with [woken-cleared]: the number may have been given away meanwhile, and
    // what woke it may be for its new home.
    if (s.home.load(std::memory_order_relaxed) != number)
      shared.wake(n);
    else if (s.state.load(std::memory_order_relaxed) != connection::none) // [home-read] own session
      make_ready(s, n);
    n = next;
  }
  return true;
}

bool broker_worker::state::take_parcels() noexcept {
  bool any = false;
  volatile_parcel p{};
  while (shared.inboxes[number]->parcels.pop(&p)) {
    any = true;
    session& s = at(p.session);
    if (own(p.session) &&
        s.incarnation.load(std::memory_order_relaxed) == p.incarnation) // [incarnation-read] own
      keep_volatile(s, p.session, p.message, static_cast<std::uint8_t>(p.bits));
    else
      shared.volatiles->drop(p.message);
  }
  return any;
}

// Operators ask by identity: the session's number may be another's by now.
void broker_worker::state::take_requests() noexcept {
  worker_inbox& inbox = *shared.inboxes[number];
  // [asked-seen] acquire: pairs with [asked-set].
  if (!inbox.asked.load(std::memory_order_acquire)) [[likely]]
    return;
  {
    const std::lock_guard guard(inbox.requests_lock);
    inbox.asked.store(false, std::memory_order_relaxed); // [asked-seen] under the lock
    requests.swap(inbox.requests);
  }
  for (const operator_request& r : requests) {
    const auto n = shared.identities->get(shared.key_of(r.identity));
    if (!n) continue;
    session& s = at(*n);
    // [home-read] requests come to the home of the identity, which is this worker
    if (s.home.load(std::memory_order_acquire) != number) continue;
    if (r.what == operator_request::kind::kick) {
      ++count.kicked;
      end_session(*n, broker_event::kind::kicked);
      continue;
    }
    count.cleared += durable.queues().drop_oldest(*n, UINT32_MAX);
    forget_dropped(s, *n);
    make_dirty(s, *n);
  }
  requests.clear();
}

// A few sessions at each visit. Slots of refused publishes, and rings that were left, go with the
// next release: without an acknowledgement nothing else would ask for one.
void broker_worker::state::look_after_sessions() noexcept {
  const std::uint32_t all = durable.sessions_max();
  for (std::uint32_t i = 0; i < sweep_pieces; ++i) {
    const std::uint32_t n = sweep_from;
    sweep_from = n + 1 < all ? n + 1 : 0;
    session& s = at(n);
    // [home-read] acquire: the home is set before the state that shows it.
    const connection now = s.state.load(std::memory_order_acquire);
    if (now != connection::none &&
        s.home.load(std::memory_order_relaxed) == number) { // [home-read]
      if (now == connection::disconnected && expired(s, n)) {
        ++count.expired;
        end_session(n, broker_event::kind::expired);
      } else {
        make_dirty(s, n);
      }
    }
    if (sweep_from == 0) break;
  }
}

void broker_worker::state::tell(broker_event::kind what, std::uint32_t n, std::uint64_t held,
                                std::uint64_t more) noexcept {
  if (shared.observer == nullptr) return;
  // By identity_seen(): a full queue's session may be another worker's.
  if (what == broker_event::kind::queue_full) {
    const std::string identity = durable.sessions().identity_seen(n);
    return shared.observer(shared.observer_context, {what, n, identity, held, more});
  }
  shared.observer(shared.observer_context, {what, n, durable.sessions().identity(n), held, more});
}

} // namespace chainring
