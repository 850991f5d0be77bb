// SPDX-License-Identifier: BSD-3-Clause
// Messages whose payload lies in blocks already.
#include <algorithm>
#include <cstring>

#include "message_fixture.h"
#include "support/seam_counter.h"

namespace chainring {
namespace {

using test::fixture;

/// Blocks that a device has filled with noise, with a payload somewhere in them.
class filled_blocks final : public content_source {
 public:
  filled_blocks(block_store& store, std::uint32_t blocks, std::uint32_t offset, std::uint32_t size)
      : offset_(offset) {
    EXPECT_TRUE(store.allocate_contiguous(blocks, all_));
    std::memset(store.address(all_), 'N', store.size_of(all_));
    const auto bytes = test::content(7, size);
    std::copy(bytes.begin(), bytes.end(), store.address(all_) + offset);
    payload = {store.address(all_) + offset, size};
  }
  [[nodiscard]] bool take(std::span<const std::byte> content, std::uint32_t front,
                          taken_content& out) noexcept override {
    ++asked;
    if (!gives || front > offset_ || content.data() != payload.data()) return false;
    out = {all_, offset_};
    return true;
  }
  [[nodiscard]] const chain& all() const { return all_; }
  std::span<const std::byte> payload;
  bool gives = true;
  unsigned asked = 0;

 private:
  chain all_;
  std::uint32_t offset_;
};

message_fields fields_of(std::uint32_t payload, std::size_t topic) {
  return test::fields(7, payload, static_cast<std::uint16_t>(topic), 0);
}

TEST(TakenMessage, TopicAndPayloadAreReadBackWithZerosBetweenThem) {
  for (const std::uint32_t offset : {9u, 10u, 177u, 600u}) {
    fixture f({.block_size = 2048, .blocks = 16});
    filled_blocks source(*f.t.store, 1, offset, 1000);
    message m;
    const auto wanted = fields_of(1000, 9);
    ASSERT_TRUE(f->reserve_taken(wanted, "the topic", source.payload, source, m));
    EXPECT_EQ(m.fields.properties_size, offset - 9);
    f->stage(m);
    const staged_message s = f->as_staged(m);
    EXPECT_EQ(s.payload_at, offset);
    EXPECT_EQ(s.bytes + offset, source.payload.data()) << "the payload was moved";
    EXPECT_EQ(s.size, offset + 1000);
    f->flush_staged(s);
    f.m->drain();
    f->publish(s);
    message_view v;
    ASSERT_EQ(f->view(m.ref, v), message_status::ok);
    EXPECT_TRUE(f->verify(v));
    const auto text = v.topic.contiguous();
    EXPECT_EQ(std::string(reinterpret_cast<const char*>(text.data()), text.size()), "the topic");
    EXPECT_TRUE(std::ranges::all_of(v.properties.contiguous().first(v.properties.remaining()),
                                    [](std::byte b) { return b == std::byte{0}; }));
    EXPECT_TRUE(std::ranges::equal(v.payload.contiguous(), test::content(7, 1000)));
    EXPECT_TRUE(f->drop_reference(m.ref.index));
    EXPECT_EQ(f.t.store->statistics().live_blocks, 0u) << "the block is not free";
  }
}

TEST(TakenMessage, ItIsRecoveredWithItsBlock) {
  fixture f({.block_size = 2048, .blocks = 16});
  filled_blocks source(*f.t.store, 1, 177, 1000);
  message m;
  ASSERT_TRUE(f->reserve_taken(fields_of(1000, 9), "the topic", source.payload, source, m));
  f->stage(m);
  f->flush_staged(m);
  f.m->drain();
  f->publish(m);
  f.t.begin_recovery();
  EXPECT_EQ(f->recover_reference(m.ref), message_status::ok);
  f.t.finish_recovery();
  EXPECT_EQ(f.t.store->statistics().live_blocks, 1u);
  message_view v;
  ASSERT_EQ(f->view(m.ref, v), message_status::ok);
  EXPECT_TRUE(f->verify(v));
}

TEST(TakenMessage, WhatTheDeviceHasStoredIsFlushedWithTheTopic) {
  for (const bool staged : {false, true}) {
    fixture f({.block_size = 2048, .blocks = 16});
    filled_blocks source(*f.t.store, 1, 177, 1000);
    message m;
    ASSERT_TRUE(f->reserve_taken(fields_of(1000, 9), "the topic", source.payload, source, m));
    f->stage(m);
    test::seam_counter counted;
    f.m->observe(&counted);
    staged ? f->flush_staged(f->as_staged(m)) : f->flush_staged(m);
    f.m->observe(nullptr);
    EXPECT_EQ(counted.lines, (177u + 1000 + 63) / 64);
  }
}

TEST(TakenMessage, ARefusalChangesNothing) {
  fixture f({.descriptors = 2, .block_size = 2048, .blocks = 16});
  filled_blocks source(*f.t.store, 1, 20, 1000);
  const auto before = f->statistics();
  message m;
  const std::string long_topic(21, 't');
  EXPECT_FALSE(f->reserve_taken(fields_of(1000, 21), long_topic, source.payload, source, m));
  source.gives = false;
  EXPECT_FALSE(f->reserve_taken(fields_of(1000, 9), "the topic", source.payload, source, m));
  EXPECT_EQ(f->statistics().free, before.free);
  message full[2];
  for (message& other : full)
    ASSERT_TRUE(f->reserve(test::fields(1, 10), other));
  source.gives = true;
  source.asked = 0;
  EXPECT_FALSE(f->reserve_taken(fields_of(1000, 9), "the topic", source.payload, source, m));
  EXPECT_EQ(source.asked, 0u) << "blocks were taken without a descriptor";
}

} // namespace
} // namespace chainring
