// SPDX-License-Identifier: BSD-3-Clause
#include <gtest/gtest.h>

#include <filesystem>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include "objects/object_map.h"
#include "objects/object_pairs.h"
#include "objects/object_queue.h"
#include "objects/objects_media.h"

namespace chainring::test {
namespace {

using stock_map = map<std::string, std::uint64_t>;
using pair_map = map<std::uint64_t, std::uint64_t>;

class Objects : public testing::Test {
 protected:
  Objects() { std::filesystem::remove(path); }
  ~Objects() override { std::filesystem::remove(path); }
  const std::string path = "/dev/shm/objects." + std::to_string(getpid());
  const durable<stock_map> parts{"parts", 100};
  const durable<pair_map> pairs{"pairs", 100};

  [[nodiscard]] media_options at_path(std::uint64_t size_max = 0) const {
    media_options o;
    o.path = path;
    o.size_max = size_max;
    return o;
  }
  template <class... Ts> std::unique_ptr<objects> open(const durable<Ts>&... of) const {
    auto opened = objects::open_or_create(path, of...);
    EXPECT_TRUE(opened) << opened.error().message;
    return opened ? std::move(opened).value() : nullptr;
  }
  template <class... Ts> error refusal(const durable<Ts>&... of) const {
    auto opened = objects::open_or_create(path, of...);
    EXPECT_FALSE(opened);
    return opened ? error{} : opened.error();
  }
};

TEST_F(Objects, AProcessThatIsKilledFindsWhatItStored) {
  const pid_t child = fork();
  if (child == 0) {
    auto opened = objects::open_or_create(path, parts, pairs);
    if (!opened) _exit(1);
    auto stock = (*opened)->get<stock_map>("parts").value();
    if (stock.increment("bolt", 20) != map_status::done) _exit(2);
    if ((*opened)->get<pair_map>("pairs").value().insert(1, 2) != map_status::done) _exit(3);
    kill(getpid(), SIGKILL);
  }
  int status = 0;
  ASSERT_EQ(waitpid(child, &status, 0), child);
  ASSERT_TRUE(WIFSIGNALED(status)) << "exit status " << WEXITSTATUS(status);
  const auto again = open(parts, pairs);
  EXPECT_FALSE(again->region().was_clean());
  EXPECT_TRUE(again->recovered().clean());
  EXPECT_EQ(again->get<stock_map>("parts").value().get("bolt"), 20u);
  EXPECT_EQ(again->get<pair_map>("pairs").value().get(1), 2u);
}

/// The process is killed behind the commit of a batch, whose log then stands beside its cells.
TEST_F(Objects, ABatchOfAKilledProcessIsNamedByACheckAndCompletedByAnOpen) {
  const pid_t child = fork();
  if (child == 0) {
    auto opened = objects::open_or_create(path, parts);
    if (!opened) _exit(1);
    auto stock = (*opened)->get<stock_map>("parts").value();
    if (stock.insert("bolt", 20) != map_status::done) _exit(2);
    stock_map::atomic_batch both(stock);
    (void)both.erase("bolt");
    (void)both.insert("nut", 20);
    if (both.commit() != map_status::done) _exit(3);
    kill(getpid(), SIGKILL);
  }
  int status = 0;
  ASSERT_EQ(waitpid(child, &status, 0), child);
  ASSERT_TRUE(WIFSIGNALED(status)) << "exit status " << WEXITSTATUS(status);
  media_options reading = at_path();
  reading.read_only = true;
  const recovery_report found = objects::check(**region::open(reading));
  EXPECT_TRUE(found.clean());
  ASSERT_EQ(found.problems.size(), 1u);
  EXPECT_EQ(found.problems[0].level, severity::note);
  EXPECT_EQ(found.problems[0].text(),
            "map 'parts': a batch of 2 changes was committed and not yet in its cells; an open "
            "completes it");
  {
    const auto again = open(parts);
    EXPECT_TRUE(again->recovered().clean());
    auto stock = again->get<stock_map>("parts").value();
    EXPECT_EQ(stock.get("bolt"), std::nullopt);
    EXPECT_EQ(stock.get("nut"), 20u);
    ASSERT_TRUE(again->close());
  }
  EXPECT_TRUE(objects::check(**region::open(reading)).problems.empty());
}

TEST_F(Objects, AQueueWithIdsAnswersForEachClientAfterAnOpen) {
  using orders = queue<std::uint64_t>;
  durable<orders> wanted{.name = "orders", .entries = 10, .streams = 3, .clients = 2};
  const durable<orders> alone{.name = "alone", .entries = 10, .clients = 2};
  {
    auto first = open(wanted, alone);
    auto all = first->get<orders>("orders").value();
    EXPECT_EQ(all.enqueue({1, 1}, 11), queue_status::done);
    for (std::uint32_t s = 0; s < 3; ++s)
      EXPECT_EQ(all.stream(s).dequeue(), 11u);
    EXPECT_EQ(first->get<orders>("alone").value().enqueue({9, 1}, 91), queue_status::done);
    EXPECT_TRUE(first->close());
  }
  media_options reading = at_path();
  reading.read_only = true;
  const recovery_report found = objects::check(**region::open(reading));
  EXPECT_TRUE(found.problems.empty()) << found.problems.front().text();
  wanted.clients = 50; // of which there are more than messages at first
  {
    auto again = open(wanted, alone);
    auto all = again->get<orders>("orders").value();
    EXPECT_EQ(all.resolve({1, 1}), operation_outcome::took_effect);
    EXPECT_EQ(all.enqueue({1, 1}, 11), queue_status::repeated);
    for (std::uint32_t client = 2; client <= 50; ++client) {
      ASSERT_EQ(all.enqueue({client, 1}, client), queue_status::done) << client;
      for (std::uint32_t s = 0; s < 3; ++s)
        ASSERT_EQ(all.stream(s).dequeue(), client);
    }
    EXPECT_EQ(again->get<orders>("alone").value().last_operation(9), 1u);
  }
  EXPECT_EQ(refusal(durable<orders>{.name = "alone", .entries = 10}).message,
            "object 'alone': the region has it as a 'queue of 8 bytes, with ids', and the program "
            "asks for a 'queue of 8 bytes'");
}

TEST_F(Objects, ObjectsAreAddedToARegionAndOthersStay) {
  {
    auto first = open(parts);
    EXPECT_EQ(first->get<stock_map>("parts").value().insert("bolt", 1), map_status::done);
    EXPECT_TRUE(first->close());
  }
  {
    auto second = open(pairs); // does not ask for the parts
    EXPECT_TRUE(second->region().was_clean());
    auto map = second->get<pair_map>("pairs").value();
    for (std::uint64_t i = 0; i < 100; ++i)
      ASSERT_EQ(map.insert(i, i), map_status::done);
    EXPECT_EQ(map.insert(100, 100), map_status::full);
  }
  auto third = open(pairs, parts);
  EXPECT_EQ(third->get<stock_map>("parts").value().get("bolt"), 1u);
  EXPECT_EQ(third->get<pair_map>("pairs").value().len(), 100u);
}

TEST_F(Objects, AMapThatIsFullGrowsWithItsRegionAndStaysSoAfterAnOpen) {
  constexpr std::uint64_t keys = 5000;
  {
    auto all = open(pairs);
    auto map = all->get<pair_map>("pairs").value();
    const std::uint64_t before = all->region().geometry().size;
    for (std::uint64_t i = 0; i < keys; ++i) {
      map_status s = map.insert(i, i);
      if (s == map_status::full) {
        auto grown = all->grow("pairs", 10);
        ASSERT_TRUE(grown) << i << " keys: " << grown.error().message;
        s = map.insert(i, i);
      }
      ASSERT_EQ(s, map_status::done) << i;
    }
    EXPECT_GT(all->region().geometry().size, before);
    EXPECT_EQ(all->grow("parts", 1).error().code, errc::not_found);
  }
  auto all = open(pairs);
  auto map = all->get<pair_map>("pairs").value();
  EXPECT_EQ(map.len(), keys);
  for (std::uint64_t i = 0; i < keys; ++i)
    ASSERT_EQ(map.get(i), i);
  EXPECT_GE(map.capacity(), keys);
}

TEST_F(Objects, AMultimapAndABimapAreFoundAgainAndGrow) {
  using orders = multimap<std::string, std::uint64_t>;
  using relation = bimap<std::uint32_t, std::uint32_t>;
  const durable<orders> by_customer{"orders", 10};
  const durable<relation> friends{"friends", 10};
  {
    auto all = open(by_customer, friends, parts);
    auto made = all->get<orders>("orders").value();
    auto related = all->get<relation>("friends").value();
    for (std::uint32_t i = 0; i < 1000; ++i) {
      map_status s = made.insert("ada", i);
      if (s == map_status::full) {
        ASSERT_TRUE(all->grow("orders", 10));
        s = made.insert("ada", i);
      }
      ASSERT_EQ(s, map_status::done) << i;
    }
    EXPECT_EQ(related.insert(1, 2), map_status::done);
    EXPECT_EQ(related.insert(3, 2), map_status::done);
  }
  media_options reading = at_path();
  reading.read_only = true;
  EXPECT_TRUE(objects::check(**region::open(reading)).clean());
  EXPECT_EQ(refusal(durable<multimap<std::uint32_t, std::uint32_t>>{"friends", 10}).message,
            "object 'friends': the region has it as a 'bimap of 4 bytes to 4 bytes', and the "
            "program asks for a 'multimap of 4 bytes to 4 bytes'");
  auto all = open(by_customer, friends, parts);
  EXPECT_TRUE(all->recovered().clean());
  EXPECT_EQ(all->get<orders>("orders").value().count("ada"), 1000u);
  EXPECT_EQ(all->get<relation>("friends").value().get_first(2).size(), 2u);
  EXPECT_EQ(all->get<relation>("friends").value().get_second(3), std::vector<std::uint32_t>{2});
}

TEST_F(Objects, AStringBesideALongHalfHasRoomForEveryPair) {
  using record = std::array<char, 1000>;
  using records = multimap<std::string, record>;
  auto all = open(durable<records>{"records", 500});
  auto map = all->get<records>("records").value();
  for (std::uint32_t i = 0; i < 500; ++i)
    ASSERT_EQ(map.insert("a name of some length " + std::to_string(i), record{}), map_status::done)
        << i;
}

TEST_F(Objects, LongKeysAndValuesHaveRoomForEveryEntry) {
  struct wide {
    std::uint64_t words[16];
  };
  using wide_map = map<wide, wide>;
  auto all =
      open(durable<wide_map>{"wide", 300}, durable<map<std::string, std::string>>{"text", 100});
  auto map = all->get<wide_map>("wide").value();
  for (std::uint64_t i = 0; i < 300; ++i)
    ASSERT_EQ(map.insert({{i}}, {{i, i}}), map_status::done) << i;
  auto text = all->get<chainring::map<std::string, std::string>>("text").value();
  for (int i = 0; i < 100; ++i)
    ASSERT_EQ(text.insert(std::to_string(i) + std::string(200, 'k'), std::string(200, 'v')),
              map_status::done)
        << i;
}

struct job {
  std::uint64_t id, more[4];
};

TEST_F(Objects, QueuesKeepTheirEntriesAndTheirStreams) {
  const durable<queue<std::uint64_t>> numbers{"numbers", 100};
  const durable<queue<job>> jobs{"jobs", 50, 1, queue_mode::mpmc, 2};
  const durable<queue<std::string>> texts{"texts", 20};
  {
    auto all = open(numbers, jobs, texts, pairs);
    auto to = all->get<queue<std::uint64_t>>("numbers").value();
    for (std::uint64_t i = 0; i < 100; ++i)
      ASSERT_EQ(to.enqueue(i), queue_status::done);
    EXPECT_EQ(to.enqueue(100), queue_status::full);
    for (std::uint64_t i = 0; i < 50; ++i)
      ASSERT_EQ(all->get<queue<job>>("jobs").value().enqueue({i, {}}), queue_status::done);
    ASSERT_EQ(all->get<queue<std::string>>("texts").value().enqueue("text"), queue_status::done);
  }
  auto all = open(numbers, jobs, texts);
  EXPECT_TRUE(all->recovered().clean());
  auto from = all->get<queue<std::uint64_t>>("numbers").value();
  for (std::uint64_t i = 0; i < 100; ++i)
    ASSERT_EQ(from.dequeue(), i);
  for (const std::uint32_t stream : {0, 1})
    for (std::uint64_t i = 0; i < 50; ++i)
      ASSERT_EQ(all->get<queue<job>>("jobs").value().stream(stream).dequeue()->id, i);
  EXPECT_EQ(all->get<queue<std::string>>("texts").value().dequeue(), "text");
  const auto grown = all->grow("jobs", 10);
  ASSERT_FALSE(grown);
  EXPECT_EQ(grown.error().code, errc::unsupported);
}

TEST_F(Objects, AnObjectHasTheRoomThatTheNextOpenAsksFor) {
  using job_queue = queue<job>;
  (void)open(durable<job_queue>{"jobs", 10}, durable<pair_map>{"pairs", 10});
  auto all = open(durable<job_queue>{"jobs", 500}, durable<pair_map>{"pairs", 500});
  auto jobs = all->get<job_queue>("jobs").value();
  auto map = all->get<pair_map>("pairs").value();
  for (std::uint64_t i = 0; i < 500; ++i) {
    ASSERT_EQ(jobs.enqueue({i, {}}), queue_status::done) << i;
    ASSERT_EQ(map.insert(i, i), map_status::done) << i;
  }
  all.reset();
  all = open(durable<job_queue>{"jobs", 10}, durable<pair_map>{"pairs", 10});
  EXPECT_EQ(all->get<pair_map>("pairs").value().len(), 500u);
  jobs = all->get<job_queue>("jobs").value();
  EXPECT_EQ(jobs.enqueue({0, {}}), queue_status::full);
  for (std::uint64_t i = 0; i < 500; ++i)
    ASSERT_EQ(jobs.dequeue()->id, i);
}

TEST_F(Objects, AQueueWithAnotherNumberOfStreamsIsRefused) {
  using job_queue = queue<job>;
  (void)open(durable<job_queue>{"jobs", 10, 1, queue_mode::mpsc, 2});
  EXPECT_EQ(refusal(durable<job_queue>{"jobs", 10}).message,
            "object 'jobs': the region has it as a 'queue of 40 bytes, 2 streams', and the program "
            "asks for a 'queue of 40 bytes'");
}

TEST_F(Objects, TheRegionTakesWhatItsObjectsNeed) {
  EXPECT_EQ(std::filesystem::exists(path), false);
  auto all = open(parts);
  EXPECT_EQ(std::filesystem::file_size(path), objects::size_for(parts));
  EXPECT_LT(std::filesystem::file_size(path), 1u << 20);
}

TEST_F(Objects, WhatIsAskedForAsAnotherTypeOrVersionIsRefusedAndStays) {
  (void)open(parts);
  error e = refusal(durable<pair_map>{"parts", 100});
  EXPECT_EQ(e.code, errc::invalid_argument);
  EXPECT_EQ(e.message, "object 'parts': the region has it as a 'map of string to 8 bytes', and the "
                       "program asks for a 'map of 8 bytes to 8 bytes'");
  e = refusal(durable<stock_map>{"parts", 100, 2});
  EXPECT_EQ(e.code, errc::version);
  EXPECT_EQ(e.message,
            "object 'parts': the region has it in version 1, and the program asks for 2");
  auto all = open(parts);
  const auto other = all->get<pair_map>("parts");
  ASSERT_FALSE(other);
  EXPECT_EQ(other.error().message, "object 'parts': it was opened as a 'map of string to 8 bytes', "
                                   "and get() asks for a 'map of 8 bytes to 8 bytes'");
  const auto missing = all->get<stock_map>("stock");
  ASSERT_FALSE(missing);
  EXPECT_EQ(missing.error().code, errc::not_found);
  EXPECT_EQ(missing.error().message, "object 'stock': it was not among the objects that "
                                     "open_or_create() was asked for, which are 'parts'");
}

TEST_F(Objects, NamesThatCannotBeAreRefusedBeforeAFileIsMade) {
  EXPECT_EQ(refusal(durable<stock_map>{"", 1}).code, errc::invalid_argument);
  EXPECT_EQ(refusal(durable<stock_map>{std::string(25, 'n'), 1}).code, errc::invalid_argument);
  // A region names the second range of "parts" so.
  EXPECT_EQ(refusal(durable<stock_map>{"parts#1", 1}).code, errc::invalid_argument);
  EXPECT_EQ(refusal(parts, durable<pair_map>{"parts", 1}).code, errc::invalid_argument);
  EXPECT_EQ(refusal(durable<stock_map>{"none", 0}).code, errc::invalid_argument);
  EXPECT_FALSE(std::filesystem::exists(path));
}

TEST_F(Objects, WhatNoObjectCanHaveIsRefusedAndLeavesNothing) {
  using job_queue = queue<job>;
  EXPECT_EQ(refusal(durable<job_queue>{"jobs", 10, 1, queue_mode::mpsc, 65}).message,
            "object 'jobs': durable queue: streams 65: expected 1 to 64");
  EXPECT_EQ(refusal(durable<job_queue>{"jobs", 1u << 24}).code, errc::invalid_argument);
  EXPECT_EQ(refusal(durable<pair_map>{"pairs", std::uint64_t{1} << 58}).message,
            "object 'pairs': room for 288230376151711744 entries: expected 1 to 4294967294");
  EXPECT_FALSE(std::filesystem::exists(path));
}

TEST_F(Objects, AGrowthThatIsRefusedLeavesARegionThatOpens) {
  std::uint64_t room = 0;
  {
    auto all = open(pairs);
    auto map = all->get<pair_map>("pairs").value();
    const auto beyond = all->grow("pairs", std::uint64_t{1} << 40);
    ASSERT_FALSE(beyond);
    EXPECT_EQ(beyond.error().code, errc::invalid_argument);
    EXPECT_EQ(map.capacity(), 100u);
  }
  for (int i = 0; i < 20; ++i) { // each open allows more, until there are 16 ranges
    auto all = open(durable<pair_map>{"pairs", 1});
    const auto grown = all->grow("pairs", 1);
    room = all->get<pair_map>("pairs").value().capacity();
    if (grown) continue;
    EXPECT_EQ(grown.error().code, errc::no_space) << grown.error().message;
    EXPECT_EQ(all->region().ranges("pairs").size(), objects::ranges_max);
    break;
  }
  EXPECT_EQ(open(durable<pair_map>{"pairs", 1})->get<pair_map>("pairs").value().capacity(), room);
}

TEST_F(Objects, ACheckNeedsNoProgramAndFindsWhatIsDamaged) {
  const auto check = [&] {
    media_options o = at_path();
    o.read_only = true;
    auto r = region::open(o);
    EXPECT_TRUE(r) << r.error().message;
    return objects::check(**r);
  };
  const auto change = [&](std::uint64_t offset) {
    auto r = region::open(at_path());
    ASSERT_TRUE(r) << r.error().message;
    auto* word = reinterpret_cast<std::uint64_t*>((*r)->at(offset));
    (*r)->medium().store(word, *word ^ 1);
    (*r)->medium().flush(word, 8);
    (*r)->medium().drain();
  };
  std::uint64_t map_at = 0, queue_at = 0;
  {
    auto all = open(parts, durable<queue<job>>{"jobs", 10, 1, queue_mode::mpmc, 2},
                    durable<queue<std::string>>{"texts", 10});
    ASSERT_EQ(all->get<stock_map>("parts").value().insert("bolt", 1), map_status::done);
    ASSERT_EQ(all->get<queue<job>>("jobs").value().enqueue({7, {}}), queue_status::done);
    map_at = all->region().root("parts")->offset;
    queue_at = all->region().root("jobs")->offset;
    ASSERT_TRUE(all->close());
  }
  EXPECT_TRUE(check().clean());
  EXPECT_TRUE(check().problems.empty());
  change(map_at + 64 + offsetof(map_cell, key));
  EXPECT_EQ(check().damage, 1u);
  change(map_at + 64 + offsetof(map_cell, key));
  EXPECT_TRUE(check().clean());
  change(queue_at + 64); // the record of the queue's first stream
  EXPECT_GE(check().damage, 1u);
  change(queue_at + 64);
  change(map_at + offsetof(object_header, type));
  ASSERT_EQ(check().damage, 1u);
  EXPECT_EQ(check().problems[0].text(),
            "object 'parts': the check of its header fails; it is not opened");
  change(map_at + offsetof(object_header, magic));
  EXPECT_EQ(check().notes, 1u);
}

TEST_F(Objects, AHeaderThatIsDamagedIsNotTakenForAnObject) {
  std::uint64_t at = 0;
  {
    auto all = open(parts);
    at = all->region().root("parts")->offset;
  }
  {
    auto r = region::open(at_path());
    ASSERT_TRUE(r) << r.error().message;
    auto* header = reinterpret_cast<std::uint64_t*>((*r)->at(at));
    (*r)->medium().store(&header[3], header[3] ^ 1);
    (*r)->medium().flush(header, 64);
    (*r)->medium().drain();
  }
  const error e = refusal(parts);
  EXPECT_EQ(e.code, errc::corrupt);
  EXPECT_NE(e.message.find("does not begin with the header of an object"), std::string::npos);
}

TEST_F(Objects, ADamagedEntryIsNamedAndTheOthersAreServed) {
  std::uint64_t at = 0;
  {
    auto all = open(parts);
    auto map = all->get<stock_map>("parts").value();
    ASSERT_EQ(map.insert("bolt", 1), map_status::done);
    ASSERT_EQ(map.insert("nut", 2), map_status::done);
    at = all->region().root("parts")->offset;
  }
  {
    auto r = region::open(at_path());
    ASSERT_TRUE(r) << r.error().message;
    auto* cell = reinterpret_cast<map_cell*>((*r)->at(at + 64));
    (*r)->medium().store(&cell->key[0], cell->key[0] ^ 1);
    (*r)->medium().flush(cell, 64);
    (*r)->medium().drain();
  }
  auto all = open(parts);
  EXPECT_EQ(all->recovered().damage, 1u);
  ASSERT_FALSE(all->recovered().problems.empty());
  EXPECT_NE(all->recovered().problems.front().text().find("parts"), std::string::npos);
  EXPECT_EQ(all->get<stock_map>("parts").value().len(), 1u);
}

TEST_F(Objects, ARegionWithoutRoomAndWithoutGrowthRefusesAnObject) {
  (void)open(parts);
  auto r = region::open(at_path(std::filesystem::file_size(path)));
  ASSERT_TRUE(r) << r.error().message;
  const auto refused = objects::open(std::move(r).value(), durable<pair_map>{"pairs", 10'000'000});
  ASSERT_FALSE(refused);
  EXPECT_EQ(refused.error().code, errc::no_space);
  EXPECT_NE(refused.error().message.find("object 'pairs'"), std::string::npos);
  (void)open(parts); // nothing is left of the attempt
}

} // namespace
} // namespace chainring::test
