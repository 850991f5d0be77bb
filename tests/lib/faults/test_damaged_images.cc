// SPDX-License-Identifier: BSD-3-Clause
// A broker's region, damaged in thousands of ways: bits flipped, pages and lines zeroed, swapped,
// copied over each other, or as they were some time ago. Opening refuses with a reason or serves;
// nothing crashes, hangs or delivers a byte that its publisher did not send to that subscriber.
//
// CHAINRING_SEED is the run's seed, CHAINRING_CASE one case of it alone, CHAINRING_CASES how many.
#include <algorithm>
#include <rte_eal.h>
#include <set>

#include "../region/region_fixture.h"
#include "file_world.h"
#include "forked.h"

namespace chainring::test_faults {
namespace {

using test::kept_media;
using test::line_bytes;

constexpr std::uint64_t page = 4096;
constexpr client_address publisher = 100, subscriber_base = 200;

/// What is published where, and who wants it.
constexpr const char* topics[] = {"a/one", "a/topic/whose/name/is/longer/than/a/line/of/memory/is",
                                  "b"};
constexpr unsigned topic_count = 3;
struct subscriber {
  const char* name;
  std::vector<const char*> filters;
  bool wants[topic_count];
};
const subscriber subscribers[] = {
    {"first", {"a/one"}, {true, false, false}},
    {"second-with-a-long-name", {"a/#", "a/one"}, {true, true, false}},
    {"third", {"+", "a/+"}, {true, false, true}},
};

store_layout tiny_layout() {
  store_layout l;
  l.sessions_max = 8;
  l.subscriptions_max = 16;
  l.messages_max = 96;
  return l;
}
broker_config tiny_config() {
  broker_config c = small_config();
  c.queue_slots = 31;
  c.topics_max = 16;
  c.registrations_max = 32;
  c.volatile_messages_max = 16;
  return c;
}

unsigned topic_of(std::uint64_t id) {
  return static_cast<unsigned>(id % topic_count);
}
std::string text_of(std::uint64_t id) {
  std::string text = "m" + std::to_string(id) + " ";
  const std::size_t size = 10 + id * 37 % 900; // one block to four
  while (text.size() < size)
    text += static_cast<char>('!' + (text.size() * 7 + id * 13) % 90);
  return text;
}

/// A client's side of a life: names by topic id, per address.
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
  /// True: acknowledged as accepted.
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
  /// Takes up to `max` messages; false ends it: something wrong was delivered.
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

/// A region to damage: as it is, and as it was some times before.
struct image {
  std::vector<line_bytes> moments; ///< the last is now
  std::uint64_t published = 0;     ///< ids below it were
  std::vector<std::set<std::uint64_t>> queued{std::size(subscribers)};
  std::uint64_t tables_at = 0; ///< where superblocks, directory and areas begin
};
constexpr std::uint64_t tables_size = 20u << 10;

/// Lives a life on what bench_of() opens; snapshot() is called at its moments.
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

broker_config config_of_run = tiny_config();

image memory_image() {
  image i;
  line_bytes bytes(160u << 10);
  auto made = broker_on(std::make_unique<kept_media>(bytes), config_of_run, true, tiny_layout());
  if (!made) throw std::runtime_error(made.error().message);
  bench b(std::move(*made));
  build(b, i, [&] { i.moments.push_back(bytes); });
  return i;
}

/// The same in class file: the container with its journal.
constexpr std::uint64_t file_region_size = 160u << 10, file_journal_size = 256u << 10;
image file_image() {
  image i;
  i.tables_at = file_format::image_offset(file_journal_size);
  model_disk disk;
  auto parts = parts_on(disk);
  media_options o = file_options(file_region_size);
  o.journal_size = file_journal_size;
  if (!file_media::format(parts, o)) throw std::runtime_error("cannot format");
  auto opened = file_bench::open(disk, config_of_run, true, tiny_layout());
  if (!opened) throw std::runtime_error(opened.error().message);
  build(**opened, i, [&] { i.moments.emplace_back(disk.visible().begin(), disk.visible().end()); });
  return i;
}

/// Damages `now` and says how.
std::string damage(line_bytes& now, const image& i, std::mt19937_64& draw) {
  std::string how;
  const std::uint64_t pages = now.size() / page, words = now.size() / 8;
  // Where there is something, and half of the time in the tables in front of the blocks.
  const auto used_word = [&] {
    auto* w = reinterpret_cast<std::uint64_t*>(now.data());
    const bool in_tables = draw() % 2 == 0;
    const auto word = [&] {
      return in_tables ? i.tables_at / 8 + draw() % (tables_size / 8) : draw() % words;
    };
    for (int tries = 0; tries < 200; ++tries)
      if (const std::uint64_t at = word(); w[at] != 0) return at;
    return word();
  };
  const std::uint64_t kind = draw() % 16;
  const std::uint64_t times = 1 + (draw() % 3 == 0 ? draw() % 6 : 0);
  for (std::uint64_t n = 0; n < times; ++n) {
    const std::uint64_t at = used_word(), other = used_word();
    std::byte* here = now.data() + at * 8;
    const auto whole = [](std::uint64_t word, std::uint64_t unit) {
      return word * 8 / unit * unit;
    };
    switch (kind) {
    case 0:
    case 1:
    case 2:
    case 3:
    case 4:
    case 5:
    case 6: {
      const auto bit = static_cast<unsigned>(draw() % 64);
      here[bit / 8] ^= static_cast<std::byte>(1u << bit % 8);
      how = "bits flipped";
      break;
    }
    case 7:
      for (unsigned k = 0; k < 8; ++k)
        here[k] = static_cast<std::byte>(draw());
      how = "words of noise";
      break;
    case 8:
      std::memset(here, draw() % 2 != 0 ? 0 : 0xff, 8);
      how = "words zero or all ones";
      break;
    case 9:
      std::memset(now.data() + whole(at, page), 0, page);
      how = "pages zeroed";
      break;
    case 10:
      std::memset(now.data() + whole(at, 64), 0, 64);
      how = "lines zeroed";
      break;
    case 11:
      std::swap_ranges(now.data() + whole(at, page), now.data() + whole(at, page) + page,
                       now.data() + draw() % pages * page);
      how = "pages swapped";
      break;
    case 12:
      if (whole(at, 64) != whole(other, 64))
        std::swap_ranges(now.data() + whole(at, 64), now.data() + whole(at, 64) + 64,
                         now.data() + whole(other, 64));
      how = "lines swapped";
      break;
    case 13:
      std::memcpy(now.data() + whole(at, 64), line_bytes(now).data() + whole(other, 64), 64);
      how = "lines copied over others";
      break;
    case 14: {
      const line_bytes& old = i.moments[draw() % (i.moments.size() - 1)];
      std::memcpy(now.data() + whole(at, page), old.data() + whole(at, page), page);
      how = "pages of an earlier moment";
      break;
    }
    default: {
      const line_bytes& old = i.moments[draw() % (i.moments.size() - 1)];
      std::memcpy(now.data() + whole(at, 64), old.data() + whole(at, 64), 64);
      how = "lines of an earlier moment";
    }
    }
  }
  return how;
}

struct outcome_counts {
  std::uint64_t refused, whole, reported, unreported, again, delivered, served_after;
};

/// Everything a subscriber is owed and gets, then new messages, then the same after another open.
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
  // It goes on serving: a round of new messages to whoever still has its subscriptions.
  if (!c.connect(publisher, "publisher", true)) return {};
  bool all = true;
  for (unsigned t = 0; t < topic_count; ++t) {
    all &= c.publish(publisher, next_id++);
    for (unsigned s = 0; s < std::size(subscribers); ++s)
      if (auto wrong = take_all(s, nullptr); !wrong.empty()) return wrong;
  }
  counts.served_after += all;
  // And what it acknowledges from now on outlives the process.
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
        if (info.client_id == subscribers[s].name) return info.queue_depth;
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

/// bench with file_bench's manners.
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
    const bool told = !b.served().opened().notes.empty() || b.served().counters().damaged != 0 ||
                      !b.served().on().notes().empty();
    if (missing == 0)
      ++counts.whole;
    else if (told)
      ++counts.reported;
    else
      ++counts.unreported;
    counts.again += again != 0;
  }
  auto opened = open();
  if (!opened) return "what it served does not open again: " + opened.error().message;
  return serve_again(**opened, owed);
}

