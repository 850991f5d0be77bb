// SPDX-License-Identifier: BSD-3-Clause
// The publish that is by far the most frequent: at QoS 1, not retained, to one session whose queue
// has room. It needs no plan, because no other queue can refuse it, so it is placed when it arrives
// and not at the end of the burst. Its drains are those of the burst (burst.cc), and it becomes
// ready and is acknowledged behind them. What is not such a publish goes the way of publish.cc.
//
// The messages of a sender keep their order: a sender that has staged a publish of another kind in
// this burst places none at once until the burst is over.
//
// Nothing may wait for a placement of this worker in the middle of a burst. A session that ends
// waits for those in its queue, so finish_endings() finishes all of them before.
//
// Its ordering labels are described in sessions.cc and burst.cc.
#include "broker/publish_fields.h"
#include "broker/worker_state.h"

namespace chainring {

// Returns false for any other publish, with nothing changed; publish_any() decides about it.
bool broker_worker::state::publish_direct(front_end& by, std::uint32_t from, std::uint32_t topic,
                                          std::span<const std::byte> content,
                                          const publish_options& options,
                                          std::uint64_t token) noexcept {
  if (options.qos != 1 || options.retain || options.expiry_s != 0 || from == no_session ||
      content.size() > config.content_size_max)
    return false;
  if (burst_ns == 0) begin_burst();
  session& sender = at(from);
  if (!burst_is_usual || sender.aside != 0 ||
      (!staged.empty() && sender.staged_burst == burst_number &&
       !seeded_bug("broker.direct_overtakes")))
    return false;
  const std::uint64_t version = common.filters->version();
  const std::span<const subscriber> to = names.subscribers(topic, *common.filters, number);
  if (to.size() != 1 || common.groups.is_group(to[0].session) ||
      subscription_option::qos_of(to[0].options) == 0 ||
      (to[0].session == from && (to[0].options & subscription_option::no_local) != 0))
    return false;
  const std::uint32_t n = to[0].session;
  const slot_delivery bits{1, false, subscription_option::front_end_bits_of(to[0].options)};
  // The same order as in find_room(): see there.
  const std::uint32_t incarnation =
      at(n).incarnation.load(std::memory_order_acquire); // [incarnation-read]
  if (common.filters->version() != version) return false;

  message_table& messages = durable.messages();
  direct_publish& p = direct.emplace_back();
  const std::string_view name = names.name(topic);
  // These are the options, as they were compared above.
  const publish_options usual{
      .qos = 1, .retain = false, .packet_id = options.packet_id, .expiry_s = 0};
  if (!(in_place.wants(content.size())
            ? in_place.stage_one([=, this] { return fields_of(name, from, content.size(), usual); },
                                 name, content, p.content)
            : messages.stage_one(fields_of(name, from, content.size(), usual), name, content,
                                 p.content))) {
    direct.pop_back();
    return false;
  }
  p.session = n;
  p.incarnation = incarnation;
  p.bits = bits.pack();
  p.ref = slot_ref(p.content.ref, slot_delivery::sealed(n, p.content.ref, p.bits));
  if (!place_direct(p)) [[unlikely]] {
    in_place.give_up(p.content, content);
    direct.pop_back();
    return false;
  }
  p.by = &by;
  p.token = token;
  p.topic = topic;
  names.hold(topic);
  ++sender.published;
  ++count.published_qos1;
  return true;
}

// Its calls are small ones, once a message.
CHAINRING_STAGE [[gnu::flatten]] bool
broker_worker::state::place_direct(direct_publish& p) noexcept {
  if (durable.queues().place_start(p.session, p.incarnation, {&p.ref, 1}, p.placement) !=
      place_status::placed) [[unlikely]]
    return false;
  note_high_water(p.session, p.placement.depth);
  return true;
}

[[gnu::flatten]] void broker_worker::state::flush_direct() noexcept { // small calls, once a message
  for (const direct_publish& p : direct) {
    cover(p.content.size + sizeof(ring_slot));
    // Crash behind the drain: the message is not published, so its slot is void and its blocks are
    // free. Its publisher was not answered.
    durable.messages().flush_staged(p.content); // [place-before-publish]
  }
  const direct_publish* const end = direct.data() + direct.size();
  for (const direct_publish* p = direct.data(); p != end;) {
    placement run = p->placement; // slots that are neighbours often share their lines
    while (++p != end && p->placement.ring == run.ring &&
           p->placement.first_ticket == run.first_ticket + run.count)
      ++run.count;
    durable.queues().place_flush(run); // [place-before-publish]
  }
}

void broker_worker::state::commit_direct() noexcept {
  message_table& messages = durable.messages();
  for (const direct_publish& p : direct) {
    // Crash behind the drain: the message is published, and its publisher sends it again.
    messages.publish(p.content); // [publish-before-ready]
    if (!seeded_bug("broker.no_publish_flush"))
      messages.flush_published(p.content); // [publish-before-ready]
  }
}

// Behind the drains: makes the messages ready.
void broker_worker::state::finish_direct() noexcept {
  if (direct.empty()) return;
  queue_table& queues = durable.queues();
  for (const direct_publish& p : direct) {
    queues.place_finish(p.placement); // [publish-before-ready]

    // The home delivers the message from what it still knows of it. [home-read]
    if (at(p.session).home.load(std::memory_order_relaxed) != number) wake(p.session);
  }
  count.placed += direct.size();
  // A burst may have settled others of its publishes before.
  if (direct_done.empty()) [[likely]]
    direct_done.swap(direct);
  else
    direct_done.insert(direct_done.end(), direct.begin(), direct.end());
  direct.clear();
}

// Publishes what is placed in the middle of a burst. A drain of the caller follows, and then
// finish_direct().
void broker_worker::state::publish_placed() noexcept {
  if (direct.empty()) return;
  undrained = 0;
  flush_direct(); // [place-before-publish]
  drain();        // [place-before-publish]
  hook_point("broker.direct.drained");
  commit_direct(); // [publish-before-ready]
}

// Tells the front ends that the publishes are accepted, or that their content is lost.
void broker_worker::state::report_direct() noexcept {
  for (std::size_t i = 0; i < direct_done.size();) {
    front_end* const by = direct_done[i].by;
    settled_now.clear();
    for (; i < direct_done.size() && direct_done[i].by == by; ++i)
      if (direct_done[i].token != no_token) // [publish-before-ready]
        settled_now.push_back(
            {direct_done[i].token, direct_done[i].lost ? outcome::lost : outcome::accepted});
    by->settled(settled_now);
  }
}

// Delivers each message to its subscriber, if that waits for it and for nothing else. Otherwise the
// session becomes ready, and deliver() finds the message in its queue.
[[gnu::flatten]] void broker_worker::state::deliver_direct() noexcept {
  credit_of_burst credit;
  for (const direct_publish& p : direct_done) {
    session& s = at(p.session);
    if (s.home.load(std::memory_order_relaxed) != number) continue; // [home-read]
    if (!offer_direct(s, p, credit)) wake(p.session);
  }
}

// A session that is active has the home that it had when it became active, as own() finds it.
bool broker_worker::state::offer_direct(session& s, const direct_publish& p,
                                        credit_of_burst& credit) noexcept {
  const std::uint32_t n = p.session;
  if (s.state.load(std::memory_order_acquire) != connection::active || // [home-read]
      s.home.load(std::memory_order_relaxed) != number ||              // [home-read]
      s.ready || s.paused || s.has_pending || is_window_full(s) || s.unsettled != 0 ||
      s.volatile_count != 0 || s.last_taken != 0 || p.lost || s.membership_count() != 0 ||
      s.asleep.load(std::memory_order_relaxed) ||                       // [turn-only]
      s.incarnation.load(std::memory_order_relaxed) != p.incarnation || // [incarnation-read]
      !credit.take(*s.server, n))
    return false;
  // Its slot was stored in this burst and is not read again.
  if (!durable.queues().lease_placed(n, p.placement)) return false;
  const slot_delivery bits = slot_delivery::unpack(p.bits);
  delivery_item item;
  item.ticket = p.placement.first_ticket;
  item.qos = bits.qos;
  item.front_end_bits = bits.front_end;
  item.topic = p.topic;
  item.name = names.name(p.topic);
  item.content = delivery_content(
      std::span<const std::byte>(p.content.bytes, p.content.size).subspan(p.content.payload_at),
      medium, losses);
  s.exhausted = false;
  (void)offer(s, n, leased::first(p.ref, item.ticket), item);
  return true;
}

} // namespace chainring
