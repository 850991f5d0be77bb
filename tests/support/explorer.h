// SPDX-License-Identifier: BSD-3-Clause
/// The crash explorer: runs real code on `sim` media, and for every crash point of that run builds
/// every image the crash model allows (lib/media/media.h), starts again from it at another address
/// and lets the scenario check what it finds.
///
/// A scenario is four functions. Each opens the region (or structure) with production code, on the
/// `media&` it is given or by its path(), and drops every object of its own before it returns.
///
///     scenario queue{
///         .name = "ring: enqueue one by one",
///         .setup = [](media& m, history&) { format(m); },
///         .run =
///             [](media& m, history& h) {
///               queue q(m);
///               for (std::uint64_t id = 1; id <= 3; ++id) {
///                 h.begin(id);              // from here on it may be found after a crash
///                 q.enqueue(id);
///                 h.ack(id);                // from here on it must be
///               }
///             },
///         .recover_and_check =
///             [](media& m, const history& h) -> verdict {
///               auto found = queue::open(m);       // production recovery
///               if (!found) return "does not open: " + found.error().message;
///               for (std::uint64_t id : h.ids(history::acked))
///                 if (!found->contains(id)) return "lost " + std::to_string(id);
///               for (std::uint64_t id : found->all())
///                 if (!h.begun(id)) return "ghost " + std::to_string(id);
///               return {};
///             },
///         .continue_after = [](media& m, history& h) { ... open, enqueue more, h.ack ... },
///     };
///     EXPECT_TRUE(explore(queue).ok());    // the failure, minimised and replayable, is printed
///
/// Crash points: before and after each drain, at each ack, at the end of the run. At each, *power
/// loss* in every state the model allows (all of them up to options.states_max; see below), and
/// *process death*: what was visible stays visible and what was not drained is still pending, the
/// next life opens and goes on working, and is itself crashed at every point. Power loss is
/// followed by a second life and a second crash in the same way, so recovery is crashed inside.
///
/// Between drains, process death also strikes at a sample of the places between any two stores
/// (options.deaths): what was visible there must open and hold, and the life after it is crashed
/// like any other.
///
/// While the medium holds its marks (sim.h), what was drained after the last mark reached is only
/// ordered: each drained image is also checked against everything that was told to the outside
/// until more became durable. A transport that sends before its mark is found so.
///
/// Past states_max a point is *bounded*: nothing kept, everything kept, each line at each of its
/// contents with the others all lost and all kept, pairs of lines likewise, then seeded random
/// states. Lines of write() words that would alone exceed it are reduced first (each word alone
/// lost, each alone kept). The report says how many points were exhaustive.
///
/// Replaying: a failure prints CHAINRING_REPLAY='...'; a test run with that environment variable
/// runs only that case of the scenario it names. CHAINRING_SEED=n sets the seed.
///
/// Not thread-safe; one exploration at a time in a process. `run` and `continue_after` may start
/// threads: through interleave() (schedule.h) for exact and repeatable traces.
#pragma once
#include <cstdint>
#include <functional>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <unordered_set>
#include <vector>

#include "media/media.h"
#include "media/sim/sim.h"
#include "support/schedule.h"
#include "support/seed.h"

namespace chainring::test {

/// What a check found wrong; empty when nothing.
using verdict = std::optional<std::string>;

/// What was begun, promised and seen, up to the crash. Recorded by `run` and `continue_after`,
/// read by `recover_and_check`. Recording is thread-safe.
class history {
 public:
  static constexpr int begun_kind = 0;
  static constexpr int acked = 1;
  static constexpr int first_own_kind = 16; ///< and up: a scenario's own kinds
  struct entry {
    int kind;
    std::uint64_t id;
    std::uint64_t value;
  };

  /// Operation `id` starts: call before its first store. Not a crash point.
  void begin(std::uint64_t id, std::uint64_t value = 0, site s = site::current()) {
    record(begun_kind, id, value, s);
  }
  /// Operation `id` has been acknowledged: after a crash from here on, its effect is there. A crash
  /// point.
  void ack(std::uint64_t id, std::uint64_t value = 0, site s = site::current()) {
    record(acked, id, value, s);
  }
  /// Anything else the check needs to know (consumed, deleted ...), with a kind of the scenario's.
  /// A crash point.
  void promise(int kind, std::uint64_t id, std::uint64_t value = 0, site s = site::current()) {
    record(kind, id, value, s);
  }
  /// Something is wrong already (an open failed, a value read back was not the one stored). The
  /// exploration fails with the first reason.
  void fail(std::string reason);

  [[nodiscard]] bool has(int kind, std::uint64_t id) const;
  [[nodiscard]] bool begun(std::uint64_t id) const { return has(begun_kind, id); }
  [[nodiscard]] bool is_acked(std::uint64_t id) const { return has(acked, id); }
  /// Ids of a kind, in order.
  [[nodiscard]] std::vector<std::uint64_t> ids(int kind) const;
  /// The value given with the last entry of that kind and id.
  [[nodiscard]] std::optional<std::uint64_t> value(int kind, std::uint64_t id) const;
  [[nodiscard]] const std::vector<entry>& entries() const { return entries_; }

