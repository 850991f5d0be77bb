// SPDX-License-Identifier: BSD-3-Clause
#include <gtest/gtest.h>

#include <algorithm>
#include <cstring>
#include <random>
#include <thread>

#include "base/hook.h"
#include "message_fixture.h"
#include "support/seam_counter.h"
#include "support/seed.h"

namespace chainring {
namespace {

using test::content;
using test::differs;
using test::fields;
using test::fixture;
using test::publish_message;
using test::stage_message;
using test::table_layout;

TEST(MessageTable, RefusesGeometryWithASentenceThatNamesTheArgument) {
  auto m = memory_media(1 << 16, durability_class::process);
  auto other = memory_media(1 << 16, durability_class::process);
  auto blocks = block_store::create(*m, 1 << 15, 64, 100).value();
  auto message_of = [&](media& on, std::uint64_t offset, std::uint32_t count,
                        message_table_options options = {}) {
    auto t = message_table::create(on, offset, count, *blocks, options);
    return t.ok() ? std::string("accepted") : t.error().message;
  };
  EXPECT_EQ(message_of(*m, 8, 1), "message table offset 8: expected a multiple of 64");
  EXPECT_EQ(message_of(*m, 0, 0), "message descriptors 0: expected 1 to 2147483648");
  EXPECT_NE(message_of(*m, 0, 1025).find("message descriptors 1025: expected what fits"),
            std::string::npos);
  EXPECT_NE(message_of(*other, 0, 1).find("expected one over the same media"), std::string::npos);
  EXPECT_EQ(message_of(*m, 0, 1, {.cache_descriptors_max = 257}),
            "cache_descriptors_max 257: expected at most 256");
  EXPECT_EQ(message_of(*m, 0, 512), "accepted");
}

TEST(MessageTable, APublishedMessageIsReadBackWholeInOneChain) {
  for (const std::uint32_t block : {64u, 128u, 256u, 512u, 4096u}) {
    fixture f({.block_size = block});
    for (const std::uint32_t size : {0u, 1u, 55u, 56u, 57u, 4000u}) {
      const auto wanted = fields(size, size);
      const message msg = f.published(size, wanted);
      EXPECT_FALSE(msg.chains.list);
      EXPECT_EQ(differs(*f.t.table, msg.ref, size, wanted), "");
      message_view v;
      ASSERT_EQ(f->view(msg.ref, v), message_status::ok);
      const auto bytes = content(size, wanted.size());
      const auto topic = v.topic.contiguous(), properties = v.properties.contiguous(),
                 payload = v.payload.contiguous();
      ASSERT_EQ(topic.size(), 5u);
      ASSERT_EQ(properties.size(), 3u);
      ASSERT_EQ(payload.size(), size); // it is one chain, so it is contiguous
      EXPECT_TRUE(std::equal(topic.begin(), topic.end(), bytes.begin()));
      EXPECT_TRUE(std::equal(properties.begin(), properties.end(), bytes.begin() + 5));
      EXPECT_TRUE(std::equal(payload.begin(), payload.end(), bytes.begin() + 8));
      EXPECT_TRUE(f->drop_reference(msg.ref.index));
    }
    EXPECT_EQ(f.t.store->statistics().live_blocks, 0u);
  }
}

TEST(MessageTable, AMessageInManyExtentsIsReadBackWhole) {
  for (const std::uint32_t block : {64u, 256u}) {
    fixture f({.block_size = block, .blocks = 900});
    f.fragment(8); // there is room for an extent list, and no more
    const std::uint64_t live = f.t.store->statistics().live_blocks;
    const auto wanted = fields(9, 100 * block, 20, 300);
    const message msg = f.published(9, wanted);
    EXPECT_TRUE(msg.chains.list);
    EXPECT_EQ(msg.chains.count, (f.t.store->blocks_for(wanted.size()) + 7) / 8);
    EXPECT_EQ(differs(*f.t.table, msg.ref, 9, wanted), "");
    message_view v;
    ASSERT_EQ(f->view(msg.ref, v), message_status::ok);
    // Read pieces of every size, resumed from a copy of the cursor.
    const auto bytes = content(9, wanted.size());
    std::vector<std::byte> got(wanted.payload_size);
    message_cursor at = v.payload;
    for (std::uint64_t n = 1, done = 0; done < got.size(); n = n * 3 % 1009) {
      message_cursor copy = at;
      const std::uint64_t step = copy.copy_out(got.data() + done, n);
      EXPECT_EQ(copy.remaining(), at.remaining() - step);
      at = copy;
      done += step;
    }
    EXPECT_EQ(at.copy_out(got.data(), 1), 0u);
    EXPECT_TRUE(at.contiguous().empty());
    EXPECT_TRUE(std::equal(got.begin(), got.end(), bytes.begin() + 320));
    // The list and every extent are given back together.
    EXPECT_TRUE(f->drop_reference(msg.ref.index));
    EXPECT_EQ(f.t.store->statistics().live_blocks, live);
    EXPECT_TRUE(f.t.store->check());
  }
}

TEST(MessageTable, CopiesContentInPiecesAndComputesTheCrcMeanwhile) {
  fixture f({.blocks = 400});
  f.fragment(3);
  const auto wanted = fields(4, 2000);
  const auto bytes = content(4, wanted.size());
  message msg;
  ASSERT_TRUE(f->reserve(wanted, msg));
  for (std::uint64_t done = 0, n = 1; done < bytes.size(); n = n % 97 + 1) {
    n = std::min<std::uint64_t>(n, bytes.size() - done);
    f->copy_in(msg, bytes.data() + done, n);
    done += n;
    EXPECT_EQ(msg.to_write.remaining(), bytes.size() - done);
  }
  f->stage(msg);
  f->publish(msg);
  EXPECT_EQ(differs(*f.t.table, msg.ref, 4, wanted), "");
}

TEST(MessageTable, StagesAMessageOfOneChainAtOnceAsTheThreeStepsDo) {
  for (const bool caches : {false, true}) {
    fixture f({.block_size = 64}, caches);
    for (const std::uint32_t size : {0u, 1u, 58u, 59u, 60u, 300u}) {
      const auto wanted = fields(3, size, 5, 0);
      const auto bytes = content(3, wanted.size());
      const message steps = f.published(3, wanted);
      staged_message at_once;
      ASSERT_EQ(f->stage_one(wanted, {reinterpret_cast<const char*>(bytes.data()), 5},
                             std::span(bytes).subspan(5), at_once),
                true);
      EXPECT_EQ(at_once.size, wanted.size());
      EXPECT_EQ(f->references(at_once.ref.index), 1u);
      message_view v;
      EXPECT_EQ(f->view(at_once.ref, v), message_status::not_published);
      f->flush_staged(at_once);
      f.m->drain();
      f->publish(at_once);
      f->flush_published(at_once);
      f.m->drain();
      EXPECT_EQ(differs(*f.t.table, at_once.ref, 3, wanted), "");
      EXPECT_EQ(differs(*f.t.table, steps.ref, 3, wanted), "");
      EXPECT_FALSE(f->lost(at_once));
      EXPECT_TRUE(f->drop_reference(at_once.ref.index));
      EXPECT_TRUE(f->drop_reference(steps.ref.index));
    }
    EXPECT_EQ(f->statistics().live, 0u);
    EXPECT_EQ(f.t.store->statistics().live_blocks, 0u);
  }
}

TEST(MessageTable, StagesNothingAtOnceWithoutADescriptorOrAChainForIt) {
  fixture f({.descriptors = 2, .blocks = 16});
  const auto wanted = fields(1, 100, 5, 0);
  const auto bytes = content(1, wanted.size());
  const std::string_view topic(reinterpret_cast<const char*>(bytes.data()), 5);
  staged_message m[2], more;
  for (staged_message& one : m)
    ASSERT_TRUE(f->stage_one(wanted, topic, std::span(bytes).subspan(5), one));
  EXPECT_FALSE(f->stage_one(wanted, topic, std::span(bytes).subspan(5), more)) << "no descriptor";
  EXPECT_EQ(f.t.store->statistics().live_blocks, 4u);
  f->discard(m[0]);
  chain rest[16];
  ASSERT_NE(f.t.store->allocate(13, rest), 0u);
  EXPECT_FALSE(f->stage_one(wanted, topic, std::span(bytes).subspan(5), more)) << "one block";
  EXPECT_EQ(f->statistics().live, 1u);
  EXPECT_EQ(f->statistics().refused_blocks, 0u);
  EXPECT_EQ(f.t.store->statistics().refused, 0u) << "reserve() decides, and counts";
}

TEST(MessageTable, ReservesADescriptorAndAllBlocksOrNothing) {
  fixture f({.descriptors = 2, .blocks = 20});
  message a, b, c;
  EXPECT_FALSE(f->reserve(fields(1, 21 * 64), a)); // more blocks than the store has
  EXPECT_FALSE(f->reserve(fields(1, 0xffff'ffff), a));
  ASSERT_TRUE(f->reserve(fields(1, 10 * 64 - 8), a));
  EXPECT_FALSE(f->reserve(fields(2, 11 * 64), b));
  EXPECT_EQ(f.t.store->statistics().live_blocks, 10u);
  ASSERT_TRUE(f->reserve(fields(2, 1), b));
  EXPECT_FALSE(f->reserve(fields(3, 1), c)); // there is no descriptor left
  const auto s = f->statistics();
  EXPECT_EQ(s.descriptors, 2u);
  EXPECT_EQ(s.live, 2u);
  EXPECT_EQ(s.free, 0u);
  EXPECT_EQ(s.cached, 0u);
  EXPECT_EQ(s.damaged, 0u);
  EXPECT_EQ(s.refused_descriptors, 1u);
  EXPECT_EQ(s.refused_blocks, 3u);
  f->discard(a);
  f->discard(b);
  EXPECT_EQ(f->statistics().free, 2u);
  EXPECT_EQ(f.t.store->statistics().live_blocks, 0u);
}

TEST(MessageTable, ReleasesTheExtentsIfThereIsNoRoomForTheirList) {
  fixture f({.blocks = 20});
  f.fragment(1);
  const std::uint64_t free = f.t.store->statistics().free_blocks;
  message msg;
  EXPECT_FALSE(f->reserve(fields(1, static_cast<std::uint32_t>(free) * 64 - 8), msg));
  EXPECT_EQ(f.t.store->statistics().free_blocks, free);
  EXPECT_EQ(f->statistics().refused_blocks, 1u);
  EXPECT_TRUE(f->reserve(fields(1, 7 * 64 - 8), msg)); // 7 extents, and a list of one block
  EXPECT_EQ(msg.chains.count, 7u);
}

TEST(MessageTable, ReservesTheLastDescriptorAlthoughOtherThreadsCacheAllOthers) {
  constexpr std::uint32_t count = 300;
  fixture f({.descriptors = count, .blocks = 1000}, true);
  for (int round = 0; round < 2; ++round) {
    std::vector<message> all(count);
    for (message& msg : all)
      ASSERT_TRUE(f->reserve(fields(1, 1), msg));
    message none;
    EXPECT_FALSE(f->reserve(fields(1, 1), none));
    EXPECT_EQ(f->statistics().free, 0u);
    std::thread([&] {
      for (message& msg : all)
        f->discard(msg);
    }).join();
    EXPECT_EQ(f->statistics().free, count);
    EXPECT_EQ(f.t.store->statistics().live_blocks, 0u);
  }
  EXPECT_GT(f->statistics().cached, 0u);
}

TEST(MessageTable, AMessageIsNotPublishedBeforeItsCommitWord) {
  fixture f;
  message msg;
  ASSERT_TRUE(f->reserve(fields(1, 10), msg));
  EXPECT_FALSE(f->published(msg.ref));
  f->discard(msg);
  ASSERT_TRUE(stage_message(*f.t.table, 1, fields(1, 10), msg));
  message_view v;
  EXPECT_EQ(f->view(msg.ref, v), message_status::not_published);
  EXPECT_EQ(f->view_held(msg.ref, v), message_status::not_published);
  f->publish(msg);
  EXPECT_TRUE(f->published(msg.ref));
  EXPECT_FALSE(f->held(msg.ref));
  EXPECT_EQ(f->view(msg.ref, v), message_status::ok);
}

TEST(MessageTable, AnOlderNameOfAReusedDescriptorIsStale) {
  fixture f({.descriptors = 1});
  const message first = f.published(1, fields(1, 10));
  f->drop_reference(0);
  const message second = f.published(2, fields(2, 10));
  EXPECT_EQ(second.ref.index, first.ref.index);
  EXPECT_EQ(second.ref.generation, first.ref.generation + 1);
  message_view v;
  EXPECT_EQ(f->view(first.ref, v), message_status::stale_generation);
  EXPECT_FALSE(f->published(first.ref));
  EXPECT_EQ(f->view({1, 1}, v), message_status::out_of_range);
  EXPECT_FALSE(f->published({1, 1}));
  EXPECT_FALSE(f->held({1, 1}));
}

TEST(MessageTable, GenerationsWrapAroundAndCountOn) {
  fixture f({.descriptors = 1});
  message_ref last{};
  for (std::uint32_t i = 1; i <= 0x1'0003; ++i) {
    message msg;
    ASSERT_TRUE(stage_message(*f.t.table, i, fields(i, 1), msg));
    f->publish(msg);
    ASSERT_EQ(msg.ref.generation, static_cast<std::uint16_t>(i));
    ASSERT_FALSE(f->published(last) && i != 1);
    ASSERT_TRUE(f->published(msg.ref));
    last = msg.ref;
    f->drop_reference(0);
  }
}

TEST(MessageTable, ADescriptorIsReusedOnlyOnceItsLastReferenceIsDropped) {
  fixture f({.descriptors = 1});
  const message msg = f.published(1, fields(1, 10));
  f->add_references(0, 3);
  EXPECT_EQ(f->references(0), 4u);
  EXPECT_FALSE(f->drop_reference(0));
  EXPECT_FALSE(f->drop_reference(0, 2));
  message other;
  EXPECT_FALSE(f->reserve(fields(2, 1), other));
  EXPECT_EQ(differs(*f.t.table, msg.ref, 1, fields(1, 10)), "");
  EXPECT_EQ(f->statistics().live, 1u);
  EXPECT_TRUE(f->drop_reference(0));
  EXPECT_EQ(f->references(0), 0u);
  EXPECT_EQ(f->statistics().live, 0u);
  EXPECT_TRUE(f->reserve(fields(2, 1), other));
}

TEST(MessageTable, APlaceThatNamesNoMessageOfItsGenerationDropsNothing) {
  fixture f({.descriptors = 2});
  const message msg = f.published(1, fields(1, 10));
  const auto next = static_cast<std::uint16_t>(msg.ref.generation + 1);
  EXPECT_FALSE(f->drop_place({msg.ref.index, next}));
  EXPECT_FALSE(f->drop_place({2, msg.ref.generation}));
  EXPECT_EQ(f->references(msg.ref.index), 1u);
  f->add_references(msg.ref.index, 1);
  EXPECT_FALSE(f->drop_place(msg.ref));
  EXPECT_TRUE(f->drop_place(msg.ref));
  EXPECT_FALSE(f->drop_place(msg.ref)) << "there is no reference left";
  EXPECT_EQ(f->statistics().live, 0u);

  // A place of a void slot names a message that was staged and is not published.
  message staged;
  ASSERT_TRUE(f->reserve(fields(2, 10), staged));
  f->copy_in(staged, content(2, 18).data(), 18);
  f->stage(staged);
  EXPECT_TRUE(f->drop_place(staged.ref));
  EXPECT_EQ(f->statistics().live, 0u);
}

TEST(MessageTable, ADiscardedMessageKeepsItsBlocksWhileASlotNamesIt) {
  for (const bool staged : {false, true}) {
    fixture f({.descriptors = 2});
    f->drop_reference(f.published(1, fields(1, 64 * 9)).ref.index); // leaves words on media
    message msg;
    ASSERT_TRUE(f->reserve(fields(2, 10), msg));
    if (staged) {
      f->copy_in(msg, content(2, 18).data(), 18);
      f->stage(msg);
    }
    const std::uint32_t index = msg.ref.index;
    f->add_references(index, 2);
    f->discard(msg);
    EXPECT_EQ(f->statistics().live, 1u);
    EXPECT_EQ(f.t.store->statistics().live_blocks, 1u);
    EXPECT_FALSE(f->drop_reference(index));
    EXPECT_TRUE(f->drop_reference(index));
    EXPECT_EQ(f->statistics().live, 0u);
    EXPECT_EQ(f.t.store->statistics().live_blocks, 0u);
    EXPECT_TRUE(f.t.store->check());
  }
}

TEST(MessageTable, AHeldMessageIsPublishedOnce) {
  fixture f;
  auto wanted = fields(1, 10);
  wanted.held = true;
  message msg;
  ASSERT_TRUE(stage_message(*f.t.table, 1, wanted, msg));
  f->publish(msg);
  message_view v;
  EXPECT_TRUE(f->held(msg.ref));
  EXPECT_FALSE(f->published(msg.ref));
  EXPECT_EQ(f->view(msg.ref, v), message_status::not_published);
  EXPECT_EQ(f->view_held(msg.ref, v), message_status::ok);
  EXPECT_EQ(v.fields, wanted);
  EXPECT_FALSE(f->publish_held({msg.ref.index, 77}));
  EXPECT_TRUE(f->publish_held(msg.ref));
  EXPECT_FALSE(f->publish_held(msg.ref));
  EXPECT_FALSE(f->held(msg.ref));
  EXPECT_EQ(f->view_held(msg.ref, v), message_status::ok);
  wanted.held = false;
  EXPECT_EQ(differs(*f.t.table, msg.ref, 1, wanted), "");
}

TEST(MessageTable, AnOpenIdentifierIsFoundUntilItIsClosed) {
  fixture f;
  auto wanted = fields(1, 10);
  wanted.identifier_open = true;
  const message a = f.published(1, wanted);
  f.published(2, fields(2, 10));
  const message c = f.published(3, [] {
    auto w = fields(3, 10);
    w.identifier_open = true;
    return w;
  }());
  auto open = [&] {
    std::vector<message_ref> found;
    f->for_each_open_identifier([&](const message_view& v) {
      EXPECT_TRUE(v.fields.identifier_open);
      found.push_back(v.ref);
    });
    return found;
  };
  EXPECT_EQ(open(), (std::vector{a.ref, c.ref}));
  EXPECT_FALSE(f->close_identifier({a.ref.index, 9}));
  EXPECT_TRUE(f->close_identifier(a.ref));
  EXPECT_FALSE(f->close_identifier(a.ref));
  EXPECT_EQ(open(), (std::vector{c.ref}));
  EXPECT_TRUE(f->published(a.ref)); // it stays there for queues that still name it
  wanted.identifier_open = false;
  EXPECT_EQ(differs(*f.t.table, a.ref, 1, wanted), ""); // and its CRC does not cover the bit
}

TEST(MessageMedia, ASealIsTheCrc32cOfTheBytesThatTheFormatNames) {
  std::mt19937_64 random(test::printed_seed(7));
  for (int round = 0; round < 1000; ++round) {
    const std::uint64_t word1 = random();
    const auto list = static_cast<std::uint32_t>(random()),
               index = static_cast<std::uint32_t>(random());
    const auto generation = static_cast<std::uint16_t>(random());
    unsigned char bytes[16];
    for (unsigned i = 0; i < 16; ++i)
      bytes[i] = static_cast<unsigned char>(i < 8    ? word1 >> 8 * i
                                            : i < 12 ? index >> 8 * (i - 8)
                                                     : std::uint32_t{generation} >> 8 * (i - 12));
    ASSERT_EQ(message_seal(word1, list, index, generation), crc32c(list, bytes, 16));
  }
}

TEST(MessageTable, AFlippedBitIsFoundWhereverItIs) {
  const std::uint64_t seed = 1;
  fixture f;
  const message msg = f.published(1, fields(1, 100));
  auto* line = reinterpret_cast<unsigned char*>(&f.t.descriptor(msg.ref.index));
  message_view v;
  for (unsigned bit = 0; bit < 512; ++bit) {
    line[bit / 8] ^= static_cast<unsigned char>(1u << bit % 8);
    const auto status = f->view(msg.ref, v);
    // The bit of the open identifier may change during the life of a message, and nothing covers
    // it. The second seal seals no word 1 while the chain is not being moved.
    EXPECT_EQ(status == message_status::ok && f->verify(v), bit == 24 || bit >= 480)
        << "bit " << bit;
    line[bit / 8] ^= static_cast<unsigned char>(1u << bit % 8);
  }
  std::byte* bytes = f.t.store->address({msg.chains.first, msg.chains.count});
  for (unsigned i = 0; i < 108; ++i) {
    bytes[i] ^= std::byte{static_cast<unsigned char>(1u << (i + seed) % 8)};
    ASSERT_EQ(f->view(msg.ref, v), message_status::ok);
    EXPECT_FALSE(f->verify(v)) << "byte " << i;
    bytes[i] ^= std::byte{static_cast<unsigned char>(1u << (i + seed) % 8)};
  }
  EXPECT_EQ(differs(*f.t.table, msg.ref, 1, fields(1, 100)), "");
}

TEST(MessageTable, AnExtentListWhoseBlocksAreAnotherMessagesByNowIsNoDamage) {
  fixture f({.blocks = 400});
  f.fragment(5);
  const message listed = f.published(1, fields(1, 1000));
  ASSERT_TRUE(listed.chains.list);
  f->drop_reference(listed.ref.index); // its descriptor stays as it is until it is used again
  std::byte* list = f.t.store->address({listed.chains.first, 1});
  std::memset(list, 0x5a, 64);
  EXPECT_EQ(f->check().malformed, 0u);
  EXPECT_EQ(f->check().published, 1u);
}

TEST(MessageTable, ADamagedDescriptorIsRefusedAndTheErrorSaysWhy) {
  fixture f({.blocks = 400});
  f.fragment(5);
  const message single = f.published(1, fields(1, 100));
  const message listed = f.published(2, fields(2, 1000));
  ASSERT_TRUE(listed.chains.list);
  message_view v;
  auto named = [&](const message& msg, auto change) {
    auto& d = f.t.descriptor(msg.ref.index);
    const message_descriptor before = d;
    auto* list = reinterpret_cast<message_extent*>(f.t.store->address({listed.chains.first, 1}));
    const message_extent extent = list[2];
    change(d, list[2]);
    const auto status = f->view(msg.ref, v);
    EXPECT_EQ(status, message_status::damaged);
    // An extent list is judged by whoever names the message, and by nobody else.
    if (!msg.chains.list) {
      EXPECT_GE(f->check().malformed, 1u);
    }
    const error e = f->describe(msg.ref, status);
    EXPECT_EQ(e.code, errc::corrupt);
    d = before;
    list[2] = extent;
    const std::string name = "message " + std::to_string(msg.ref.index) + " generation 1: ";
    EXPECT_EQ(e.message.rfind(name, 0), 0u) << e.message;
    return e.message.substr(std::min(name.size(), e.message.size()));
  };
  using D = message_descriptor;
  using E = message_extent;
  EXPECT_EQ(named(single, [](D& d, E&) { d.state |= 1ull << 40; }),
            "its state word is not well formed");
  EXPECT_EQ(named(single, [](D& d, E&) { d.state |= 7ull << 16; }),
            "its state word is not well formed");
  EXPECT_EQ(named(single, [](D& d, E&) { d.check |= 3ull << 48; }), "its QoS is more than 2");
  EXPECT_EQ(named(single, [](D& d, E&) { d.check |= 1ull << 55; }), "it has unknown flags");
  EXPECT_EQ(named(single, [](D& d, E&) { d.seals ^= 1; }), "its chain fails its seal");
  EXPECT_EQ(named(single, [](D& d, E&) { d.extent ^= 1; }), "its chain fails its seal");
  EXPECT_EQ(named(listed, [](D&, E& e) { e.first ^= 1; }), "its chain fails its seal");
  EXPECT_EQ(named(single, [](D& d, E&) { d.sizes = 0; }), "it is empty and names a chain");
  EXPECT_EQ(named(single, [](D& d, E&) { d.sizes += 4096; }), "its chain and its sizes differ");
  EXPECT_EQ(named(single, [](D& d, E&) { d.extent = 0; }),
            "its chain lies outside the block store");
  EXPECT_EQ(named(single, [](D& d, E&) { d.extent += 399; }),
            "its chain lies outside the block store");
  EXPECT_EQ(named(listed,
                  [](D& d, E&) {
                    d.extent = message_word1{0, 1, true}.pack();
                  }),
            "its extent list has an impossible length");
  EXPECT_EQ(named(listed,
                  [](D& d, E&) {
                    d.extent = message_word1{0, 4097, true}.pack();
                  }),
            "its extent list has an impossible length");
  EXPECT_EQ(named(listed,
                  [](D& d, E&) {
                    d.extent = message_word1{400, 3, true}.pack();
                  }),
            "its extent list lies outside the block store");
  EXPECT_EQ(named(listed, [](D&, E& e) { e.first = 0xffff'ffff; }),
            "an extent lies outside the block store");
  EXPECT_EQ(named(listed, [](D&, E& e) { e.blocks = 0; }),
            "an extent lies outside the block store");
  EXPECT_EQ(named(listed, [](D&, E& e) { --e.blocks; }), "its extents and its sizes differ");
  EXPECT_EQ(differs(*f.t.table, single.ref, 1, fields(1, 100)), "");
  EXPECT_EQ(differs(*f.t.table, listed.ref, 2, fields(2, 1000)), "");
  EXPECT_EQ(f->describe({99, 1}, message_status::out_of_range).message,
            "message 99 generation 1: there are 16 descriptors");
  EXPECT_EQ(f->describe({1, 9}, message_status::stale_generation).message,
            "message 1 generation 9: another generation");
}

TEST(MessageTable, RandomBytesInATableAreReadWithoutHarm) {
  std::mt19937_64 random(test::printed_seed(5));
  fixture f({.descriptors = 8, .blocks = 64});
  std::uint64_t valid = 0;
  for (int round = 0; round < 20'000; ++round) {
    for (std::uint32_t i = 0; i < 8; ++i) {
      auto& d = f.t.descriptor(i);
      auto* words = reinterpret_cast<std::uint64_t*>(&d);
      for (int w = 0; w < 8; ++w)
        words[w] = random() & random();
      // The bytes are mostly close to valid, so that every check is reached.
      d.state = (random() & 0x10003) | std::uint64_t{random() % 4} << 16;
      if (random() % 4 != 0) d.sizes = random() % 2000;
      d.check &= 0x000d'ffff'ffff'ffff;
      d.extent = message_word1{static_cast<std::uint32_t>(random() % 66),
                               static_cast<std::uint32_t>(random() % 8), random() % 2 == 0}
                     .pack();
    }
    auto* extents = reinterpret_cast<message_extent*>(f.t.store->address({0, 64}));
    for (std::uint32_t i = 0; i < 512; i += 1 + static_cast<std::uint32_t>(random() % 4))
      extents[i] = {static_cast<std::uint32_t>(random() % 66),
                    static_cast<std::uint32_t>(random() % 4)};
    for (std::uint32_t i = 0; i < 8; ++i)
      if (random() % 8 != 0) f.t.reseal(i);
    f.t.begin_recovery();
    const auto found = f->check();
    EXPECT_EQ(found.free + found.staged + found.held + found.published, 8u);
    EXPECT_LE(found.malformed, found.held + found.published);
    for (std::uint32_t i = 0; i < 10; ++i) {
      const message_ref ref{i, static_cast<std::uint16_t>(random() % 4)};
      message_view v;
      const auto seen = f->view(ref, v);
      if (seen == message_status::ok) {
        ++valid;
        EXPECT_LE(v.all.remaining(), 64u * 64u);
        static_cast<void>(f->verify(v));
      }
      const auto recovered = f->recover_reference(ref);
      EXPECT_TRUE(recovered == seen || recovered == message_status::damaged);
      if (recovered != message_status::ok) {
        EXPECT_NE(f->describe(ref, recovered).message, "");
      }
    }
    f->for_each_open_identifier([&](const message_view& v) { EXPECT_LT(v.ref.index, 8u); });
    f.t.finish_recovery();
    ASSERT_TRUE(f.t.store->check());
    // Messages that are live can be dropped again.
    for (std::uint32_t i = 0; i < 8; ++i)
      if (const auto n = f->references(i); n != 0) f->drop_reference(i, n);
    ASSERT_EQ(f.t.store->statistics().live_blocks, 0u);
  }
  EXPECT_GT(valid, 100u);
}

// --- golden persist counts ----------------------------------------------------------------------

TEST(MessagePersistCounts, EachOperationMakesTheGoldenNumberOfPersistCalls) {
  fixture f({.block_size = 256, .blocks = 400});
  auto counted = [&](auto operation) {
    test::seam_counter c;
    f.m->observe(&c);
    operation();
    f.m->observe(nullptr);
    return c.text();
  };
  message a, b;
  // 64 bytes in one chain: two lines of content, then the descriptor with its commit word.
  EXPECT_EQ(counted([&] { stage_message(*f.t.table, 1, fields(1, 64), a); }),
            "8 stores, 1 writes, 0 flushes of 0 lines, 0 drains");
  EXPECT_EQ(counted([&] { f->flush_staged(a); }),
            "0 stores, 0 writes, 1 flushes of 2 lines, 0 drains");
  EXPECT_EQ(counted([&] { f->publish(a); }), "1 stores, 0 writes, 0 flushes of 0 lines, 0 drains");
  EXPECT_EQ(counted([&] { f->flush_published(a); }),
            "0 stores, 0 writes, 1 flushes of 1 lines, 0 drains");
  EXPECT_EQ(counted([&] { f->drop_reference(a.ref.index); }),
            "0 stores, 0 writes, 0 flushes of 0 lines, 0 drains");
  f.fragment(2);
  // Five blocks in three extents: 17 lines of content, and a list of one line.
  EXPECT_EQ(counted([&] { stage_message(*f.t.table, 2, fields(2, 1072), b); }),
            "8 stores, 4 writes, 0 flushes of 0 lines, 0 drains");
  EXPECT_EQ(counted([&] { f->flush_staged(b); }),
            "0 stores, 0 writes, 4 flushes of 18 lines, 0 drains");
  EXPECT_EQ(counted([&] { f->discard(b); }), "0 stores, 0 writes, 0 flushes of 0 lines, 0 drains");
  EXPECT_EQ(counted([&] {
              f.t.begin_recovery();
              f->persist_as_read();
              static_cast<void>(f->recover_reference({0, 1}));
              f.t.finish_recovery();
            }),
            "0 stores, 0 writes, 1 flushes of 16 lines, 0 drains");
}

TEST(MessageMedia, EachWordUnpacksToWhatWasPacked) {
  const message_word0 w0{0xbeef, message_state::published, true};
  EXPECT_EQ(w0.pack(), 0x103beefu);
  EXPECT_EQ(message_word0::unpack(w0.pack()).generation, 0xbeef);
  EXPECT_EQ(message_word0::unpack(w0.pack()).state, message_state::published);
  EXPECT_TRUE(message_word0::unpack(w0.pack()).identifier_open);
  EXPECT_TRUE(message_word0::well_formed(w0.pack()));
  EXPECT_FALSE(message_word0::well_formed(0x4'0000));
  EXPECT_FALSE(message_word0::well_formed(1ull << 25));
  const message_word1 w1{0xdead'beef, 0x7fff'ffff, true};
  EXPECT_EQ(w1.pack(), 0xffff'ffff'dead'beefull);
  EXPECT_EQ(message_word1::unpack(w1.pack()).first, w1.first);
  EXPECT_EQ(message_word1::unpack(w1.pack()).count, w1.count);
  EXPECT_TRUE(message_word1::unpack(w1.pack()).list);
  EXPECT_FALSE(message_word1::unpack(w1.pack() >> 1).list);
}

} // namespace
} // namespace chainring
