// SPDX-License-Identifier: BSD-3-Clause
// The durable map's recovery. Edges and crash windows: durable_map.cc.
//
//   word 0                          what is done
//   not well formed                 named, left alone: neither served nor reused
//   free                            the cell is free
//   used, and damaged (map_media.h) named, and erased: its chains may be reused, and what they
//                                   hold next must not make it whole
//   used, chain of another's        the same: it must not come back once the other has gone
//   used, key of a later cell       the same
//   used, and not wanted            erased; its chains are not marked, so they are free
//   used, and whole                 served; its chains are live
//
// Crash window
//   [P6 < P7] what was read made durable before anything depends on it. Crash between, without it:
//      what only the last process saw is gone, and something may have been done because of it.
#include "base/hook.h"
#include "map/durable_map_state.h"

namespace chainring {

using detail::unpack_chain;

namespace {

std::uint64_t load_commit(std::uint64_t& word) noexcept {
  return std::atomic_ref(word).load(std::memory_order_acquire); // [M8] pairs with [M2]
}

bool zero_behind(const std::uint64_t* words, std::size_t size, std::size_t room) noexcept {
  const auto* bytes = reinterpret_cast<const unsigned char*>(words);
  for (std::size_t i = size; i < room; ++i)
    if (bytes[i] != 0) return false;
  return true;
}

} // namespace

// Why a cell is not valid, without asking others; nullptr where it is.
const char* durable_map::examine(std::uint64_t number) const noexcept {
  map_cell& c = cell_at(number);
  const std::uint64_t word = load_commit(c.state);
  if (!map_word0::well_formed(word)) return "its commit word cannot be";
  const map_word0 w = map_word0::unpack(word);
  if (!w.used) return nullptr;
  if (map_check(number, w, c.key, c.value[w.half]) != w.check)
    return "it does not have the check it should";
  if (w.long_key()) {
    const chain where = unpack_chain(c.key[1]);
    if (!whole(where, w.key_size) || c.key[2] != 0) return "its key's chain cannot be";
    if (detail::media_hash({blocks_.address(where), w.key_size}) != c.key[0])
      return "its key does not have the hash it should";
  } else if (!zero_behind(c.key, w.key_size, sizeof c.key)) {
    return "there is something behind its key";
  }
  const std::uint64_t* half = c.value[w.half];
  if (w.long_value()) {
    const chain where = unpack_chain(half[0]);
    if (!whole(where, w.value_size)) return "its value's chain cannot be";
    if (crc32c(0, blocks_.address(where), w.value_size) != half[1])
      return "its value does not have the CRC it should";
  } else if (!w.owners_words && !zero_behind(half, w.value_size, sizeof c.value[0])) {
    return "there is something behind its value";
  }
  return nullptr;
}

// Serves a valid, wanted cell; or why not.
const char* durable_map::adopt(std::uint64_t number) noexcept {
  map_cell& c = cell_at(number);
  const map_word0 w = map_word0::unpack(load_commit(c.state));
  const payload p = {number, w.pack()};
  std::uint64_t copy[3];
  const key_span bytes = key_at(p, copy);
  const wanted_key key(bytes);
  const std::uint64_t hashed = hash(bytes);
  if (index_.find(hashed, [&](const payload& other) { return has_key(other, key); }) !=
      index_type::none)
    return "another cell has its key";
  if (w.long_key() && !blocks_.mark_required(unpack_chain(c.key[1])))
    return "its key's chain is somebody else's too";
  if (w.long_value() && !blocks_.mark_required(unpack_chain(c.value[w.half][0]))) {
    if (w.long_key()) blocks_.unmark_required(unpack_chain(c.key[1]));
    return "its value's chain is somebody else's too";
  }
  const auto slot = index_.insert(hashed, p);
  CHAINRING_ASSERT(slot != index_type::none); // at most half the entries are ever taken
  return nullptr;
}

void durable_map::persist_as_read() noexcept {
  // Chains need it as little as a running map does: they were drained before the words that name
  // them [P1 < P2].
  if (seeded_bug("map.recover_unread")) return;
  for (const segment& s : segments_)
    if (s.end != s.first)
      media_.flush_read(&cell_at(s.first),
                        (s.end - s.first) * sizeof(map_cell)); // [P6 < P7] the caller drains
}

map_recovery durable_map::recover(const std::function<bool(key_span, byte_span)>& wanted) {
  map_recovery r;
  // Half: the caller may flush something of its own besides. Begun full: what others flushed before
  // this, and left to the caller's drain, is not known here.
  const std::uint64_t most = media_.drain_bytes_max() / 2;
  std::uint64_t undrained = most;
  const auto erase = [&](std::uint64_t i) {
    std::uint64_t& state = cell_at(i).state;
    if (undrained >= most) {
      media_.drain(); // [P7, in pieces] between two cells, which do not depend on each other
      undrained = 0;
    }
    media_.store_release(&state, 0);    // [M2] [P7] pairs with [M8]
    media_.flush(&state, sizeof state); // [P7] the caller drains
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
  for (std::uint64_t i = cells; i-- > 0;) {
    const std::uint64_t word = load_commit(cell_at(i).state);
    const map_word0 w = map_word0::unpack(word);
    const char* wrong = examine(i);
    if (wrong == nullptr && !w.used) {
      segment_of(i).free.push_back(static_cast<std::uint32_t>(i));
      continue;
    }
    if (wrong == nullptr) {
      const payload p = {i, w.pack()};
      std::uint64_t key_copy[3], value_copy[2];
      if (wanted && !wanted(key_at(p, key_copy), value_at(p, value_copy))) {
        erase(i);
        ++r.voided;
        continue;
      }
      wrong = adopt(i);
    }
    if (wrong == nullptr) {
      ++r.entries;
      continue;
    }
    ++r.damaged;
    if (map_word0::well_formed(word)) erase(i);
    if (r.notes.size() < 100) r.notes.push_back("map cell " + std::to_string(i) + ": " + wrong);
  }
  count(static_cast<std::int64_t>(r.entries));
  expected_.store(r.entries, std::memory_order_relaxed); // [M9] alone yet
  return r;
}

map_recovery durable_map::recover(const std::function<bool(key_span)>& wanted) {
  if (!wanted) return recover();
  return recover([&](key_span key, byte_span) { return wanted(key); });
}

map_recovery durable_map::check(const std::function<bool(key_span, byte_span)>& wanted) const {
  map_recovery r;
  for (std::uint64_t i = 0; i < capacity(); ++i) {
    const char* wrong = examine(i);
    if (wrong == nullptr) {
      const map_word0 w = map_word0::unpack(load_commit(cell_at(i).state));
      if (!w.used) continue;
      const payload p = {i, w.pack()};
      std::uint64_t key_copy[3], value_copy[2];
      const bool counts = !wanted || wanted(key_at(p, key_copy), value_at(p, value_copy));
      ++(counts ? r.entries : r.voided);
      continue;
    }
    ++r.damaged;
    if (r.notes.size() < 100) r.notes.push_back("map cell " + std::to_string(i) + ": " + wrong);
  }
  return r;
}

recovery_part durable_map::part(std::string name, std::function<bool(key_span, byte_span)> wanted,
                                map_recovery* found) {
  return {.name = name,
          .items = capacity(),
          .persist_as_read = [this](recovery_context&) { persist_as_read(); },
          .repair =
              [this, name, wanted = std::move(wanted), found](recovery_context& c) {
                map_recovery r = c.checking() ? check(wanted) : recover(wanted);
                for (std::string& note : r.notes)
                  c.report({name, note});
                c.advance(capacity());
                if (found != nullptr) *found = std::move(r);
              }};
}

} // namespace chainring
