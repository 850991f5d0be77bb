// SPDX-License-Identifier: BSD-3-Clause
// Retained messages crashed at every point. A topic's message is the last one that was answered, or
// a later one that was begun; an empty message clears it. A publish is in the queue of its
// subscriber and the message of its topic, or neither. No topic has the message of another one.
#include <gtest/gtest.h>

#include <algorithm>
#include <functional>
#include <map>
#include <string>
#include <vector>

#include "base/hook.h"
#include "broker/access.h"
#include "crash_bounds.h"
#include "line_case.h"
#include "line_scenarios.h"
#include "support/seeded.h"

namespace chainring::testing_line {
namespace {

constexpr int subscribed = first_scenario_kind;
constexpr unsigned reader_at = 400, second_publisher_at = 101;

/// The short one lies in the cell of the map; the other two need chains of their own.
const std::string topics[] = {"short", "one/topic/that/is/longer/than/a/cell",
                              "another/topic/that/is/longer/than/a/cell"};

/// The number of a publish says its topic and whether it clears the topic.
constexpr std::uint64_t set(std::uint64_t n, unsigned t) {
  return n * 10 + t;
}
constexpr std::uint64_t clear(std::uint64_t n, unsigned t) {
  return n * 10 + 5 + t;
}
constexpr unsigned topic_at(std::uint64_t id) {
  return static_cast<unsigned>(id % 5);
}
constexpr bool clears(std::uint64_t id) {
  return id % 10 >= 5;
}

struct retained_case : line_case {
  retained_case() {
    subscribers = 1;
    layout.retained_max = 4;
    layout.messages_max = 16;
  }
  /// A subscriber of the first long topic, which is given no retained messages, and a publisher.
  void set_up(media& m, history& h) const {
    std::string why;
    auto b = open(m, true, why);
    if (b == nullptr) return h.fail(why);
    (void)b->ask(publisher_at, "CONNECT publisher -");
    if (b->ask(subscriber_at, "CONNECT " + subscriber_name(0) + " -") != "OK 1" ||
        b->ask(subscriber_at, "SUB " + topics[1] + " 1 0 never") != "OK 2")
      return h.fail("no subscriber");
  }
};

void begin(server& b, history& h, unsigned at, std::uint64_t id) {
  h.begin(id);
  b.send(at, "RET " + topics[topic_at(id)] + " 1" + (clears(id) ? "" : " " + text_of(id)));
}
void answered(history& h, std::uint64_t id, const std::string& said) {
  if (said.starts_with("OK "))
    h.ack(id);
  else
    h.fail("publish " + std::to_string(id) + ": " + said);
}
void retain(server& b, history& h, std::uint64_t id) {
  begin(b, h, publisher_at, id);
  b.settle();
  answered(h, id, b.next(publisher_at));
}

/// What a client is given: the numbers of the messages, by topic; 0 for an empty one.
using given = std::map<std::string, std::vector<std::uint64_t>>;

verdict take(server& b, unsigned at, given& got) {
  b.settle();
  for (std::string line = b.next(at); !line.empty(); line = b.next(at)) {
    if (!line.starts_with("MSG ")) continue;
    // "MSG n qos bits flags topic text"
    std::vector<std::string> words;
    for (std::size_t from = 0; words.size() < 6;) {
      const std::size_t end = line.find(' ', from);
      words.push_back(line.substr(from, end - from));
      from = end == std::string::npos ? line.size() : end + 1;
      if (words.size() == 6) words.push_back(line.substr(from));
    }
    const std::uint64_t id = words[6].empty() ? 0 : id_of(words[6]);
    if (id != 0 && words[6] != text_of(id)) return "torn: " + line;
    if (id == 0 && !words[6].empty()) return "ghost: " + line;
    if (id != 0 && topics[topic_at(id)] != words[5]) return "the message of another topic: " + line;
    got[words[5]].push_back(id);
    b.send(at, "ACK " + words[1]);
    b.settle();
  }
  return {};
}

/// Whether a topic may have that message (0: none), by what was begun and answered.
verdict judge_topic(const history& h, unsigned t, std::uint64_t found) {
  std::vector<std::uint64_t> ids;
  for (const std::uint64_t id : h.ids(history::begun_kind))
    if (topic_at(id) == t) ids.push_back(id);
  std::size_t last = ids.size();
  for (std::size_t i = 0; i < ids.size(); ++i)
    if (h.is_acked(ids[i])) last = i;
  bool fits = last == ids.size() && found == 0;
  for (std::size_t i = last == ids.size() ? 0 : last; i < ids.size(); ++i)
    fits |= found == (clears(ids[i]) ? 0 : ids[i]);
  if (fits) return {};
  return topics[t] + " has " + std::to_string(found) + ", and answered was " +
         (last == ids.size() ? "nothing" : std::to_string(ids[last]));
}

verdict check(const retained_case& kind, media& m, const history& h) {
  std::string why;
  auto b = kind.open(m, false, why);
  if (b == nullptr) return "does not open: " + why;
  given now, queue;
  if (!b->ask(reader_at, "CONNECT reader clean").starts_with("OK ") ||
      !b->ask(reader_at, "SUB # 1").starts_with("OK "))
    return "no reader";
  if (verdict bad = take(*b, reader_at, now)) return bad;
  std::uint64_t found[3] = {};
  for (unsigned t = 0; t < 3; ++t) {
    const auto& messages = now[topics[t]];
    if (messages.size() > 1) return "several retained messages of " + topics[t];
    if (!messages.empty()) found[t] = messages[0];
    if (!messages.empty() && found[t] == 0) return "an empty message is retained";
    if (verdict bad = judge_topic(h, t, found[t])) return bad;
  }
  if (b->ask(subscriber_at, "CONNECT " + subscriber_name(0) + " -") != "OK 1 present")
    return "the subscriber's session is not there";
  if (verdict bad = take(*b, subscriber_at, queue)) return bad;
  const auto& placed = queue[topics[1]];
  std::uint64_t empty_ones = 0, begun_clears = 0, acked_clears = 0;
  std::uint64_t last = 0;
  for (const std::uint64_t id : h.ids(history::begun_kind)) {
    if (topic_at(id) != 1) continue;
    last = id;
    begun_clears += clears(id);
    acked_clears += clears(id) && h.is_acked(id);
    if (h.is_acked(id) && !clears(id) && std::ranges::count(placed, id) != 1)
      return "lost in the queue or doubled: " + std::to_string(id);
  }
  empty_ones = static_cast<std::uint64_t>(std::ranges::count(placed, 0u));
  if (empty_ones < acked_clears || empty_ones > begun_clears) return "an empty message is lost";
  // The last publish is in its queue and the topic's message, or neither.
  if (last != 0 && !clears(last) && (std::ranges::count(placed, last) == 1) != (found[1] == last))
    return "in the queue or retained, and not both: " + std::to_string(last);
  // Nothing is left behind when all is cleared.
  for (unsigned t = 0; t < 3; ++t)
    (void)b->broker().clear_retained(topics[t]);
  b->settle();
  if (b->broker().counters().damaged != 0) return "a delivery was damaged";
  if (b->broker().retained_counts().messages != 0) return "a topic is not cleared";
  if (b->broker().message_statistics().live != 0) return "messages are live that nothing reaches";
  return {};
}

test::scenario retained_scenario(const std::string& name, const retained_case& kind,
                                 std::function<void(server&, history&)> run) {
  test::scenario s;
  s.name = name;
  s.size = 128 << 10;
  s.setup = [kind](media& m, history& h) { kind.set_up(m, h); };
  s.run = [kind, run](media& m, history& h) {
    std::string why;
    auto b = kind.open(m, false, why);
    if (b == nullptr) return h.fail(why);
    if (!connect_publisher(*b)) return h.fail("no publisher");
    run(*b, h);
  };
  s.recover_and_check = [kind](media& m, const history& h) { return check(kind, m, h); };
  // A message of another topic gets the descriptor that a crash has set free.
  s.continue_after = [kind](media& m, history& h) {
    std::string why;
    auto b = kind.open(m, false, why);
    if (b == nullptr) return h.fail("does not open again: " + why);
    if (!connect_publisher(*b)) return h.fail("no publisher");
    retain(*b, h, set(static_cast<std::uint64_t>(1000 * h.crashes()), 2));
  };
  return s;
}

} // namespace

test::scenario set_replaced_and_cleared() {
  return retained_scenario("retained: set, replaced and cleared", {}, [](server& b, history& h) {
    retain(b, h, set(1, 1));
    retain(b, h, set(2, 1));
    retain(b, h, clear(3, 1));
    retain(b, h, set(4, 0));
    retain(b, h, clear(5, 0)); // nobody subscribes to it
  });
}

test::scenario two_publishers_in_one_burst() {
  return retained_scenario("retained: two publishers to one topic in one burst", {},
                           [](server& b, history& h) {
                             (void)b.ask(second_publisher_at, "CONNECT second passing");
                             retain(b, h, set(1, 1));
                             begin(b, h, publisher_at, set(2, 1));
                             begin(b, h, second_publisher_at, set(3, 1));
                             b.settle();
                             answered(h, set(2, 1), b.next(publisher_at));
                             answered(h, set(3, 1), b.next(second_publisher_at));
                           });
}

// A topic that nobody subscribes to is cleared behind another publish to it, and a message of
// another topic follows while the cell of the tombstone is erased.
test::scenario cleared_behind_another() {
  return retained_scenario("retained: cleared behind another publish", {},
                           [](server& b, history& h) {
                             (void)b.ask(second_publisher_at, "CONNECT second passing");
                             begin(b, h, publisher_at, set(1, 0));
                             begin(b, h, second_publisher_at, clear(2, 0));
                             b.turn(0);
                             answered(h, set(1, 0), b.next(publisher_at));
                             b.turn(0);
                             answered(h, clear(2, 0), b.next(second_publisher_at));
                             begin(b, h, publisher_at, set(3, 2));
                             b.turn(0);
                             answered(h, set(3, 2), b.next(publisher_at));
                           });
}

// A client that subscribed durably has all retained messages in its queue.
test::scenario given_to_a_subscription() {
  const retained_case kind;
  constexpr unsigned at = 300;
  test::scenario s;
  s.name = "retained: given to a new subscription";
  s.size = 128 << 10;
  s.setup = [kind](media& m, history& h) {
    kind.set_up(m, h);
    std::string why;
    auto b = kind.open(m, false, why);
    if (b == nullptr || !connect_publisher(*b)) return h.fail("no publisher " + why);
    for (unsigned t = 0; t < 3; ++t)
      retain(*b, h, set(t + 1, t));
  };
  s.run = [kind](media& m, history& h) {
    std::string why;
    auto b = kind.open(m, false, why);
    if (b == nullptr || !connect_publisher(*b)) return h.fail("no publisher " + why);
    b->send(at, "CONNECT newcomer -");
    b->send(at, "STOP");
    b->settle();
    if (b->next(at) != "OK 1") return h.fail("no newcomer");
    if (b->ask(at, "SUB # 1") != "OK 2") return h.fail("no subscription");
    h.promise(subscribed, 0);
    retain(*b, h, set(9, 1));
  };
  s.recover_and_check = [kind](media& m, const history& h) -> verdict {
    if (h.has(subscribed, 0)) {
      std::string why;
      auto b = kind.open(m, false, why);
      if (b == nullptr) return "does not open: " + why;
      if (b->ask(at, "CONNECT newcomer -") != "OK 1 present") return "the newcomer is lost";
      given got;
      if (verdict bad = take(*b, at, got)) return bad;
      for (unsigned t = 0; t < 3; ++t)
        if (std::ranges::count(got[topics[t]], set(t + 1, t)) != 1)
          return "not given or doubled: " + topics[t];
      if (h.is_acked(set(9, 1)) && std::ranges::count(got[topics[1]], set(9, 1)) != 1)
        return "a later message is lost or doubled";
    }
    return {};
  };
  s.continue_after = [kind](media& m, history& h) {
    std::string why;
    if (kind.open(m, false, why) == nullptr) h.fail("does not open again: " + why);
  };
  return s;
}

namespace {

// --- two workers
// ----------------------------------------------------------------------------------

struct two_workers : retained_case {
  two_workers() {
    config.workers = 2;
    config.home_seed = 1;
  }
};

/// Goes on with the bursts of worker `w` until the connection is answered.
std::string answer_of(server& b, unsigned w, unsigned at) {
  for (int bursts = 0; bursts < 100'000; ++bursts) {
    b.turn(w);
    for (std::string said = b.next(at); !said.empty(); said = b.next(at))
      if (said.starts_with("OK ") || said.starts_with("NO ")) return said;
    hook_point("idle"); // the other worker has to do something first
  }
  return "nothing";
}

constexpr unsigned worker_publisher[] = {110, 111};

bool connect_worker_publishers(server& b) {
  for (unsigned w = 0; w < 2; ++w)
    if (!b.ask(worker_publisher[w], "CONNECT " + identity_at(b.broker(), w, "p") + " passing")
             .starts_with("OK "))
      return false;
  return true;
}

// --- more topics in a burst than a batch of the map holds
// -----------------------------------------

constexpr unsigned many = durable_map::batch::changes_max + 2;
constexpr int replacing = first_scenario_kind + 1, replaced = replacing + 1,
              clearing = replacing + 2, cleared = replacing + 3;

struct many_case : line_case {
  many_case() {
    subscribers = 0;
    config = line_config(1, 255);
    config.retained_bytes_max = 1 << 20;
    config.topics_max = 256;
    layout.retained_max = many + 2;
    layout.messages_max = 3 * many;
  }
};

/// Publishes to all topics in one burst. Returns how many were accepted.
unsigned retain_all(server& b, const std::string& text) {
  for (unsigned i = 0; i < many; ++i)
    b.send(publisher_at, "RET m/" + std::to_string(i) + " 1" + text);
  b.settle();
  unsigned accepted = 0;
  for (std::string said = b.next(publisher_at); !said.empty(); said = b.next(publisher_at))
    accepted += said.starts_with("OK ");
  return accepted;
}

/// With `present`, a subscriber gets the empty messages too, so that topics get tombstones.
test::scenario many_topics(const std::string& name, bool present) {
  const many_case kind;
  test::scenario s;
  s.name = name;
  s.size = 192 << 10;
  s.setup = [kind, present](media& m, history& h) {
    std::string why;
    auto b = kind.open(m, true, why);
    if (b == nullptr || !connect_publisher(*b)) return h.fail("no publisher " + why);
    if (retain_all(*b, " 1") != many) return h.fail("not every topic was set");
    if (present && (!b->ask(subscriber_at, "CONNECT present -").starts_with("OK ") ||
                    !b->ask(subscriber_at, "SUB m/+ 1 0 never").starts_with("OK ")))
      return h.fail("no subscriber");
  };
  s.run = [kind, present](media& m, history& h) {
    std::string why;
    auto b = kind.open(m, false, why);
    if (b == nullptr || !connect_publisher(*b)) return h.fail("no publisher " + why);
    if (!present) {
      h.promise(replacing, 0);
      if (retain_all(*b, " 22") != many) return h.fail("not every topic was replaced");
      h.promise(replaced, 0);
    }
    h.promise(clearing, 0);
    if (retain_all(*b, "") != many) return h.fail("not every topic was cleared");
    h.promise(cleared, 0);
  };
  s.recover_and_check = [kind, present](media& m, const history& h) -> verdict {
    std::string why;
    auto b = kind.open(m, false, why);
    if (b == nullptr) return "does not open: " + why;
    std::vector<retained_info> seen;
    (void)b->broker().retained(0, 1000, seen);
    if (h.has(cleared, 0) && !seen.empty()) return "a topic that was cleared is back";
    if (!h.has(clearing, 0) && seen.size() != many) return "topics are lost";
    for (const retained_info& i : seen)
      if ((i.size != 1 && i.size != 2) || (i.size == 2 && !h.has(replacing, 0)) ||
          (i.size == 1 && h.has(replaced, 0)))
        return i.topic + " has a message of " + std::to_string(i.size) + " octets";
    for (const retained_info& i : seen)
      (void)b->broker().clear_retained(i.topic);
    b->settle();
    if (!present && b->broker().message_statistics().live != 0)
      return "messages are live that nothing reaches";
    return {};
  };
  s.continue_after = [kind](media& m, history& h) {
    std::string why;
    if (kind.open(m, false, why) == nullptr) h.fail("does not open again: " + why);
  };
  return s;
}

} // namespace

test::scenario many_topics_in_a_burst() {
  return many_topics("retained: more topics in a burst than a batch holds", false);
}
test::scenario many_tombstones_in_a_burst() {
  return many_topics("retained: more tombstones in a burst than a batch holds", true);
}

// Both publish to one topic. The order of the two is not known, so each of them is a fit.
test::scenario workers_publish_to_one_topic() {
  const two_workers kind;
  test::scenario s = retained_scenario(
      "retained: two workers publish to one topic", kind, [](server& b, history& h) {
        if (!connect_worker_publishers(b)) return h.fail("no publishers");
        retain(b, h, set(1, 0));
        const auto part = [&](unsigned w) {
          return [&, w] {
            begin(b, h, worker_publisher[w], set(2 + w, 0));
            answered(h, set(2 + w, 0), answer_of(b, w, worker_publisher[w]));
          };
        };
        test::interleave(h.threads(), {part(0), part(1)});
        b.settle();
      });
  s.recover_and_check = [kind](media& m, const history& h) -> verdict {
    std::string why;
    auto b = kind.open(m, false, why);
    if (b == nullptr) return "does not open: " + why;
    std::vector<retained_info> seen;
    (void)b->broker().retained(0, 100, seen);
    given now;
    (void)b->ask(reader_at, "CONNECT reader clean");
    (void)b->ask(reader_at, "SUB " + topics[0] + " 1");
    if (verdict bad = take(*b, reader_at, now)) return bad;
    const auto& messages = now[topics[0]];
    const std::uint64_t found = messages.empty() ? 0 : messages[0];
    const bool second = h.is_acked(set(2, 0)), third = h.is_acked(set(3, 0));
    const bool fits =
        found == set(2, 0) || found == set(3, 0) ||
        (!second && !third && (found == set(1, 0) || (!h.is_acked(set(1, 0)) && found == 0)));
    if (!fits) return "the topic has " + std::to_string(found);
    return {};
  };
  s.continue_after = [kind](media& m, history& h) {
    std::string why;
    if (kind.open(m, false, why) == nullptr) h.fail("does not open again: " + why);
  };
  return s;
}

// A retained message at QoS 2 is placed for a subscription beside a publish that goes to another
// queue as well, which another worker fills meanwhile. So both places in the subscriber's queue are
// void, and the retained message, which is published already, is placed again.
test::scenario workers_fill_a_queue_beside_a_scan() {
  line_case kind;
  kind.config = line_config(2, 15);
  kind.config.home_seed = 1;
  kind.subscribers = 0;
  kind.layout.messages_max = 24;
  constexpr unsigned taker_at = 300, full_at = 301, filler_at = 101;
  constexpr std::uint64_t kept = 1, beside = 2;
  constexpr int taken = first_scenario_kind + 5;
  const auto taker = [](server& b) { return identity_at(b.broker(), 0, "taker"); };
  test::scenario s;
  s.name = "retained: a queue that another worker fills while a scan places";
  s.size = 128 << 10;
  s.setup = [kind, taker](media& m, history& h) {
    std::string why;
    auto b = kind.open(m, true, why);
    if (b == nullptr || !connect_publisher(*b)) return h.fail("no publisher " + why);
    bool fine = b->ask(taker_at, "CONNECT " + taker(*b) + " -") == "OK 1" &&
                b->ask(taker_at, "SUB both 1") == "OK 2";
    fine = fine && b->ask(publisher_at, "PUB both 1 x").starts_with("OK ") &&
           b->ask(publisher_at, "PUB both 1 x").starts_with("OK ");
    fine = fine && b->ask(full_at, "CONNECT full -") == "OK 1" &&
           b->ask(full_at, "SUB both 1") == "OK 2" && b->ask(full_at, "SUB full 1") == "OK 3";
    for (int i = 0; fine && i < 14; ++i)
      fine = b->ask(publisher_at, "PUB full 1 x").starts_with("OK ");
    fine = fine && b->ask(publisher_at, "RET kept 2:7 " + text_of(kept)).starts_with("OK ") &&
           b->ask(publisher_at, "REL 7").starts_with("OK ");
    if (!fine) h.fail("the set-up was refused");
  };
  s.run = [kind, taker](media& m, history& h) {
    std::string why;
    auto b = kind.open(m, false, why);
    if (b == nullptr) return h.fail(why);
    (void)b->ask(publisher_at, "CONNECT " + identity_at(b->broker(), 0, "beside") + " passing");
    (void)b->ask(filler_at, "CONNECT " + identity_at(b->broker(), 1, "filler") + " passing");
    if (b->ask(taker_at, "CONNECT " + taker(*b) + " -") != "OK 1 present")
      return h.fail("no taker");
    b->settle();
    std::vector<message_line> lines;
    for (std::string line = b->next(taker_at); !line.empty(); line = b->next(taker_at))
      lines.emplace_back(line);
    if (lines.size() != 2) return h.fail("the taker has not got two messages");
    b->send(taker_at, "SUB kept 2");
    b->turn(0); // the next burst looks at the retained messages
    // The first place of the retained message is the last of its cache line, and the second one the
    // first of the next, so that no flush of the one covers the other. The other queue has room for
    // one.
    test::interleave(h.threads(), {[&] {
                                     b->send(publisher_at, "PUB both 1 " + text_of(beside));
                                     for (int i = 0; i < 4; ++i) {
                                       b->turn(0);
                                       hook_point("idle");
                                     }
                                   },
                                   [&] {
                                     b->send(filler_at, "PUB full 1 x");
                                     for (int i = 0; i < 4; ++i) {
                                       b->turn(1);
                                       hook_point("idle");
                                     }
                                   }});
    // The queue gets room, so that the scan goes on. Its other message holds the head back.
    h.promise(acknowledging, 0);
    b->send(taker_at, "ACK " + lines[0].number);
    b->settle();
    unsigned got = 0;
    for (std::string line = b->next(taker_at); !line.empty(); line = b->next(taker_at))
      if (line.starts_with("MSG ")) got += message_line(line).text == text_of(kept);
    if (got != 1) return h.fail("the retained message was given " + std::to_string(got) + " times");
    h.promise(taken, 0);
  };
  s.recover_and_check = [kind, taker](media& m, const history& h) -> verdict {
    std::string why;
    auto b = kind.open(m, false, why);
    if (b == nullptr) return "does not open: " + why;
    if (b->ask(taker_at, "CONNECT " + taker(*b) + " -") != "OK 1 present")
      return "the taker is lost";
    unsigned got = 0, others = 0;
    for (std::string line = b->next(taker_at); !line.empty(); line = b->next(taker_at)) {
      const message_line found(line);
      got += found.text == text_of(kept);
      others += found.text == "x";
      if (found.text != text_of(kept) && found.text != text_of(beside) && found.text != "x")
        return "torn: " + line;
      b->send(taker_at, "ACK " + found.number);
      b->settle();
    }
    if (got > 1) return "the retained message is in the queue twice";
    if (got == 0 && h.has(taken, 0)) return "the retained message is lost";
    if (others != 2 && !(others == 1 && h.has(acknowledging, 0))) return "another message is lost";
    if (b->broker().counters().damaged != 0) return "a delivery was damaged";
    return {};
  };
  s.continue_after = [kind](media& m, history& h) {
    std::string why;
    if (kind.open(m, false, why) == nullptr) h.fail("does not open again: " + why);
  };
  return s;
}

namespace {

// One worker retains a message while a session of the other subscribes: it gets the message once,
// with the flag or without.
test::scenario a_publish_races_a_subscribe(const std::string& filter) {
  const two_workers kind;
  test::scenario s = retained_scenario(
      "retained: a publish races a subscribe to " + filter, kind, [filter](server& b, history& h) {
        constexpr unsigned at = 300;
        if (!connect_worker_publishers(b)) return h.fail("no publishers");
        retain(b, h, set(1, 2));
        if (!b.ask(at, "CONNECT " + identity_at(b.broker(), 1, "racer") + " passing")
                 .starts_with("OK "))
          return h.fail("no subscriber");
        test::interleave(h.threads(), {[&] {
                                         begin(b, h, worker_publisher[0], set(2, 0));
                                         answered(h, set(2, 0),
                                                  answer_of(b, 0, worker_publisher[0]));
                                       },
                                       [&] {
                                         b.send(at, "SUB " + filter + " 1");
                                         for (int i = 0; i < 4; ++i) {
                                           b.turn(1);
                                           hook_point("idle");
                                         }
                                       }});
        given got;
        if (verdict bad = take(b, at, got)) return h.fail(*bad);
        const auto times = std::ranges::count(got[topics[0]], set(2, 0));
        if (times != 1) h.fail("the subscriber got it " + std::to_string(times) + " times");
      });
  return s;
}

test::explorer_options under(unsigned preempted, unsigned random) {
  return {.states_max = 24,
          .sample = true,
          .depth = 1,
          .schedules = {.random = random, .preemptions = 1, .enumerated_max = preempted}};
}
test::explorer_options workers_bounds() {
  test::explorer_options large{
      .states_max = 256,
      .second_lives = 1,
      .deaths = 4,
      .second_points = 8,
      .second_states_max = 8,
      .schedules = {.random = 100, .preemptions = 1, .enumerated_max = 1000}};
  return test::bounds(under(40, 24), large);
}

/// Their bursts have hundreds of lines, so a sample of their states is small.
test::explorer_options many_bounds() {
  return test::bounds({.states_max = 400, .sample = true, .depth = 1}, testing_core::crash_large);
}

TEST(CrashRetained, ATopicHasTheLastMessageThatWasAnsweredOrALaterOne) {
  EXPECT_TRUE(explore(set_replaced_and_cleared(), testing_core::crash_bounds()).ok());
}
TEST(CrashRetained, TwoPublishersInOneBurstFollowEachOther) {
  EXPECT_TRUE(explore(two_publishers_in_one_burst(), testing_core::crash_bounds()).ok());
}
TEST(CrashRetained, ATopicThatIsClearedBehindAnotherPublishStaysCleared) {
  EXPECT_TRUE(explore(cleared_behind_another(), testing_core::crash_bounds()).ok());
}
TEST(CrashRetained, MoreTopicsInABurstThanABatchHoldsAreAllReplacedAndCleared) {
  EXPECT_TRUE(explore(many_topics_in_a_burst(), many_bounds()).ok());
  EXPECT_TRUE(explore(many_tombstones_in_a_burst(), many_bounds()).ok());
}
TEST(CrashRetained, ASettledSubscriptionHasItsRetainedMessagesInItsQueue) {
  EXPECT_TRUE(explore(given_to_a_subscription(), testing_core::crash_bounds()).ok());
}
TEST(CrashRetained, TwoWorkersThatPublishToOneTopicLoseNoAnsweredMessage) {
  EXPECT_TRUE(explore(workers_publish_to_one_topic(), workers_bounds()).ok());
}
TEST(CrashRetained, APublishThatRacesASubscribeReachesItOnce) {
  EXPECT_TRUE(explore(a_publish_races_a_subscribe("short"), workers_bounds()).ok());
  EXPECT_TRUE(explore(a_publish_races_a_subscribe("#"), workers_bounds()).ok());
}

// Replacing the message in the first drain loses the old one, which was answered.
TEST(CrashRetained, SeededBugAMessageThatIsReplacedBeforeTheCommitIsFound) {
  expect_bug("broker.retained_before_lost", set_replaced_and_cleared(), testing_core::crash_gate);
}
// A tombstone whose descriptor is used again before its cell is erased brings the old message back.
TEST(CrashRetained, SeededBugATombstoneThatIsFreedFirstIsFound) {
  expect_bug("broker.tombstone_freed_first", cleared_behind_another(), testing_core::crash_gate);
}
// A descriptor that is published again in the generation of a lost candidate.
TEST(CrashRetained, SeededBugACandidateThatRecoveryLeavesInItsCellIsFound) {
  expect_bug("broker.candidate_not_cleared", set_replaced_and_cleared(), testing_core::crash_gate);
}
// The second candidate overwrites the first one, which is answered.
TEST(CrashRetained, SeededBugASecondCandidateIsFound) {
  expect_bug("broker.retained_unclaimed", workers_publish_to_one_topic(), under(400, 100));
}
TEST(CrashRetained, AMessageWhosePlaceForASubscriptionBecomesVoidIsPlacedOnce) {
  EXPECT_TRUE(explore(workers_fill_a_queue_beside_a_scan(), workers_bounds()).ok());
}
// The void slot comes back as it was, with a message that is in the queue again.
TEST(CrashRetained, SeededBugVoidSlotsOfAScanThatAreNotFlushedAreFound) {
  expect_bug("broker.scan_void_not_flushed", workers_fill_a_queue_beside_a_scan(),
             workers_bounds());
}
// A subscriber that looks before it is in the index misses what is published meanwhile.
TEST(CrashRetained, SeededBugAScanBeforeTheIndexIsFound) {
  expect_bug("broker.scan_before_index", a_publish_races_a_subscribe("short"), under(400, 100));
}

} // namespace
} // namespace chainring::testing_line
