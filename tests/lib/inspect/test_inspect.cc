// SPDX-License-Identifier: BSD-3-Clause
// Looks at named objects, closed, damaged and beside a thread that changes them.
#include <algorithm>
#include <atomic>
#include <cstring>
#include <functional>
#include <gtest/gtest.h>
#include <map>
#include <thread>

#include "../region/region_fixture.h"
#include "base/hook.h"
#include "inspect/inspect.h"
#include "map/map_media.h"
#include "objects/object_map.h"
#include "objects/object_pairs.h"
#include "objects/object_queue.h"
#include "objects/objects_media.h"
#include "support/seeded.h"

namespace chainring::test {
namespace {

using counts_map = map<std::string, std::uint64_t>;
using texts_map = map<std::uint64_t, std::string>;
using numbers = queue<std::uint64_t>;
using texts = queue<std::string>;
using relation = bimap<std::string, std::string>;

std::string text(inspection::bytes b) {
  return {reinterpret_cast<const char*>(b.data()), b.size()};
}
std::uint64_t number(inspection::bytes b) {
  std::uint64_t n = 0;
  EXPECT_EQ(b.size(), sizeof n);
  std::memcpy(&n, b.data(), std::min(b.size(), sizeof n));
  return n;
}

/// Objects in memory that a look can attach to while they are used.
class Inspect : public testing::Test {
 protected:
  Inspect() {
    bytes.resize(8 << 20);
    auto made = region::create_on(std::make_unique<kept_media>(bytes), {});
    EXPECT_TRUE(made) << made.error().message;
    region_ = std::move(made).value();
  }
  template <class... Ts> objects& open(const durable<Ts>&... of) {
    objects::wanted all;
    (all.push_back(object_of<Ts>::make(of)), ...);
    auto opened = objects::open(std::move(region_), std::move(all));
    EXPECT_TRUE(opened) << opened.error().message;
    owner = std::move(opened).value();
    return *owner;
  }
  [[nodiscard]] std::unique_ptr<region> attach() {
    auto r = region::attach_on(std::make_unique<kept_media>(bytes));
    EXPECT_TRUE(r) << r.error().message;
    return std::move(r).value();
  }
  static object_look named(inspection& look, const std::string& name) {
    for (const object_look& o : look.objects())
      if (o.name == name) return o;
    ADD_FAILURE() << "no object " << name;
    return {};
  }
  /// The cells of a map in its first range.
  map_cell* cells(const region& r, const std::string& name) {
    return reinterpret_cast<map_cell*>(bytes.data() + r.root(name).value().offset +
                                       sizeof(object_header));
  }

