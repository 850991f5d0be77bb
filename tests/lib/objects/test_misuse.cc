// SPDX-License-Identifier: BSD-3-Clause
/// Calls that a program may not make, and the sentences that it gets for them: each says which call
/// is missing, or one too many. What is refused is an error; on the data path it is an assertion.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <functional>
#include <memory>
#include <string>
#include <unistd.h>
#include <vector>

#include "map/multimap.h"
#include "map/seq_map.h"
#include "objects/object_map.h"
#include "objects/object_queue.h"
#include "region/recovery.h"
#include "timer/timer.h"

namespace chainring::test {
namespace {

struct refused {
  const char* misuse;
  const char* sentence; ///< a part of the error's
  std::function<std::string()> error_of;
};
struct fatal {
  const char* misuse;
  const char* sentence; ///< a part of what is printed
  std::function<void()> call;
};

/// Memory with a block store, for structures without a region.
struct store {
  static constexpr std::uint64_t before = 64 << 10;
  std::unique_ptr<media> m = memory_media(before + (64 << 10), durability_class::process);
  std::unique_ptr<block_store> blocks = block_store::create(*m, before, 64, 1024).value();
};
struct map_alone : store {
  std::unique_ptr<durable_map> map = durable_map::create(*m, 0, 64, *blocks).value();
};
struct messages_alone : store {
  std::unique_ptr<message_table> table = message_table::create(*m, 0, 64, *blocks).value();
};
struct queues_alone : store {
  std::unique_ptr<queue_table> table;
  explicit queues_alone(bool with_start = true, message_table* messages = nullptr)
      : table(queue_table::create(*m, 0, 4, *blocks, messages).value()) {
    if (!with_start) return;
    EXPECT_TRUE(table->start());
  }
};
struct queue_alone : store {
  std::unique_ptr<durable_queue> q;
  explicit queue_alone(durable_queue_options o = {.entry_bytes = 8, .entries = 10},
                       bool with_start = true) {
    const message_segment descriptors{4096, 64};
    q = durable_queue::create(*m, 0,
                              durable_queue::in_slots(o) ? std::span<const message_segment>()
                                                         : std::span(&descriptors, 1),
                              *blocks, o)
            .value();
    if (!with_start) return;
    EXPECT_TRUE(q->start());
  }
};

using words = map<std::string, std::uint64_t>;
using numbers = queue<std::uint64_t>;
std::unique_ptr<objects> open_objects() {
  auto m = memory_media(4 << 20, durability_class::process);
  return objects::open(region::create_on(std::move(m), {}).value(), durable<words>{"words", 10},
                       durable<numbers>{"numbers", 10})
      .value();
}
template <class R> std::string error_of(const R& r) {
  return r.ok() ? std::string("(no error)") : r.error().message;
}

const std::uint64_t one = 1;

std::vector<refused> refusals() {
  return {
      {"a region is opened where there is none", "it is not a region",
       [] {
         return error_of(region::open_on(memory_media(4 << 20, durability_class::process), false));
       }},
      {"a region is made where there is one", "it holds a region already; open it",
       [] {
         auto made =
             region::create_on(memory_media(4 << 20, durability_class::process), {}).value();
         auto copy = memory_media(4 << 20, durability_class::process);
         std::memcpy(copy->base(), made->medium().base(), copy->size());
         return error_of(region::create_on(std::move(copy), {}));
       }},
      {"a root that nobody made", "call add_root() first, or name it among the areas of create()",
       [] {
         auto made =
             region::create_on(memory_media(4 << 20, durability_class::process), {}).value();
         return error_of(made->root("words"));
       }},
      {"a closed region is to grow", "it is not open for writing",
       [] {
         auto made =
             region::create_on(memory_media(4 << 20, durability_class::process), {}).value();
         EXPECT_TRUE(made->close());
         return error_of(made->grow(8 << 20));
       }},
      {"objects over a region that is open for reading", "open it for writing",
       [] {
         auto made =
             region::create_on(memory_media(4 << 20, durability_class::process), {}).value();
         auto copy = memory_media(4 << 20, durability_class::process);
         std::memcpy(copy->base(), made->medium().base(), copy->size());
         return error_of(objects::open(region::open_on(std::move(copy), true).value(),
                                       durable<words>{"words", 10}));
       }},
      {"an object that was not asked for",
       "it was not among the objects that open_or_create() was asked for, which are 'words', "
       "'numbers'",
       [] { return error_of(open_objects()->get<words>("letters")); }},
      {"an object of another type",
       "it was opened as a 'map of string to 8 bytes', and get() asks for a 'queue of 8 bytes'",
       [] { return error_of(open_objects()->get<numbers>("words")); }},
      {"an object of closed objects", "the objects are closed; call open_or_create() again",
       [] {
         auto all = open_objects();
         EXPECT_TRUE(all->close());
         return error_of(all->get<words>("words"));
       }},
      {"growth of closed objects", "the objects are closed; call open_or_create() again",
       [] {
         auto all = open_objects();
         EXPECT_TRUE(all->close());
         return error_of(all->grow("words", 10));
       }},
      {"growth of a queue", "ask for more entries there",
       [] { return error_of(open_objects()->grow("numbers", 10)); }},
      {"cells that are not zero become a segment", "zero the range and drain it before it is added",
       [] {
         store s;
         auto map =
             durable_map::create(*s.m, std::array{map_segment{0, 8}}, *s.blocks, 0, 64).value();
         s.m->base()[4096] = std::byte{1};
         return error_of(map->add_segment(4096, 8));
       }},
      {"a queue of messages without descriptors", "ranges of descriptors 0: expected at least one",
       [] {
         store s;
         return error_of(durable_queue::create(*s.m, 0, {}, *s.blocks, {.entries = 10}));
       }},
      {"timers before EAL", "they need rte_eal_init() first",
       [] { return error_of(timer_set::create(1)); }},
      {"a queue with more clients than any has", "clients 1048577: expected 0 to 1048576",
       [] { return error_of(durable_queue::acceptable({.clients = (1u << 20) + 1})); }},
  };
}

std::vector<fatal> fatal_ones() {
  return {
      // --- results
      {"the value of an error", "ask ok() first. The error: it is not there",
       [] {
         (void)result<int>(error{errc::not_found, "it is not there"}).value();
       }},
      {"the error of a value", "ask ok() first", [] { (void)result<int>(1).error(); }},
      {"the error of a success", "ask ok() first", [] { (void)result<void>().error(); }},
      // --- blocks
      {"blocks during a recovery", "call finish_recovery() first",
       [] {
         store s;
         s.blocks->begin_recovery();
         chain c;
         (void)s.blocks->allocate_contiguous(1, c);
       }},
      {"a chain marked live outside of a recovery", "call begin_recovery() first",
       [] {
         (void)store().blocks->mark_live({0, 1});
       }},
      {"a recovery of blocks that did not begin", "call begin_recovery() first",
       [] { store().blocks->finish_recovery(); }},
      {"a chain released twice", "release() each chain once",
       [] {
         store s;
         chain c;
         EXPECT_TRUE(s.blocks->allocate_contiguous(100, c));
         s.blocks->release(c);
         s.blocks->release(c);
       }},
      // --- messages
      {"a message during a recovery", "call finish_recovery() of the message table first",
       [] {
         messages_alone a;
         a.table->begin_recovery();
         message m;
         (void)a.table->reserve({.payload_size = 8}, m);
       }},
      {"a recovery of messages that did not begin", "finish_recovery() without begin_recovery()",
       [] { messages_alone().table->finish_recovery(); }},
      {"a message staged without its bytes", "call copy_in() for the rest first",
       [] {
         messages_alone a;
         message m;
         EXPECT_TRUE(a.table->reserve({.payload_size = 8}, m));
         a.table->stage(m);
       }},
      {"more bytes than were reserved", "copy_in() of more bytes than reserve() was asked for",
       [] {
         messages_alone a;
         message m;
         EXPECT_TRUE(a.table->reserve({.payload_size = 8}, m));
         const std::uint64_t two[2] = {};
         a.table->copy_in(m, two, sizeof two);
       }},
      {"a reference dropped twice", "call drop_reference() once for each",
       [] {
         messages_alone a;
         message m;
         EXPECT_TRUE(a.table->reserve({.payload_size = 8}, m));
         (void)a.table->drop_reference(m.ref.index);
         (void)a.table->drop_reference(m.ref.index);
       }},
      // --- queues of a table
      {"a queue that is not there", "a queue that the table does not have",
       [] { (void)queues_alone().table->link_start(4); }},
      {"a ring before the table serves", "call start() where its records are zero, or recover()",
       [] { (void)queues_alone(false).table->link_start(0); }},
      {"a value in a table of messages", "call place_start() with the message",
       [] {
         messages_alone messages;
         queues_alone a(true, messages.table.get());
         placement p;
         (void)a.table->enqueue_burst(0, {&one, 1}, p);
       }},
      {"a deadline in a table without them", "set queue_table_options::timed_leases",
       [] {
         queues_alone a;
         leased l;
         (void)queue_consumer(*a.table).lease(0, {&l, 1}, 1);
       }},
      // --- durable queues
      {"an enqueue before the recovery", "run the recovery of its parts() first, or call start()",
       [] { (void)queue_alone({.entry_bytes = 8}, false).q->enqueue(bytes_of(one)); }},
      {"a take before the recovery", "run the recovery of its parts() first, or call start()",
       [] {
         durable_queue::taken t;
         (void)queue_alone({.entry_bytes = 8}, false).q->take(0, {&t, 1});
       }},
      {"a stream that is not there", "durable_queue_options::streams says how many",
       [] {
         durable_queue::taken t;
         (void)queue_alone().q->take(1, {&t, 1});
       }},
      {"a bulk that is too long", "call enqueue_burst()",
       [] {
         const std::vector<std::uint64_t> many(65);
         (void)numbers(*queue_alone().q).enqueue_bulk(many);
       }},
      {"an entry ended twice", "call done() once for each take()",
       [] {
         queue_alone a;
         numbers all(*a.q);
         EXPECT_EQ(all.enqueue(1), queue_status::done);
         auto entry = all.take();
         entry->done();
         entry->done();
       }},
      {"an id for a queue without clients", "set durable_queue_options::clients",
       [] {
         (void)queue_alone().q->enqueue({1, 1}, bytes_of(one));
       }},
      {"an id without a number", "the sequence number of an operation id is 1 to 2^48 - 1",
       [] {
         (void)queue_alone({.entry_bytes = 8, .clients = 1}).q->enqueue({1, 0}, bytes_of(one));
       }},
      {"fewer ids than entries", "enqueue_burst() needs one id for each entry",
       [] {
         (void)numbers(*queue_alone({.entry_bytes = 8, .clients = 1}).q)
             .enqueue_burst({}, {&one, 1});
       }},
      // --- maps
      {"a change before the recovery", "run its recovery first, by recover() or part()",
       [] {
         map_alone a;
         std::ranges::fill(std::span(a.m->base(), 4096), std::byte{1}); // of an earlier process
         (void)a.map->insert(bytes_of("a"), bytes_of(one));
       }},
      {"a second batch of a thread", "end the first one by its destruction",
       [] {
         map_alone a;
         const durable_map::batch first(*a.map), second(*a.map);
       }},
      {"a map destroyed before its batch", "end the batch by its destruction first",
       [] {
         map_alone a;
         durable_map::batch open(*a.map);
         a.map.reset();
       }},
      {"a change of a key whose staged change is open",
       "call change_flush(), drain and change_finish() first",
       [] {
         map_alone a;
         map_change c;
         EXPECT_EQ(a.map->upsert_start(bytes_of("a"), bytes_of(one), c), map_status::done);
         (void)a.map->upsert(bytes_of("a"), bytes_of(one));
       }},
      {"a batch of a key whose staged change is open",
       "call change_flush(), drain and change_finish() first",
       [] {
         map_alone a;
         map_change c;
         EXPECT_EQ(a.map->upsert_start(bytes_of("a"), bytes_of(one), c), map_status::done);
         durable_map::atomic_batch b(*a.map);
         (void)b.upsert(bytes_of("a"), bytes_of(one));
         (void)b.commit();
       }},
      {"two ids of a client in a batch", "a batch is one operation of each client",
       [] {
         map_alone a;
         durable_map::atomic_batch b(*a.map);
         (void)b.identify({1, 1});
         (void)b.identify({1, 2});
         (void)b.commit();
       }},
      {"pairs looked up by the half by which they are not found",
       "make them with both, as a bimap is",
       [] {
         map_alone a;
         auto pairs = durable_pairs::create(*a.map, false).value();
         pairs->for_each_with(pair_half::second, bytes_of("a"), [](auto) {});
       }},
      {"a bulk of look-ups that is too long", "call it again for more",
       [] {
         auto map = seq_map<std::uint64_t, std::uint64_t>::create(100).value();
         std::vector<std::uint64_t> many(1000);
         (void)map->get_bulk(many.data(), 1000, many.data());
       }},
      // --- objects
      {"the blocks of closed objects", "the objects are closed; call open_or_create() again",
       [] {
         auto all = open_objects();
         EXPECT_TRUE(all->close());
         (void)all->blocks();
       }},
  };
}

TEST(Misuse, WhatIsRefusedSaysWhichCallIsMissing) {
  for (const refused& r : refusals())
    EXPECT_THAT(r.error_of(), testing::HasSubstr(r.sentence)) << r.misuse;
}

TEST(Misuse, WhatMayNotHappenOnTheDataPathSaysWhichCallIsMissing) {
  for (const fatal& f : fatal_ones())
    EXPECT_DEATH(f.call(), testing::HasSubstr(f.sentence)) << f.misuse;
}

} // namespace
} // namespace chainring::test
