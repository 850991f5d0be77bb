// SPDX-License-Identifier: BSD-3-Clause
/// Crash scenarios of the core under the line front end: publishers and subscribers of one topic,
/// with several deliveries in flight, and the oracle that judges what is there after a crash.
#pragma once
#include <memory>
#include <string>
#include <vector>

#include "broker/access.h"
#include "line_fixture.h"
#include "oracle.h"
#include "support/bounds.h"
#include "support/explorer.h"

namespace chainring::testing_line {

using namespace testing_core;
using test::scenario;
using server = test::line_server;

constexpr const char* topic = "a/long/topic/name/of/more/than/inline";
constexpr unsigned publisher_at = 100, subscriber_at = 200; ///< connections

/// The properties that scenarios give a message with that text.
inline std::string properties_for(const std::string& text) {
  return "{" + text.substr(0, 20) + "}";
}

/// "MSG n qos bits flags topic text". Where the text begins with the properties that go with the
/// rest of it, they are taken off.
struct message_line {
  std::string number, text;
  bool has_properties = false;
  explicit message_line(const std::string& line)
      : number(line.substr(4, line.find(' ', 4) - 4)), text(line.substr(line.rfind(' ') + 1)) {
    const std::string rest = text.substr(text.starts_with('{') ? text.find('}') + 1 : 0);
    has_properties = text == properties_for(rest) + rest;
    if (has_properties) text = rest;
  }
};

inline std::string subscriber_name(unsigned s) {
  return "subscriber" + std::to_string(s);
}

/// What the scenarios of a kind have in common.
struct line_case {
  broker_config config = line_config(1, 15);
  store_layout layout = tiny_layout();
  unsigned subscribers = 2;
  unsigned publishers = 1;
  bool examine = true; ///< the region is checked after each recovery
  bool properties = false; ///< each message is published with properties_for() its text

  [[nodiscard]] queue_rules rules() const {
    return {subscribers, config.queue_slots, config.overflow, publishers};
  }
  [[nodiscard]] std::unique_ptr<server> open(media& m, bool fresh, std::string& why) const {
    auto b = broker_in_order(test::join_life(m), config, fresh, layout, why, examine);
    if (b == nullptr) return nullptr;
    auto made = std::make_unique<server>(std::move(b));
    if (properties)
      made->arrive_by([added = std::string()](std::string_view line) mutable -> std::string_view {
        if (!line.starts_with("PUB ")) return line;
        const std::size_t text = line.rfind(' ') + 1;
        added = line.substr(0, text);
        added += properties_for(std::string(line.substr(text)));
        added += line.substr(text);
        return added;
      });
    return made;
  }
  /// A region with the sessions of all subscribers and of a publisher.
  void set_up(media& m, history& h) const {
    std::string why;
    auto b = open(m, true, why);
    if (b == nullptr) return h.fail(why);
    (void)b->ask(publisher_at, "CONNECT publisher -");
    make_subscribers(*b, h);
  }
  /// A region with one subscriber, and the session of a second one that wants nothing yet.
  void set_up_second_session(media& m, history& h) const {
    line_case first = *this;
    first.subscribers = 1;
    first.set_up(m, h);
    std::string why;
    auto b = open(m, false, why);
    if (b == nullptr || b->ask(subscriber_at + 1, "CONNECT " + subscriber_name(1) + " -") != "OK 1")
      h.fail("no session for the second subscriber " + why);
  }
  void make_subscribers(server& b, history& h) const {
    for (unsigned s = 0; s < subscribers; ++s) {
      const unsigned at = subscriber_at + s;
      if (b.ask(at, "CONNECT " + subscriber_name(s) + " -") != "OK 1" ||
          b.ask(at, std::string("SUB ") + topic + " 1") != "OK 2")
        return h.fail("no subscriber");
    }
  }
  [[nodiscard]] verdict check(media& m, const history& h) const;
};

/// Connects the publisher, once in a life.
inline bool connect_publisher(server& b) {
  return b.ask(publisher_at, "CONNECT publisher -").starts_with("OK ");
}

/// Publishes messages first .. first + count - 1 in one burst.
inline void publish(server& b, history& h, std::uint64_t first, unsigned count,
                    std::size_t size = usual_size) {
  for (std::uint64_t id = first; id < first + count; ++id) {
    h.begin(id, size);
    b.send(publisher_at, std::string("PUB ") + topic + " 1 " + text_of(id, size));
  }
  b.settle();
  for (std::uint64_t id = first; id < first + count; ++id) {
    const std::string said = b.next(publisher_at);
    if (said.starts_with("OK "))
      h.ack(id);
    else if (said.starts_with("NO "))
      h.promise(refused, id);
    else
      h.fail("no answer for message " + std::to_string(id) + ": " + said);
  }
}

/// What a subscriber was given and has not acknowledged yet.
struct in_flight {
  unsigned subscriber = 0;
  std::vector<message_line> lines;