std::string judge_memory(const image& i, line_bytes now, outcome_counts& counts) {
  return judge(
      i,
      [&]() -> result<std::unique_ptr<memory_bench>> {
        auto made = broker_on(std::make_unique<kept_media>(now), config_of_run, false);
        if (!made) return made.error();
        return std::make_unique<memory_bench>(std::move(*made));
      },
      counts);
}

std::string judge_file(const image& i, const line_bytes& now, outcome_counts& counts) {
  model_disk disk(file_bytes(now.begin(), now.end()));
  return judge(
      i, [&] { return file_bench::open(disk, config_of_run, false, tiny_layout()); }, counts);
}

std::uint64_t number_from(const char* name, std::uint64_t fallback) {
  const char* text = std::getenv(name);
  return text != nullptr ? std::strtoull(text, nullptr, 0) : fallback;
}

TEST(DamagedImages, AreRefusedWithAReasonOrServedWithoutAWrongByte) {
  const std::uint64_t seed = seed_of_run(20261121);
  const std::uint64_t cases = number_from("CHAINRING_CASES", 10'000);
  const std::uint64_t only = number_from("CHAINRING_CASE", UINT64_MAX);
  image memory, file;
  std::vector<std::string> failures;
  const auto counts = run_forked<outcome_counts>(
      cases, failures,
      [&] {
        const char* eal[] = {"test", "--no-huge", "--no-pci",       "--no-shconf",      "-m", "64",
                             "-l",   "0",         "--no-telemetry", "--log-level=error"};
        if (rte_eal_init(std::size(eal), const_cast<char**>(eal)) < 0) return false;
        memory = memory_image();
        file = file_image();
        outcome_counts undamaged{};
        std::string wrong = judge_memory(memory, memory.moments.back(), undamaged);
        wrong += judge_file(file, file.moments.back(), undamaged);
        if (wrong.empty() && undamaged.whole == 2 && undamaged.again == 0) return true;
        std::printf("an undamaged image is not served whole: %s\n", wrong.c_str());
        return false;
      },
      [&](std::uint64_t number, outcome_counts& c) -> std::string {
        if (only != UINT64_MAX && number != only) return {};
        std::mt19937_64 draw(seed * 1'000'003 + number);
        std::string how, wrong;
        if (number % 4 != 3) {
          line_bytes now = memory.moments.back();
          how = damage(now, memory, draw);
          wrong = judge_memory(memory, now, c);
        } else {
          line_bytes now = file.moments.back();
          how = damage(now, file, draw);
          wrong = judge_file(file, now, c);
        }
        return wrong.empty() ? wrong : "(" + how + ") " + wrong;
      });
  for (const std::string& f : failures)
    ADD_FAILURE() << f << "; again with CHAINRING_SEED=" << seed << " CHAINRING_CASE=NUMBER";
  std::printf("%llu damaged images: %llu refused; %llu served whole; %llu served with losses "
              "reported, %llu with losses not reported; %llu delivered again what was consumed; "
              "%llu messages delivered; %llu took every new message\n",
              static_cast<unsigned long long>(cases),
              static_cast<unsigned long long>(counts.refused),
              static_cast<unsigned long long>(counts.whole),
              static_cast<unsigned long long>(counts.reported),
              static_cast<unsigned long long>(counts.unreported),
              static_cast<unsigned long long>(counts.again),
              static_cast<unsigned long long>(counts.delivered),
              static_cast<unsigned long long>(counts.served_after));
}

} // namespace
} // namespace chainring::test_faults
