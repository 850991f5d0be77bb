// SPDX-License-Identifier: BSD-3-Clause
/// Salvages, compactions and the emptying of a region's end, crashed at every point. The medium of
/// a salvage is the one that it writes to.
#include <gtest/gtest.h>

#include <cstring>

#include "inspect/compact.h"
#include "inspect/inspect.h"
#include "inspect/salvage.h"
#include "map/map_media.h"
#include "objects/object_map.h"
#include "objects/object_queue.h"
#include "objects/objects_media.h"
#include "support/crash_suite.h"
#include "support/explorer.h"
#include "support/seeded.h"

namespace chainring::test {
namespace {

using texts = queue<std::string>;
using pairs = map<std::uint64_t, std::string>;
const durable<texts> jobs{"jobs", 8};
const durable<pairs> values{"values", 4};
constexpr std::uint64_t size = 64 << 10, smaller = 48 << 10;

enum kinds : int { emptied = history::first_own_kind };

std::string text(std::uint64_t n) {
  return std::string(300, static_cast<char>('a' + n));
}

/// A region in memory that no call may write to.
class source {
 public:
  explicit source(bool damaged) : memory_(memory_media(size, durability_class::process)) {
    auto all = objects::open(region::create_on(seen_again(), {}).value(), jobs, values).value();
    auto j = all->get<texts>("jobs").value();
    auto v = all->get<pairs>("values").value();
    for (std::uint64_t n = 0; n < 3; ++n)
      if (j.enqueue(text(n)) != queue_status::done || v.insert(n, text(n)) != map_status::done)
        std::abort();
    if (!all->close()) std::abort();
    if (damaged) damage();
    before_.assign(memory_->base(), memory_->base() + size);
  }
  [[nodiscard]] std::unique_ptr<region> open() const {
    return region::open_on(seen_again(), true).value();
  }
  [[nodiscard]] bool untouched() const {
    return std::memcmp(before_.data(), memory_->base(), size) == 0;
  }

 private:
  /// The same bytes as a medium of its own.
  struct window final : media {
    explicit window(media& of) {
      base_ = of.base();
      size_ = of.size();
      path_ = "(source)";
      class_ = durability_class::process;
    }
    const char* driver_name() const noexcept override { return "window"; }
    result<void> grow(std::uint64_t) override { return error{errc::unsupported, "grow"}; }
    result<void> close() override { return {}; }
  };
  [[nodiscard]] std::unique_ptr<media> seen_again() const {
    return std::make_unique<window>(*memory_);
  }
  /// One cell of the map, and the content of one message.
  void damage() {
    auto r = region::open_on(seen_again(), true).value();
    const auto at = [&](const char* name) {
      return memory_->base() + r->root(name)->offset + sizeof(object_header);
    };
    reinterpret_cast<map_cell*>(at("values"))[0].state ^= std::uint64_t{1} << 5;
    const std::string wanted = text(1);
    for (std::uint64_t i = 0; i + wanted.size() <= size; ++i)
      if (std::memcmp(memory_->base() + i, wanted.data(), wanted.size()) == 0)
        memory_->base()[i] ^= std::byte{1};
  }

