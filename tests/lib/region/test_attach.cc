// SPDX-License-Identifier: BSD-3-Clause
// Attaching to a region beside its owner, in every class that a test can make.
#include <atomic>
#include <fcntl.h>
#include <sys/stat.h>
#include <thread>

#include "../media/scratch.h"
#include "base/hook.h"
#include "region/region.h"
#include "support/seeded.h"

namespace chainring::test {
namespace {

struct where {
  const char* name;
  durability_class durability;
  bool on_disk;
};

class Attach : public testing::TestWithParam<where> {
 protected:
  [[nodiscard]] media_options at_path() const {
    media_options o;
    o.path = scratch.file("region");
    o.durability = GetParam().durability;
    return o;
  }
  [[nodiscard]] std::unique_ptr<region> make(std::uint64_t size = 1 << 20) const {
    region_options o;
    o.media = at_path();
    o.media.size = size;
    o.media.journal_size = GetParam().durability == durability_class::file ? 1 << 20 : 0;
    o.areas = {{"words", words_size, 1}};
    auto made = region::create(o);
    EXPECT_TRUE(made) << made.error().message;
    return made ? std::move(made).value() : nullptr;
  }
  [[nodiscard]] std::unique_ptr<region> look() const {
    auto r = region::attach(at_path());
    EXPECT_TRUE(r) << r.error().message;
    return r ? std::move(r).value() : nullptr;
  }
  static std::uint64_t* words(region& r) {
    return reinterpret_cast<std::uint64_t*>(r.at(r.root("words").value().offset));
  }
  static std::uint64_t seen(region& r, std::size_t line) {
    return std::atomic_ref(words(r)[line * 8]).load();
  }
  /// Stores `value` to the first `lines` lines, and makes them durable with one drain.
  static void store(region& r, std::uint64_t value, std::size_t lines = 1) {
    for (std::size_t i = 0; i < lines; ++i)
      r.medium().store(&words(r)[i * 8], value);
    for (std::size_t i = 0; i < lines; ++i)
      r.medium().flush(&words(r)[i * 8], 8);
    r.medium().drain();
  }
  [[nodiscard]] std::string file_bytes() const {
    std::ifstream in(scratch.file("region"), std::ios::binary);
    return {std::istreambuf_iterator<char>(in), {}};
  }
  [[nodiscard]] struct stat file_times() const {
    struct stat s {};
    EXPECT_EQ(stat(scratch.file("region").c_str(), &s), 0);
    return s;
  }