  line_bytes bytes;
  std::unique_ptr<region> region_;
  std::unique_ptr<objects> owner;
};

TEST_F(Inspect, ShowsEveryKindOfObjectBesideItsOwner) {
  objects& o = open(durable<counts_map>{"counts", 10}, durable<texts_map>{"texts", 10},
                    durable<relation>{"pairs", 10}, durable<numbers>{"numbers", 10},
                    durable<texts>{"jobs", 10});
  auto counts = o.get<counts_map>("counts").value();
  const std::string long_key = "a key that does not fit the twenty-four bytes of a cell";
  ASSERT_EQ(counts.insert("a", 1), map_status::done);
  ASSERT_EQ(counts.insert(long_key, 2), map_status::done);
  ASSERT_EQ(counts.insert("gone", 3), map_status::done);
  ASSERT_EQ(counts.erase("gone"), map_status::done);
  const std::string long_value(1000, 'v');
  ASSERT_EQ(o.get<texts_map>("texts").value().insert(9, long_value), map_status::done);
  ASSERT_EQ(o.get<relation>("pairs").value().insert("left", "right"), map_status::done);
  auto values = o.get<numbers>("numbers").value();
  for (std::uint64_t n = 5; n < 8; ++n)
    ASSERT_EQ(values.enqueue(n), queue_status::done);
  std::uint64_t first = 0;
  ASSERT_EQ(values.dequeue_burst(std::span(&first, 1)), 1u);
  auto jobs = o.get<texts>("jobs").value();
  ASSERT_EQ(jobs.enqueue(long_value), queue_status::done);

  const auto r = attach();
  inspection look(*r);
  EXPECT_FALSE(look.has_broker());
  ASSERT_EQ(look.objects().size(), 5u);
  std::map<std::string, std::uint64_t> shown;
  EXPECT_EQ(
      look.map_entries(named(look, "counts"), [&](auto k, auto v) { shown[text(k)] = number(v); })
          .whole,
      2u);
  EXPECT_EQ(shown, (std::map<std::string, std::uint64_t>{{"a", 1}, {long_key, 2}}));
  look.map_entries(named(look, "texts"), [&](auto k, auto v) {
    EXPECT_EQ(number(k), 9u);
    EXPECT_EQ(text(v), long_value);
  });
  EXPECT_EQ(look.map_entries(named(look, "pairs"),
                             [&](auto a, auto b) {
                               EXPECT_EQ(text(a), "left");
                               EXPECT_EQ(text(b), "right");
                             })
                .whole,
            1u);
  std::vector<std::uint64_t> waiting;
  look.queue_entries(named(look, "numbers"), 0,
                     [&](const entry_look&, auto b) { waiting.push_back(number(b)); });
  EXPECT_EQ(waiting, (std::vector<std::uint64_t>{6, 7}));
  EXPECT_EQ(look.queue_entries(named(look, "jobs"), 0,
                               [&](const entry_look& e, auto b) {
                                 EXPECT_EQ(e.ticket, 1u);
                                 EXPECT_EQ(text(b), long_value);
                               })
                .whole,
            1u);
  look.streams(named(look, "numbers"), [](const queue_look& q) {
    EXPECT_EQ(q.waiting, 2u);
    EXPECT_EQ(q.head, 1u);
    EXPECT_EQ(q.newest, 3u);
  });
  EXPECT_TRUE(look.damage().empty()) << look.damage().front();
}

TEST_F(Inspect, DamagedEntriesAreNamedAndTheOthersAreShown) {
  objects& o = open(durable<counts_map>{"counts", 10}, durable<texts>{"jobs", 10});
  auto counts = o.get<counts_map>("counts").value();
  for (const char* key : {"a", "b", "c"})
    ASSERT_EQ(counts.insert(key, 1), map_status::done);
  auto jobs = o.get<texts>("jobs").value();
  ASSERT_EQ(jobs.enqueue(std::string(300, 'x')), queue_status::done);
  ASSERT_EQ(jobs.enqueue(std::string(300, 'y')), queue_status::done);
  const auto r = attach();
  inspection look(*r);
  map_cell* cell = std::find_if(cells(*r, "counts"), cells(*r, "counts") + 10, [](map_cell& c) {
    return map_word0::unpack(c.state).used && c.key[0] == 'b';
  });
  cell->value[map_word0::unpack(cell->state).half][0] ^= 4;
  auto x = std::search_n(bytes.begin(), bytes.end(), 300, std::byte{'x'});
  ASSERT_NE(x, bytes.end());
  x[17] ^= std::byte{1};

  std::string keys;
  const look_counts found =
      look.map_entries(named(look, "counts"), [&](auto k, auto) { keys += text(k); });
  std::ranges::sort(keys);
  EXPECT_EQ(keys, "ac");
  EXPECT_EQ(found.damaged, 1u);
  EXPECT_EQ(found.changing, 0u);
  std::string first;
  EXPECT_EQ(look.queue_entries(named(look, "jobs"), 0,
                               [&](const entry_look&, auto b) { first += text(b)[0]; })
                .damaged,
            1u);
  EXPECT_EQ(first, "y");
  ASSERT_EQ(look.damage().size(), 2u);
  EXPECT_NE(look.damage()[0].find("'counts', cell"), std::string::npos) << look.damage()[0];
  EXPECT_NE(look.damage()[1].find("'jobs', entry at ticket 1"), std::string::npos)
      << look.damage()[1];
}

TEST_F(Inspect, AnObjectWithADamagedHeaderIsNamed) {
  open(durable<counts_map>{"counts", 10});
  const auto r = attach();
  reinterpret_cast<object_header*>(bytes.data() + r->root("counts").value().offset)->version ^= 1;
  inspection look(*r);
  const object_look o = named(look, "counts");
  EXPECT_TRUE(o.damaged);
  EXPECT_EQ(o.kind, object_kind::other);
  EXPECT_EQ(look.map_entries(o, [](auto, auto) { FAIL(); }).whole, 0u);
  ASSERT_EQ(look.damage().size(), 1u);
}

/// Runs a change of the owner once, in the middle of a look.
class InspectMeanwhile : public Inspect {
 protected:
  ~InspectMeanwhile() override {
    set_hook(nullptr, nullptr);
    set_seeded_bug(nullptr);
  }
  void once(const char* point, std::function<void()> change) {
    at = point;
    run = std::move(change);
    set_hook(
        [](const char* name, void* context) noexcept {
          auto& test = *static_cast<InspectMeanwhile*>(context);
          if (std::strcmp(name, test.at) == 0 && test.run) std::exchange(test.run, nullptr)();
        },
        this);
  }
  const char* at = "";
  std::function<void()> run;
};

TEST_F(InspectMeanwhile, AValueWhoseBlocksWereUsedAgainIsReadOnceMore) {
  objects& o = open(durable<texts_map>{"texts", 10});
  auto map = o.get<texts_map>("texts").value();
  for (const char* bug : {static_cast<const char*>(nullptr), "inspect.read_once"}) {
    ASSERT_EQ(map.upsert(1, std::string(600, 'a')), map_status::done);
    const auto r = attach();
    inspection look(*r);
    set_seeded_bug(bug);
    once("inspect.copied", [&] {
      for (const char c : {'b', 'c', 'd', 'e'})
        ASSERT_EQ(map.upsert(1, std::string(600, c)), map_status::done);
      // Whatever becomes of the blocks of the first value:
      std::ranges::fill(std::ranges::search_n(bytes, 600, std::byte{'a'}), std::byte{'z'});
    });
    std::string shown;
    const look_counts found =
        look.map_entries(named(look, "texts"), [&](auto, auto v) { shown = text(v); });
    EXPECT_FALSE(run) << "nothing was changed in the middle";
    if (bug == nullptr) {
      EXPECT_EQ(shown, std::string(600, 'e'));
      EXPECT_TRUE(look.damage().empty());
    } else {
      expect_found(bug, found.damaged == 1, "a value that is taken for damaged");
    }
  }
}

TEST_F(InspectMeanwhile, EntriesThatWereTakenMeanwhileAreNeitherShownNorDamaged) {
  objects& o = open(durable<texts>{"jobs", 10});
  auto jobs = o.get<texts>("jobs").value();
  for (const char* bug : {static_cast<const char*>(nullptr), "inspect.entry_not_sought"}) {
    for (const char c : {'a', 'b'})
      ASSERT_EQ(jobs.enqueue(std::string(600, c)), queue_status::done);
    const auto r = attach();
    inspection look(*r);
    set_seeded_bug(bug);
    std::string shown;
    std::uint64_t damaged = 0;
    damaged =
        look.queue_entries(named(look, "jobs"), 0,
                           [&](const entry_look&, auto b) {
                             shown += text(b)[0];
                             // The second one is taken while the first one is shown, and its blocks
                             // used.
                             if (shown.size() != 1) return;
                             ASSERT_EQ(jobs.dequeue(), std::string(600, 'a'));
                             ASSERT_EQ(jobs.dequeue(), std::string(600, 'b'));
                             std::ranges::fill(std::ranges::search_n(bytes, 600, std::byte{'b'}),
                                               std::byte{'z'});
                           })
            .damaged;
    EXPECT_EQ(shown, "a");
    if (bug != nullptr) {
      expect_found(bug, damaged == 1 && !look.damage().empty(), "an entry taken for damaged");
    } else {
      EXPECT_EQ(damaged, 0u);
      EXPECT_TRUE(look.damage().empty());
    }
  }
}

TEST_F(InspectMeanwhile, TheHeadOfTheEndOfAReadingCounts) {
  objects& o = open(durable<numbers>{"numbers", 10});
  auto values = o.get<numbers>("numbers").value();
  for (const char* bug : {static_cast<const char*>(nullptr), "inspect.head_of_before"}) {
    for (std::uint64_t n = 0; n < 3; ++n)
      ASSERT_EQ(values.enqueue(n), queue_status::done);
    const auto r = attach();
    inspection look(*r);
    set_seeded_bug(bug);
    once("inspect.slots_read", [&] {
      for (std::uint64_t n = 0; n < 2; ++n)
        ASSERT_TRUE(values.dequeue());
    });
    look.streams(named(look, "numbers"), [&](const queue_look& q) {
      if (bug != nullptr)
        return expect_found(bug, q.waiting == 3 && q.newest - q.head == 3, "entries that are gone");
      EXPECT_EQ(q.waiting, 1u);
      EXPECT_EQ(q.newest - q.head, 1u);
    });
    EXPECT_FALSE(run);
    while (values.dequeue()) {
    }
  }
}

// A value is {n, its complement}, so a torn one shows. Entries of a queue are consecutive numbers.
TEST_F(Inspect, ALookBesideAWriterShowsNothingTornAndNamesNoDamage) {
  struct pair {
    std::uint64_t n, complement;
  };
  objects& o =
      open(durable<map<std::uint64_t, pair>>{"pairs", 64}, durable<numbers>{"numbers", 64});
  auto pairs = o.get<map<std::uint64_t, pair>>("pairs").value();
  auto values = o.get<numbers>("numbers").value();
  const auto r = attach(); // the ranges are named by now
  std::atomic<std::uint64_t> rounds = 0;
  std::jthread writer([&](const std::stop_token& stop) {
    std::uint64_t n = 1, out[8];
    for (; !stop.stop_requested(); ++n) {
      ASSERT_EQ(pairs.upsert(n % 16, pair{n, ~n}), map_status::done);
      if (n % 16 == 7) {
        ASSERT_EQ(pairs.erase(n % 16), map_status::done);
      }
      ASSERT_EQ(values.enqueue(n), queue_status::done);
      if (n % 8 == 0) (void)values.dequeue_burst(std::span(out));
      rounds = n;
      if (n % 16 == 0) std::this_thread::yield();
    }
  });
  inspection look(*r);
  const object_look of_map = named(look, "pairs"), of_queue = named(look, "numbers");
  // As many looks as there are different states of the writer to see, on any number of CPUs.
  std::uint64_t shown = 0, moments = 0, moment = 0;
  while (moments < 200) {
    if (const std::uint64_t now = rounds; now == moment) {
      std::this_thread::yield();
    } else {
      ++moments;
      moment = now;
    }
    shown += look.map_entries(of_map,
                              [](auto, auto v) {
                                pair p;
                                ASSERT_EQ(v.size(), sizeof p);
                                std::memcpy(&p, v.data(), sizeof p);
                                ASSERT_EQ(p.complement, ~p.n);
                              })
                 .whole;
    std::uint64_t before = 0;
    look.queue_entries(of_queue, 0, [&](const entry_look& e, auto b) {
      ASSERT_EQ(number(b), e.ticket);
      ASSERT_GT(e.ticket, before);
      before = e.ticket;
    });
    ASSERT_TRUE(look.damage().empty()) << look.damage().front();
  }
  EXPECT_GT(shown, 0u);
}

} // namespace
} // namespace chainring::test
