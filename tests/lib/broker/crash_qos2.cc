// SPDX-License-Identifier: BSD-3-Clause
// QoS 2 across crashes. The clients behave as the protocol asks: a publisher repeats its message
// until it is acknowledged and its release until that is answered, and then uses its packet id for
// the next message; a subscriber says once that it has a message, and repeats the end of the
// exchange. What they have then is each message, once.
#include <gtest/gtest.h>

#include <algorithm>
#include <string>
#include <vector>

#include "broker/access.h"
#include "crash_bounds.h"
#include "line_case.h"
#include "line_qos2.h"
#include "line_scenarios.h"
#include "support/seeded.h"

namespace chainring::testing_line {

namespace {

constexpr int releasing = first_scenario_kind;     ///< the publisher sends its message no more
constexpr int released = first_scenario_kind + 1;  ///< the packet id is free
constexpr int receiving = first_scenario_kind + 2; ///< the subscriber has the message
constexpr int received = first_scenario_kind + 3;  ///< it was told to forget that it has it
constexpr int cleaning = first_scenario_kind + 4;
constexpr int cleaned = first_scenario_kind + 5;

/// Sent before the release of the message before it is answered, so it needs a packet id of its
/// own.
constexpr std::uint64_t early = 4;

std::string packet_id(std::uint64_t id) {
  return id == early ? "8" : "7";
}
std::string publish_line(std::uint64_t id) {
  return std::string("PUB ") + topic + " 2:" + packet_id(id) + " " + text_of(id);
}
std::string release_line(std::uint64_t id) {
  return "REL " + packet_id(id);
}

/// A region with a publisher and subscribers whose sessions stay, subscribed at those QoS.
void set_up(const line_case& kind, media& m, history& h, const std::vector<int>& at_qos) {
  std::string why;
  auto b = kind.open(m, true, why);
  if (b == nullptr) return h.fail(why);
  if (!connect_publisher(*b)) return h.fail("no publisher");
  for (unsigned s = 0; s < at_qos.size(); ++s)
    if (b->ask(subscriber_at + s, "CONNECT " + subscriber_name(s) + " -") != "OK 1" ||
        b->ask(subscriber_at + s, std::string("SUB ") + topic + " " + std::to_string(at_qos[s])) !=
            "OK 2")
      return h.fail("no subscriber");
}

/// One exchange of the publisher, which sends its message three times.
void publish_once(server& b, history& h, std::uint64_t id) {
  h.begin(id);
  if (!accepted(b, publish_line(id))) return h.fail("refused");
  h.ack(id);
  if (!accepted(b, publish_line(id)) || !accepted(b, publish_line(id)))
    return h.fail("a repetition was refused");
  h.promise(releasing, id);
  if (!accepted(b, release_line(id))) return h.fail("the release was refused");
  h.promise(released, id);
}

/// What the publisher does when it is back: it finishes the exchange that the crash cut off, and
/// notes each step in `life` where that is not null.
verdict finish_publishing(server& b, const history& h, history* life) {
  const std::vector<std::uint64_t> begun = h.ids(history::begun_kind);
  if (begun.empty()) return {};
  const std::uint64_t last = *std::ranges::max_element(begun);
  if (h.has(released, last)) return {};
  if (!h.has(releasing, last)) {
    if (!accepted(b, publish_line(last)) || !accepted(b, publish_line(last)))
      return "a message that is sent again was refused";
    if (life != nullptr) {
      life->ack(last);
      life->promise(releasing, last);
    }
  }
  if (!accepted(b, release_line(last))) return "a release that is sent again was refused";
  if (life != nullptr) life->promise(released, last);
  return {};
}

} // namespace

// A publisher uses one packet id for message after message, and repeats each. Whatever the crash
// cuts off, in the end every subscriber has every message once.
scenario publishes_at_qos_2() {
  line_case kind;
  scenario s;
  s.name = "line: publishes at QoS 2 that are repeated and released";
  s.size = 128 << 10;
  s.setup = [kind](media& m, history& h) { set_up(kind, m, h, {1, 2}); };
  s.run = [kind](media& m, history& h) {
    std::string why;
    auto b = kind.open(m, false, why);
    if (b == nullptr || !connect_publisher(*b)) return h.fail("no publisher " + why);
    publish_once(*b, h, 1);
    publish_once(*b, h, 2);
    // A release and the next message share a burst.
    h.begin(3);
    if (!accepted(*b, publish_line(3))) return h.fail("refused");
    h.ack(3);
    h.promise(releasing, 3);
    h.begin(early);
    b->send(publisher_at, release_line(3));
    b->send(publisher_at, publish_line(early));
    b->settle();
    if (!b->next(publisher_at).starts_with("OK ") || !b->next(publisher_at).starts_with("OK "))
      return h.fail("refused");
    h.promise(released, 3);
    h.ack(early);
  };
  s.recover_and_check = [kind](media& m, const history& h) -> verdict {
    std::string why;
    auto b = kind.open(m, false, why);
    if (b == nullptr || !connect_publisher(*b)) return "does not open: " + why;
    if (h.begun(early) && !h.has(released, 3) && !accepted(*b, release_line(3)))
      return "the release was refused";
    if (verdict bad = finish_publishing(*b, h, nullptr)) return bad;
    constexpr std::uint64_t fresh = 99'999;
    if (!accepted(*b, publish_line(fresh)) || !accepted(*b, release_line(fresh)))
      return "the packet id is not free";
    for (unsigned s = 0; s < kind.subscribers; ++s) {
      taken got;
      if (verdict bad = take_everything(*b, subscriber_at + s, subscriber_name(s), got)) return bad;
      for (const std::uint64_t id : h.ids(history::begun_kind))
        if (std::ranges::count(got.messages, id) != 1)
          return "lost: " + std::to_string(id) + " of subscriber " + std::to_string(s);
      if (std::ranges::count(got.messages, fresh) != 1)
        return "a new message was taken for an old one with its packet id";
      if (got.messages.size() != h.ids(history::begun_kind).size() + 1) return "a ghost";
    }
    return nothing_is_left(*b);
  };
  s.continue_after = [kind](media& m, history& h) {
    std::string why;
    auto b = kind.open(m, false, why);
    if (b == nullptr || !connect_publisher(*b)) return h.fail("does not open again: " + why);
    if (h.begun(early) && !h.has(released, 3)) {
      if (!accepted(*b, release_line(3))) return h.fail("the release was refused");
      h.promise(released, 3);
    }
    if (verdict bad = finish_publishing(*b, h, &h)) return h.fail(*bad);
    publish_once(*b, h, static_cast<std::uint64_t>(10'000 * h.crashes()));
  };
  return s;
}

// A subscriber says that it has a message, and forgets the message's packet id when it is told to.
// From then on it could not tell a repetition from a new message.
scenario deliveries_at_qos_2() {
  line_case kind;
  kind.subscribers = 1;
  constexpr std::uint64_t first = 11, last = 14;
  // Judges the messages that came with their content.
  const auto check_taken = [](const history& h, const taken& got) -> verdict {
    for (const std::uint64_t id : got.messages) {
      if (h.has(received, id)) return "sent again after its release: " + std::to_string(id);
      if (!h.begun(id)) return "a ghost: " + std::to_string(id);
    }
    for (const std::uint64_t id : h.ids(history::acked))
      if (!h.has(receiving, id) && std::ranges::count(got.messages, id) != 1)
        return "lost: " + std::to_string(id);
    return {};
  };
  scenario s;
  s.name = "line: deliveries at QoS 2 that are received and released";
  s.size = 128 << 10;
  s.setup = [kind](media& m, history& h) { set_up(kind, m, h, {2}); };
  s.run = [kind](media& m, history& h) {
    std::string why;
    auto b = kind.open(m, false, why);
    if (b == nullptr || !connect_publisher(*b)) return h.fail("no publisher " + why);
    for (std::uint64_t id = first; id <= last; ++id) {
      h.begin(id);
      if (!accepted(*b, publish_line(id)) || !accepted(*b, release_line(id)))
        return h.fail("refused");
      h.ack(id);
    }
    const unsigned at = subscriber_at;
    b->send(at, "CONNECT " + subscriber_name(0) + " -");
    b->settle();
    std::vector<message_line> in_flight;
    for (std::string line = b->next(at); !line.empty(); line = b->next(at))
      if (line.starts_with("MSG ")) in_flight.emplace_back(line);
    if (in_flight.size() != last + 1 - first) return h.fail("not all messages came");
    const auto receive = [&](std::initializer_list<std::size_t> which) {
      for (const std::size_t i : which) {
        h.promise(receiving, id_of(in_flight[i].text));
        b->send(at, "REC " + in_flight[i].number);
      }
      b->settle();
      for (const std::size_t i : which) {
        if (b->next(at) != "REL " + in_flight[i].number) return h.fail("no release");
        h.promise(received, id_of(in_flight[i].text));
      }
    };
    const auto end = [&](std::size_t i) {
      b->send(at, "ACK " + in_flight[i].number);
      b->settle();
    };
    receive({0});
    receive({2, 1}); // two in one burst
    end(2);          // out of order: the head does not pass it
    receive({3});
    end(0);
    end(1);
  };
  s.recover_and_check = [kind, check_taken](media& m, const history& h) -> verdict {
    std::string why;
    auto b = kind.open(m, false, why);
    if (b == nullptr || !connect_publisher(*b)) return "does not open: " + why;
    if (!accepted(*b, release_line(1))) return "the release was refused";
    taken got;
    if (verdict bad = take_everything(*b, subscriber_at, subscriber_name(0), got)) return bad;
    if (verdict bad = check_taken(h, got)) return bad;
    return nothing_is_left(*b);
  };
  s.continue_after = [kind](media& m, history& h) {
    std::string why;
    auto b = kind.open(m, false, why);
    if (b == nullptr) return h.fail("does not open again: " + why);
    const unsigned at = subscriber_at;
    b->send(at, "CONNECT " + subscriber_name(0) + " -");
    b->settle();
    for (std::string line = b->next(at); !line.empty(); line = b->next(at)) {
      if (!line.starts_with("MSG ")) continue;
      const message_line m(line);
      const std::uint64_t id = id_of(m.text);
      if (h.has(received, id)) return h.fail("sent again after its release: " + m.text);
      h.promise(receiving, id);
      b->send(at, "REC " + m.number);
      b->settle();
      h.promise(received, id);
    }
  };
  return s;
}

// A publisher leaves an identifier open and begins clean. Its next message has the same packet id.
scenario clean_start_at_qos_2() {
  line_case kind;
  kind.subscribers = 1;
  scenario s;
  s.name = "line: a clean start with an open identifier";
  s.size = 128 << 10;
  s.setup = [kind](media& m, history& h) { set_up(kind, m, h, {2}); };
  s.run = [kind](media& m, history& h) {
    std::string why;
    auto b = kind.open(m, false, why);
    if (b == nullptr || !connect_publisher(*b)) return h.fail("no publisher " + why);
    h.begin(1);
    if (!accepted(*b, publish_line(1))) return h.fail("refused");
    h.ack(1);
    h.promise(cleaning, 0);
    if (!accepted(*b, "CONNECT publisher clean")) return h.fail("no clean start");
    h.promise(cleaned, 0);
    h.begin(2);
    if (!accepted(*b, publish_line(2))) return h.fail("refused");
    h.ack(2);
  };
  s.recover_and_check = [kind](media& m, const history& h) -> verdict {
    std::string why;
    auto b = kind.open(m, false, why);
    if (b == nullptr) return "does not open: " + why;
    const std::string said = b->ask(publisher_at, "CONNECT publisher -");
    if (!said.starts_with("OK ")) return "no publisher";
    if (h.begun(1) && !h.is_acked(1) && !accepted(*b, publish_line(1)))
      return "a message that is sent again was refused";
    if (!h.has(cleaned, 0) && h.has(cleaning, 0) && !accepted(*b, "CONNECT publisher clean"))
      return "no clean start";
    if (h.begun(1) && !h.has(cleaning, 0) && !accepted(*b, release_line(1)))
      return "the release was refused";
    const std::uint64_t second = 2;
    if (!accepted(*b, publish_line(second)) || !accepted(*b, publish_line(second)) ||
        !accepted(*b, release_line(1)))
      return "a message that is sent again was refused";
    taken got;
    if (verdict bad = take_everything(*b, subscriber_at, subscriber_name(0), got)) return bad;
    for (const std::uint64_t id : {std::uint64_t{1}, second})
      if ((id == second || h.begun(id)) && std::ranges::count(got.messages, id) != 1)
        return "lost: " + std::to_string(id);
    return nothing_is_left(*b);
  };
  s.continue_after = [kind](media& m, history& h) {
    std::string why;
    if (kind.open(m, false, why) == nullptr) h.fail("does not open again: " + why);
  };
  return s;
}

namespace {

TEST(CrashQos2, EveryMessageOfAPublisherIsInEveryQueueOnce) {
  EXPECT_TRUE(explore(publishes_at_qos_2(), testing_core::crash_bounds()).ok());
}
TEST(CrashQos2, AMessageThatWasReceivedIsOnlyReleased) {
  EXPECT_TRUE(explore(deliveries_at_qos_2(), testing_core::crash_bounds()).ok());
}
TEST(CrashQos2, AnOldIdentifierSwallowsNoMessageAfterACleanStart) {
  EXPECT_TRUE(explore(clean_start_at_qos_2(), testing_core::crash_bounds()).ok());
}

// The tester tested: each of these mistakes is found.
TEST(CrashQos2, MistakesThatWereMadeOnPurposeAreFound) {
  const struct {
    const char* bug;
    scenario (*in)();
  } cases[] = {{"broker.identifier_not_flushed", publishes_at_qos_2},
               {"broker.identifiers_forgotten", publishes_at_qos_2},
               {"broker.receipt_not_flushed", deliveries_at_qos_2},
               {"broker.receipt_not_stored", deliveries_at_qos_2},
               {"broker.identifier_of_any_incarnation", clean_start_at_qos_2}};
  for (const auto& c : cases)
    testing_core::expect_bug(c.bug, c.in());
}

} // namespace
} // namespace chainring::testing_line
