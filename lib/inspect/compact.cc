// SPDX-License-Identifier: BSD-3-Clause
// Runs message_compactor over a region that nobody serves.
#include "inspect/compact.h"

#include <algorithm>

#include "base/hook.h"
#include "base/idle.h"
#include "inspect/fixed_chains.h"
#include "inspect/recovered_region.h"

namespace chainring {

using detail::fixed_chains;
using detail::recovered_region;

namespace {

constexpr unsigned rounds_max = 3; ///< over several tables that share the blocks
constexpr compaction_budget a_step{.descriptors = 4096, .blocks = 256};

/// A region with the report that is being made of it.
class work {
 public:
  work(recovered_region& on, const compaction_listener& listener) : on_(on), listener_(listener) {
    report_.notes = on.notes();
    report_.before = report_.after = figures();
  }

  /// Runs a compactor of each table until it is idle.
  [[nodiscard]] result<void> run(const compactor_options& options) {
    for (message_table* t : on_.tables())
      if (auto done = run(*t, options); !done) return done;
    return {};
  }
  /// Moves messages away from this block and what is behind it.
  [[nodiscard]] result<void> empty_from(std::uint64_t block) {
    if (block >= on_.blocks().block_count()) return {};
    return run({.ceiling_block = static_cast<std::uint32_t>(block)});
  }
  /// Joins the free blocks. What one table moves may leave room for another.
  [[nodiscard]] result<void> join() {
    for (unsigned round = 0; round < rounds_max; ++round) {
      const std::uint64_t moved = report_.done.moved;
      if (auto done = run({}); !done) return done;
      if (on_.tables().size() < 2 || report_.done.moved == moved) break;
    }
    return {};
  }
  [[nodiscard]] message_chains chains() const {
    message_chains all;
    for (const message_table* t : on_.tables()) {
      const message_chains of = t->chains();
      all.messages += of.messages;
      all.chains += of.chains;
      all.blocks += of.blocks;
      all.end = std::max(all.end, of.end);
    }
    return all;
  }
  [[nodiscard]] result<compaction_report> end() {
    report_.after = figures();
    if (auto closed = on_.close(); !closed) return closed.error();
    return std::move(report_);
  }
  [[nodiscard]] const compactor_statistics& done() const noexcept { return report_.done; }

 private:
  [[nodiscard]] block_figures figures() const {
    on_.blocks().flush_caches();
    const block_store_statistics s = on_.blocks().statistics();
    const message_chains c = chains();
    return {s.block_count, s.free_blocks, s.free_runs, s.largest_run, c.messages, c.chains};
  }

  [[nodiscard]] result<void> run(message_table& table, const compactor_options& options) {
    auto made = message_compactor::create(table, options);
    if (!made) return made.error();
    message_compactor& c = **made;
    const compactor_statistics before = report_.done;
    idle_policy wait;
    for (compaction now = compaction::working; now != compaction::idle;) {
      now = c.step(a_step);
      report_.done = before + c.statistics();
      if (on_.where().failed()) return error{errc::io, on_.where().why_failed()};
      if (listener_) listener_(report_.done);
      hook_point("compact.step");
      if (now == compaction::waiting)
        wait.idle(); // the journal has no room, until its committer has worked
      else
        wait.busy();
    }
    return {};
  }

  recovered_region& on_;
  const compaction_listener& listener_;
  compaction_report report_;
};

result<compaction_report> compact(recovered_region& on, const compaction_listener& listener) {
  work w(on, listener);
  if (auto done = w.join(); !done) return done.error();
  return w.end();
}

/// The bytes of a region whose last block in use is the one in front of `end`.
std::uint64_t size_for(const region_geometry& g, std::uint64_t end) noexcept {
  return align_up(g.block_offset + std::max<std::uint64_t>(end, 1) * g.block_size, 4096);
}

result<compaction_report> empty_end(recovered_region& on, std::uint64_t size,
                                    const compaction_listener& listener) {
  const region_geometry& g = on.where().geometry();
  const std::string name = "region " + on.where().medium().path() + ": ";
  const auto refuse = [&](const std::string& why, std::uint64_t end) {
    return error{errc::no_space, name + "it cannot have " + std::to_string(size) +
                                     " bytes: " + why + "; ask for " +
                                     std::to_string(size_for(g, end)) + " bytes or more"};
  };
  const std::uint64_t blocks =
      size < g.block_offset ? 0 : std::min((size - g.block_offset) / g.block_size, g.block_count);
  const fixed_chains fixed = detail::find_fixed_chains(on.where());
  work w(on, listener);
  const message_chains messages = w.chains();
  // What the open has set aside, such as rings in stock, needs room as well while messages move.
  const std::uint64_t live = on.blocks().statistics().live_blocks;
  const std::uint64_t least =
      std::max({fixed.end, fixed.blocks + messages.blocks, std::min(live, messages.end)});
  if (fixed.end > blocks) return refuse(fixed.last + " lies there and cannot be moved", least);
  if (blocks == 0) return refuse("its tables and one block need more", least);
  if (least > blocks)
    return refuse("what it holds takes " + std::to_string(least) + " blocks of " +
                      std::to_string(g.block_size) + " bytes",
                  least);
  for (const bool joined : {false, true}) {
    if (w.chains().end <= blocks) return w.end();
    if (joined)
      if (auto done = w.join(); !done) return done.error();
    if (auto done = w.empty_from(blocks); !done) return done.error();
  }
  if (w.chains().end <= blocks) return w.end();
  const bool unsound = w.done().unsound != 0;
  // The smallest size that is known to be possible is one that was made possible.
  std::uint64_t enough = blocks;
  for (std::uint64_t more = std::max<std::uint64_t>(16, blocks / 256); w.chains().end > enough;
       more *= 2) {
    enough = std::min(blocks + more, g.block_count);
    if (auto done = w.empty_from(enough); !done) return done.error();
  }
  return refuse(unsound ? "a message whose content fails its checksum lies there, and is not moved"
                        : "there is not enough room in front for the messages that lie there",
                enough);
}

/// Calls fn(the region), and closes it also where that refuses.
template <class F>
result<compaction_report> closed(result<std::unique_ptr<recovered_region>> on, F&& fn) {
  if (!on) return on.error();
  auto report = fn(**on);
  if (!report) (void)(*on)->close(); // its error is the one to tell
  return report;
}

} // namespace

result<compaction_report> compact_region(const media_options& of,
                                         const compaction_listener& listener) {
  return closed(recovered_region::open(of), [&](auto& on) { return compact(on, listener); });
}

result<compaction_report> compact_region(std::unique_ptr<region> in,
                                         const compaction_listener& listener) {
  return closed(recovered_region::recover(std::move(in)),
                [&](auto& on) { return compact(on, listener); });
}

result<compaction_report> empty_end(const media_options& of, std::uint64_t size,
                                    const compaction_listener& listener) {
  return closed(recovered_region::open(of),
                [&](auto& on) { return empty_end(on, size, listener); });
}

result<compaction_report> empty_end(std::unique_ptr<region> in, std::uint64_t size,
                                    const compaction_listener& listener) {
  return closed(recovered_region::recover(std::move(in)),
                [&](auto& on) { return empty_end(on, size, listener); });
}

} // namespace chainring
