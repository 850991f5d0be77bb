// SPDX-License-Identifier: BSD-3-Clause
// What an open does with the log of an atomic_batch (map_media.h).
//
//   what is found                      what is done
//   no log                             nothing
//   a log that is valid                its entries are stored into their cells and drained, and it
//                                      is erased; a crash before that leaves it, and the next open
//                                      does the same
//   a log that is not valid            it is named and erased; the cells stay as they are
//   a second log                       the same
//
// Ordering labels:
//   [replayed-before-erase]  The cells that an open has stored from a log are drained before
//     the log is erased.
//   [replayed-in-pieces]  On media that bounds a drain, they are drained in pieces before.
//   [log-erased-before-allocation]  The erased log is flushed, and drained by the caller before
//     anything is allocated or served.
//
// The other labels are described in durable_map.cc.
#include "base/hook.h"
#include "map/durable_map_state.h"

namespace chainring {

using detail::unpack_chain;

// The chain has been judged.
std::span<const map_log_entry> durable_map::log_in(const map_cell& c) const noexcept {
  const map_word0 w = map_word0::unpack(c.state);
  const auto* first =
      reinterpret_cast<const map_log_entry*>(blocks_.address(unpack_chain(c.value[w.half][0])));
  return {first, w.value_size / sizeof(map_log_entry)};
}

// Returns why the log that the cell names is not valid; null where it is.
const char* durable_map::examine_log(std::uint64_t number) const noexcept {
  const map_cell& c = cell_at(number);
  const map_word0 w = map_word0::unpack(c.state);
  const std::uint64_t* half = c.value[w.half];
  if (map_check(number, w, c.key, c.value[w.half]) != w.check)
    return "its check does not match its contents";
  const chain where = unpack_chain(half[0]);
  if ((c.key[0] | c.key[1] | c.key[2]) != 0 || !whole(where, w.value_size))
    return "the chain of its batch is impossible";
  if (crc32c(0, blocks_.address(where), w.value_size) != half[1])
    return "the bytes of its batch do not match their CRC";
  for (const map_log_entry& e : log_in(c)) {
    const map_word0 to = map_word0::unpack(e.state);
    const bool fine = e.cell < capacity() && e.cell != number && e.zero == 0 &&
                      map_word0::well_formed(e.state) && !to.is_log() &&
                      (!to.used || map_check(e.cell, to, e.key, e.value) == to.check);
    if (!fine) return "its batch has an impossible change";
  }
  return nullptr;
}

void durable_map::replay(map_recovery& r) {
  // As in recover(): the count begins at its limit, because other components flushed an unknown
  // number of bytes before this.
  const std::uint64_t most = media_.drain_bytes_max() / 2;
  std::uint64_t undrained = most;
  const auto flush = [&](const map_cell& c) {
    if (undrained >= most) {
      // [replayed-in-pieces] Without it an open could flush more than such a medium can drain at
      // once.
      media_.drain(); // [replayed-in-pieces]
      undrained = 0;
    }
    media_.flush(&c, sizeof c); // [replayed-before-erase]
    undrained += sizeof c;
  };
  for (std::uint64_t i = 0, cells = capacity(); i < cells; ++i) {
    map_cell& c = cell_at(i);
    if (!map_word0::well_formed(c.state) || !map_word0::unpack(c.state).is_log()) continue;
    const char* wrong = examine_log(i);
    if (wrong == nullptr && r.replayed != 0) wrong = "the map has the log of another batch as well";
    if (wrong == nullptr) {
      for (const map_log_entry& e : log_in(c)) {
        map_cell& to = cell_at(e.cell);
        const map_word0 w = map_word0::unpack(e.state);
        for (int k = 0; k < 3 && w.used; ++k)
          media_.store(&to.key[k], e.key[k]); // [cell-words-before-commit]
        for (int k = 0; k < 2 && w.used; ++k)
          media_.store(&to.value[w.half][k], e.value[k]); // [cell-words-before-commit]
        media_.store_release(&to.state, e.state); // [cell-commit] [cell-words-before-commit]
        flush(to);
        ++r.replayed;
      }
      hook_point("map.replayed");
      // [replayed-before-erase] Without it a crash could leave some changes of a batch whose log is
      // gone. Crash between: the next open finds the log again.
      media_.drain(); // [replayed-before-erase]
    } else {
      ++r.damaged;
      if (r.notes.size() < 100) r.notes.push_back("map cell " + std::to_string(i) + ": " + wrong);
    }
    // [log-erased-before-allocation] Without it the log could be found again at a later open, and
    // take back what was changed since this one.
    media_.store_release(&c.state, 0); // [cell-commit] [log-erased-before-allocation]
    media_.flush(&c, sizeof c);        // [log-erased-before-allocation]
  }
}

} // namespace chainring
