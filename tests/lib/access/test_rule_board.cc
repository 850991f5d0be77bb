// SPDX-License-Identifier: BSD-3-Clause
#include <atomic>
#include <gtest/gtest.h>
#include <string>
#include <thread>
#include <vector>

#include "access/rule_board.h"

namespace chainring::access {
namespace {

std::shared_ptr<const rule_set> some_rules(unsigned rules) {
  std::string text;
  for (unsigned i = 0; i < rules; ++i)
    text += "allow connect client c" + std::to_string(i) + "\n";
  return *rule_set::parse(text, "rules");
}

TEST(RuleBoard, HasNoRulesUntilSomeArePublished) {
  rule_board board(2);
  EXPECT_EQ(board.adopt(0).set, nullptr);
  EXPECT_EQ(board.adopt(0).number, 0u);
  board.publish(some_rules(1));
  EXPECT_EQ(board.adopt(0).number, 1u);
  EXPECT_EQ(board.adopt(0).set->size(), 1u);
  EXPECT_EQ(board.newest()->size(), 1u);
}

TEST(RuleBoard, KeepsARuleSetUntilEveryWorkerHasAdoptedALaterOne) {
  rule_board board(2);
  std::weak_ptr<const rule_set> first;
  {
    auto made = some_rules(1);
    first = made;
    board.publish(std::move(made));
  }
  EXPECT_EQ(board.adopt(0).number, 1u);
  EXPECT_EQ(board.adopt(1).number, 1u);
  board.publish(some_rules(2));
  EXPECT_EQ(board.adopt(0).number, 2u);
  board.publish(some_rules(3));
  EXPECT_FALSE(first.expired()) << "worker 1 still uses the first rules";
  EXPECT_EQ(board.adopt(1).number, 3u);
  board.publish(some_rules(4));
  EXPECT_TRUE(first.expired());
  EXPECT_EQ(board.kept(), 3u) << "worker 0 still uses the second rules";
  EXPECT_EQ(board.adopt(0).number, 4u);
  EXPECT_EQ(board.adopt(1).number, 4u);
  board.publish(some_rules(5));
  EXPECT_EQ(board.kept(), 2u);
}

// The sanitizers see a use of rules that were freed, and a missing order.
TEST(RuleBoard, WorkersReadWholeRuleSetsWhileOthersArePublished) {
  constexpr unsigned workers = 3, sets = 300;
  rule_board board(workers);
  std::atomic<bool> over{false};
  std::atomic<unsigned> wrong{0};
  std::vector<std::thread> threads;
  for (unsigned w = 0; w < workers; ++w)
    threads.emplace_back([&, w] {
      std::uint32_t before = 0;
      for (bool last = false; !last;) {
        last = over.load();
        const auto now = board.adopt(w);
        if (now.number < before) ++wrong;
        before = now.number;
        if (now.set == nullptr) continue;
        // The set with number n has n rules, and the last of them is for client c(n - 1).
        const std::string id = "c" + std::to_string(now.number - 1);
        if (now.set->size() != now.number || !now.set->judge({id, {}, 0}).connect().allowed)
          ++wrong;
      }
      if (before != sets) ++wrong;
    });
  for (unsigned i = 1; i <= sets; ++i) {
    board.publish(some_rules(i));
    if (i % 16 == 0) std::this_thread::yield();
  }
  over = true;
  for (std::thread& t : threads)
    t.join();
  EXPECT_EQ(wrong.load(), 0u);
  for (unsigned w = 0; w < workers; ++w)
    EXPECT_EQ(board.adopt(w).number, sets);
  board.publish(some_rules(1));
  EXPECT_EQ(board.kept(), 2u);
}

} // namespace
} // namespace chainring::access
