// SPDX-License-Identifier: BSD-3-Clause
// A file is truncated while a broker runs on it. The access that finds its memory lost fails the
// region, with a sentence that names what lay there, and the process goes on.
#include <atomic>
#include <csignal>
#include <rte_lcore.h>
#include <sys/wait.h>
#include <thread>
#include <unistd.h>

#include "lost_memory.h"
#include "support/eal_main.h"

namespace chainring::test_faults {
namespace {

class LostMemory : public OnAPlace {};

TEST_P(LostMemory, AReadOfLostMemoryGivesZerosAndAFailureThatNamesTheObject) {
  auto r = made();
  const mark_t before = r->mark();
  auto messages = r->root("broker.messages");
  ASSERT_TRUE(messages);
  cut(messages->offset / page * page);
  EXPECT_FALSE(r->failed()) << "no access has met the page yet";
  const auto* lost =
      reinterpret_cast<const volatile std::uint64_t*>(r->at(messages->offset) + page);
  EXPECT_EQ(*lost, 0u);
  expect_named(*r, "root 'broker.messages'");
  EXPECT_TRUE(r->durable(before)) << "a mark that was durable stays durable";
  EXPECT_FALSE(r->durable(r->mark()));
  EXPECT_FALSE(r->wait(r->mark()));
  EXPECT_NE(*reinterpret_cast<const volatile std::uint64_t*>(r->at(0)), 0u)
      << "the rest of the memory is intact";
  const auto closed = r->close();
  ASSERT_FALSE(closed);
  EXPECT_NE(closed.error().message.find("broker.messages"), std::string::npos);
}

TEST_P(LostMemory, AStoreToLostMemoryIsNotAcknowledged) {
  auto r = made();
  const std::uint64_t at = r->geometry().block_offset + 100 * 256;
  cut(at / page * page);
  auto* word = reinterpret_cast<std::uint64_t*>(r->at(at));
  r->medium().store(word, 7);
  r->medium().flush(word, 8);
  r->medium().drain();
  EXPECT_FALSE(r->wait(r->mark()));
  expect_named(*r, "block ");
}

TEST_P(LostMemory, NoneOfManyThreadsSeesZerosBeforeTheFailure) {
  for (int round = 0; round < 20; ++round) {
    auto r = made();
    const std::uint64_t at = r->geometry().block_offset / page * page + page;
    auto* word = reinterpret_cast<volatile std::uint64_t*>(r->at(at));
    *word = 5;
    std::atomic<bool> wrong = false, cut_off = false;
    std::vector<std::thread> all;
    for (int t = 0; t < 3; ++t)
      all.emplace_back([&] {
        while (*word == 5)
          if (cut_off.load() && r->failed()) break;
        if (!r->failed()) wrong = true;
      });
    cut(at);
    cut_off = true;
    for (auto& t : all)
      t.join();
    EXPECT_FALSE(wrong);
    r.reset();
    ASSERT_EQ(unlink(options_.media.path.c_str()), 0);
  }
}

/// A worker's thread publishes, delivers and loses its memory. What goes wrong is reported as an
/// exit status.
[[noreturn]] void serve_and_lose(std::unique_ptr<region> on, const std::string& path) {
  auto opened = broker::open(std::move(on), small_config());
  if (!opened) _exit(2);
  broker& b = **opened;
  marked_transport out(b.region());
  auto gateway = gateway_for(b, small_gateway());
  gateway->worker(0).attach(out);
  std::atomic<int> step = 0;
  std::thread worker([&] {
    if (rte_thread_register() != 0) _exit(8);
    const auto say = [&](client_address from, const auto& m) {
      gateway->worker(0).receive(from, encode(m));
      for (int i = 0; i < 4; ++i)
        turn_of(b, *gateway, 0);
    };
    const std::string text(300, 'x');
    const auto publish = [&](std::uint16_t id) {
      say(2, sn::publish{.flags = sn::flags{}.with_qos(sn::qos_level::one),
                         .topic_id = 1,
                         .msg_id = id,
                         .data = std::as_bytes(std::span(text))});
    };
    say(1, sn::connect{.flags = sn::flags{}.with_clean(), .client_id = "subscriber"});
    say(1, sn::subscribe{
               .flags = sn::flags{}.with_qos(sn::qos_level::one), .msg_id = 1, .topic = "a/b"});
    say(2, sn::connect{.flags = sn::flags{}.with_clean(), .client_id = "publisher"});
    say(2, sn::register_topic{.msg_id = 2, .topic = "a/b"});
    publish(3);
    step = 1;
    while (step != 2)
      std::this_thread::yield();
    say(1, sn::puback{.topic_id = 1, .msg_id = 1});
    for (std::uint16_t id = 4; id < 12; ++id)
      publish(id);
    say(3, sn::connect{.flags = sn::flags{}.with_clean(), .client_id = "late"});
    step = 3;
    for (;;)
      pause();
  });
  while (step != 1)
    std::this_thread::yield();
  constexpr unsigned before = 6; // two CONNACKs, SUBACK, REGACK, PUBACK, PUBLISH
  if (out.sent != before) _exit(3);
  if (truncate(path.c_str(),
               static_cast<off_t>(b.region().geometry().block_offset / page * page)) != 0)
    _exit(4);
  step = 2;
  while (!b.region().failed())
    std::this_thread::yield();
  for (int i = 0; i < 300 && step != 3; ++i) // until it is through, or has stopped
    usleep(1000);
  if (out.sent != before) _exit(5); // a packet left
  const std::string why = b.region().why_failed();
  if (why.find("block ") == std::string::npos || why.find(path) == std::string::npos) _exit(6);
  std::vector<session_info> sessions;
  (void)b.sessions(0, 10, sessions);
  if (sessions.size() < 2 || gateway->counters().datagrams < before) _exit(7);
  _exit(0);
}

// This runs in a process of its own, because the worker's thread may stop for good where its rings
// were.
TEST_P(LostMemory, ABrokerAcknowledgesAndDeliversNothingMoreAndStillAnswersQueries) {
  auto on = made();
  EXPECT_EXIT(serve_and_lose(std::move(on), options_.media.path), testing::ExitedWithCode(0), "");
}

INSTANTIATE_TEST_SUITE_P(Places, LostMemory, places(), place_name);

/// Class file keeps its working copy in memory, so the next commit notices what happened to the
/// file.
class LostFile : public testing::TestWithParam<bool> {};

TEST_P(LostFile, TheNextCommitNoticesALostFileAndNothingMoreIsAcknowledged) {
  const scratch_directory directory(test::disk_directory());
  media_options o;
  o.path = directory.file("region");
  o.size = region_size;
  o.journal_size = 1u << 20;
  auto m = create_media(o);
  ASSERT_TRUE(m) << m.error().message;
  auto* word = reinterpret_cast<std::uint64_t*>((*m)->base());
  const auto put = [&](std::uint64_t value) {
    (*m)->store(word, value);
    (*m)->flush(word, 8);
    (*m)->drain();
    return (*m)->wait((*m)->mark());
  };
  ASSERT_TRUE(put(1));
  if (GetParam())
    ASSERT_EQ(unlink(o.path.c_str()), 0);
  else
    ASSERT_EQ(truncate(o.path.c_str(), static_cast<off_t>(region_size)), 0);
  EXPECT_FALSE(put(2));
  EXPECT_NE((*m)->status().error().message.find("deleted or cut short"), std::string::npos);
  EXPECT_FALSE((*m)->close());
}

INSTANTIATE_TEST_SUITE_P(How, LostFile, testing::Values(false, true),
                         [](const auto& info) { return info.param ? "deleted" : "cut_short"; });

TEST(LostMemoryDeathTest, ABusErrorOutsideWatchedMemoryEndsTheProcess) {
  const auto m = memory_media(1 << 20, durability_class::process);
  const scratch_directory directory("/dev/shm");
  media_options o;
  o.path = directory.file("watched");
  o.size = region_size;
  auto watched = create_media(o); // installs the handler
  ASSERT_TRUE(watched);
  // It ends by the signal, or with the status of a sanitizer whose handler was there before.
  const auto ended = [](int status) { return !WIFEXITED(status) || WEXITSTATUS(status) != 0; };
  EXPECT_EXIT((raise(SIGBUS), _exit(0)), ended, "");
}

} // namespace
} // namespace chainring::test_faults
