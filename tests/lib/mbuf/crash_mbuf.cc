// SPDX-License-Identifier: BSD-3-Clause
/// Packets that are kept where they were received, crashed at every point. The mbufs are objects of
/// the test, because mutants run in processes that would share the memory of EAL; the device that
/// fills them stores round the seam, as a port does.
#include <algorithm>
#include <array>
#include <cstring>
#include <gtest/gtest.h>
#include <rte_mbuf.h>
#include <string>
#include <vector>

#include "mbuf/chain_piece.h"
#include "mbuf/receive_rooms.h"
#include "region/recovery.h"
#include "support/bounds.h"
#include "support/crash_suite.h"

namespace chainring::test {
namespace {

constexpr std::uint32_t records = 4, block_size = 64, blocks = 40, room_blocks = 4;
constexpr std::uint64_t blocks_at = 4096;
constexpr std::uint16_t headroom = 16;

enum kinds : int { removing = history::first_own_kind, removed, seen };

/// What the user of a piece may do wrong.
enum class defect { none, not_flushed, recorded_before_drain, released_before_drain };

/// Packet `id` has so many octets, all of which say which packet it is.
std::string packet(std::uint64_t id) {
  return std::string(40 + id * 37 % 150, static_cast<char>('a' + id));
}

/// A table of words, each a line, that name pieces; and blocks behind it. A word is a commit word:
/// 0, or the piece.
struct world {
  media& m;
  std::unique_ptr<block_store> store;
  detail::receive_rooms rooms;
  std::array<rte_mbuf, 2> ports{};
  std::array<rte_mbuf_ext_shared_info, 2> shared{};

  explicit world(media& medium)
      : m(medium),
        store(block_store::create(medium, blocks_at, block_size, blocks, {.cache_runs_max = 0})
                  .value()),
        rooms(*store, room_blocks) {
    recovery all;
    all.add(store->part());
    all.add({.name = "records",
             .persist_as_read =
                 [this](recovery_context& c) {
                   for (std::uint32_t n = 0; n < records; ++n)
                     c.medium().flush_read(record(n), sizeof(std::uint64_t));
                 },
             .repair =
                 [this](recovery_context&) {
                   for (std::uint32_t n = 0; n < records; ++n)
                     if (*record(n) != 0)
                       CHAINRING_ASSERT(valid(*store, piece(n)) &&
                                        store->mark_live(chain_of(*store, piece(n))));
                 }});
    CHAINRING_ASSERT(all.run(m).ok());
    receive();
  }
  ~world() {
    for (rte_mbuf& p : ports)
      rooms.release(static_cast<const std::byte*>(p.buf_addr));
  }
  world(const world&) = delete;
  world& operator=(const world&) = delete;

