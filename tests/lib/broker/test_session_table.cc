// SPDX-License-Identifier: BSD-3-Clause
// Session records: what they keep, what an open does with damaged ones, and the areas of version 3
// that this build does not use.
#include <set>

#include "../region/region_fixture.h"
#include "base/crc32c.h"
#include "broker/session_table.h"
#include "broker/store.h"
#include "broker_fixture.h"
#include "region/recovery.h"
#include "support/eal_main.h"

namespace chainring {
namespace {

constexpr std::uint64_t second = 1'000'000'000;

class SessionTable : public testing::Test {
 protected:
  static constexpr std::uint32_t records = 8;
  static constexpr std::uint64_t blocks_at = 4096, block_count = 1024;

  test::line_bytes bytes = test::line_bytes(blocks_at + block_count * 256);
  std::unique_ptr<test::kept_media> medium;
  std::unique_ptr<block_store> blocks;
  std::unique_ptr<session_table> table;
  session_recovery found;
  recovery_report report;
  session_rules rules;

  SessionTable() { attach(); }
  void attach() {
    table.reset(), blocks.reset();
    medium = std::make_unique<test::kept_media>(bytes);
    auto made = block_store::create(*medium, blocks_at, 256, block_count);
    ASSERT_TRUE(made);
    blocks = std::move(*made);
    table = std::make_unique<session_table>(*medium, *blocks, "session");
    ASSERT_TRUE(table->add_segment({0, records / 2}));
    ASSERT_TRUE(table->add_segment({records / 2 * sizeof(session_record), records / 2}));
  }
  recovery parts() {
    recovery all;
    all.add(blocks->part());
    all.add(table->part("sessions", rules, &found));
    return all;
  }
  void reopen() {
    attach();
    auto done = parts().run(*medium);
    ASSERT_TRUE(done) << done.error().message;
    report = *done;
  }
  /// A check, which must report what an open reports, and must change nothing.
  recovery_report check() {
    attach();
    const auto before = bytes;
    recovery_report found_by_check = parts().check(*medium);
    EXPECT_TRUE(bytes == before) << "a check changes nothing";
    return found_by_check;
  }
  std::uint64_t* words(std::uint32_t n) {
    return reinterpret_cast<std::uint64_t*>(bytes.data() + n * sizeof(session_record));
  }
  void create(std::uint32_t n, std::string_view identity, const session_settings& s = {},
              std::uint8_t flags = 0) {
    ASSERT_TRUE(table->create_start(n, identity, flags, s));
    table->flush_record(n);
    medium->drain();
  }
};

std::string long_identity(std::size_t size) {
  std::string id(size, ' ');
  for (std::size_t i = 0; i < size; ++i)
    id[i] = static_cast<char>(i * 7 + i / 251);
  return id;
}

TEST_F(SessionTable, KeepsIdentitiesOfEveryLengthAcrossAnOpen) {
  const std::size_t sizes[] = {1, 23, 24, 25, 256, 257, 1000, identity_size_max};
  for (std::uint32_t n = 0; n < records; ++n)
    create(n, long_identity(sizes[n]), {.expiry_s = n + 1});
  for (int life = 0; life < 2; ++life) {
    for (std::uint32_t n = 0; n < records; ++n) {
      EXPECT_EQ(table->identity(n), long_identity(sizes[n])) << sizes[n];
      EXPECT_EQ(table->identity_seen(n), long_identity(sizes[n])) << sizes[n];
      EXPECT_EQ(table->settings(n).expiry_s, n + 1);
    }
    reopen();
    EXPECT_EQ(found.used, records);
    EXPECT_TRUE(report.problems.empty());
  }
  // The blocks have 256 octets; the identities of 25 and of 256 octets take one block each.
  EXPECT_EQ(blocks->statistics().live_blocks, 1u + 1 + 2 + 4 + 256);
}

TEST_F(SessionTable, AnIdentityWithoutRoomForItsBlocksIsRefused) {
  std::vector<chain> all(block_count / 256);
  ASSERT_TRUE(blocks->allocate_bulk(256, all));
  EXPECT_FALSE(table->create_start(0, long_identity(25), 0, {}));
  EXPECT_EQ(table->word0(0).state, session_state::free);
  EXPECT_TRUE(table->create_start(0, long_identity(24), 0, {}))
      << "an inline identity needs no blocks";
}

TEST_F(SessionTable, AChangedBitOfACoveredWordDeletesTheSessionAndNamesIt) {
  for (const std::size_t size : {std::size_t{5}, std::size_t{24}, std::size_t{60}}) {
    bytes.assign(bytes.size(), std::byte{});
    attach();
    create(3, long_identity(size));
    create(4, "neighbour");
    const auto whole = bytes;
    for (unsigned word = 0; word < 7; ++word)
      for (unsigned bit = 0; bit < 64; ++bit) {
        bytes = whole;
        words(3)[word] ^= std::uint64_t{1} << bit;
        const auto checked = check();
        reopen();
        ASSERT_EQ(report.problems.size(), 1u) << size << ": word " << word << " bit " << bit;
        EXPECT_EQ(report.problems[0].object, "session 3");
        ASSERT_EQ(checked.problems.size(), 1u);
        EXPECT_EQ(checked.problems[0].text(), report.problems[0].text());
        EXPECT_EQ(table->word0(3).state, session_state::free);
        EXPECT_EQ(table->identity(4), "neighbour");
        // The session is deleted for good, and its number can be used again.
        reopen();
        EXPECT_TRUE(report.problems.empty());
        create(3, "another");
        reopen();
        EXPECT_EQ(table->identity(3), "another");
      }
  }
}

TEST_F(SessionTable, ARecordCopiedToAnotherPlaceIsDeletedThere) {
  create(2, "here");
  std::memcpy(words(5), words(2), sizeof(session_record));
  reopen();
  ASSERT_EQ(report.problems.size(), 1u);
  EXPECT_EQ(report.problems[0].object, "session 5");
  EXPECT_EQ(table->identity(2), "here");
}

TEST_F(SessionTable, OfTwoRecordsWithOneIdentityTheLowerNumberStays) {
  for (const std::size_t size : {std::size_t{9}, std::size_t{3000}}) {
    bytes.assign(bytes.size(), std::byte{});
    attach();
    create(1, long_identity(size));
    create(6, long_identity(size));
    create(7, "other");
    const auto checked = check();
    reopen();
    ASSERT_EQ(report.problems.size(), 1u);
    EXPECT_EQ(report.problems[0].text(),
              "session 6: another record has its identity; it is deleted");
    ASSERT_EQ(checked.problems.size(), 1u);
    EXPECT_EQ(checked.problems[0].text(), report.problems[0].text());
    EXPECT_EQ(found.used, 2u);
  }
}

TEST_F(SessionTable, SettingsAlternateBetweenHalvesAndADamagedHalfCountsAsNone) {
  create(0, "a", {.expiry_s = 1});
  for (std::uint32_t i = 2; i < 10; ++i) {
    const session_settings s{.disconnected_ns = i * second, .expiry_s = i, .will_delay_s = i + 1};
    const auto active = words(0)[8] & 1;
    table->settings_start(0, s);
    table->flush_record(0);
    medium->drain();
    EXPECT_NE(words(0)[8] & 1, active) << "the active half must never be written";
    EXPECT_EQ(table->settings(0), s);
    reopen();
    EXPECT_EQ(table->settings(0), s);
  }
  const auto whole = bytes;
  const auto active = words(0)[8] & 1;
  for (unsigned word = 8; word < 15; ++word)
    for (unsigned bit = 0; bit < 64; ++bit) {
      bytes = whole;
      words(0)[word] ^= std::uint64_t{1} << bit;
      reopen();
      EXPECT_EQ(table->word0(0).state, session_state::used) << "only the settings are lost";
      const bool idle = word >= 9 && (word - 9) / 3 != active;
      EXPECT_EQ(table->settings(0) == session_settings{}, !idle) << word << " " << bit;
    }
}

TEST_F(SessionTable, SettingsOfAnEarlierIncarnationDoNotCount) {
  create(0, "a", {.disconnected_ns = second, .expiry_s = 5});
  const auto old = std::vector<std::uint64_t>(words(0) + 8, words(0) + 15);
  table->end_start(0, true, 0, {.expiry_s = 7});
  EXPECT_EQ(table->settings(0), session_settings{.expiry_s = 7});
  std::copy(old.begin(), old.end(), words(0) + 8); // a crash may leave the second line like this
  EXPECT_EQ(table->settings(0), session_settings{});
}

TEST_F(SessionTable, ExpiredAndCleanSessionsAreDeletedAtOpen) {
  create(0, "stays");
  create(1, "gone", {.disconnected_ns = 100 * second, .expiry_s = 10});
  create(2, "not yet", {.disconnected_ns = 100 * second, .expiry_s = 11});
  create(3, "connected", {.expiry_s = 1});
  create(4, "clean", {}, session_flag_clean);
  create(5, "by default", {.disconnected_ns = 100 * second});
  rules = {.now_ns = 110 * second, .expiry_s = 4};
  EXPECT_TRUE(check().problems.empty()) << "none of this is damage";
  reopen();
  EXPECT_TRUE(report.problems.empty());
  EXPECT_EQ(found.used, 3u);
  EXPECT_EQ(found.expired, 2u);
  EXPECT_EQ(found.voided, 3u);
  for (const std::uint32_t n : {0u, 2u, 3u})
    EXPECT_EQ(table->word0(n).state, session_state::used) << n;
  for (const std::uint32_t n : {1u, 4u, 5u}) {
    EXPECT_EQ(table->word0(n).state, session_state::free) << n;
    EXPECT_EQ(table->incarnation(n), 1u) << n;
  }
}

TEST_F(SessionTable, AClockThatIsSetBackExpiresNoSessionEarly) {
  create(0, "a", {.disconnected_ns = 100 * second, .expiry_s = 10});
  for (const std::uint64_t now : {std::uint64_t{0}, 50 * second, 100 * second, 110 * second - 1}) {
    rules = {.now_ns = now};
    reopen();
    EXPECT_EQ(table->word0(0).state, session_state::used) << now;
  }
  rules = {.now_ns = 110 * second};
  reopen();
  EXPECT_EQ(table->word0(0).state, session_state::free);
}

TEST_F(SessionTable, ADamagedOctetOfALongIdentityDeletesTheSessionAndFreesItsBlocks) {
  const std::string id = long_identity(700);
  create(0, id);
  const auto at = static_cast<std::size_t>(
      reinterpret_cast<const std::byte*>(table->identity(0).data()) - bytes.data());
  const auto whole = bytes;
  for (const std::size_t octet : {std::size_t{0}, std::size_t{255}, std::size_t{699}}) {
    bytes = whole;
    bytes[at + octet] ^= std::byte{1};
    const auto checked = check();
    reopen();
    ASSERT_EQ(report.problems.size(), 1u);
    EXPECT_EQ(report.problems[0].text(), "session 0: its identity is damaged; it is deleted");
    ASSERT_EQ(checked.problems.size(), 1u);
    EXPECT_EQ(checked.problems[0].text(), report.problems[0].text());
    EXPECT_EQ(blocks->statistics().live_blocks, 0u);
  }
  bytes = whole;
  bytes[at + 700] ^= std::byte{1}; // this octet is behind the end of the identity
  reopen();
  EXPECT_TRUE(report.problems.empty());
}

TEST_F(SessionTable, ALongIdentityFreesItsBlocksOnceItsEndIsDurable) {
  create(0, long_identity(700));
  table->end_start(0, false, 0, {});
  table->flush_record(0);
  medium->drain();
  EXPECT_EQ(blocks->statistics().live_blocks, 3u);
  table->end_finish(0);
  EXPECT_EQ(blocks->statistics().live_blocks, 0u);
  create(0, long_identity(300));
  reopen();
  EXPECT_EQ(table->identity(0), long_identity(300));
  EXPECT_EQ(table->incarnation(0), 1u);
}

// --- groups and retained messages ------------------------------------------------------------

using namespace testing_broker;

class LaterContents : public testing::Test {
 protected:
  test::line_bytes bytes = test::line_bytes(1 << 20);
  result<std::unique_ptr<broker>> open(bool fresh) {
    return broker_on(std::make_unique<test::kept_media>(bytes), small_config(), fresh);
  }
  void SetUp() override { ASSERT_TRUE(open(true)); }
  std::uint64_t at(const char* area) {
    auto r = region::open_on(std::make_unique<test::kept_media>(bytes), true);
    return (*r)->root(area)->offset;
  }
  std::vector<std::string> check() {
    auto r = region::open_on(std::make_unique<test::kept_media>(bytes), true);
    auto wrong = broker::check(**r);
    if (!wrong) return {"refused: " + wrong.error().message};
    return *wrong;
  }
};

TEST_F(LaterContents, ADamagedGroupRecordIsNamedAndDeleted) {
  bytes[at(store_area::groups)] ^= std::byte{2};
  const auto wrong = check();
  ASSERT_EQ(wrong.size(), 1u);
  EXPECT_NE(wrong[0].find("group 0"), std::string::npos) << wrong[0];
  auto made = open(false);
  ASSERT_TRUE(made) << made.error().message;
  EXPECT_EQ((*made)->opened().notes, wrong);
  made = error{};
  EXPECT_TRUE(check().empty());
}

TEST_F(LaterContents, AGroupWithoutMembersEndsAtAnOpen) {
  auto& r = *reinterpret_cast<session_record*>(bytes.data() + at(store_area::groups) +
                                               sizeof(session_record));
  r.attributes = session_word1{5, 0}.pack();
  std::memcpy(r.identity, "g/a/b", 5);
  r.check = session_check(1, r);
  r.state = session_word0{session_state::used, 0, 0}.pack(1);
  auto made = open(false);
  ASSERT_TRUE(made) << made.error().message;
  EXPECT_EQ((*made)->group_count(), 0u);
  made = error{};
  const session_word0 w = session_word0::unpack(r.state);
  EXPECT_EQ(w.state, session_state::free);
  EXPECT_EQ(w.incarnation, 1u) << "nothing of the ended group may count again";
  EXPECT_TRUE(check().empty());
}

TEST_F(LaterContents, ARetainedTopicThatNamesNoMessageIsNamedAndErased) {
  {
    test::kept_media medium(bytes);
    auto blocks = block_store::create(medium, bytes.size() / 2, 256, 64);
    auto map = durable_map::create(medium, at(store_area::retained), 16, **blocks);
    ASSERT_TRUE(map);
    ASSERT_EQ((*map)->insert(bytes_of("a/b"), bytes_of("ref")), map_status::done);
  }
  const auto wrong = check();
  ASSERT_EQ(wrong.size(), 1u);
  EXPECT_NE(wrong[0].find("retained"), std::string::npos) << wrong[0];
  auto made = open(false);
  ASSERT_TRUE(made) << made.error().message;
  EXPECT_EQ((*made)->opened().notes, wrong);
  made = error{};
  EXPECT_TRUE(check().empty());
}

} // namespace
} // namespace chainring
