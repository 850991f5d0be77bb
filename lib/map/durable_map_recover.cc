// SPDX-License-Identifier: BSD-3-Clause
// The recovery of the durable map.
//
//   what is found                      what is done
//   word 0 is malformed                the cell is named, and neither served nor reused
//   the cell is free                   the cell is free
//   used and damaged (map_media.h)     the cell is named and erased: its chains may be reused, and
//                                      their next bytes must not make it valid again
//   used, a chain of another cell      the same: it must not become valid when the other is gone
//   used, the key of a later cell      the same
//   used and not wanted                the cell is erased; its chains are not marked, so are free
//   used and valid                     the cell is served; its chains are marked live
//
// Before that, the log of a batch is brought into its cells (durable_map_replay.cc).
//
// What a cell shows by itself is found by all threads of the crew, over one portion of the cells
// after the other. Everything that depends on other cells, or changes anything, is decided by one
// thread from the last cell down, while the others are at the next portion. A decision changes
// words of cells of its own portion only, and no bytes of chains, so what it changes is not what
// the others read.
//
// Ordering labels:
//   [cells-read-before-repair]  What recovery reads is flushed and drained before anything depends
//     on it.
//   [erased-before-allocation]  Erased cells are flushed and drained before anything is allocated.
//   [cells-shared-out]  Threads of a crew take slices of cells from one counter; the access orders
//     nothing, because the crew orders everything else.
//   [cells-erased-in-pieces]  On media that bounds a drain, recovery drains erased cells in pieces
//     before the caller's drain.
//
// Its other ordering labels are described in durable_map.cc.
#include <algorithm>
#include <array>
#include <atomic>
#include <unordered_map>
#include <vector>

#include "base/hook.h"
#include "map/durable_map_state.h"

