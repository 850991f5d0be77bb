// SPDX-License-Identifier: BSD-3-Clause
// This benchmark offers more messages than a worker can handle, and then disturbs a calm load.
//
// Worker and clients share one thread, so time is the worker's: the clock of this benchmark
// advances by the CPU time of the worker's rounds, and where the worker has nothing to do, to the
// next arrival. The clients take no time on it, nor does a network. Messages arrive at random times
// (exponential gaps) whatever the worker does: the open loop. A latency is the time on this clock
// from the arrival of a message to the round after which its answer is in the port. So neither the
// clients nor other processes on the machine make a latency longer.
//
// The port holds 1,024 frames for the worker, like the receive queue of a device. What finds it
// full is lost: such a frame is not even made, because it would only take the worker's cache lines
// away. A client repeats no PUBLISH; the gateway repeats a delivery after a second.
//
// Client `n` publishes to the topic of client `n + 1`. Each message carries its number. At the end
// of each step every message with a positive PUBACK must have been delivered.
#include "broker/broker.h"

#include <array>
#include <cstdio>
#include <cstring>
#include <memory>
#include <random>
#include <vector>

#include "common/latency.h"
#include "figures.h"
#include "rig.h"

namespace chainring::bench {

namespace {

constexpr std::uint32_t others_from = 1u << 20; // the clients behind these disturb
// The message ids of a client repeat after so many messages, which a step does not reach.
constexpr std::uint32_t ids_max = 50'000;
constexpr std::uint32_t odd_pairs = 10; // subscribers that are slow or vanish
// A machine that takes the CPU away for a moment spoils the percentiles of one window, not of all.
constexpr std::uint64_t window_ns = 5'000'000;

bool complain(const std::string& what) {
  std::fprintf(stderr, "overload: %s\n", what.c_str());
  return false;
}

/// What disturbs the calm load.
enum class disturbance : std::uint8_t {
  none,
  slow_subscribers,
  vanished_subscribers,
  connects,
  registers,
  unknown_ids,
  strangers
};

/// The results of one step.
struct outcome_of_step {
  double seconds = 0; ///< on the benchmark's clock
  std::uint64_t offered = 0, lost = 0, accepted = 0, refused = 0, delivered = 0, disturbing = 0;
  std::uint32_t port_max = 0;
  std::uint64_t queue_max = 0; ///< messages in the fullest queue
  double p50_us = 0, p99_us = 0; ///< the median of all windows
  std::uint64_t repeated = 0; ///< by the gateway
  std::uint64_t missing = 0;  ///< acknowledged, and not delivered in the end
};

class load {
 public:
  load(rig& r, std::uint32_t clients)
      : r_(r), c_(r), clients_(clients), all_(clients + 2 * odd_pairs) {}

  [[nodiscard]] bool set_up();
  /// Keeps `window` messages under way for that time, and returns how many were delivered a second.
  [[nodiscard]] double capacity(double seconds, std::uint32_t window);
  /// Offers `rate` messages a second, with a disturbance of `disturbing` datagrams a second.
  [[nodiscard]] bool run(double rate, double seconds, disturbance what, double disturbing,
                         outcome_of_step& out);
  [[nodiscard]] const std::string& why() const { return wrong_; }

 private:
  struct message_state {
    std::uint64_t arrived_ns = 0;
    bool accepted = false, received = false;
  };
  struct client {
    std::uint16_t topic_id = 0;
    std::uint32_t first = 1; ///< the number of its first message that is remembered
    std::vector<message_state> messages;
  };
  struct fields {
    std::uint32_t from, number;
    std::array<std::byte, 56> filler;
  };
  static_assert(sizeof(fields) == 64);
  struct late_answer {
    std::uint64_t due_ns;
    std::uint32_t client;
    mqttsn::puback answer;
  };

  [[nodiscard]] std::string topic_of(std::uint32_t n) const { return "load/" + std::to_string(n); }
  /// To whose topic a client publishes.
  [[nodiscard]] std::uint32_t target_of(std::uint32_t n) const {
    if (n < clients_) return (n + 1) % clients_;
    return n < clients_ + odd_pairs ? n : n - odd_pairs;
  }
  void take(std::uint32_t n, const mqttsn::message& m);
  void publish(std::uint32_t n, std::uint64_t arrived_ns);
  void disturb(disturbance what);
  void round();
  void forget_messages();
  [[nodiscard]] bool drain();
  [[nodiscard]] std::uint64_t missing() const;