  [[nodiscard]] std::uint64_t* record(std::uint32_t n) const {
    return reinterpret_cast<std::uint64_t*>(m.base() + std::size_t{64} * n);
  }
  [[nodiscard]] chain_piece piece(std::uint32_t n) const { return chain_piece::unpack(*record(n)); }
  [[nodiscard]] std::string text(std::uint32_t n) const {
    const auto octets = octets_of(*store, piece(n));
    return {reinterpret_cast<const char*>(octets.data()), octets.size()};
  }
  /// Gives every mbuf a data room, as a pool does.
  void receive() {
    std::vector<std::byte*> at;
    for (const chain& c : rooms.take_blocks(ports.size()))
      for (std::uint32_t b = 0; b < c.blocks; b += room_blocks)
        at.push_back(store->address({c.first + b, room_blocks}));
    CHAINRING_ASSERT(at.size() == ports.size());
    for (std::size_t i = 0; i < ports.size(); ++i) {
      ports[i].buf_addr = at[i];
      ports[i].data_off = headroom;
      ports[i].shinfo = &shared[i];
    }
  }
  /// The packets arrive in one burst, each in an mbuf, and are kept in records `first` and
  /// following: take all, flush all, drain, record all, flush, drain, acknowledge.
  void keep(history& h, std::uint32_t first, std::initializer_list<std::uint64_t> ids,
            defect wrong) {
    std::array<chain_piece, 2> taken;
    std::size_t n = 0;
    for (const std::uint64_t id : ids) {
      h.begin(id);
      const std::string octets = packet(id);
      std::memcpy(static_cast<std::byte*>(ports[n].buf_addr) + headroom, octets.data(),
                  octets.size());
      if (!rooms.exchange(ports[n], 0, static_cast<std::uint32_t>(octets.size()), taken[n]))
        return h.fail("no room for packet " + std::to_string(id));
      ++n;
    }
    for (std::size_t i = 0; i < n; ++i)
      if (wrong != defect::not_flushed) flush(*store, taken[i]);
    if (wrong != defect::recorded_before_drain) m.drain();
    for (std::size_t i = 0; i < n; ++i) {
      std::uint64_t* const word = record(first + static_cast<std::uint32_t>(i));
      m.store_release(word, taken[i].pack());
      m.flush(word, sizeof *word);
    }
    m.drain();
    for (const std::uint64_t id : ids)
      h.ack(id);
  }
  /// Ends record `n`, and only then releases its blocks.
  void remove(history& h, std::uint32_t n, defect wrong) {
    const std::uint64_t id = static_cast<std::uint64_t>(text(n)[0] - 'a');
    h.promise(removing, id);
    const chain blocks_of_it = chain_of(*store, piece(n));
    m.store_release(record(n), 0);
    m.flush(record(n), sizeof(std::uint64_t));
    if (wrong == defect::released_before_drain) {
      store->release(blocks_of_it);
      return;
    }
    m.drain();
    store->release(blocks_of_it);
    h.promise(removed, id);
  }
};

verdict check(media& m, const history& h) {
  const world w(m);
  std::vector<std::uint64_t> found;
  for (std::uint32_t n = 0; n < records; ++n) {
    if (*w.record(n) == 0) continue;
    const std::string text = w.text(n);
    const auto id = static_cast<std::uint64_t>(text[0] - 'a');
    if (id >= 26 || text != packet(id)) return "record " + std::to_string(n) + " is torn: " + text;
    if (!h.begun(id)) return "packet " + std::to_string(id) + " was never received";
    if (h.has(removed, id)) return "packet " + std::to_string(id) + " came back";
    found.push_back(id);
  }
  for (const std::uint64_t id : h.ids(history::acked))
    if (!h.has(removing, id) && std::find(found.begin(), found.end(), id) == found.end())
      return "packet " + std::to_string(id) + " is lost";
  for (const std::uint64_t id : h.ids(seen))
    if (!h.has(removing, id) && std::find(found.begin(), found.end(), id) == found.end())
      return "packet " + std::to_string(id) + " was shown by an open, and is gone";
  return {};
}

/// The next life promises what its open showed, and keeps one more packet where there is a place.
void go_on(media& m, history& h) {
  world w(m);
  std::uint32_t free = records;
  for (std::uint32_t n = 0; n < records; ++n)
    if (*w.record(n) == 0)
      free = n;
    else
      h.promise(seen, static_cast<std::uint64_t>(w.text(n)[0] - 'a'));
  if (free != records)
    w.keep(h, free, {20 + static_cast<std::uint64_t>(h.crashes())}, defect::none);
}

scenario keeping(defect wrong) {
  return {.name = "mbuf: packets are kept where they were received",
          .run =
              [wrong](media& m, history& h) {
                world w(m);
                w.keep(h, 0, {0, 1}, wrong);
                w.keep(h, 2, {2}, wrong);
              },
          .recover_and_check = check,
          .continue_after = go_on,
          .size = blocks_at + blocks * block_size};
}
scenario keeps() {
  return keeping(defect::none);
}

/// Blocks are so few that those of a packet which was removed receive the next one.
scenario reusing(defect wrong) {
  return {.name = "mbuf: blocks of removed packets receive others",
          .run =
              [wrong](media& m, history& h) {
                world w(m);
                w.keep(h, 0, {0, 1}, defect::none);
                for (std::uint64_t id = 2; id < 8; id += 2) {
                  w.remove(h, 0, wrong);
                  w.remove(h, 1, wrong);
                  w.keep(h, 0, {id, id + 1}, defect::none);
                }
              },
          .recover_and_check = check,
          .continue_after = go_on,
          .size = blocks_at + blocks * block_size};
}
scenario reuses() {
  return reusing(defect::none);
}

explorer_options options() {
  return bounds({.seed = seed_from_environment(1), .states_max = 256, .second_states_max = 32},
                {.seed = seed_from_environment(1)});
}

TEST(MbufCrash, APacketThatIsRecordedIsWholeAndOneThatIsAcknowledgedIsThere) {
  expect_all_hold({keeps, reuses}, options());
}

TEST(MbufCrash, UsersThatBreakTheOrderAreCaught) {
  const struct {
    const char* what;
    scenario in;
  } cases[] = {
      {"pieces that are not flushed", keeping(defect::not_flushed)},
      {"a record before the drain", keeping(defect::recorded_before_drain)},
      {"a release before the drain", reusing(defect::released_before_drain)},
  };
  for (const auto& c : cases) {
    auto o = options();
    o.print = false;
    const auto report = explore(c.in, o);
    EXPECT_FALSE(report.ok()) << c.what << " was not caught";
  }
}

TEST(MbufCrash, TheFlushIsNeeded) {
  mutation_options which;
  which.under = {"lib/mbuf/"};
  expect_calls_needed({keeps}, options(), which);
}

} // namespace
} // namespace chainring::test
