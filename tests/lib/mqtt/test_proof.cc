// SPDX-License-Identifier: BSD-3-Clause
#include "mqtt/proof.h"

#include <algorithm>
#include <gtest/gtest.h>
#include <set>
#include <thread>

namespace chainring::mqtt {
namespace {

/// Counts what was decided, in its order.
struct recorder final : proof_desk::listener {
  std::set<std::uint32_t> gone; ///< connections that are not there any more
  std::vector<std::uint32_t> decided_ones;
  std::vector<bool> good;
  bool awaits(const proof_desk::proof& p) const noexcept override {
    return !gone.contains(p.connection);
  }
  void decided(proof_desk::proof& p) noexcept override {
    decided_ones.push_back(p.connection);
    good.push_back(p.good);
  }
};

class Proof : public testing::Test {
 protected:
  recorder told;
  proof_desk desk;
  std::shared_ptr<const access::password_file> file;
  std::unique_ptr<stream::helper_crew> crew; // ends before what its jobs belong to

  void SetUp() override {
    auto line = access::make_password_line("user", "right", 100);
    ASSERT_TRUE(line) << line.error().message;
    file = access::password_file::parse(*line, "file").value();
    auto made = stream::helper_crew::create(1, 256);
    ASSERT_TRUE(made) << made.error().message;
    crew = std::move(*made);
    desk.open(*crew, told);
  }
  void ask(std::uint32_t connection, std::uint64_t host, std::string_view password) {
    auto p = std::make_unique<proof_desk::proof>();
    p->connection = connection;
    p->host = host;
    p->file = file;
    p->user = "user";
    const auto octets = std::as_bytes(std::span(password));
    p->password.assign(octets.begin(), octets.end());
    desk.ask(std::move(p));
  }
  /// Works until so many are decided.
  void work(std::size_t count) {
    while (told.decided_ones.size() < count) {
      (void)crew->collect();
      (void)desk.poll();
      std::this_thread::yield();
    }
  }
};

TEST_F(Proof, OnlyTheRightPasswordIsGood) {
  ask(1, 7, "right");
  ask(2, 7, "wrong");
  work(2);
  EXPECT_EQ(told.decided_ones, (std::vector<std::uint32_t>{1, 2}));
  EXPECT_EQ(told.good, (std::vector<bool>{true, false}));
}

TEST_F(Proof, AHostThatAsksForThousandsWaitsForItself) {
  constexpr std::uint32_t many = 500, other = 9999;
  for (std::uint32_t n = 0; n < many; ++n)
    ask(n, 7, "wrong");
  ask(other, 8, "right");
  work(many + 1);
  const auto at = std::ranges::find(told.decided_ones, other) - told.decided_ones.begin();
  EXPECT_LE(at, 4) << "two were with the helper, and the hosts take turns behind them";
  EXPECT_TRUE(told.good[static_cast<std::size_t>(at)]);
  EXPECT_EQ(desk.waiting(), 0u);
}

TEST_F(Proof, AConnectionThatIsGoneCostsNoCheck) {
  for (std::uint32_t n = 0; n < 100; ++n)
    ask(n, 7, "right");
  for (std::uint32_t n = 10; n < 100; ++n)
    told.gone.insert(n);
  work(100);
  EXPECT_EQ(std::ranges::count(told.good, true), 10);
}

} // namespace
} // namespace chainring::mqtt
