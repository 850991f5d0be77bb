// SPDX-License-Identifier: BSD-3-Clause
/// Compares the crash model with counts worked out by hand: how many images a crash may leave.
#include <gtest/gtest.h>

#include <set>
#include <thread>

#include "support/crash_model.h"

namespace chainring::test {
namespace {

using op = std::function<void(sim_media&, std::uint64_t*)>;

/// A trace made by one function on a small disk, which the model follows to its end.
struct traced {
  std::shared_ptr<sim_disk> disk = sim_disk::create(1 << 20);
  crash_model model;

  explicit traced(const op& f) : model(disk->bytes()) {
    auto m = disk->boot();
    f(*m, reinterpret_cast<std::uint64_t*>(m->base()));
    m->note(0); // finds direct stores
    EXPECT_TRUE(m->violations().empty()) << m->violations().front();
    const sim_trace trace = m->take_trace();
    m.reset();
    for (const sim_event& e : trace.events)
      model.apply(trace, e);
  }
};

std::uint64_t states(const op& f) {
  const traced t(f);
  const state_space space(t.model, 1 << 20);
  EXPECT_TRUE(space.exhaustive());
  std::uint64_t visited = 0;
  std::set<std::uint64_t> distinct;
  space.for_each(1, [&](auto state) {
    ++visited;
    distinct.insert(space.hash(state));
    return true;
  });
  EXPECT_EQ(visited, space.product());
  EXPECT_EQ(distinct.size(), visited);
  return visited;
}

void elsewhere(const std::function<void()>& f) {
  std::thread(f).join();
}

constexpr std::size_t line = 8; // words

TEST(CrashModel, NothingPendingLeavesOneImage) {
  EXPECT_EQ(states([](sim_media&, std::uint64_t*) {}), 1u);
}

TEST(CrashModel, AStoreMayOrMayNotPersist) {
  EXPECT_EQ(states([](sim_media& m, std::uint64_t* w) { m.store(w, 1); }), 2u);
}

TEST(CrashModel, StoresOfOneLinePersistAsAPrefix) {
  EXPECT_EQ(states([](sim_media& m, std::uint64_t* w) {
              m.store(&w[0], 1);
              m.store(&w[3], 2);
            }),
            3u);
  EXPECT_EQ(states([](sim_media& m, std::uint64_t* w) {
              for (int i = 0; i < 8; ++i)
                m.store(&w[i], 7);
            }),
            9u);
}

TEST(CrashModel, TheSameWordStoredAgainIsAnotherPrefix) {
  EXPECT_EQ(states([](sim_media& m, std::uint64_t* w) {
              m.store(&w[0], 1);
              m.store(&w[0], 2);
              m.store_release(&w[0], 1); // the image then looks as after the first store
            }),
            3u);
}

TEST(CrashModel, LinesAreIndependent) {
  EXPECT_EQ(states([](sim_media& m, std::uint64_t* w) {
              m.store(&w[0], 1);
              m.store(&w[line], 1);
            }),
            4u);
  EXPECT_EQ(states([](sim_media& m, std::uint64_t* w) {
              for (std::size_t l = 0; l < 3; ++l)
                for (std::size_t i = 0; i < 2; ++i)
                  m.store(&w[l * line + i], 1);
            }),
            27u);
}

TEST(CrashModel, AStoreOfTheSameValueChangesNothing) {
  EXPECT_EQ(states([](sim_media& m, std::uint64_t* w) { m.store(w, 0); }), 1u);
}

TEST(CrashModel, WordsOfAWritePersistInAnySubset) {
  std::uint64_t from[16];
  std::fill(std::begin(from), std::end(from), 0x1111111111111111);
  EXPECT_EQ(states([&](sim_media& m, std::uint64_t* w) { m.write(w, from, 24); }), 8u);
  EXPECT_EQ(states([&](sim_media& m, std::uint64_t* w) { m.write(w, from, 64); }), 256u);
  EXPECT_EQ(states([&](sim_media& m, std::uint64_t* w) { m.write(&w[7], from, 16); }), 4u);
  // The bytes begin and end inside words, so two words are touched.
  EXPECT_EQ(states([&](sim_media& m, std::uint64_t* w) {
              m.write(reinterpret_cast<std::byte*>(w) + 5, from, 6);
            }),
            4u);
}

TEST(CrashModel, EitherOrNoneOfTwoWritesToOneWordShows) {
  const std::uint64_t one = 1, two = 2;
  EXPECT_EQ(states([&](sim_media& m, std::uint64_t* w) {
              m.write(w, &one, 8);
              m.write(w, &two, 8);
            }),
            3u);
}

TEST(CrashModel, StoresAndWritesOfOneLineMultiply) {
  const std::uint64_t from[2] = {5, 6};
  EXPECT_EQ(states([&](sim_media& m, std::uint64_t* w) {
              m.store(&w[0], 1);
              m.write(&w[4], from, 16);
              m.store(&w[1], 2);
            }),
            12u);
}

TEST(CrashModel, AFlushAloneMakesNothingDurable) {
  EXPECT_EQ(states([](sim_media& m, std::uint64_t* w) {
              m.store(w, 1);
              m.flush(w, 8);
            }),
            2u);
}

TEST(CrashModel, ADrainAloneMakesNothingDurable) {
  EXPECT_EQ(states([](sim_media& m, std::uint64_t* w) {
              m.store(w, 1);
              m.drain();
            }),
            2u);
}

TEST(CrashModel, FlushAndDrainMakeALineDurable) {
  const traced t([](sim_media& m, std::uint64_t* w) {
    m.store(&w[0], 1);
    m.store(&w[2], 3);
    m.flush(&w[0], 8); // this flushes the whole line
    m.drain();
  });
  EXPECT_TRUE(t.model.pending().empty());
  EXPECT_EQ(t.model.durable_line(0)[0], 1u);
  EXPECT_EQ(t.model.durable_line(0)[2], 3u);
}

TEST(CrashModel, AFlushCoversOnlyWhatWasStoredBeforeIt) {
  const traced t([](sim_media& m, std::uint64_t* w) {
    m.store(&w[0], 1);
    m.flush(w, 8);
    m.store(&w[1], 2);
    m.drain();
  });
  EXPECT_EQ(t.model.durable_line(0)[0], 1u);
  EXPECT_EQ(t.model.durable_line(0)[1], 0u);
  EXPECT_EQ(state_space(t.model, 100).product(), 2u);
}

TEST(CrashModel, AFlushIsSpentByItsDrain) {
  EXPECT_EQ(states([](sim_media& m, std::uint64_t* w) {
              m.flush(w, 8);
              m.store(&w[0], 1);
              m.drain();
              m.drain();
            }),
            2u);
}

TEST(CrashModel, ADrainCoversOnlyItsOwnThreadsFlushes) {
  EXPECT_EQ(states([](sim_media& m, std::uint64_t* w) {
              m.store(w, 1);
              m.flush(w, 8);
              elsewhere([&] { m.drain(); });
            }),
            2u);
}

TEST(CrashModel, AnotherThreadsFlushAndDrainMakesAStoreDurable) {
  EXPECT_EQ(states([](sim_media& m, std::uint64_t* w) {
              m.store(w, 1);
              elsewhere([&] {
                m.flush(w, 8);
                m.drain();
              });
            }),
            1u);
}

TEST(CrashModel, AWriteIsPendingUntilItsOwnThreadDrains) {
  const std::uint64_t one = 1;
  const auto others_flush = [](sim_media& m, std::uint64_t* w) {
    elsewhere([&] {
      m.flush(w, 8);
      m.drain();
    });
  };
  EXPECT_EQ(states([&](sim_media& m, std::uint64_t* w) {
              m.write(w, &one, 8);
              others_flush(m, w);
            }),
            2u);
  EXPECT_EQ(states([&](sim_media& m, std::uint64_t* w) {
              m.write(w, &one, 8);
              m.drain();
              others_flush(m, w);
            }),
            1u);
  EXPECT_EQ(states([&](sim_media& m, std::uint64_t* w) {
              m.write(w, &one, 8);
              others_flush(m, w);
              m.drain(); // too late for that flush
            }),
            2u);
  EXPECT_EQ(states([&](sim_media& m, std::uint64_t* w) {
              m.write(w, &one, 8);
              m.flush(w, 8);
              m.drain();
            }),
            1u);
}

TEST(CrashModel, AnExchangeCountsAsAStoreWhereItSucceeds) {
  EXPECT_EQ(states([](sim_media& m, std::uint64_t* w) {
              std::uint64_t expected = 0;
              EXPECT_TRUE(m.compare_exchange(w, expected, 4));
              expected = 0;
              EXPECT_FALSE(m.compare_exchange(w, expected, 5));
              EXPECT_EQ(expected, 4u);
            }),
            2u);
}

TEST(CrashModel, DirectStoresAreWordsInAnySubset) {
  EXPECT_EQ(states([](sim_media&, std::uint64_t* w) {
              for (int i = 0; i < 4; ++i)
                w[i] = 9;
            }),
            16u);
  EXPECT_EQ(states([](sim_media& m, std::uint64_t* w) {
              for (int i = 0; i < 4; ++i)
                w[i] = 9;
              m.flush(w, 32);
            }),
            16u);
  EXPECT_EQ(states([](sim_media& m, std::uint64_t* w) {
              for (int i = 0; i < 4; ++i)
                w[i] = 9;
              m.flush(w, 32);
              m.drain();
            }),
            1u);
}

TEST(CrashModel, ScratchIsNotPartOfAnyState) {
  EXPECT_EQ(states([](sim_media& m, std::uint64_t* w) {
              m.declare_scratch(w, 128);
              for (int i = 0; i < 16; ++i)
                w[i] = 9;
            }),
            1u);
}

TEST(CrashModel, AStoreToScratchIsNotPartOfAnyStateEither) {
  EXPECT_EQ(states([](sim_media& m, std::uint64_t* w) {
              m.declare_scratch(w, 64);
              m.store(&w[0], 9);
            }),
            1u);
}

TEST(CrashModel, AWordThatALaterDurableStoreReplacedNoLongerShows) {
  const traced t([](sim_media& m, std::uint64_t* w) {
    const std::uint64_t one = 1;
    m.write(w, &one, 8);
    elsewhere([&] {
      m.store(w, 2);
      m.flush(w, 8);
      m.drain();
    });
  });
  EXPECT_TRUE(t.model.pending().empty());
  EXPECT_EQ(t.model.durable_line(0)[0], 2u);
}

TEST(CrashModel, RetractedScratchIsNoiseUntilWrittenAndDrained) {
  const auto retract = [](sim_media& m, std::uint64_t* w) {
    m.declare_scratch(w, 64);
    w[0] = 1;
    w[1] = 2;
    m.retract_scratch(w, 64);
  };
  EXPECT_EQ(states(retract), 4u);
  EXPECT_EQ(states([&](sim_media& m, std::uint64_t* w) {
              retract(m, w);
              m.flush(w, 64);
              m.drain();
            }),
            1u);
}

TEST(CrashModel, NoiseFillsScratchAndNothingElse) {
  traced t([](sim_media& m, std::uint64_t* w) {
    m.declare_scratch(&w[line], 64);
    m.store(&w[0], 1);
    m.flush(&w[0], 8);
    m.drain();
  });
  const std::uint64_t before = t.model.hash();
  t.model.fill_scratch(3);
  EXPECT_EQ(t.model.hash(), before);
  EXPECT_NE(t.model.durable_line(64), line_bytes{});
  EXPECT_EQ(t.model.durable_line(128), line_bytes{});
  EXPECT_EQ(t.model.durable_line(0)[0], 1u);
}

TEST(CrashModel, ProcessDeathForgetsFlushesAndSettlesWrites) {
  auto disk = sim_disk::create(1 << 16);
  const traced t([](sim_media& m, std::uint64_t* w) {
    const std::uint64_t one = 1;
    m.write(w, &one, 8);
    m.store(&w[line], 1);
    m.flush(&w[line], 8);
  });
  auto next = t.model.after_process_death(disk->bytes());
  auto life = disk->boot();
  auto* w = reinterpret_cast<std::uint64_t*>(life->base());
  const auto product = [&] {
    const sim_trace trace = life->take_trace();
    for (const sim_event& e : trace.events)
      next.apply(trace, e);
    return state_space(next, 100).product();
  };
  life->flush(&w[5 * line], 8); // this thread now has the number of the dead one
  EXPECT_EQ(product(), 4u);
  elsewhere([&] {
    life->flush(&w[0], 8);
    life->drain();
  });
  EXPECT_EQ(product(), 2u) << "the write had left its processor";
  life->drain();
  EXPECT_EQ(product(), 2u) << "nobody waits for the dead process's flush";
  life->flush(&w[line], 8);
  life->drain();
  EXPECT_EQ(product(), 1u);
}

TEST(CrashModel, TheHashDiffersForDifferentImagesAndIsEqualForEqualOnes) {
  const op a = [](sim_media& m, std::uint64_t* w) {
    m.store(&w[0], 1);
    m.flush(w, 8);
    m.drain();
    m.store(&w[line], 2);
    m.flush(&w[line], 8);
    m.drain();
  };
  const op b = [](sim_media& m, std::uint64_t* w) {
    m.store(&w[line], 2);
    m.store(&w[0], 1);
    m.flush(w, 128);
    m.drain();
  };
  const op c = [](sim_media& m, std::uint64_t* w) {
    m.store(&w[line], 1);
    m.store(&w[0], 2);
    m.flush(w, 128);
    m.drain();
  };
  EXPECT_EQ(traced(a).model.hash(), traced(b).model.hash());
  EXPECT_NE(traced(a).model.hash(), traced(c).model.hash());
  const traced known(b);
  EXPECT_EQ(known.model.hash(), crash_model(known.disk->bytes()).hash());
}

TEST(StateSpace, ABoundedSelectionHoldsNothingEverythingSinglesAndPairs) {
  constexpr std::size_t lines = 20;
  const traced t([](sim_media& m, std::uint64_t* w) {
    for (std::size_t l = 0; l < lines; ++l)
      m.store(&w[l * line], 1);
  });
  const state_space space(t.model, 4096);
  EXPECT_FALSE(space.exhaustive());
  EXPECT_EQ(space.product(), 1u << lines);
  std::set<std::uint32_t> seen;
  std::uint64_t visited = 0;
  space.for_each(7, [&](auto state) {
    std::uint32_t bits = 0;
    for (std::size_t i = 0; i < lines; ++i)
      bits |= state[i] << i;
    seen.insert(bits);
    ++visited;
    return true;
  });
  EXPECT_EQ(seen.size(), visited);
  EXPECT_GE(visited, 4000u);
  EXPECT_LE(visited, 4096u + 2 * lines);
  const std::uint32_t all = (1u << lines) - 1;
  EXPECT_TRUE(seen.contains(0));
  EXPECT_TRUE(seen.contains(all));
  for (std::size_t i = 0; i < lines; ++i)
    for (std::size_t j = 0; j < lines; ++j) {
      EXPECT_TRUE(seen.contains(1u << i | 1u << j));
      EXPECT_TRUE(seen.contains(all & ~(1u << i | 1u << j)));
    }
}

TEST(StateSpace, TheSelectionDependsOnlyOnTheSeed) {
  const traced t([](sim_media& m, std::uint64_t* w) {
    for (std::size_t l = 0; l < 16; ++l)
      m.store(&w[l * line], 1);
  });
  const state_space space(t.model, 200);
  const auto run = [&](std::uint64_t seed) {
    std::vector<std::uint64_t> out;
    space.for_each(seed, [&](auto state) {
      out.push_back(space.hash(state));
      return true;
    });
    return out;
  };
  EXPECT_EQ(run(1), run(1));
  EXPECT_NE(run(1), run(2));
}

TEST(StateSpace, WritesAreReducedBeforeStoresAreSampled) {
  std::uint64_t from[8];
  std::fill(std::begin(from), std::end(from), 3);
  const traced t([&](sim_media& m, std::uint64_t* w) {
    m.write(&w[0], from, 64);
    m.write(&w[line], from, 64);
    m.store(&w[2 * line], 1);
  });
  // There are 256 * 256 * 2 states in all. For each written line alone the selection has nothing,
  // everything, each word lost, and each word kept.
  const state_space space(t.model, 1000);
  EXPECT_FALSE(space.exhaustive());
  EXPECT_EQ(space.product(), 18u * 18u * 2u);
  EXPECT_TRUE(state_space(t.model, 1 << 20).exhaustive());
  EXPECT_EQ(state_space(t.model, 1 << 20).product(), 256u * 256u * 2u);
}

} // namespace
} // namespace chainring::test