  rig& r_;
  crowd c_;
  std::uint32_t clients_;
  std::vector<client> all_; ///< the subscribers that disturb and their publishers are the last
  std::uint32_t ready_ = 0, turn_ = 0, odd_turn_ = 0;
  std::uint32_t made_up_ = 0; ///< numbers clients and names that a flood makes up
  std::uint64_t now_ns_ = 0;
  std::uint64_t accepted_ = 0, refused_ = 0, delivered_ = 0, answered_ = 0;
  disturbance what_ = disturbance::none;
  std::vector<late_answer> late_;
  std::size_t late_from_ = 0;
  app::latencies* latency_ = nullptr; ///< of well-behaved clients
  std::mt19937_64 random_{1};
  bool did_work_ = false;
  std::string wrong_;
};

void load::round() {
  const double before = cpu_seconds();
  did_work_ = r_.round();
  now_ns_ += static_cast<std::uint64_t>((cpu_seconds() - before) * 1e9);
  c_.receive([&](std::uint32_t n, const mqttsn::message& m) { take(n, m); });
  for (; late_from_ < late_.size() && late_[late_from_].due_ns <= now_ns_; ++late_from_)
    c_.say(late_[late_from_].client, late_[late_from_].answer);
  c_.flush();
}

void load::take(std::uint32_t n, const mqttsn::message& m) {
  if (n >= others_from) return; // a refusal for somebody who disturbs
  if (n >= all_.size()) return;
  client& c = all_[n];
  const auto accepted = mqttsn::return_code::accepted;
  if (const auto* p = m.get<mqttsn::publish>(); p != nullptr) {
    fields f;
    if (p->data.size() != sizeof f) return;
    std::memcpy(&f, p->data.data(), sizeof f);
    client& from = all_[f.from];
    if (f.number < from.first || f.number - from.first >= from.messages.size()) return;
    message_state& s = from.messages[f.number - from.first];
    if (!s.received && f.from < clients_) ++delivered_;
    s.received = true;
    const mqttsn::puback answer{.topic_id = p->topic_id, .msg_id = p->msg_id};
    if (n < clients_ || what_ == disturbance::none)
      c_.say(n, answer);
    else if (what_ == disturbance::slow_subscribers)
      late_.push_back({now_ns_ + 100'000'000, n, answer});
  } else if (const auto* k = m.get<mqttsn::puback>(); k != nullptr) {
    if (k->code == mqttsn::return_code::invalid_topic_id) return; // of a made-up id
    const std::uint32_t i = (k->msg_id + ids_max - c.first % ids_max) % ids_max;
    if (i >= c.messages.size()) return;
    if (n >= clients_) {
      c.messages[i].accepted = k->code == accepted;
      return;
    }
    ++answered_;
    if (k->code == accepted) {
      c.messages[i].accepted = true;
      ++accepted_;
      if (latency_ != nullptr) latency_->record(now_ns_ - c.messages[i].arrived_ns);
    } else {
      ++refused_;
    }
  } else if (const auto* a = m.get<mqttsn::connack>(); a != nullptr) {
    const std::string topic = topic_of(n);
    c_.say(n, mqttsn::subscribe{.flags = mqttsn::flags{}.with_qos(mqttsn::qos_level::one),
                                .msg_id = 1,
                                .topic = topic});
  } else if (const auto* s = m.get<mqttsn::suback>(); s != nullptr && s->code == accepted) {
    const std::string topic = topic_of(target_of(n));
    c_.say(n, mqttsn::register_topic{.msg_id = 2, .topic = topic});
  } else if (const auto* g = m.get<mqttsn::regack>(); g != nullptr) {
    if (g->msg_id != 2 || g->code != accepted) return; // of a flood
    c.topic_id = g->topic_id;
    ++ready_;
  }
}

bool load::set_up() {
  const auto all = static_cast<std::uint32_t>(all_.size());
  const double give_up = clock_seconds() + 60;
  std::uint32_t begun = 0;
  while (ready_ < all) {
    round();
    for (; begun < all && begun - ready_ < 64; ++begun) {
      const std::string id = "client-" + std::to_string(begun);
      c_.say(begun, mqttsn::connect{.client_id = id});
    }
    c_.flush();
    if (clock_seconds() > give_up) return false;
  }
  return true;
}

void load::publish(std::uint32_t n, std::uint64_t arrived_ns) {
  client& c = all_[n];
  fields f{};
  f.from = n;
  f.number = c.first + static_cast<std::uint32_t>(c.messages.size());
  c.messages.push_back({.arrived_ns = arrived_ns});
  c_.say(n, mqttsn::publish{.flags = mqttsn::flags{}.with_qos(mqttsn::qos_level::one),
                            .topic_id = c.topic_id,
                            .msg_id = static_cast<std::uint16_t>((f.number - 1) % ids_max + 1),
                            .data = std::as_bytes(std::span(&f, 1))});
}

// Sends one datagram of the disturbance.
void load::disturb(disturbance what) {
  const std::uint32_t odd = clients_ + odd_pairs + odd_turn_++ % odd_pairs;
  const std::uint32_t stranger = others_from + (made_up_++ & 0xfffff);
  const std::string name = "flood-" + std::to_string(made_up_);
  switch (what) {
  case disturbance::none:
    break;
  case disturbance::slow_subscribers:
  case disturbance::vanished_subscribers:
    publish(odd, now_ns_);
    break;
  case disturbance::connects:
    c_.say(stranger, mqttsn::connect{.flags = mqttsn::flags{}.with_clean(true), .client_id = name});
    break;
  case disturbance::registers:
    c_.say(odd, mqttsn::register_topic{.msg_id = 1, .topic = name});
    break;
  case disturbance::unknown_ids:
    c_.say(odd, mqttsn::publish{.flags = mqttsn::flags{}.with_qos(mqttsn::qos_level::one),
                                .topic_id = 0xfff0,
                                .msg_id = 60'000});
    break;
  case disturbance::strangers:
    c_.say(stranger, mqttsn::publish{.flags = mqttsn::flags{}.with_qos(mqttsn::qos_level::one),
                                     .topic_id = 1,
                                     .msg_id = 1});
    break;
  }
}

void load::forget_messages() {
  for (client& c : all_) {
    c.first += static_cast<std::uint32_t>(c.messages.size());
    c.messages.clear();
  }
}

// Counts the messages that were acknowledged to well-behaved clients and not delivered.
std::uint64_t load::missing() const {
  std::uint64_t n = 0;
  for (std::uint32_t i = 0; i < clients_; ++i)
    for (const message_state& m : all_[i].messages)
      n += m.accepted && !m.received;
  return n;
}

// Goes on without new messages until every acknowledged one is delivered and nothing is under way.
bool load::drain() {
  what_ = disturbance::none;
  const double begin = clock_seconds();
  double idle_since = begin;
  for (;;) {
    round();
    const double now = clock_seconds();
    if (did_work_ || r_.waiting_in_port() != 0) idle_since = now;
    // Longer than the gateway's interval, so that a repetition is waited for.
    if (now - idle_since > 0.05 && missing() == 0) return true;
    if (now - begin > 30) return false;
  }
}

double load::capacity(double seconds, std::uint32_t window) {
  forget_messages();
  const std::uint64_t begin_ns = now_ns_, delivered = delivered_, answered = answered_;
  const auto length_ns = static_cast<std::uint64_t>(seconds * 1e9);
  std::uint64_t sent = 0;
  while (now_ns_ - begin_ns < length_ns) {
    for (; sent - (answered_ - answered) < window; ++sent)
      publish(turn_++ % clients_, now_ns_);
    c_.flush();
    round();
  }
  const double rate = static_cast<double>(delivered_ - delivered) /
                      (static_cast<double>(now_ns_ - begin_ns) * 1e-9);
  return drain() ? rate : 0;
}

bool load::run(double rate, double seconds, disturbance what, double disturbing,
               outcome_of_step& out) {
  forget_messages();
  what_ = what;
  auto latency = std::make_unique<app::latencies>();
  latency_ = latency.get();
  std::vector<double> p50, p99; // of each window
  const auto end_window = [&] {
    if (latency->count() == 0) return;
    p50.push_back(latency->quantile_us(0.5));
    p99.push_back(latency->quantile_us(0.99));
    latency = std::make_unique<app::latencies>();
    latency_ = latency.get();
  };
  const std::uint64_t begin_ns = now_ns_, accepted = accepted_, refused = refused_,
                      delivered = delivered_, lost = c_.lost(),
                      repeated = r_.gateway().counters().retransmitted;
  const auto end_ns = begin_ns + static_cast<std::uint64_t>(seconds * 1e9);
  const bool disturbs = what != disturbance::none && disturbing > 0;
  std::exponential_distribution<double> gap(rate * 1e-9),
      other_gap(disturbs ? disturbing * 1e-9 : 1);
  std::uint64_t next_window_ns = begin_ns + window_ns;
  double next = static_cast<double>(now_ns_) + gap(random_);
  double next_other = disturbs ? static_cast<double>(now_ns_) + other_gap(random_) : 1e300;
  while (now_ns_ < end_ns) {
    if (now_ns_ >= next_window_ns) {
      end_window();
      next_window_ns = now_ns_ + window_ns;
    }
    const auto now = static_cast<double>(now_ns_);
    while (next <= now || next_other <= now) {
      const bool full = !c_.has_room();
      if (full) ++out.lost;
      if (next <= next_other) {
        if (!full) publish(turn_++ % clients_, static_cast<std::uint64_t>(next));
        ++out.offered;
        next += gap(random_);
      } else {
        if (!full) disturb(what);
        ++out.disturbing;
        next_other += other_gap(random_);
      }
    }
    c_.flush();
    out.port_max = std::max(out.port_max, r_.waiting_in_port());
    const bool waits = r_.waiting_in_port() != 0;
    round();
    if (waits || did_work_ || r_.waiting_in_port() != 0) continue;
    double then = std::min(next, next_other);
    if (late_from_ < late_.size())
      then = std::min(then, static_cast<double>(late_[late_from_].due_ns));
    now_ns_ = std::max(now_ns_, static_cast<std::uint64_t>(then) + 1);
  }
  end_window();
  latency_ = nullptr;
  out.seconds = static_cast<double>(now_ns_ - begin_ns) * 1e-9;
  out.accepted = accepted_ - accepted;
  out.refused = refused_ - refused;
  out.delivered = delivered_ - delivered;
  out.lost += c_.lost() - lost;
  out.p50_us = median(p50);
  out.p99_us = median(p99);
  for (; late_from_ < late_.size(); ++late_from_)
    c_.say(late_[late_from_].client, late_[late_from_].answer);
  late_.clear();
  late_from_ = 0;
  const bool drained = drain();
  out.missing = missing();
  if (!drained) wrong_ = std::to_string(out.missing) + " acknowledged messages were not delivered";
  out.repeated = r_.gateway().counters().retransmitted - repeated;
  std::vector<session_info> all;
  for (std::uint32_t from = 0; wrong_.empty();) {
    all.clear();
    from = r_.broker().sessions(from, 1000, all);
    for (const session_info& s : all)
      out.queue_max = std::max(out.queue_max, s.queue_high_water);
    if (from == 0) break;
  }
  return wrong_.empty();
}

struct bench {
  std::unique_ptr<rig> r;
  std::unique_ptr<load> l;
};

constexpr std::uint32_t queue_slots = 256;

bool make(bench_context& c, bench& out) {
  const std::uint32_t clients = c.o.quick ? 200 : 2000;
  rig_options o;
  o.layout.sessions_max = clients + 2 * odd_pairs + 1000;
  o.layout.subscriptions_max = clients + 2 * odd_pairs + 1000;
  o.region_size = 512 << 20;
  o.broker.queue_slots = queue_slots;
  o.broker.queue_slots_first = 0;
  o.gateway.requests_per_round = c.o.requests_per_round;
  o.gateway.retry_ms = 1000;
  o.gateway.retry_ms_max = 1000;
  auto made = rig::create(o);
  if (!made) return complain(made.error().message);
  out.r = std::move(*made);
  out.l = std::make_unique<load>(*out.r, clients);
  return out.l->set_up() || complain("not every client could connect");
}

/// Offers 0.5 to 3 times the capacity.
bool overload(bench_context& c, load& l, double capacity, double seconds) {
  std::vector<std::pair<double, double>> all; // offered and delivered
  const auto add = [&](const std::string& name, const char* unit, double value,
                       std::optional<target> wanted = {}) {
    c.out.add(figure(name, unit, {value}, wanted));
  };
  for (const double times : {0.5, 1.0, 1.5, 2.0, 3.0}) {
    outcome_of_step s;
    if (!l.run(times * capacity, seconds, disturbance::none, 0, s)) return complain(l.why());
    char name[64];
    std::snprintf(name, sizeof name, "offered %.1fx of the capacity: delivered", times);
    all.emplace_back(static_cast<double>(s.offered) / s.seconds * 1e-6,
                     static_cast<double>(s.delivered) / s.seconds * 1e-6);
    add(name, "M/s", all.back().second);
    add("  offered", "M/s", all.back().first);
    add("  lost in the full port, also answers", "%",
        100 * static_cast<double>(s.lost) / static_cast<double>(s.offered + s.delivered));
    add("  refused with congestion", "%",
        100 * static_cast<double>(s.refused) / static_cast<double>(s.offered));
    add("  fullest queue so far, of 256 messages", "", static_cast<double>(s.queue_max));
    add("  most frames in the port, of 1,023", "", s.port_max);
    add("  deliveries that the gateway repeated", "", static_cast<double>(s.repeated));
    add("  PUBLISH to PUBACK, p99", "us", s.p99_us);
    add("  acknowledged and not delivered", "", static_cast<double>(s.missing),
        target{target::sense::at_most, 0});
  }
  double peak = 0;
  for (const auto& [offered, delivered] : all)
    peak = std::max(peak, delivered);
  double least = peak;
  for (const auto& [offered, delivered] : all)
    if (offered >= peak) least = std::min(least, delivered);
  add("delivered in overload, at least, of the most", "", peak == 0 ? 0 : least / peak,
      target{target::sense::at_least, 0.9});
  return true;
}

struct kind_of_disturbance {
  disturbance what;
  const char* name;
  double times; ///< datagrams for each message that the worker could handle
};
constexpr kind_of_disturbance disturbances[] = {
    {disturbance::slow_subscribers, "10 subscribers that answer after 100 ms", 0.05},
    {disturbance::vanished_subscribers, "10 subscribers that do not answer", 0.05},
    {disturbance::connects, "CONNECTs from a million addresses", 0.5},
    {disturbance::registers, "REGISTERs", 0.5},
    {disturbance::unknown_ids, "PUBLISHes to an unknown topic id", 0.5},
    {disturbance::strangers, "PUBLISHes of a million strangers", 0.5},
};

/// Half of the capacity is offered, calm and disturbed in turn.
bool disturbed(bench_context& c, load& l, double capacity, double seconds) {
  for (const kind_of_disturbance& k : disturbances) {
    pairs p50, p99, done;
    for (int i = 0; i < (c.o.quick ? 1 : 5); ++i) {
      outcome_of_step calm, other;
      if (!l.run(capacity / 2, seconds, disturbance::none, 0, calm) ||
          !l.run(capacity / 2, seconds, k.what, k.times * capacity, other))
        return complain(std::string(k.name) + ": " + l.why());
      p50.own.push_back(other.p50_us);
      p50.peer.push_back(calm.p50_us);
      p99.own.push_back(other.p99_us);
      p99.peer.push_back(calm.p99_us);
      done.own.push_back(static_cast<double>(other.delivered) / other.seconds * 1e-6);
      done.peer.push_back(static_cast<double>(calm.delivered) / calm.seconds * 1e-6);
    }
    c.out.add(against(std::string(k.name) + ": p99", "us", p99, "calm",
                      target{target::sense::at_most, 2}));
    c.out.add(against("  p50", "us", p50, "calm"));
    c.out.add(against("  delivered to the others", "M/s", done, "calm"));
  }
  return true;
}

} // namespace

bool overload_figures(bench_context& c) {
  c.out.heading(
      "overload: open loop, QoS 1, 64 bytes, one worker and its own clock, class emulated");
  bench b;
  if (!make(c, b)) return false;
  const double seconds = c.o.quick ? 0.01 : 0.3;
  (void)b.l->capacity(seconds, 200); // makes the rings of the queues
  const double capacity = b.l->capacity(seconds, 200);
  if (capacity == 0) return complain("the capacity cannot be measured");
  c.out.add(figure("capacity: 200 messages under way", "M/s", {capacity * 1e-6}));
  if (!overload(c, *b.l, capacity, seconds)) return false;
  c.out.heading("overload: half of the capacity, and one disturbance at a time");
  return disturbed(c, *b.l, capacity, seconds / 3);
}

} // namespace chainring::bench
