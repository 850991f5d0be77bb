// SPDX-License-Identifier: BSD-3-Clause
/// Regions of a broker that has lived for a while, to be damaged, and the judge of what is served
/// from them: every message that a subscriber gets was published, to a topic to which it
/// subscribed.
#pragma once
#include <algorithm>
#include <set>
#include <stdexcept>

#include "../region/region_fixture.h"
#include "file_world.h"

namespace chainring::test_faults {

using test::kept_media;
using test::line_bytes;

inline constexpr std::uint64_t page = 4096;
inline constexpr std::uint64_t publisher = 100, subscriber_base = 200;

/// What is published on which topic, and who subscribes to it.
inline constexpr const char* topics[] = {
    "a/one", "a/topic/whose/name/is/longer/than/a/line/of/memory/is", "b"};
inline constexpr unsigned topic_count = 3;
struct subscriber {
  const char* name;
  std::vector<const char*> filters;
  bool wants[topic_count];
};
inline const subscriber subscribers[] = {
    {"first", {"a/one"}, {true, false, false}},
    {"second-with-a-long-name", {"a/#", "a/one"}, {true, true, false}},
    {"third", {"+", "a/+"}, {true, false, true}},
};

inline store_layout layout_of_run() {
  store_layout l = tiny_layout();
  l.messages_max = 96;
  return l;
}
inline unsigned topic_of(std::uint64_t id) {
  return static_cast<unsigned>(id % topic_count);
}
inline std::string text_of(std::uint64_t id) {
  std::string text = "m" + std::to_string(id) + " ";
  const std::size_t size = 10 + id * 37 % 900; // one block to four
  while (text.size() < size)
    text += static_cast<char>('!' + (text.size() * 7 + id * 13) % 90);
  return text;
}

/// The client's side of a life: names by topic id, for each address.
template <class Bench> struct clients {
  Bench& b;
  std::map<client_address, std::map<std::uint16_t, std::string>> names{};

  bool connect(client_address at, std::string_view id, bool clean) {
    names[at].clear();
    b.send(at, sn::connect{.flags = sn::flags{}.with_clean(clean), .client_id = id});
    b.settle();
    auto r = b.next(at);
    return r && r->template get<sn::connack>() &&
           r->template get<sn::connack>()->code == sn::return_code::accepted;
  }
  void subscribe(client_address at, const char* filter) {
    b.send(at, sn::subscribe{.flags = sn::flags{}.with_qos(sn::qos_level::one),
                             .msg_id = 3,
                             .topic = filter});
    b.settle();
    while (auto r = b.next(at))
      if (const auto* a = r->template get<sn::suback>(); a != nullptr && a->topic_id != 0)
        names[at][a->topic_id] = filter;
  }
  /// Returns true if the call was acknowledged as accepted.
  bool publish(client_address at, std::uint64_t id) {
    b.send(at, sn::register_topic{.msg_id = 4, .topic = topics[topic_of(id)]});
    b.settle();
    auto r = b.next(at);
    if (!r || !r->template get<sn::regack>()) return false;
    const std::uint16_t topic = r->template get<sn::regack>()->topic_id;
    const std::string text = text_of(id);
    b.send(at, sn::publish{.flags = sn::flags{}.with_qos(sn::qos_level::one),
                           .topic_id = topic,
                           .msg_id = static_cast<std::uint16_t>(id + 1),
                           .data = std::as_bytes(std::span(text))});
    b.settle();
    r = b.next(at);
    return r && r->template get<sn::puback>() &&
           r->template get<sn::puback>()->code == sn::return_code::accepted;
  }
  /// Takes up to `max` messages. Returns false, and ends, if something wrong was delivered.
  template <class F> std::string take(client_address at, std::size_t max, F&& seen) {
    for (std::size_t n = 0; n < max;) {
      auto r = b.next(at);
      if (!r) return {};
      if (const auto* g = r->template get<sn::register_topic>()) {
        names[at][g->topic_id] = std::string(g->topic);
        b.send(at, sn::regack{.topic_id = g->topic_id, .msg_id = g->msg_id});
        b.settle();
        continue;
      }
      const auto* p = r->template get<sn::publish>();
      if (p == nullptr) continue;
      ++n;
      const std::string text(reinterpret_cast<const char*>(p->data.data()), p->data.size());
      std::uint64_t id = 0;
      if (text.size() < 3 ||
          std::sscanf(text.c_str(), "m%llu ", reinterpret_cast<unsigned long long*>(&id)) != 1 ||
          text != text_of(id))
        return "a payload nobody published: " + text.substr(0, 40);
      if (const std::string wrong = seen(id, names[at][p->topic_id]); !wrong.empty()) return wrong;
      b.send(at, sn::puback{.topic_id = p->topic_id, .msg_id = p->msg_id});
      b.settle();
    }
    return {};
  }
};

/// A region to damage: as it is now, and as it was at some earlier moments.
struct image {
  std::vector<line_bytes> moments; ///< the last moment is now
  std::uint64_t published = 0;     ///< messages with ids below this one were published
  std::vector<std::set<std::uint64_t>> queued{std::size(subscribers)};
  std::uint64_t tables_at = 0; ///< where superblocks, directory and areas begin
};
inline constexpr std::uint64_t tables_size = 20u << 10;

/// Lives a life on what bench_of() opens. snapshot() is called at its moments.
template <class Bench, class Snapshot> void build(Bench& b, image& i, Snapshot snapshot) {
  clients<Bench> c{b};
  for (unsigned s = 0; s < std::size(subscribers); ++s) {
    c.connect(subscriber_base + s, subscribers[s].name, false);
    for (const char* filter : subscribers[s].filters)
      c.subscribe(subscriber_base + s, filter);
    b.send(subscriber_base + s, sn::disconnect{});
  }
  c.connect(subscriber_base + 9, "passing", true);
  c.subscribe(subscriber_base + 9, "a/+");
  snapshot();
  c.connect(publisher, "publisher", true);
  const auto publish = [&](unsigned count) {
    for (unsigned n = 0; n < count; ++n, ++i.published) {
      if (!c.publish(publisher, i.published)) throw std::runtime_error("not accepted");
      for (unsigned s = 0; s < std::size(subscribers); ++s)
        if (subscribers[s].wants[topic_of(i.published)]) i.queued[s].insert(i.published);
    }
  };
  const auto consume = [&](unsigned s, std::size_t count) {
    c.connect(subscriber_base + s, subscribers[s].name, false);
    const std::string wrong =
        c.take(subscriber_base + s, count, [&](std::uint64_t id, const std::string&) {
          i.queued[s].erase(id);
          return std::string();
        });
    if (!wrong.empty()) throw std::runtime_error(wrong);
    b.send(subscriber_base + s, sn::disconnect{});
    b.settle();
    while (b.next(subscriber_base + s)) {
    }
  };
  publish(12);
  snapshot();
  consume(0, 3);
  consume(1, 5);
  publish(9);
  snapshot();
  consume(2, 8);
  consume(1, 2);
  publish(10);
  snapshot();
}

inline const broker_config config_of_run = [] {
  broker_config c = tiny_config();
  c.queue_slots = 31;
  return c;
}();

inline image memory_image() {
  image i;
  line_bytes bytes(160u << 10);
  auto made = broker_on(std::make_unique<kept_media>(bytes), config_of_run, true, layout_of_run());
  if (!made) throw std::runtime_error(made.error().message);
  bench b(std::move(*made));
  build(b, i, [&] { i.moments.push_back(bytes); });
  return i;
}

/// As above in class file: the container with its journal.
inline constexpr std::uint64_t file_region_size = 160u << 10, file_journal_size = 256u << 10;
inline image file_image() {
  image i;
  i.tables_at = file_format::image_offset(file_journal_size);
  model_disk disk;
  auto parts = parts_on(disk);
  media_options o = file_options(file_region_size);
  o.journal_size = file_journal_size;
  if (!file_media::format(parts, o)) throw std::runtime_error("cannot format");
  auto opened = file_bench::open(disk, config_of_run, true, layout_of_run());
  if (!opened) throw std::runtime_error(opened.error().message);
  build(**opened, i, [&] { i.moments.emplace_back(disk.visible().begin(), disk.visible().end()); });
  return i;
}

struct outcome_counts {
  std::uint64_t refused, whole, reported, unreported, again, delivered, served_after;
};

/// Every subscriber gets what it is owed, then new messages, and the same after another open.
template <class Bench>
std::string serve(Bench& b, broker& served, const image& i, std::uint64_t& missing,
                  std::uint64_t& again, outcome_counts& counts,
                  std::set<std::pair<unsigned, std::uint64_t>>& owed) {
  clients<Bench> c{b};
  std::uint64_t next_id = i.published;
  const auto take_all = [&](unsigned s, std::set<std::uint64_t>* expected) {
    std::set<std::uint64_t> got;
    std::string wrong = c.take(
        subscriber_base + s, 200, [&](std::uint64_t id, const std::string& name) -> std::string {
          ++counts.delivered;
          if (id >= next_id) return "a message that was never published: " + std::to_string(id);
          if (name != topics[topic_of(id)])
            return "message " + std::to_string(id) + " under the topic '" + name + "'";
          if (!subscribers[s].wants[topic_of(id)])
            return std::string(subscribers[s].name) + " gets message " + std::to_string(id) +
                   ", which it never subscribed to";
          got.insert(id);
          return {};
        });
    if (!wrong.empty()) return wrong;
    if (expected != nullptr) {
      for (const std::uint64_t id : *expected)
        missing += got.count(id) == 0;
      for (const std::uint64_t id : got)
        again += expected->count(id) == 0;
    }
    return std::string();
  };
  for (unsigned s = 0; s < std::size(subscribers); ++s) {
    if (!c.connect(subscriber_base + s, subscribers[s].name, false)) continue;
    std::set<std::uint64_t> expected = i.queued[s];
    if (auto wrong = take_all(s, &expected); !wrong.empty()) return wrong;
  }
  // The broker continues to serve: a round of new messages to everyone who still has its
  // subscriptions.
  if (!c.connect(publisher, "publisher", true)) return {};
  bool all = true;
  for (unsigned t = 0; t < topic_count; ++t) {
    all &= c.publish(publisher, next_id++);
    for (unsigned s = 0; s < std::size(subscribers); ++s)
      if (auto wrong = take_all(s, nullptr); !wrong.empty()) return wrong;
  }
  counts.served_after += all;
  // What it acknowledges from now on outlives the process.
  for (unsigned s = 0; s < std::size(subscribers); ++s) {
    b.send(subscriber_base + s, sn::disconnect{});
    b.settle();
  }
  (void)served;
  for (unsigned t = 0; t < topic_count; ++t, ++next_id) {
    std::vector<std::uint64_t> depths(std::size(subscribers));
    const auto depth = [&](unsigned s) {
      std::vector<session_info> all_sessions;
      (void)served.sessions(0, 64, all_sessions);
      for (const session_info& info : all_sessions)
        if (info.identity == subscribers[s].name) return info.queue_depth;
      return std::uint64_t{0};
    };
    for (unsigned s = 0; s < std::size(subscribers); ++s)
      depths[s] = depth(s);
    if (!c.publish(publisher, next_id)) continue;
    for (unsigned s = 0; s < std::size(subscribers); ++s)
      if (depth(s) > depths[s]) owed.emplace(s, next_id);
  }
  return {};
}

/// What must be there after one more open.
template <class Bench>
std::string serve_again(Bench& b, std::set<std::pair<unsigned, std::uint64_t>> owed) {
  clients<Bench> c{b};
  for (unsigned s = 0; s < std::size(subscribers); ++s) {
    if (!c.connect(subscriber_base + s, subscribers[s].name, false)) continue;
    const std::string wrong = c.take(
        subscriber_base + s, 200, [&](std::uint64_t id, const std::string& name) -> std::string {
          owed.erase({s, id});
          if (name != topics[topic_of(id)] || !subscribers[s].wants[topic_of(id)])
            return "after the next open, message " + std::to_string(id) + " wrongly delivered";
          return {};
        });
    if (!wrong.empty()) return wrong;
  }
  if (owed.empty()) return {};
  return "message " + std::to_string(owed.begin()->second) +
         " was acknowledged after the damage, "
         "and is lost to " +
         subscribers[owed.begin()->first].name + " by the next open";
}

/// As bench, over a file.
struct memory_bench : bench {
  using bench::bench;
  chainring::broker& served() { return *bench::broker; }
};

template <class Open> std::string judge(const image& i, Open open, outcome_counts& counts) {
  std::set<std::pair<unsigned, std::uint64_t>> owed;
  {
    auto opened = open();
    if (!opened) {
      if (opened.error().message.empty()) return "refused without a reason";
      ++counts.refused;
      return {};
    }
    auto& b = **opened;
    std::uint64_t missing = 0, again = 0;
    if (auto wrong = serve(b, b.served(), i, missing, again, counts, owed); !wrong.empty())
      return wrong;
    const bool damage_reported = !b.served().opened().notes.empty() ||
                                 b.served().counters().damaged != 0 ||
                                 !b.served().region().notes().empty();
    if (missing == 0)
      ++counts.whole;
    else if (damage_reported)
      ++counts.reported;
    else
      ++counts.unreported;
    counts.again += again != 0;
  }
  auto opened = open();
  if (!opened) return "what it served does not open again: " + opened.error().message;
  return serve_again(**opened, owed);
}

inline std::string judge_memory(const image& i, line_bytes now, outcome_counts& counts) {
  return judge(
      i,
      [&]() -> result<std::unique_ptr<memory_bench>> {
        auto made = broker_on(std::make_unique<kept_media>(now), config_of_run, false);
        if (!made) return made.error();
        return std::make_unique<memory_bench>(std::move(*made));
      },
      counts);
}

inline std::string judge_file(const image& i, const line_bytes& now, outcome_counts& counts) {
  model_disk disk(file_bytes(now.begin(), now.end()));
  return judge(
      i, [&] { return file_bench::open(disk, config_of_run, false, layout_of_run()); }, counts);
}

} // namespace chainring::test_faults
