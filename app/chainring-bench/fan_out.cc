// SPDX-License-Identifier: BSD-3-Clause
// This benchmark publishes single messages at QoS 1 to many durable subscribers of one topic, which
// all are connected and acknowledge what they receive. It counts each PUBLISH that arrives at each
// client. The run fails when a client misses a message or receives one twice, when the gateway has
// repeated one, or when anything was dropped on the way.
#include "broker/broker.h"

#include <cstdio>
#include <rte_cycles.h>
#include <vector>

#include "figures.h"
#include "rig.h"

namespace chainring::bench {

namespace {

constexpr std::uint32_t in_progress_max = 256;
constexpr const char* topic = "news/all";

bool complain(const std::string& what) {
  std::fprintf(stderr, "fan-out: %s\n", what.c_str());
  return false;
}

/// The subscribers, and the publisher, which is the client behind them.
struct audience {
  rig& r;
  crowd c;
  std::uint32_t subscribers;
  std::vector<std::uint32_t> received;
  std::uint64_t delivered = 0, repeated = 0;
  std::uint32_t begun = 0, ready = 0;
  std::uint16_t topic_id = 0;
  bool settled = false;
  std::string wrong;

  audience(rig& of, std::uint32_t n) : r(of), c(of), subscribers(n), received(n) {}

  void take(std::uint32_t n, const mqttsn::message& m) {
    const auto accepted = mqttsn::return_code::accepted;
    if (const auto* p = m.get<mqttsn::publish>(); p != nullptr && n < subscribers) {
      ++delivered;
      ++received[n];
      repeated += p->flags.dup();
      c.say(n, mqttsn::puback{.topic_id = p->topic_id, .msg_id = p->msg_id});
    } else if (const auto* a = m.get<mqttsn::connack>(); a != nullptr && a->code == accepted) {
      if (n == subscribers)
        c.say(n, mqttsn::register_topic{.msg_id = 1, .topic = topic});
      else
        c.say(n, mqttsn::subscribe{.flags = mqttsn::flags{}.with_qos(mqttsn::qos_level::one),
                                   .msg_id = 1,
                                   .topic = topic});
    } else if (const auto* s = m.get<mqttsn::suback>(); s != nullptr && s->code == accepted) {
      ++ready;
    } else if (const auto* g = m.get<mqttsn::regack>(); g != nullptr && g->code == accepted) {
      topic_id = g->topic_id;
    } else if (const auto* k = m.get<mqttsn::puback>(); k != nullptr && k->code == accepted) {
      settled = true;
    } else if (wrong.empty()) {
      wrong = "client " + std::to_string(n) + " received a refusal, or an unexpected " +
              mqttsn::to_string(m.type);
    }
  }
  /// One round of the worker and of the clients. Returns false once something is wrong.
  bool step() {
    r.round();
    c.receive([&](std::uint32_t n, const mqttsn::message& m) { take(n, m); });
    for (; begun <= subscribers && begun - ready < in_progress_max; ++begun) {
      const std::string id = "client-" + std::to_string(begun);
      c.say(begun, mqttsn::connect{.client_id = id});
    }
    c.flush();
    if (wrong.empty() && c.lost() != 0) wrong = "the memory port has no room";
    if (wrong.empty()) wrong = r.dropped();
    return wrong.empty() || complain(wrong);
  }
};

bool figures_for(bench_context& c, std::uint32_t subscribers) {
  rig_options o;
  o.layout.sessions_max = subscribers + 16;
  o.layout.subscriptions_max = subscribers + 16;
  o.layout.messages_max = 65'536;
  o.region_size = std::uint64_t{subscribers} * 4096 + (128 << 20);
  o.broker.queue_slots = 64;
  auto made = rig::create(o);
  if (!made) return complain(made.error().message);
  rig& r = **made;
  audience a(r, subscribers);
  while (a.ready < subscribers || a.topic_id == 0)
    if (!a.step()) return false;

  const std::uint32_t messages = c.o.quick ? 3 : 10;
  std::vector<double> each_ns, first_ns, ack_us, rounds;
  for (std::uint32_t i = 0; i < messages; ++i) {
    static constexpr std::byte payload[64] = {};
    a.settled = false;
    a.c.say(subscribers, mqttsn::publish{.flags = mqttsn::flags{}.with_qos(mqttsn::qos_level::one),
                                         .topic_id = a.topic_id,
                                         .msg_id = static_cast<std::uint16_t>(i + 1),
                                         .data = payload});
    a.c.flush();
    const double give_up = clock_seconds() + 60;
    const std::uint64_t wanted = std::uint64_t{subscribers} * (i + 1);
    std::uint64_t worker_tsc = 0, ack_tsc = 0;
    double count = 0;
    // The acknowledgements of the last deliveries are part of the work.
    while (!a.settled || a.delivered < wanted ||
           r.broker().counters().acked < std::uint64_t{subscribers} * (i + 1)) {
      const bool settled = a.settled;
      if (!a.step()) return false;
      worker_tsc += r.round_tsc();
      if (!settled) ack_tsc = worker_tsc;
      ++count;
      if (clock_seconds() > give_up)
        return complain(std::to_string(a.delivered) + " of " + std::to_string(wanted) +
                        " deliveries have arrived, and then no more");
    }
    const auto hz = static_cast<double>(rte_get_tsc_hz());
    (i == 0 ? first_ns : each_ns)
        .push_back(static_cast<double>(worker_tsc) / hz * 1e9 / subscribers);
    if (i != 0) ack_us.push_back(static_cast<double>(ack_tsc) / hz * 1e6);
    rounds.push_back(count);
  }
  for (int i = 0; i < 100; ++i) // whatever comes too often
    if (!a.step()) return false;
  const mqttsn::gateway_counters g = r.gateway().counters();
  std::uint32_t others = 0;
  for (const std::uint32_t n : a.received)
    others += n != messages;
  if (others != 0 || a.repeated != 0 || g.retransmitted != 0)
    return complain(
        std::to_string(others) + " subscribers received another number of messages than " +
        std::to_string(messages) + ", " + std::to_string(a.repeated) +
        " were marked as repeated, and the gateway repeated " + std::to_string(g.retransmitted));
  const broker_counters b = r.broker().counters();
  const std::string to = ", " + std::to_string(subscribers) + " subscribers";
  c.out.add(figure("worker time a delivery" + to, "ns", each_ns));
  c.out.add(figure("  the first message, which makes the queues", "ns", first_ns));
  c.out.add(figure("  PUBLISH to PUBACK, worker time", "us", ack_us));
  c.out.add(figure("  rounds of the worker a message", "", rounds));
  c.out.add(figure("  deliveries, all of them once", "", {static_cast<double>(a.delivered)}));
  c.out.add(figure("  repeated by the gateway", "", {static_cast<double>(g.retransmitted)},
                   target{target::sense::at_most, 0}));
  c.out.add(
      figure("  given back to the core for want of room", "", {static_cast<double>(b.given_back)}));
  if (auto closed = r.broker().close(); !closed) return complain(closed.error().message);
  return true;
}

} // namespace

bool fan_out_figures(bench_context& c) {
  c.out.heading("fan-out: a message of 64 bytes at QoS 1 to every client, class emulated");
  if (c.o.quick) return figures_for(c, 1000);
  return figures_for(c, 15'000) && figures_for(c, 100'000);
}

} // namespace chainring::bench
