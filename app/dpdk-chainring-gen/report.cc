// SPDX-License-Identifier: BSD-3-Clause
#include "report.h"

#include <cinttypes>
#include <cstdio>
#include <nlohmann/json.hpp>

namespace chainring::gen {

namespace {

using json = nlohmann::ordered_json;

void print_latency(const char* what, const app::latencies& l) {
  if (l.count() == 0) return;
  std::printf("%s: p50 %.1f, p90 %.1f, p99 %.1f, p99.9 %.1f, max %.1f us (%" PRIu64 ")\n", what,
              l.quantile_us(0.5), l.quantile_us(0.9), l.quantile_us(0.99), l.quantile_us(0.999),
              l.max_us(), l.count());
}

json latency_to(const app::latencies& l) {
  return {
      {"count", l.count()},         {"p50", l.quantile_us(0.5)},     {"p90", l.quantile_us(0.9)},
      {"p99", l.quantile_us(0.99)}, {"p99_9", l.quantile_us(0.999)}, {"max", l.max_us()}};
}

struct judgement {
  int status = exit_held;
  std::string sentence;
};

std::string n(std::uint64_t value, const char* what) {
  return std::to_string(value) + " " + what;
}

judgement judge(const options& o, const ledger& book, const outcome& how, const verdict& v) {
  const tally& t = book.count;
  const bool collects = o.phase == phase::all || o.phase == phase::collect;
  const bool publishes = o.phase == phase::all || o.phase == phase::publish;
  std::string broken;
  const auto add = [](std::string& to, const std::string& text) {
    to += (to.empty() ? "" : ", ") + text;
  };
  if (collects && how.judged) {
    if (v.lost != 0) add(broken, n(v.lost, "deliveries of acknowledged messages were lost"));
    if (v.partial != 0)
      add(broken,
          n(v.partial, "unacknowledged messages were delivered to some of their subscribers only"));
  }
  if (t.twice != 0) add(broken, n(t.twice, "messages at QoS 2 were delivered twice"));
  if (t.torn != 0) add(broken, n(t.torn, "messages were torn"));
  if (t.unknown != 0) add(broken, n(t.unknown, "messages were unknown"));
  if (t.misrouted != 0) add(broken, n(t.misrouted, "messages came on the wrong topic"));
  if (how.malformed != 0) add(broken, n(how.malformed, "datagrams were malformed"));
  if (!broken.empty()) return {exit_broken, "contract BROKEN: " + broken};

  std::string open;
  if (!how.refusal.empty()) add(open, how.refusal);
  if (!how.answered && how.handshakes_failed != 0)
    add(open,
        n(how.handshakes_failed, "handshakes of TLS failed, and the broker never answered; is "
                                 "--tls-ca the authority of its certificate?"));
  else if (!how.answered)
    add(open, "the broker never answered");
  else if (!how.finished && how.interrupted)
    add(open, "the run was interrupted");
  else if (!how.finished && !how.judged)
    add(open, "the broker stopped answering, or did not accept every subscriber");
  if (collects && !how.judged && v.lost != 0) add(open, n(v.lost, "deliveries are outstanding"));
  if (collects && !how.judged && v.partial != 0)
    add(open, n(v.partial, "messages were delivered to some of their subscribers only"));
  if (collects && v.in_doubt != 0)
    add(open, n(v.in_doubt,
                "deliveries are missing that an earlier run may have received before it died"));
  if (publishes && book.unacknowledged() != 0)
    add(open, n(book.unacknowledged(),
                t.congestion != how.before.congestion
                    ? "messages were not acknowledged because the broker was congested"
                    : "messages were not acknowledged"));
  if (open.empty() && !how.finished) open = "the run was stopped before its end";
  if (!open.empty()) return {exit_unknown, "contract UNDECIDED: " + open};

  if (o.phase == phase::subscribe) return {exit_held, n(o.shape.subscribers, "clients subscribed")};
  if (o.phase == phase::publish)
    return {exit_held, n(t.acked, "messages acknowledged, ") + n(book.owed(), "deliveries owed")};
  std::string held = "contract held: ";
  if (book.acknowledges())
    held += n(t.acked, "messages acknowledged, ") + n(t.delivered, "delivered, 0 lost");
  else
    held += n(t.sent, "messages sent, ") + n(t.delivered, "delivered, ") +
            n(v.undelivered, "not delivered, which QoS below 1 allows");
  return {exit_held, held};
}

} // namespace

int report(const options& o, const ledger& book, const generator& g, const outcome& how) {
  const tally& t = book.count;
  const tally& b = how.before;
  const verdict v = book.judge();
  const judgement j = judge(o, book, how, v);
  const auto per_second = [](std::uint64_t count, double seconds) {
    return seconds > 0 ? static_cast<double>(count) / seconds : 0.0;
  };
  const double sent_rate = per_second(t.sent - b.sent, how.publishing_s);
  const double acked_rate = per_second(t.acked - b.acked, how.acking_s);
  const double delivered_rate = per_second(t.delivered - b.delivered, how.delivering_s);
  std::printf("published for %.3f s: %.0f sent/s; acknowledged for %.3f s: %.0f/s; "
              "delivered for %.3f s: %.0f/s\n",
              how.publishing_s, sent_rate, how.acking_s, acked_rate, how.delivering_s,
              delivered_rate);
  print_latency(o.shape.qos == 2 ? "publish to PUBCOMP" : "publish to PUBACK", g.to_ack());
  print_latency("publish to delivery", g.to_delivery());
  std::printf("reordered %" PRIu64 ", duplicated %" PRIu64 " with DUP and %" PRIu64
              " without, reconnects %" PRIu64 ", unexpected %" PRIu64 ", unlisted %" PRIu64 "\n",
              t.reordered, t.duplicated_dup, t.duplicated_plain, how.reconnects, how.unexpected,
              t.unlisted);
  for (const missing_message& m : v.examples)
    std::printf("missing: publisher %u's message %" PRIu64 " at subscriber %u\n", m.publisher,
                m.sequence, m.subscriber);
  std::printf("%s\n", j.sentence.c_str());
  if (o.json) {
    json all = {{"status", j.status}, {"verdict", j.sentence}};
    for_each_count(t, [&](const char* name, std::uint64_t value) { all[name] = value; });
    all["duplicated"] = t.duplicated();
    all["corrupted"] = t.corrupted();
    all["lost"] = how.judged ? v.lost : 0;
    all["outstanding"] = how.judged ? 0 : v.lost;
    all["owed"] = book.owed();
    all["in_doubt"] = v.in_doubt;
    all["partial"] = v.partial;
    all["undelivered"] = v.undelivered;
    all["unacknowledged"] = book.unacknowledged();
    all["reconnects"] = how.reconnects;
    all["malformed"] = how.malformed;
    all["unexpected"] = how.unexpected;
    all["foreign"] = how.foreign;
    all["elapsed_s"] = how.elapsed_s;
    all["publishing_s"] = how.publishing_s;
    all["sent_per_s"] = sent_rate;
    all["acked_per_s"] = acked_rate;
    all["delivered_per_s"] = delivered_rate;
    all["ack_latency_us"] = latency_to(g.to_ack());
    all["delivery_latency_us"] = latency_to(g.to_delivery());
    json drops = json::object();
    for (std::size_t r = 1; r < net::drop_reason_count; ++r)
      if (const auto d = g.link().drops()[static_cast<net::drop_reason>(r)]; d != 0)
        drops[net::to_string(static_cast<net::drop_reason>(r))] = d;
    all["dropped"] = std::move(drops);
    std::printf("%s\n", all.dump().c_str());
  }
  std::fflush(stdout);
  return j.status;
}

} // namespace chainring::gen