  std::unique_ptr<media> memory_;
  std::vector<std::byte> before_;
};

/// The entries of both objects that a look finds whole.
std::pair<std::uint64_t, std::uint64_t> whole_in(const region& r) {
  inspection look(r);
  std::uint64_t queued = 0, mapped = 0;
  for (const object_look& o : look.objects()) {
    mapped += look.map_entries(o, [](auto, auto) {}).whole;
    for (std::uint32_t s = 0; s < o.streams; ++s)
      queued += look.queue_entries(o, s, [](const entry_look&, auto) {}).whole;
  }
  return {queued, mapped};
}

/// A salvage from a source without or with damage.
template <bool damaged> scenario salvaging() {
  scenario s{.name = damaged ? "salvage a damaged region" : "salvage a region", .size = size};
  static const source from(damaged);
  s.run = [](media& m, history& h) {
    h.begin(1);
    const auto report = salvage_on(*from.open(), join_life(m));
    if (!report) return h.fail(report.error().message);
    if (report->complete() == damaged) h.fail("not the losses that there are");
    if (!from.untouched()) h.fail("the source was written to");
    h.ack(1);
  };
  s.recover_and_check = [](media& m, const history& h) -> verdict {
    if (!from.untouched()) return "the source was written to";
    auto r = region::open_on(join_life(m), true);
    if (!r) {
      if (h.is_acked(1)) return "a finished salvage does not open: " + r.error().message;
      const std::string& why = r.error().message;
      if (why.find("it was never finished") != std::string::npos ||
          why.find("its creation did not finish") != std::string::npos)
        return {};
      return "refused as something else: " + why;
    }
    if (!(*r)->was_clean()) return "it opens, and is not closed";
    const auto found = objects::check(**r);
    if (!found.problems.empty())
      return "it opens, and is damaged: " + found.problems.front().text();
    const auto [queued, mapped] = whole_in(**r);
    const auto [was_queued, was_mapped] = whole_in(*from.open());
    if (queued != was_queued || mapped != was_mapped) return "it opens, and is not complete";
    return {};
  };
  return s;
}
scenario salvage_of_a_whole_region() {
  return salvaging<false>();
}
scenario salvage_of_a_damaged_region() {
  return salvaging<true>();
}

/// Entries of a region, of which the first are gone.
void make(media& m, history& h) {
  auto r = region::create_on(join_life(m), {});
  if (!r) return h.fail(r.error().message);
  auto all = objects::open(std::move(r).value(), jobs, values);
  if (!all) return h.fail(all.error().message);
  auto j = (*all)->get<texts>("jobs").value();
  for (std::uint64_t n = 0; n < 6; ++n)
    if (j.enqueue(text(n)) != queue_status::done) h.fail("no room");
  for (std::uint64_t n = 0; n < 4; ++n)
    if (j.dequeue() != text(n)) h.fail("another entry");
  if (auto closed = (*all)->close(); !closed) h.fail(closed.error().message);
}

verdict entries_are_there(media& m, const history& h) {
  if (h.is_acked(emptied)) {
    auto quiet = region::open_on(join_life(m), true);
    if (!quiet) return "does not open: " + quiet.error().message;
    auto report = salvage_on(**quiet, memory_media(smaller, durability_class::process));
    if (!report) return "cannot be copied: " + report.error().message;
    if (!report->complete()) return "something lies behind the end: " + report->lost.front();
  }
  auto r = region::open_on(join_life(m), false);
  if (!r) return "does not open: " + r.error().message;
  auto all = objects::open(std::move(r).value(), jobs, values);
  if (!all) return "does not open: " + all.error().message;
  if (!(*all)->recovered().clean()) return "a crash looks like damage";
  auto j = (*all)->get<texts>("jobs").value();
  for (std::uint64_t n = 4; n < 6; ++n)
    if (j.dequeue() != text(n)) return "entry " + std::to_string(n) + " is lost or torn";
  if (j.dequeue()) return "an entry that was consumed";
  return {};
}

void compact_or_empty(media& m, history& h, std::uint64_t to) {
  auto r = region::open_on(join_life(m), false);
  if (!r) return h.fail("does not open: " + r.error().message);
  const auto report =
      to == 0 ? compact_region(std::move(r).value()) : empty_end(std::move(r).value(), to);
  if (!report) return h.fail(report.error().message);
  if (to != 0) h.ack(emptied);
}

scenario emptying() {
  scenario s{.name = "empty the end of a region", .size = size};
  s.setup = make;
  s.run = [](media& m, history& h) { compact_or_empty(m, h, smaller); };
  s.recover_and_check = entries_are_there;
  s.continue_after = s.run;
  return s;
}

const scenario_list salvages = {salvage_of_a_whole_region, salvage_of_a_damaged_region};
const scenario_list moves = {emptying};

explorer_options options() {
  explorer_options o;
  o.seed = seed_from_environment(1);
  o.sample = true; // each check opens objects, which takes a millisecond
  o.states_max = 128;
  o.second_lives = 1;
  o.second_points = 6;
  o.second_states_max = 32;
  return o;
}
/// What comes after a salvage is another salvage, so there is no second life.
explorer_options one_life() {
  explorer_options o = options();
  o.depth = 1;
  o.sample = false;
  o.states_max = 512;
  o.deaths = 200;
  return o;
}

TEST(SalvageCrash, TheNewRegionIsRefusedAsUnfinishedOrIsComplete) {
  expect_all_hold(salvages, one_life());
}
TEST(SalvageCrash, SeededBugsAreFound) {
  expect_bugs_found({"region.unfinished_opens"}, salvages, one_life());
}
TEST(SalvageCrash, EveryFlushAndDrainIsNeeded) {
  mutation_options which;
  which.under = {"lib/inspect/"};
  expect_calls_needed(salvages, one_life(), which);
}
TEST(EmptyEndCrash, EveryMessageStaysAndTheEndIsEmptyWhenTheCallReturns) {
  expect_all_hold(moves, options());
}

} // namespace
} // namespace chainring::test