  /// For random choices in `run`: the exploration's seed.
  [[nodiscard]] std::uint64_t seed() const { return seed_; }
  /// For interleave(): the thread schedule of this exploration.
  [[nodiscard]] schedule& threads() { return *schedule_; }
  /// Lives before this one: 0 in the first run, 1 after one crash.
  [[nodiscard]] int crashes() const { return crashes_; }

 private:
  friend class exploration;
  void record(int kind, std::uint64_t id, std::uint64_t value, const site& s);
  void copy_from(const history& other);

  std::mutex lock_;
  std::vector<entry> entries_;
  std::uint64_t hash_ = 0;
  std::string failure_;
  sim_media* life_ = nullptr;
  schedule* schedule_ = nullptr;
  std::uint64_t seed_ = 0;
  int crashes_ = 0;
};

struct scenario {
  std::string name;
  /// Prepares the region; taken as durable afterwards, and not crashed. May be empty.
  std::function<void(media&, history&)> setup{};
  /// The operations that are crashed at every point.
  std::function<void(media&, history&)> run{};
  /// Opens with the real recovery and checks against the history. The media is thrown away
  /// afterwards, so it may change it (consume, append).
  std::function<verdict(media&, const history&)> recover_and_check{};
  /// Opens with the real recovery and goes on working, recording what it promises: this is the life
  /// that is crashed again. When empty, recover_and_check is run in its place, and must then leave
  /// everything where it is.
  std::function<void(media&, history&)> continue_after{};
  std::uint64_t size = 256 << 10;             ///< of the region, bytes
  std::uint64_t drain_bytes_max = UINT64_MAX; ///< what the medium says that one drain may cover
  std::uint64_t size_max = 0; ///< to which it can grow, bytes; 0: four times the size
};

struct explorer_options {
  std::uint64_t seed = 1;
  /// States of a crash point that are built; more make it a bounded one.
  std::uint64_t states_max = 4096;
  /// A bounded point ends at states_max states. Without this the states in which one line alone is
  /// lost or kept are all built first, however many they are.
  bool sample = false;
  /// Lives that may follow one another: 1 checks after the first crash only, 2 crashes the life
  /// after it too.
  int depth = 2;
  /// At each crash point of a life that is followed by another: how many power-loss states start
  /// one (nothing kept, everything kept, then random ones), and whether process death does.
  unsigned second_lives = 4;
  bool process_death = true;
  /// Places between two stores of a life, besides those at drains, at which the process dies: all
  /// of them where they are fewer, else a sample chosen by the seed. 0: none.
  unsigned deaths = 0;
  /// The same for lives after the first, which are recovery and the work after it.
  unsigned second_deaths = 0;
  /// Crash points of a life at which another starts: a sample of so many, chosen by the seed. 0:
  /// all of them.
  unsigned second_points = 0;
  /// As states_max, in lives after the first.
  std::uint64_t second_states_max = 256;
  /// Thread schedules to run the whole exploration with (of use where `run` calls interleave()).
  schedule_plan schedules{};
  /// Sees each seam call of every recorded life, and may suppress flushes and drains.
  persist_observer* observer = nullptr;
  /// What an earlier exploration of the same scenario with the same options has shown to hold, and
  /// so is not checked again: states, by bytes and history, and everything that comes before the
  /// first flush or drain that the observer suppresses. An exploration without a failure adds its
  /// states.
  std::unordered_set<std::uint64_t>* known = nullptr;
  /// Noise in declared scratch at each crash.
  bool noise = true;
  /// Reduce a failing case to the fewest lines.
  bool minimal = true;
  /// Print the report's line, and the failure where there is one.
  bool print = true;
};

enum class crash_kind : std::uint8_t { power_loss, process_death };

/// One crash point of the first life, as explored.
struct crash_point_count {
  std::string where; ///< "before drain x.cc:12 [P1]"
  std::uint64_t states = 0;
  bool exhaustive = true;
};

struct explorer_report {
  std::string name;
  std::uint64_t crash_points = 0;      ///< in all lives
  std::uint64_t exhaustive_points = 0; ///< of them, those with every state built
  std::uint64_t states = 0;            ///< distinct images a point's crash may leave, summed
  std::uint64_t recoveries = 0; ///< states checked: those not seen before, with their history
  std::uint64_t lives = 0;      ///< recorded lives
  std::uint64_t deaths = 0;     ///< process deaths between two stores, in all lives
  std::uint64_t ordered = 0;    ///< checks of an image behind which marks were held
  std::uint64_t schedules = 0;
  double seconds = 0;
  std::vector<crash_point_count> first_life; ///< of the first schedule
  std::string failure; ///< the minimal case, with how to replay it; empty when all held
  std::string replay;  ///< value for CHAINRING_REPLAY

  [[nodiscard]] bool ok() const { return failure.empty(); }
  /// One line for a table.
  [[nodiscard]] std::string line() const;
  static std::string header();
};

/// Explores the scenario; stops at the first failure, minimised. `replay`, or else the
/// environment's CHAINRING_REPLAY where it names this scenario, runs that one case instead.
[[nodiscard]] explorer_report explore(const scenario& s, const explorer_options& options = {},
                                      const std::string& replay = {});

/// A media of its own over the same life, for production code that takes one (region::open_on());
/// region::open() by m.path() does the same. Let go of it before the scenario's function returns.
[[nodiscard]] std::unique_ptr<media> join_life(media& m);

} // namespace chainring::test