  /// Everything that has arrived by now.
  void take(server& b, history& h) {
    for (std::string line = b.next(subscriber_at + subscriber); !line.empty();
         line = b.next(subscriber_at + subscriber)) {
      if (line.starts_with("DROP ")) {
        std::erase_if(lines, [&](const message_line& m) { return m.number == line.substr(5); });
        continue;
      }
      if (!line.starts_with("MSG ")) continue;
      lines.emplace_back(line);
      h.promise(delivered, place(subscriber, id_of(lines.back().text)));
    }
  }
  void acknowledge(server& b, history& h, std::size_t i) {
    h.promise(acknowledging, place(subscriber, id_of(lines[i].text)));
    b.send(subscriber_at + subscriber, "ACK " + lines[i].number);
  }
};

/// Prepares the larger rings that queues have asked for, as a worker does now and then.
inline void prepare_rings(server& b) {
  broker_access::state(b.broker()).queues().maintain(64);
}

inline in_flight connect_subscriber(server& b, history& h, unsigned s) {
  in_flight f{s, {}};
  b.send(subscriber_at + s, "CONNECT " + subscriber_name(s) + " -");
  b.settle();
  if (b.next(subscriber_at + s).find("present") == std::string::npos)
    h.fail("the subscriber's session is not there");
  f.take(b, h);
  return f;
}

inline void leave(server& b, unsigned s) {
  b.ask(subscriber_at + s, "BYE");
  b.forget(subscriber_at + s);
}

/// The subscriber acknowledges its oldest `count` messages in one burst. Behind the burst that is
/// durable: none of them comes again.
inline void acknowledge_oldest(server& b, history& h, in_flight& f, unsigned count) {
  if (f.lines.size() < count) return h.fail("fewer messages than were acknowledged");
  for (unsigned i = 0; i < count; ++i)
    f.acknowledge(b, h, i);
  b.settle();
  for (unsigned i = 0; i < count; ++i)
    h.promise(forgotten, place(f.subscriber, id_of(f.lines[i].text)));
  f.lines.erase(f.lines.begin(), f.lines.begin() + count);
}

/// The same in a connection of its own.
inline void consume(server& b, history& h, unsigned s, unsigned count) {
  in_flight f = connect_subscriber(b, h, s);
  acknowledge_oldest(b, h, f, count);
  leave(b, s);
}

/// Takes what is there into flight, and acknowledges the last `count` of them, the last first. What
/// is acknowledged out of order may come again.
inline void consume_backwards(server& b, history& h, unsigned s, unsigned count) {
  in_flight f = connect_subscriber(b, h, s);
  if (f.lines.size() < count) return h.fail("fewer messages than were acknowledged");
  for (unsigned i = 0; i < count; ++i) {
    f.acknowledge(b, h, f.lines.size() - 1 - i);
    if (i % 2 == 1) b.settle(); // two acknowledgements in a burst
  }
  b.settle();
  leave(b, s);
}

/// Every subscriber takes everything it is given and acknowledges it.
inline verdict judge_deliveries(server& b, const history& h, const queue_rules& rules,
                                bool properties = false) {
  oracle judge(h, rules);
  for (unsigned s = 0; s < rules.subscribers; ++s) {
    const unsigned at = subscriber_at + s;
    if (b.ask(at, "CONNECT " + subscriber_name(s) + " -") != "OK 1 present")
      return "session " + subscriber_name(s) + " is not there";
    for (std::string line = b.next(at); !line.empty(); line = b.next(at)) {
      const message_line m(line);
      if (verdict bad = judge.found(s, m.text)) return bad;
      if (m.has_properties != properties) return "other properties: " + line;
      b.send(at, "ACK " + m.number);
      b.settle();
    }
  }
  if (verdict bad = judge.judge()) return bad;
  // The medium is whole, so a delivery that was given up as damaged is a message that was lost.
  if (b.broker().counters().damaged != 0) return "a delivery was damaged";
  b.settle();
  if (b.broker().message_statistics().live != 0) return "messages are live that nothing reaches";
  return {};
}

inline verdict line_case::check(media& m, const history& h) const {
  std::string why;
  auto b = open(m, false, why);
  if (b == nullptr) return "does not open: " + why;
  return judge_deliveries(*b, h, rules(), properties);
}

/// A scenario of that kind: `run` is given an open broker whose publisher is connected. The life
/// after a crash publishes one message more.
inline scenario line_scenario(const std::string& name, const line_case& kind,
                              std::function<void(server&, history&)> run) {
  scenario s;
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
  s.recover_and_check = [kind](media& m, const history& h) { return kind.check(m, h); };
  s.continue_after = [kind](media& m, history& h) {
    std::string why;
    auto b = kind.open(m, false, why);
    if (b == nullptr) return h.fail("does not open again: " + why);
    if (!connect_publisher(*b)) return h.fail("no publisher");
    publish(*b, h, static_cast<std::uint64_t>(10'000 * h.crashes()), 1);
  };
  return s;
}

} // namespace chainring::testing_line
