// SPDX-License-Identifier: BSD-3-Clause
/// Crashes regions at every point of create, open, add_root, grow and close, and crashes a small
/// structure of two tables inside the recovery driver.
#include <gtest/gtest.h>

#include <algorithm>
#include <cstring>
#include <map>

#include "base/hook.h"
#include "region/recovery.h"
#include "region/region.h"
#include "support/explorer.h"
#include "support/mutation.h"
#include "support/seeded.h"

namespace chainring::test {
namespace {

constexpr std::uint64_t size = 64 << 10;

enum kinds : int {
  opening = history::first_own_kind,
  opened, ///< value: the incarnation
  closing,
  closed,
  made,        ///< a region was created
  grown,       ///< value: bytes
  seen,        ///< a root that open() showed, so that someone may have acted on it
  served,      ///< a message that recovery let through
  epoch_begun, ///< value: the epoch
  segments,    ///< value: the number of ranges of one name
};

region_options options() {
  region_options o;
  o.areas = {{"a", 64, 1}, {"b", 128, 7}};
  return o;
}

std::string root_name(std::uint64_t id) {
  return "root " + std::to_string(id);
}

result<std::unique_ptr<region>> make(media& m) {
  return region::create_on(join_life(m), options());
}

/// Opens the region and records what the open showed. On a failure it tells the history and returns
/// null.
std::unique_ptr<region> start(media& m, history& h) {
  h.promise(opening, 0);
  auto r = region::open_on(join_life(m), false);
  if (!r) {
    h.fail("does not open: " + r.error().message);
    return nullptr;
  }
  h.promise(opened, 0, (*r)->incarnation());
  for (const region_root& root : (*r)->roots())
    if (root.kind == root_kind::range) h.promise(seen, root.version);
  return std::move(*r);
}

void stop(std::unique_ptr<region> r, history& h) {
  h.promise(closing, 0);
  if (auto done = r->close(); !done) h.fail(done.error().message);
  h.promise(closed, 0);
}

void add(region& r, history& h, std::uint64_t id) {
  h.begin(id);
  const std::uint64_t at = r.geometry().block_offset + id * 256;
  if (auto done = r.add_root({root_name(id), at, 128, static_cast<std::uint32_t>(id)}); !done)
    h.fail(done.error().message);
  h.ack(id);
}

void grow(region& r, history& h, std::uint64_t to) {
  if (auto done = r.grow(to); !done) h.fail(done.error().message);
  h.promise(grown, 0, r.geometry().size);
}

/// Checks what the region must be, given what was promised.
verdict check_region(region& r, const media& m, const history& h) {
  if (!r.notes().empty()) return "a crash looks like damage: " + r.notes().front();
  auto a = r.root("a"), b = r.root("b");
  if (!a || !b) return "an area is gone";
  if (a->offset != areas_offset || b->offset != areas_offset + 64 || b->version != 7)
    return "an area is not where it was";
  for (std::uint64_t i = a->offset; i < b->offset + b->size; ++i)
    if (*r.at(i) != std::byte{0}) return "an area was made and is not zero";
  // Each open is a life of its own, also if the one before was crashed.
  if (r.incarnation() <= h.value(opened, 0).value_or(0)) return "an incarnation came twice";
  int last = opening;
  for (const history::entry& e : h.entries())
    if (e.kind >= opening && e.kind <= closed) last = e.kind;
  if (last == opened && r.was_clean()) return "clean, after a crash";
  if (last == closed && !r.was_clean()) return "not clean, after it was closed";
  const region_geometry& g = r.geometry();
  if (g.size < h.value(grown, 0).value_or(0)) return "a growth was lost";
  if (g.size > m.size()) return "larger than its medium";
  if (g.block_count != (g.size - g.block_offset) / g.block_size) return "blocks that are not there";
  for (const int kind : {static_cast<int>(history::acked), static_cast<int>(seen)})
    for (const std::uint64_t id : h.ids(kind))
      if (!r.root(root_name(id))) return "lost " + root_name(id);
  for (const region_root& root : r.roots()) {
    if (root.kind != root_kind::range) continue;
    const std::uint64_t id = root.version;
    if (!h.begun(id)) return "ghost " + root.name;
    if (root.name != root_name(id) || root.offset != g.block_offset + id * 256 || root.size != 128)
      return "torn " + root.name;
  }
  return {};
}

verdict open_and_check(media& m, const history& h) {
  auto r = region::open_on(join_life(m), false);
  if (!r) return "does not open: " + r.error().message;
  return check_region(**r, m, h);
}

/// Setup makes a region. `run` works on it, and so does the life after each crash.
scenario on_a_region(std::string name, std::function<void(media&, history&)> run) {
  scenario s{.name = std::move(name), .size = size, .size_max = 4 * size};
  s.setup = [](media& m, history& h) {
    auto r = make(m);
    if (!r) h.fail(r.error().message);
  };
  s.run = std::move(run);
  s.recover_and_check = open_and_check;
  s.continue_after = [](media& m, history& h) {
    auto r = start(m, h);
    if (!r) return;
    add(*r, h, 20 + r->roots().size());
  };
  return s;
}

/// `dirty` says that the medium held something before.
scenario creating(bool dirty) {
  scenario s{.name = dirty ? "region: create over what was there" : "region: create", .size = size};
  if (dirty)
    s.setup = [](media& m, history&) {
      std::memset(m.base(), 0xa5, size);
      m.flush(m.base(), size);
      m.drain();
    };
  s.run = [](media& m, history& h) {
    h.promise(opening, 0);
    auto r = make(m);
    if (!r) return h.fail(r.error().message);
    h.promise(opened, 0, (*r)->incarnation());
    h.promise(made, 0);
  };
  // There is a region or none. If there is none, another can be made there.
  const auto open_or_make = [](media& m, const history& h) -> result<std::unique_ptr<region>> {
    auto r = region::open_on(join_life(m), false);
    if (r || h.has(made, 0) || r.error().message.find("it is not a region") == std::string::npos)
      return r;
    return make(m);
  };
  s.recover_and_check = [open_or_make](media& m, const history& h) -> verdict {
    auto r = open_or_make(m, h);
    if (!r) return "neither a region nor none: " + r.error().message;
    if (!h.has(made, 0) && (*r)->incarnation() == 1) return {}; // the region was made again
    for (const region_root& root : (*r)->roots())
      if (root.name != "a" && root.name != "b") return "ghost " + root.name;
    return h.has(made, 0) ? check_region(**r, m, h) : verdict{};
  };
  s.continue_after = [open_or_make](media& m, history& h) {
    h.promise(opening, 0);
    auto r = open_or_make(m, h);
    if (!r) return h.fail("neither a region nor none: " + r.error().message);
    h.promise(opened, 0, (*r)->incarnation());
    h.promise(made, 0);
  };
  return s;
}

scenario reopening() {
  return on_a_region("region: open, crash or close, open", [](media& m, history& h) {
    start(m, h).reset();
    if (auto r = start(m, h)) stop(std::move(r), h);
    start(m, h).reset();
  });
}

scenario adding_roots() {
  return on_a_region("region: add roots", [](media& m, history& h) {
    auto r = start(m, h);
    if (!r) return;
    for (std::uint64_t id = 1; id <= 3; ++id)
      add(*r, h, id);
  });
}

constexpr const char* segment = "table";

/// Adds the next segment of a table: it is cleared and drained, and then named.
void add_segment(region& r, history& h) {
  const std::uint64_t n = r.ranges(segment).size();
  const std::uint64_t at = r.geometry().block_offset + n * 256;
  auto* first = reinterpret_cast<std::uint64_t*>(r.at(at));
  r.medium().store(first, n + 1);         // [test-segment-before-name]
  r.medium().flush(first, sizeof *first); // [test-segment-before-name]
  r.medium().drain();                     // [test-segment-before-name]
  auto done = r.add_range(segment, static_cast<std::uint32_t>(n), at, 128);
  if (!done) return h.fail(done.error().message);
  h.promise(segments, 0, n + 1);
}

/// Runs two lives, so that the second continues with the numbers of the first.
scenario adding_ranges() {
  scenario s{.name = "region: add ranges of one name", .size = size};
  s.setup = [](media& m, history& h) {
    if (auto r = make(m); !r) h.fail(r.error().message);
  };
  const auto live = [](media& m, history& h) {
    auto r = start(m, h);
    if (!r) return;
    add_segment(*r, h);
    add_segment(*r, h);
  };
  s.run = [live](media& m, history& h) {
    live(m, h);
    live(m, h);
  };
  s.continue_after = live;
  s.recover_and_check = [](media& m, const history& h) -> verdict {
    auto r = region::open_on(join_life(m), false);
    if (!r) return "does not open: " + r.error().message;
    if (!(*r)->notes().empty()) return "a crash looks like damage: " + (*r)->notes().front();
    const std::vector<region_root> found = (*r)->ranges(segment);
    if (found.size() < h.value(segments, 0).value_or(0)) return "a segment was lost";
    std::size_t named = 0;
    for (const region_root& root : (*r)->roots())
      named += root.kind == root_kind::range;
    if (named != found.size()) return "the segments' numbers have a gap";
    for (std::size_t n = 0; n < found.size(); ++n) {
      if (found[n].version != n || found[n].size != 128) return "a segment in another's place";
      if (*reinterpret_cast<const std::uint64_t*>((*r)->at(found[n].offset)) != n + 1)
        return "a segment was named before it held what it must";
    }
    return {};
  };
  return s;
}

scenario growing() {
  return on_a_region("region: grow twice, close", [](media& m, history& h) {
    auto r = start(m, h);
    if (!r) return;
    grow(*r, h, size + 4096);
    add(*r, h, 1);
    grow(*r, h, 2 * size);
    stop(std::move(r), h);
  });
}

/// An open by path that asks for more bytes than there are grows the region.
scenario opening_larger() {
  return on_a_region("region: open by path, and larger", [](media& m, history& h) {
    media_options larger;
    larger.path = m.path();
    larger.size = size + 4096;
    h.promise(opening, 0);
    auto r = region::open(larger);
    if (!r) return h.fail("does not open: " + r.error().message);
    h.promise(opened, 0, (*r)->incarnation());
    h.promise(grown, 0, (*r)->geometry().size);
    add(**r, h, 1);
  });
}

/// The second line of a damaged superblock is repaired by whatever changes the region next.
scenario mending() {
  scenario s{.name = "region: open, a superblock damaged", .size = size};
  s.setup = [](media& m, history& h) {
    if (auto r = make(m); !r) return h.fail(r.error().message);
    auto* word = reinterpret_cast<std::uint64_t*>(m.base() + superblock_offsets[1] + 128);
    m.store(word, ~*word); // damages the superblock
    m.flush(word, sizeof *word);
    m.drain();
  };
  s.run = [](media& m, history& h) {
    if (auto r = start(m, h)) stop(std::move(r), h);
  };
  s.recover_and_check = [](media& m, const history& h) -> verdict {
    auto r = region::open_on(join_life(m), false);
    if (!r) return "does not open: " + r.error().message;
    if ((*r)->incarnation() <= h.value(opened, 0).value_or(0)) return "an incarnation came twice";
    if (h.has(opened, 0) && !(*r)->notes().empty()) return "not mended: " + (*r)->notes().front();
    return {};
  };
  s.continue_after = [](media& m, history& h) { start(m, h); };
  return s;
}

// --- the recovery driver ------------------------------------------------------------------------
// There are four records (a published one holds its id, else 0), and four slots that name one (1 +
// the number of the record, and the id). A slot counts if its record is published with that id and
// in the epoch that the slot says. Records that nothing refers to are used again at once, so an
// undrained void or an undrained reading shows.

struct tables {
  static constexpr std::uint64_t n = 4;
  region& r;
  std::uint64_t* record(std::uint64_t i) {
    return reinterpret_cast<std::uint64_t*>(r.at(r.root("records")->offset + i * 64));
  }
  std::uint64_t* slot(std::uint64_t i) {
    return reinterpret_cast<std::uint64_t*>(r.at(r.root("slots")->offset + i * 64));
  }
  std::uint64_t* epoch() { return reinterpret_cast<std::uint64_t*>(r.at(r.root("epoch")->offset)); }
  bool counts(std::uint64_t i) {
    const std::uint64_t names = slot(i)[0];
    return names != 0 && names <= n && slot(i)[2] == *epoch() && *record(names - 1) == slot(i)[1];
  }
  result<recovery_report> recover(history* h) {
    recovery all;
    all.add({.name = "records", .items = n, .persist_as_read = [&](recovery_context& c) {
               c.medium().flush_read(record(0), n * 64); // [test-read-before-repair]
               c.medium().flush_read(epoch(), 64);       // [test-read-before-repair]
             }});
    all.add({.name = "slots",
             .items = n,
             .validate =
                 [&](recovery_context& c) {
                   for (std::uint64_t i = 0; i < n; ++i, c.advance())
                     if (slot(i)[0] > n) c.report({"slot " + std::to_string(i), "names nothing"});
                 },
             .persist_as_read =
                 [&](recovery_context& c) {
                   c.medium().flush_read(slot(0), n * 64); // [test-read-before-repair]
                 },
             .repair =
                 [&](recovery_context& c) {
                   for (std::uint64_t i = 0; i < n; ++i) {
                     if (slot(i)[0] == 0 || counts(i)) continue;
                     c.medium().store_release(slot(i), 0); // [test-void-before-reuse]
                     c.flush_repair(slot(i), 64);          // [test-void-before-reuse]
                   }
                 },
             .rebuild =
                 [&](recovery_context&) {
                   if (h == nullptr) return;
                   for (std::uint64_t i = 0; i < n; ++i)
                     if (counts(i)) h->promise(served, slot(i)[1], *epoch());
                 }});
    return all.run(r);
  }
  bool has(std::uint64_t id) {
    for (std::uint64_t i = 0; i < n; ++i)
      if (counts(i) && slot(i)[1] == id) return true;
    return false;
  }
  /// Publishes with one drain: the slot alone counts for nothing, and neither does the record. It
  /// takes a record that nothing names, so a record whose slot was voided is used again at once,
  /// from another slot.
  void publish(history& h, std::uint64_t id) {
    const auto named = [&](std::uint64_t k) {
      for (std::uint64_t i = 0; i < n; ++i)
        if (slot(i)[0] == k + 1) return true;
      return false;
    };
    std::uint64_t i = static_cast<std::uint64_t>(h.crashes()) % n, k = 0, tried = 0;
    for (; tried < n && slot(i)[0] != 0; ++tried)
      i = (i + 1) % n;
    while (k < n && named(k))
      ++k;
    if (tried == n || k == n) return h.fail("no slot or record free");
    media& m = r.medium();
    h.begin(id);
    m.store(&slot(i)[1], id);            // [test-slot-and-record]
    m.store(&slot(i)[2], *epoch());      // [test-slot-and-record]
    m.store_release(&slot(i)[0], k + 1); // [test-slot-and-record]
    m.store_release(record(k), id);      // [test-slot-and-record]
    m.flush(slot(i), 64);                // [test-slot-and-record]
    m.flush(record(k), 64);              // [test-slot-and-record]
    m.drain();                           // [test-slot-and-record]
    h.ack(id, *epoch());
  }
  /// Ends everything that was published before, with one commit.
  void begin_epoch(history& h) {
    const std::uint64_t next = *epoch() + 1;
    r.medium().store_release(epoch(), next); // [test-epoch-before-next]
    r.medium().flush(epoch(), 64);           // [test-epoch-before-next]
    r.medium().drain();                      // [test-epoch-before-next]
    h.promise(epoch_begun, 0, next);
  }
};

scenario recovering() {
  scenario s{.name = "recovery: two tables", .size = size};
  s.setup = [](media& m, history& h) {
    region_options o;
    o.areas = {{"records", tables::n * 64, 1}, {"slots", tables::n * 64, 1}, {"epoch", 64, 1}};
    if (auto r = region::create_on(join_life(m), o); !r) h.fail(r.error().message);
  };
  const auto live = [](media& m, history& h, std::uint64_t id) {
    auto r = region::open_on(join_life(m), false);
    if (!r) return h.fail(r.error().message);
    tables t{**r};
    if (auto done = t.recover(&h); !done) return h.fail(done.error().message);
    t.publish(h, t.has(id) ? 4 : id);
  };
  s.run = [live](media& m, history& h) {
    live(m, h, 1);
    live(m, h, 2);
    auto r = region::open_on(join_life(m), false);
    if (!r) return h.fail(r.error().message);
    tables t{**r};
    if (auto done = t.recover(&h); !done) return h.fail(done.error().message);
    t.begin_epoch(h);
  };
  // The id is that of the interrupted message, so the record is used again with the same one.
  s.continue_after = [live](media& m, history& h) { live(m, h, h.is_acked(1) ? 3 : 1); };
  s.recover_and_check = [](media& m, const history& h) -> verdict {
    auto r = region::open_on(join_life(m), false);
    if (!r) return "does not open: " + r.error().message;
    tables t{**r};
    if (auto done = t.recover(nullptr); !done) return done.error().message;
    std::map<std::uint64_t, int> found;
    for (std::uint64_t i = 0; i < tables::n; ++i)
      if (t.counts(i)) ++found[t.slot(i)[1]];
    if (*t.epoch() < h.value(epoch_begun, 0).value_or(0)) return "an epoch was lost";
    for (const history::entry& e : h.entries())
      if ((e.kind == history::acked || e.kind == served) && e.value == *t.epoch() &&
          found[e.id] == 0)
        return "lost " + std::to_string(e.id);
    for (const auto& [id, times] : found) {
      if (times > 1) return "twice " + std::to_string(id);
      if (times == 1 && !h.begun(id)) return "ghost " + std::to_string(id);
    }
    return {};
  };
  return s;
}

std::vector<scenario> all() {
  return {creating(false), creating(true),   reopening(), adding_roots(), adding_ranges(),
          growing(),       opening_larger(), mending(),   recovering()};
}

void holds(const scenario& s, unsigned depth = 2) {
  explorer_options o;
  o.seed = seed_from_environment(1);
  o.depth = static_cast<int>(depth);
  EXPECT_TRUE(explore(s, o).ok());
}

TEST(RegionCrash, CreateLeavesARegionOrNone) {
  holds(creating(false));
}
TEST(RegionCrash, CreateOverOldContentLeavesARegionOrNone) {
  holds(creating(true));
}
TEST(RegionCrash, EachOpenCountsAnIncarnationAndTheNextOpenSeesAClose) {
  holds(reopening());
}
TEST(RegionCrash, ARootIsThereWholeOrNotAtAll) {
  holds(adding_roots());
}
TEST(RegionCrash, RangesOfOneNameSurviveInOrderAndWithoutAGap) {
  holds(adding_ranges());
}
TEST(RegionCrash, GrowthIsDurableOnceGrowReturns) {
  holds(growing());
  holds(opening_larger());
}
TEST(RegionCrash, ADamagedSuperblockIsRepairedAndTheOtherCountsMeanwhile) {
  holds(mending());
}
TEST(RegionCrash, RecoveryActsOnlyOnWhatIsDurable) {
  holds(recovering());
}

struct seeded_case {
  const char* bug;
  scenario (*in)();
};

class RegionBug : public testing::TestWithParam<seeded_case> {};

TEST_P(RegionBug, IsFound) {
  explorer_options o;
  o.print = false;
  o.second_lives = 16;
  const seeded active_bug(GetParam().bug);
  const explorer_report r = explore(GetParam().in(), o);
  expect_found(GetParam().bug, !r.ok(), r.failure.substr(0, r.failure.find('\n')));
}

INSTANTIATE_TEST_SUITE_P(
    Region, RegionBug,
    testing::Values(seeded_case{"region.superblock_before_layout", [] { return creating(false); }},
                    seeded_case{"region.areas_not_cleared", [] { return creating(true); }},
                    seeded_case{"region.open_not_read", adding_roots},
                    seeded_case{"region.superblock_in_place", growing},
                    seeded_case{"region.magic_stays", growing},
                    seeded_case{"region.root_commit_first", adding_roots},
                    seeded_case{"region.root_not_drained", adding_roots},
                    seeded_case{"region.root_commit_first", adding_ranges},
                    seeded_case{"region.root_not_drained", adding_ranges},
                    seeded_case{"region.superblock_before_growth", growing},
                    seeded_case{"recovery.read_not_drained", recovering},
                    seeded_case{"recovery.repair_not_drained", recovering}),
    [](const testing::TestParamInfo<seeded_case>& i) {
      std::string name = i.param.bug + std::to_string(i.index);
      std::replace(name.begin(), name.end(), '.', '_');
      return name;
    });

constexpr const char* in_pieces = "its lines are drained once more at the end; it is for media "
                                  "that cannot take so much in one drain";

TEST(RegionMutation, EveryFlushAndDrainIsNeeded) {
  mutation_options which;
  which.under = {"lib/region/", "lib/media/recovery_part"};
  explorer_options o;
  o.print = false;
  o.second_lives = 16;
  which.stay = {
      {"[repairs-in-pieces]", in_pieces},
      {"[layout-in-pieces]", in_pieces},
      {"auto r = create_on(std::move(backing).value(), options);",
       "creates a medium of its own, which the explorer does not see; it sees create_on()"}};
  const mutation_report r = mutate(all(), o, which);
  std::printf("%s", r.text().c_str());
  EXPECT_TRUE(r.baseline.empty()) << r.baseline;
  EXPECT_EQ(r.survivors(), std::vector<std::string>{});
}

} // namespace
} // namespace chainring::test