  static constexpr std::uint64_t words_size = 64 << 10;
  const scratch_directory scratch{GetParam().on_disk ? disk_directory() : "/dev/shm"};
};

TEST_P(Attach, ALookBesideTheOwnerChangesNothingAndKeepsNobodyOut) {
  const auto owner = make();
  store(*owner, 7);
  ASSERT_TRUE(owner->wait(owner->mark()));
  const std::string before = file_bytes();
  const struct stat then = file_times();
  {
    const auto one = look(), other = look();
    EXPECT_TRUE(one->attached());
    EXPECT_TRUE(one->read_only());
    EXPECT_FALSE(one->was_clean());
    EXPECT_EQ(one->uuid(), owner->uuid());
    EXPECT_EQ(one->incarnation(), 1u);
    EXPECT_EQ(seen(*one, 0), 7u);
    EXPECT_EQ(seen(*other, 0), 7u);
    EXPECT_TRUE(one->notes().empty());
  }
  EXPECT_EQ(file_bytes(), before);
  const struct stat now = file_times();
  EXPECT_EQ(now.st_mtim.tv_sec, then.st_mtim.tv_sec);
  EXPECT_EQ(now.st_mtim.tv_nsec, then.st_mtim.tv_nsec);
  EXPECT_EQ(now.st_ctim.tv_nsec, then.st_ctim.tv_nsec);
  // The owner goes on, and its lock still holds.
  store(*owner, 8);
  EXPECT_TRUE(owner->wait(owner->mark()));
  EXPECT_EQ(seen(*look(), 0), 8u);
  auto second = region::open(at_path());
  ASSERT_FALSE(second);
  EXPECT_EQ(second.error().code, errc::busy);
  EXPECT_TRUE(owner->close());
}

TEST_P(Attach, AnOwnerMayOpenAndCloseTheRegionWhileItIsLookedAt) {
  ASSERT_TRUE(make()->close());
  const auto before = look();
  EXPECT_TRUE(before->was_clean());
  auto owner = region::open(at_path());
  ASSERT_TRUE(owner) << owner.error().message;
  EXPECT_FALSE(look()->was_clean());
  EXPECT_EQ(look()->incarnation(), 2u);
  ASSERT_TRUE((*owner)->close());
  EXPECT_TRUE(look()->was_clean());
}

TEST_P(Attach, NothingCanBeStoredThroughALook) {
  const auto owner = make();
  const auto r = look();
  EXPECT_DEATH(*static_cast<volatile std::uint64_t*>(words(*r)) = 1, "");
  EXPECT_EQ(r->add_range("more", 1, r->geometry().block_offset, 64).error().code, errc::read_only);
  EXPECT_EQ(r->grow(8 << 20).error().code, errc::read_only);
  EXPECT_TRUE(r->close());
  EXPECT_FALSE(look()->was_clean()) << "the close of a look is not that of the owner";
}

TEST_P(Attach, ALookThatComesAfterAGrowthSeesIt) {
  const auto owner = make();
  const auto before = look();
  ASSERT_TRUE(owner->grow(2 << 20));
  ASSERT_TRUE(owner->add_range("more", 3, owner->geometry().block_offset, 64));
  EXPECT_EQ(look()->geometry().size, owner->geometry().size);
  EXPECT_EQ(look()->roots().size(), 2u);
  EXPECT_EQ(before->geometry().size, 1u << 20);
  EXPECT_EQ(before->roots().size(), 1u);
}

TEST_P(Attach, ALookWhileTheOwnerNamesRangesFindsNoDamage) {
  const auto owner = make();
  std::atomic<bool> done = false;
  std::thread writer([&] {
    const std::uint64_t at = owner->geometry().block_offset;
    for (std::uint64_t i = 0; i < 60; ++i)
      ASSERT_TRUE(owner->add_range("range", 1, at + i * 64, 64));
    done = true;
  });
  std::size_t most = 0;
  while (!done) {
    auto r = region::attach(at_path());
    if (!r) {
      EXPECT_EQ(r.error().code, errc::busy) << r.error().message;
      continue;
    }
    EXPECT_TRUE((*r)->notes().empty()) << (*r)->notes().front();
    EXPECT_GE((*r)->roots().size(), most);
    most = (*r)->roots().size();
  }
  writer.join();
  EXPECT_EQ(look()->roots().size(), 61u);
}

INSTANTIATE_TEST_SUITE_P(Classes, Attach,
                         testing::Values(where{"File", durability_class::file, true},
                                         where{"Process", durability_class::process, false},
                                         where{"Emulated", durability_class::emulated, true}),
                         [](const auto& info) { return std::string(info.param.name); });

/// Class file, with a journal so short that it is written to the image all the time.
class AttachFile : public Attach {
 protected:
  ~AttachFile() override {
    set_hook(nullptr, nullptr);
    set_seeded_bug(nullptr);
  }
  [[nodiscard]] std::unique_ptr<region> make_long() const {
    region_options o;
    o.media = at_path();
    o.media.size = 4 << 20;
    o.media.journal_size = 1 << 20;
    o.areas = {{"words", 3 << 20, 1}};
    auto made = region::create(o);
    EXPECT_TRUE(made) << made.error().message;
    return made ? std::move(made).value() : nullptr;
  }
  /// Stores one number to lines at both ends of the area with one drain, again and again, until the
  /// journal has been written to the image.
  struct owner_meanwhile {
    region& owner;
    std::uint64_t n = 0;
    unsigned left = 1; ///< how often it stores in the middle of a look
    void store() {
      media& m = owner.medium();
      auto* w = words(owner);
      for (int again = 0; again < 64; ++again) {
        ++n;
        for (std::size_t i = 0; i < 512; ++i) {
          const std::size_t at = i * 8 + (i % 2) * (2 << 20) / 8;
          m.store(&w[at], n);
          m.flush(&w[at], 8);
        }
        m.drain();
      }
      ASSERT_TRUE(owner.wait(owner.mark()));
    }
  };
  static void in_the_middle(owner_meanwhile& o) {
    set_hook(
        [](const char* name, void* context) noexcept {
          auto& meanwhile = *static_cast<owner_meanwhile*>(context);
          if (std::strcmp(name, "file_image_piece") != 0 || meanwhile.left == 0) return;
          // Not before the first piece, and not once more while the owner stores.
          thread_local int piece = 0;
          if (++piece % 2 != 0) return;
          --meanwhile.left;
          meanwhile.store();
        },
        &o);
  }
  static bool one_number(region& r, std::uint64_t& n) {
    n = seen(r, 0);
    for (std::size_t i = 1; i < 512; ++i)
      if (seen(r, i + (i % 2) * (2 << 20) / 64) != n) return false;
    return true;
  }
};

TEST_P(AttachFile, ALookIsWhatOneDrainLeftWhileTheOwnerMovesTheJournal) {
  const auto owner = make_long();
  owner_meanwhile meanwhile{*owner};
  meanwhile.store();
  in_the_middle(meanwhile);
  const auto r = look();
  EXPECT_EQ(meanwhile.left, 0u);
  std::uint64_t n = 0;
  EXPECT_TRUE(one_number(*r, n));
  EXPECT_EQ(n, meanwhile.n) << "the second attempt begins behind the first";
}

TEST_P(AttachFile, WithoutTheSecondLookAtTheHeaderItWouldBeAMixture) {
  const auto owner = make_long();
  owner_meanwhile meanwhile{*owner};
  meanwhile.store();
  in_the_middle(meanwhile);
  set_seeded_bug("file_look_mixed");
  const auto r = look();
  std::uint64_t n = 0;
  expect_found("file_look_mixed", !one_number(*r, n), "two states in one copy");
}

TEST_P(AttachFile, AFileThatChangesFasterThanItCanBeCopiedIsSaidToBeSo) {
  const auto owner = make_long();
  owner_meanwhile meanwhile{.owner = *owner, .left = 1000};
  meanwhile.store();
  in_the_middle(meanwhile);
  auto r = region::attach(at_path());
  ASSERT_FALSE(r);
  EXPECT_EQ(r.error().code, errc::busy);
  EXPECT_NE(r.error().message.find("it changes faster than it can be copied"), std::string::npos);
}

INSTANTIATE_TEST_SUITE_P(Classes, AttachFile,
                         testing::Values(where{"File", durability_class::file, true}),
                         [](const auto& info) { return std::string(info.param.name); });

TEST(AttachRefusals, WhatIsNoRegionIsRefusedAsByAnOpen) {
  media_options o;
  o.path = "/nonexistent/region";
  EXPECT_FALSE(region::attach(o));
  const scratch_directory scratch{"/dev/shm"};
  o.path = scratch.file("noise");
  std::ofstream(o.path) << std::string(1 << 20, 'x');
  auto r = region::attach(o);
  ASSERT_FALSE(r);
  EXPECT_EQ(r.error().code, errc::corrupt);
}

} // namespace
} // namespace chainring::test