namespace chainring {

using detail::unpack_chain;

namespace {

std::uint64_t load_commit(const std::uint64_t& word) noexcept {
  return std::atomic_ref(const_cast<std::uint64_t&>(word))
      .load(std::memory_order_acquire); // [cell-commit]
}

bool zero_behind(const std::uint64_t* words, std::size_t size, std::size_t room) noexcept {
  const auto* bytes = reinterpret_cast<const unsigned char*>(words);
  for (std::size_t i = size; i < room; ++i)
    if (bytes[i] != 0) return false;
  return true;
}

} // namespace

// Returns why a cell is not valid, as far as the cell itself shows it; null where it is valid.
const char* durable_map::examine(std::uint64_t number) const noexcept {
  return examine(number, cell_at(number));
}

// The same for what the cell may become.
const char* durable_map::examine(std::uint64_t number, const map_cell& c) const noexcept {
  const std::uint64_t word = load_commit(c.state);
  if (!map_word0::well_formed(word)) return "its commit word is malformed";
  const map_word0 w = map_word0::unpack(word);
  if (!w.used) return nullptr;
  if (w.is_log()) return examine_log(number);
  if (map_check(number, w, c.key, c.value[w.half]) != w.check)
    return "its check does not match its contents";
  if (w.long_key()) {
    const chain where = unpack_chain(c.key[1]);
    if (!whole(where, w.key_size) || c.key[2] != 0) return "the chain of its key is impossible";
    if (detail::media_hash({blocks_.address(where), w.key_size}) != c.key[0])
      return "the bytes of its key do not match their hash";
  } else if (!zero_behind(c.key, w.key_size, sizeof c.key)) {
    return "the bytes behind the end of its key are not zero";
  }
  const std::uint64_t* half = c.value[w.half];
  if (w.long_value()) {
    const chain where = unpack_chain(half[0]);
    if (!whole(where, w.value_size)) return "the chain of its value is impossible";
    if (crc32c(0, blocks_.address(where), w.value_size) != half[1])
      return "the bytes of its value do not match their CRC";
  } else if (!w.owners_words && !zero_behind(half, w.value_size, sizeof c.value[0])) {
    return "the bytes behind the end of its value are not zero";
  }
  return nullptr;
}

durable_map::judged durable_map::judge(std::uint64_t number) const noexcept {
  judged j{examine(number), 0};
  const map_word0 w = map_word0::unpack(load_commit(cell_at(number).state));
  std::uint64_t copy[3];
  if (j.wrong == nullptr && w.used) j.hash = hash(key_at({number, w.pack()}, copy));
  return j;
}

// Calls decide(number, judged) for each cell, from the last one down.
template <class Decide>
void durable_map::judge_all(const recovery_crew& crew, Decide&& decide) const {
  constexpr std::uint64_t portion = 16384, slice = 512; // cells
  if (!crew.several() || capacity() <= slice) {
    for (std::uint64_t i = capacity(); i-- > 0;)
      decide(i, judge(i));
    return;
  }
  std::array<std::vector<judged>, 2> verdicts;
  for (auto& of_portion : verdicts)
    of_portion.resize(std::min(portion, capacity()));
  // The portion [from, end) is decided while [next, from) is judged. At first there is none to
  // decide, and at last none to judge.
  std::uint64_t end = capacity(), from = capacity(), next = from - std::min(from, portion);
  for (unsigned turn = 0; end != 0; turn ^= 1) {
    std::atomic<std::uint64_t> taken{next};
    crew.together([&](unsigned thread) {
      if (thread == 0)
        for (std::uint64_t i = end; i-- > from;)
          decide(i, verdicts[turn ^ 1][i - from]);
      for (;;) {
        // [cells-shared-out] Each slice is one thread's; the crew orders the rest.
        const std::uint64_t first = taken.fetch_add(slice, std::memory_order_relaxed);
        if (first >= from) return;
        for (std::uint64_t i = first; i < std::min(from, first + slice); ++i)
          verdicts[turn][i - next] = judge(i);
      }
    });
    end = from;
    from = next;
    next -= std::min(next, portion);
  }
}

// Serves a valid, wanted cell. Returns why it cannot be served, or null.
const char* durable_map::adopt(std::uint64_t number, std::uint64_t hashed) noexcept {
  map_cell& c = cell_at(number);
  const map_word0 w = map_word0::unpack(load_commit(c.state));
  const payload p = {number, w.pack()};
  std::uint64_t copy[3];
  const key_span bytes = key_at(p, copy);
  const wanted_key key(bytes);
  if (index_.find(hashed, [&](const payload& other) { return has_key(other, key); }) !=
      index_type::none)
    return "another cell holds the same key";
  if (w.long_key() && !blocks_.mark_required(unpack_chain(c.key[1])))
    return "the chain of its key overlaps a chain that is in use";
  if (w.long_value() && !blocks_.mark_required(unpack_chain(c.value[w.half][0]))) {
    if (w.long_key()) blocks_.unmark_required(unpack_chain(c.key[1]));
    return "the chain of its value overlaps a chain that is in use";
  }
  const auto slot = index_.insert(hashed, p);
  CHAINRING_ASSERT(slot != index_type::none); // the index is at most half full
  return nullptr;
}

void durable_map::persist_as_read() noexcept {
  // Chains are not flushed again: they were drained before the words that name them.
  if (seeded_bug("map.recover_unread")) return;
  // [cells-read-before-repair] Without it recovery could act on an entry that only the last process
  // saw, and a power cut could then take the entry back.
  for (const segment& s : segments_)
    if (s.end != s.first)
      media_.flush_read(&cell_at(s.first),
                        (s.end - s.first) * sizeof(map_cell)); // [cells-read-before-repair]
}

map_recovery durable_map::recover(const std::function<bool(key_span, byte_span)>& wanted,
                                  const recovery_crew& crew) {
  map_recovery r;
  replay(r);
  // Recovery drains at half of what a drain can cover, because the caller may flush something of
  // its own besides. The count begins at its limit, because other components flushed an unknown
  // number of bytes before this and left them to the caller's drain.
  const std::uint64_t most = media_.drain_bytes_max() / 2;
  std::uint64_t undrained = most;
  const auto erase = [&](std::uint64_t i) {
    std::uint64_t& state = cell_at(i).state;
    if (undrained >= most) {
      // The drain stands between two cells, which do not depend on each other.
      // [cells-erased-in-pieces] Without it recovery could flush more than such a medium can drain
      // at once.
      media_.drain(); // [cells-erased-in-pieces]
      undrained = 0;
    }
    // [erased-before-allocation] Without it a damaged cell could become valid again over blocks
    // that were used again.
    media_.store_release(&state, 0);    // [cell-commit] [erased-before-allocation]
    media_.flush(&state, sizeof state); // [erased-before-allocation]
    undrained += cacheline_size;
    segment_of(i).free.push_back(static_cast<std::uint32_t>(i));
  };
  std::uint64_t used = 0;
  const std::uint64_t cells = capacity();
  for (std::uint64_t i = 0; i < cells; ++i)
    used += map_word0::unpack(load_commit(cell_at(i).state)).used;
  index_.begin_with(used);
  for (segment& s : segments_)
    s.free.clear();
  judge_all(crew, [&](std::uint64_t i, const judged& cell) {
    const std::uint64_t word = load_commit(cell_at(i).state);
    const map_word0 w = map_word0::unpack(word);
    const char* wrong = cell.wrong;
    if (wrong == nullptr && !w.used) {
      segment_of(i).free.push_back(static_cast<std::uint32_t>(i));
      return;
    }
    bool client = false;
    if (wrong == nullptr) {
      const payload p = {i, w.pack()};
      std::uint64_t key_copy[3], value_copy[2];
      const key_span key = key_at(p, key_copy);
      client = is_client_key(key);
      if (wanted && !client && !wanted(key, value_at(p, value_copy))) {
        erase(i);
        ++r.voided;
        return;
      }
      wrong = adopt(i, cell.hash);
    }
    if (wrong == nullptr) {
      ++(client ? r.clients : r.entries);
      return;
    }
    ++r.damaged;
    if (map_word0::well_formed(word)) erase(i);
    if (r.notes.size() < 100) r.notes.push_back("map cell " + std::to_string(i) + ": " + wrong);
  });
  count(static_cast<std::int64_t>(r.entries));
  expected_.store(r.entries + r.clients, std::memory_order_relaxed); // [expected-keys]
  return r;
}

map_recovery durable_map::recover(const std::function<bool(key_span)>& wanted) {
  if (!wanted) return recover();
  return recover([&](key_span key, byte_span) { return wanted(key); });
}

map_recovery durable_map::check(const std::function<bool(key_span, byte_span)>& wanted) const {
  map_recovery r;
  // The log of a batch, which recover() would bring into its cells.
  std::unordered_map<std::uint64_t, const map_log_entry*> logged;
  for (std::uint64_t i = 0; i < capacity(); ++i) {
    const map_cell& c = cell_at(i);
    if (!map_word0::well_formed(c.state) || !map_word0::unpack(c.state).is_log()) continue;
    if (r.replayed != 0 || examine_log(i) != nullptr) continue;
    for (const map_log_entry& e : log_in(c))
      logged[e.cell] = &e;
    r.replayed = log_in(c).size();
    logged[i] = nullptr;
  }
  for (std::uint64_t i = 0; i < capacity(); ++i) {
    map_cell c = cell_at(i);
    if (const auto found = logged.find(i); found != logged.end()) {
      c.state = 0;
      if (const map_log_entry* e = found->second; e != nullptr) {
        c.state = e->state;
        std::copy_n(e->key, 3, c.key);
        std::copy_n(e->value, 2, c.value[map_word0::unpack(e->state).half]);
      }
    }
    const char* wrong = examine(i, c);
    const map_word0 w = map_word0::unpack(c.state);
    if (wrong == nullptr && w.is_log()) wrong = "the map has the log of another batch as well";
    if (wrong == nullptr) {
      if (!w.used) continue;
      const payload p = {i, w.pack()};
      const key_span key = key_in(p, c.key);
      const bool client = is_client_key(key);
      const bool counts = client || !wanted || wanted(key, value_in(p, c.value[w.half]));
      ++(client ? r.clients : counts ? r.entries : r.voided);
      continue;
    }
    ++r.damaged;
    if (r.notes.size() < 100) r.notes.push_back("map cell " + std::to_string(i) + ": " + wrong);
  }
  return r;
}

recovery_part durable_map::part(std::string name, std::function<bool(key_span, byte_span)> wanted,
                                map_recovery* found, recovery_crew crew) {
  return {.name = name,
          .items = capacity(),
          .persist_as_read = [this](recovery_context&) { persist_as_read(); },
          .repair =
              [this, name, wanted = std::move(wanted), found,
               crew = std::move(crew)](recovery_context& c) {
                map_recovery r = c.checking() ? check(wanted) : recover(wanted, crew);
                for (std::string& note : r.notes)
                  c.report({name, note});
                if (r.replayed != 0)
                  c.report({name,
                            "a batch of " + std::to_string(r.replayed) +
                                " changes was committed and not yet in its cells; an open "
                                "completes it",
                            severity::note});
                c.advance(capacity());
                if (found != nullptr) *found = std::move(r);
              }};
}

} // namespace chainring
