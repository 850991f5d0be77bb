// SPDX-License-Identifier: BSD-3-Clause
// A region of format 3 was made once. Every later build must open it.
#include <fstream>
#include <iterator>

#include "../lib/region/region_fixture.h"
#include "support/eal_main.h"
#include "world.h"

namespace chainring::golden {
namespace {

test::line_bytes image() {
  std::ifstream file(GOLDEN_IMAGE, std::ios::binary);
  test::line_bytes bytes(region_size);
  file.read(reinterpret_cast<char*>(bytes.data()), static_cast<std::streamsize>(bytes.size()));
  EXPECT_EQ(static_cast<std::uint64_t>(file.gcount()), region_size) << GOLDEN_IMAGE;
  return bytes;
}

result<std::unique_ptr<region>> region_of(test::line_bytes& bytes, bool read_only) {
  return region::open_on(std::make_unique<test::kept_media>(bytes), read_only);
}

TEST(Golden, TheImageOfFormat3IsJudgedCleanAndNotChanged) {
  test::line_bytes bytes = image();
  const auto before = bytes;
  auto r = region_of(bytes, true);
  ASSERT_TRUE(r) << r.error().message;
  EXPECT_TRUE((*r)->was_clean());
  EXPECT_TRUE((*r)->notes().empty());
  auto wrong = broker::check(**r);
  ASSERT_TRUE(wrong) << wrong.error().message;
  EXPECT_EQ(*wrong, std::vector<std::string>{});
  EXPECT_TRUE(bytes == before);
  // Four tables have grown, so each has a second segment.
  for (const char* name :
       {store_area::sessions, store_area::queues, store_area::subscriptions, store_area::messages})
    EXPECT_EQ((*r)->ranges(name).size(), 2u) << name;
}

TEST(Golden, TheImageOfFormat3IsServedToTheLastOctet) {
  test::line_bytes bytes = image();
  for (int life = 0; life < 2; ++life) {
    auto r = region_of(bytes, false);
    ASSERT_TRUE(r) << r.error().message;
    auto opened = broker::open(std::move(*r), config());
    ASSERT_TRUE(opened) << opened.error().message;
    broker& b = **opened;
    EXPECT_EQ(b.opened().notes, std::vector<std::string>{});
    EXPECT_EQ(b.opened().sessions, 2u);
    EXPECT_EQ(b.opened().subscriptions, 2u);
    EXPECT_EQ(b.sessions_capacity(), 8u);
    store& state = broker_access::state(b);
    broker_worker& w = b.worker(0);
    reader by;
    const auto shorter = w.open_session(by, short_identity, {.window = 16}, 1);
    const auto longer =
        w.open_session(by, long_identity, {.expiry_s = far_expiry_s, .window = 16}, 2);
    ASSERT_EQ(shorter.status, open_status::opening);
    ASSERT_EQ(longer.status, open_status::opening);
    EXPECT_TRUE(shorter.present);
    EXPECT_TRUE(longer.present);
    EXPECT_EQ(state.sessions().settings(longer.session).expiry_s, far_expiry_s);
    EXPECT_EQ(state.sessions().settings(shorter.session), session_settings{});
    for (int i = 0; i < 4; ++i)
      (void)w.end_burst();
    const auto expect_all = [&](std::uint32_t session, bool is_short, std::uint8_t bits) {
      std::size_t at = 0;
      for (std::size_t i = 0; i < messages.size(); ++i) {
        const bool wanted = is_short ? i != acknowledged && i + 1 != messages.size() : true;
        if (!wanted) continue;
        ASSERT_LT(at, by.got[session].size()) << "message " << i << " is lost";
        const auto& d = by.got[session][at++];
        EXPECT_EQ(d.topic, messages[i].topic) << i;
        EXPECT_EQ(d.content, messages[i].content) << i;
        EXPECT_EQ(d.front_end_bits, bits) << i;
        EXPECT_EQ(d.qos, 1) << i;
      }
      EXPECT_EQ(at, by.got[session].size()) << "there are more messages than were published";
    };
    if (life == 0) {
      expect_all(shorter.session, true, 1);
      expect_all(longer.session, false, 2);
      EXPECT_EQ(b.message_statistics().live, messages.size());
      // Every message is acknowledged, and must not come again after the next open.
      for (const auto& [session, all] : by.got)
        for (const auto& d : all)
          w.ack(session, d.ticket);
      for (int i = 0; i < 4; ++i)
        (void)w.end_burst();
    }
    EXPECT_EQ(b.message_statistics().live, 0u) << "after open number " << life;
    w.close_session(shorter.session);
    w.close_session(longer.session);
    (void)w.end_burst();
    ASSERT_TRUE(b.close());
  }
}

TEST(Golden, ARegionOfAnOlderFormatIsRefusedWithASentenceThatNamesItsVersion) {
  for (const std::uint32_t major : {1u, 2u}) {
    test::line_bytes bytes = image();
    // The layout of the superblock is the same since format 1.
    for (const std::uint64_t offset : superblock_offsets) {
      auto& s = *reinterpret_cast<superblock*>(bytes.data() + offset);
      s.format_major = major;
      s.crc = detail::crc_of(s);
    }
    const auto before = bytes;
    auto r = region_of(bytes, false);
    ASSERT_FALSE(r);
    EXPECT_EQ(r.error().code, errc::version);
    EXPECT_NE(r.error().message.find("version " + std::to_string(major)), std::string::npos)
        << r.error().message;
    EXPECT_TRUE(bytes == before);
  }
}

TEST(Golden, AreasOfVersion2AreRefusedByNameAndNotChanged) {
  test::line_bytes bytes = image();
  auto* entries = reinterpret_cast<root_entry*>(bytes.data() + root_directory_offset);
  for (unsigned i = 0; i < root_directory_entries; ++i)
    if (std::string_view(entries[i].name) == store_area::sessions) {
      entries[i].version = 2;
      entries[i].crc = detail::crc_of(entries[i]);
    }
  auto r = region_of(bytes, false);
  ASSERT_TRUE(r) << r.error().message;
  auto opened = broker::open(std::move(*r), config());
  ASSERT_FALSE(opened);
  EXPECT_EQ(opened.error().code, errc::version);
  EXPECT_EQ(
      opened.error().message,
      "root 'broker.sessions' has version 2, but this build knows 3; drain it with the version "
      "that made it, and create another");
}

} // namespace
} // namespace chainring::golden
